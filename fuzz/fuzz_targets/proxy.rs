//! Whatever is sent for a PROXY header, or for a list of hops.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::proxy::check(data));
