//! What the fuzz targets check, apart from the fuzzer, so that the kept corpus runs as a plain
//! test and the gateway's own tests can use the same functions.

pub mod decoder;
pub mod deflate;
pub mod dialect;
pub mod handshake;
pub mod proxy;
