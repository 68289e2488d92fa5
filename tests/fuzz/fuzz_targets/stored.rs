#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::stored(bytes));
