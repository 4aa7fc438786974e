//! See `hotcell_checks::from_worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::from_worker(data));
