//! Fuzz target: see `lb_fuzz::response`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_fuzz::response(data));
