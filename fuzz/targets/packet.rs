//! See `hotcell_checks::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::packet(data));
