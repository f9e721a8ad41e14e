//! Whatever is sent for a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::handshake::check(data));
