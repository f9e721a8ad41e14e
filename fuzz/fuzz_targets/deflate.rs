//! Whatever is offered, compressed, or sent for something compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::deflate::check(data));
