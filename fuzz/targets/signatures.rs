//! See `hotcell_checks::signatures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::signatures(data));
