//! See `hotcell_checks::to_worker`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::to_worker(data));
