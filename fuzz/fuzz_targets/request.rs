//! Fuzz target: see `lb_fuzz::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_fuzz::request(data));
