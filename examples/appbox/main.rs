//! placeholder
mod programs;
fn main() {}
