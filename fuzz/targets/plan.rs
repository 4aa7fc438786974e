//! See `hotcell_checks::plan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::plan(data));
