//! Published facts about the behaviour we match: rows of inputs and the answers they must give,
//! run through the public API of the crates.
//!
//! A file is a JSON object. Its members `about` and `conventions` are prose; every other one is a
//! section: a list of rows, or a single table of defaults, which counts as one row. Sections are
//! known by name, so that files may be cut and named at will.

use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

mod lifecycle;
mod rolling;
mod scheduler;

/// Checks one row.
pub type Check = fn(&Value) -> Result<(), Complaint>;

/// The check for the rows of that section, if its capability exists.
fn check_for(section: &str) -> Option<Check> {
    lifecycle::check_for(section)
        .or_else(|| rolling::check_for(section))
        .or_else(|| scheduler::check_for(section))
}

/// Why a row fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Complaint {
    /// It cannot be read.
    Unreadable(String),
    /// The answer is another one.
    Differs {
        /// What the row says.
        expected: String,
        /// What the crates say.
        got: String,
    },
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
            Self::Differs { expected, got } => write!(f, "expected {expected}, got {got}"),
        }
    }
}

/// Reads a row, or a part of one.
///
/// # Errors
///
/// It has another shape.
pub fn read<T: DeserializeOwned>(row: &Value) -> Result<T, Complaint> {
    T::deserialize(row).map_err(|error| Complaint::Unreadable(error.to_string()))
}

/// Compares what a row expects with what came out.
///
/// # Errors
///
/// They differ.
pub fn same<T: fmt::Debug + PartialEq>(expected: &T, got: &T) -> Result<(), Complaint> {
    if expected == got {
        Ok(())
    } else {
        Err(Complaint::Differs {
            expected: format!("{expected:?}"),
            got: format!("{got:?}"),
        })
    }
}

/// What came of all rows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Rows with the right answer.
    pub passed: usize,
    /// Rows with another answer, unreadable rows, and unreadable files.
    pub failed: usize,
    /// Rows of sections whose capability does not exist yet.
    pub skipped: usize,
    /// A line for each failure and for each section that was skipped.
    pub lines: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Report {
    /// Runs every file, and every `*.json` below every folder, in the order of their paths.
    pub fn of(paths: &[PathBuf]) -> Self {
        let mut report = Self::default();
        for path in paths {
            match files(path) {
                Ok(files) if files.is_empty() => {
                    report.fail(format!("{}: no .json file here", path.display()));
                }
                Ok(files) => files.iter().for_each(|file| report.run_file(file)),
                Err(error) => report.fail(format!("{}: {error}", path.display())),
            }
        }
        report
    }

    fn run_file(&mut self, path: &Path) {
        let text = fs::read(path).map_err(|error| error.to_string());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match text.and_then(|text| serde_json::from_slice(&text).map_err(|e| e.to_string())) {
            Ok(file) => self.run(&name, &file),
            Err(error) => self.fail(format!("{}: unreadable: {error}", path.display())),
        }
    }

    /// Runs what a file of that name contains.
    pub fn run(&mut self, file: &str, content: &Value) {
        let Value::Object(sections) = content else {
            return self.fail(format!("{file}: unreadable: not an object of sections"));
        };
        for (section, rows) in sections {
            if matches!(section.as_str(), "about" | "conventions") {
                continue;
            }
            let rows = match rows {
                Value::Array(rows) => rows.as_slice(),
                table => std::slice::from_ref(table),
            };
            let Some(check) = check_for(section) else {
                self.skipped += rows.len();
                self.lines
                    .push(format!("{file} {section}: skipped, {} rows", rows.len()));
                continue;
            };
            for (index, row) in rows.iter().enumerate() {
                // A panic is a failure of its row, not of the run.
                let outcome = catch_unwind(AssertUnwindSafe(|| check(row))).unwrap_or_else(|_| {
                    Err(Complaint::Unreadable("the check panicked".to_owned()))
                });
                match outcome {
                    Ok(()) => self.passed += 1,
                    Err(complaint) => {
                        self.fail(format!(
                            "{file} {section}[{index}] {:?}: {complaint}",
                            title(row)
                        ));
                    }
                }
            }
        }
    }

    fn fail(&mut self, line: String) {
        self.failed += 1;
        self.lines.push(line);
    }
}

fn title(row: &Value) -> &str {
    ["name", "situation", "note"]
        .iter()
        .find_map(|key| row[*key].as_str())
        .unwrap_or_default()
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if entry.extension().is_some_and(|ending| ending == "json") {
            found.push(entry);
        }
    }
    Ok(found)
}
