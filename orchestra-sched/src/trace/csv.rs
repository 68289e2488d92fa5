//! Tables as text, one row a line, and where they cannot be read.

use std::fmt;

/// What is wrong with a table, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct CsvError {
    /// Which table, for instance `nodes`.
    pub table: &'static str,
    /// The line, from 1; the header is the first.
    pub line: usize,
    /// The column, from 1; 0 if the line as a whole is meant.
    pub column: usize,
    /// The column's name.
    pub name: String,
    /// What stands there.
    pub found: String,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.table, self.line)?;
        if self.column > 0 {
            write!(f, ", column {} ({})", self.column, self.name)?;
        }
        write!(f, ": {:?} {}", self.found, self.problem)
    }
}

/// A table with a header.
#[derive(Debug)]
pub(super) struct Table<'a> {
    name: &'static str,
    columns: Vec<&'a str>,
    lines: Vec<(usize, Vec<&'a str>)>,
}

/// One line of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'t, 'a> {
    table: &'t Table<'a>,
    line: usize,
    fields: &'t [&'a str],
}

impl<'a> Table<'a> {
    /// Reads a table whose fields are separated by commas and hold none. Empty lines do not count, nor
    /// does the mark that some programs put before the first. A table has rows.
    pub(super) fn read(name: &'static str, text: &'a str) -> Result<Self, CsvError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(at, line)| (at + 1, line.split(',').map(str::trim).collect::<Vec<_>>()));
        let (_, columns) = lines.next().ok_or_else(|| CsvError {
            table: name,
            line: 1,
            column: 0,
            name: String::new(),
            found: String::new(),
            problem: "is no header; begin with the names of the columns".to_owned(),
        })?;
        let table = Self {
            name,
            columns,
            lines: lines.collect(),
        };
        if table.lines.is_empty() {
            return Err(
                table.wrong_header("is all there is; write at least one row below it".into())
            );
        }
        for (line, fields) in &table.lines {
            if fields.len() != table.columns.len() {
                let problem = format!(
                    "has {} fields; write {}, as many as the header",
                    fields.len(),
                    table.columns.len()
                );
                let row = Row {
                    table: &table,
                    line: *line,
                    fields,
                };
                return Err(row.wrong_line(problem));
            }
        }
        Ok(table)
    }

    /// The rows, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_, 'a>> {
        self.lines.iter().map(|(line, fields)| Row {
            table: self,
            line: *line,
            fields,
        })
    }

    /// The position of the first column that has one of these names.
    pub(super) fn column(&self, names: &[&str]) -> Result<usize, CsvError> {
        self.find(names).ok_or_else(|| {
            self.wrong_header(format!("lacks a column {}; add it", names.join(" or ")))
        })
    }

    fn wrong_header(&self, problem: String) -> CsvError {
        CsvError {
            table: self.name,
            line: 1,
            column: 0,
            name: String::new(),
            found: self.columns.join(","),
            problem,
        }
    }

    /// As [`column`](Self::column), where it may be missing.
    pub(super) fn find(&self, names: &[&str]) -> Option<usize> {
        names
            .iter()
            .find_map(|name| self.columns.iter().position(|column| column == name))
    }
}

impl<'a> Row<'_, 'a> {
    /// What stands in a column.
    pub(super) fn text(&self, column: usize) -> &'a str {
        self.fields[column]
    }

    /// The whole number in a column, from 0 to `max`.
    pub(super) fn number(&self, column: usize, max: i64) -> Result<i64, CsvError> {
        let parsed: Result<i64, _> = self.text(column).parse();
        parsed
            .ok()
            .filter(|number| (0..=max).contains(number))
            .ok_or_else(|| {
                let problem = format!("is no whole number from 0 to {max}");
                self.wrong(column, problem)
            })
    }

    /// A complaint about a column.
    pub(super) fn wrong(&self, column: usize, problem: impl Into<String>) -> CsvError {
        CsvError {
            table: self.table.name,
            line: self.line,
            column: column + 1,
            name: self.table.columns[column].to_owned(),
            found: self.text(column).to_owned(),
            problem: problem.into(),
        }
    }

    fn wrong_line(&self, problem: String) -> CsvError {
        CsvError {
            table: self.table.name,
            line: self.line,
            column: 0,
            name: String::new(),
            found: self.fields.join(","),
            problem,
        }
    }
}
