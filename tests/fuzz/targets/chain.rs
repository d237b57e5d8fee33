//! libFuzzer's way to [`tollgate_fuzz::chain::hold`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::chain::hold(data));
