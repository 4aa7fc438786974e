//! See `hotcell_checks::launcher`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::launcher(data));
