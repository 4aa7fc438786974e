//! See `hotcell_checks::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::manifest(data));
