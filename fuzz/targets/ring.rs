//! See `hotcell_checks::ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::ring(data));
