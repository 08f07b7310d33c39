//! Fuzz target: see `lb_fuzz::chunked`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lb_fuzz::chunked(data));
