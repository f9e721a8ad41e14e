//! Whatever bytes come, in whatever pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::decoder::check(data));
