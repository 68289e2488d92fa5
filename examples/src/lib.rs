//! Programs that show orchestra at work; see the folders beside this file. Here is what they share.

pub mod files;

use std::panic;
use std::process;

/// From here on the program ends without a word once nobody reads what it prints, as after `| head`,
/// where `println!` would panic.
pub fn end_with_the_reader() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // What `println!` says; it has no other way to tell.
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.contains("printing to stdout: Broken pipe")) {
            process::exit(0);
        }
        usual(panic);
    }));
}

/// As [`end_with_the_reader`], for a program that takes no arguments: given any, it says so and ends
/// with status 2.
#[allow(clippy::print_stderr)]
pub fn no_arguments() {
    end_with_the_reader();
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if let Some(first) = arguments.next() {
        let program = program.to_string_lossy();
        let first = first.to_string_lossy();
        eprintln!("error: {program} takes no arguments, and was given {first:?}");
        eprintln!("what it does stands at the top of its source");
        process::exit(2);
    }
}
