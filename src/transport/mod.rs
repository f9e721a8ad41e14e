//! Between the socket's bytes and the protocol's: what stands around both on the wire.
//!
//! Invariants:
//! - no io and no clock: bytes come in and go out; only certificates are files, and loops read none;
//! - a connection goes on with the certificates that it began with;
//! - an idle connection holds no buffer, neither of plaintext nor of ciphertext;
//! - whatever a peer sends, what is held for it is bounded before it is taken.

pub mod proxy;
pub mod tls;
