//! Fuzz target: see `lb_fuzz::differential`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_fuzz::differential(data));
