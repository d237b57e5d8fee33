//! libFuzzer's way to [`tollgate_fuzz::amount::hold`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::amount::hold(data));
