//! See `hotcell_checks::ring_race`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::ring_race(data));
