//! See `hotcell_checks::ring_honest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotcell_checks::ring_honest(data));
