//! See `hotcell_checks::filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::filter(data));
