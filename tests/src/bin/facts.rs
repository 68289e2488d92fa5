//! Runs published facts through the crates: `facts FILE_OR_DIR…`.
//!
//! Prints a line for each row that fails and each section that is skipped, then the totals.
//! Exit status: 0 if nothing failed, 1 if anything did, 2 if there was nothing to run.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use orchestra_tests::facts::Report;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        eprintln!("usage: facts FILE_OR_DIR…");
        return ExitCode::from(2);
    }
    let report = Report::of(&paths);
    println!("{report}");
    if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
