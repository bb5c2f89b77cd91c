#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| framepress_fuzz::ring(data));
