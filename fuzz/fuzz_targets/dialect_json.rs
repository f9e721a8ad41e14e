//! Whatever is said in the gateway's own JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::dialect::json(data));
