//! Whatever is said in the dialect of system B.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::dialect::action(data));
