//! libFuzzer's way to [`tollgate_fuzz::wallet::hold`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tollgate_fuzz::wallet::hold(data));
