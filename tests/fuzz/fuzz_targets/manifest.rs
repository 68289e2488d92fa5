#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|text: &str| checks::manifest(text));
