//! See `hotcell_checks::compile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::compile(data));
