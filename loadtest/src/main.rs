//! Drives any WebSocket server.
fn main() {}
