//! Whatever is said in the dialect that leaves messages as they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::dialect::raw(data));
