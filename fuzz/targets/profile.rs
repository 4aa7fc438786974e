//! See `hotcell_checks::profile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::profile(data));
