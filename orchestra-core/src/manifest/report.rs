//! What a load has to say: why it was refused, and what will not be honoured.

use std::fmt;

use crate::kind::FieldError;

/// The most problems that one refusal lists.
pub const PROBLEMS_MAX: usize = 100;

/// Where in a text something stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Which document, from 1; empty ones do not count.
    pub document: usize,
    /// Which line of the whole text, from 1, where it is known.
    pub line: Option<u64>,
    /// Which object, for instance `Deployment default/web`; empty if that is not known yet.
    pub object: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if !self.object.is_empty() {
            write!(f, ", {}", self.object)?;
        }
        Ok(())
    }
}

/// One reason to refuse a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Path (empty: the document as a whole), value, rule and remedy.
    pub field: FieldError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.field.path.is_empty() {
            if !self.field.value.is_empty() {
                write!(f, "{:?}: ", self.field.value)?;
            }
            return write!(f, "{}; {}", self.field.problem, self.field.remedy);
        }
        self.field.fmt(f)
    }
}

/// A text was refused as a whole; nothing of it was taken.
#[derive(Clone, Eq, PartialEq, thiserror::Error)]
pub struct ManifestError {
    /// What is wrong, in the order of the text; the first 100. Never empty.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl ManifestError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        Self { problems, more }
    }
}

/// For a `main` that returns it: what people read.
impl fmt::Debug for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

/// Something that a text says and that will not be honoured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unhonoured {
    /// Where.
    pub place: Place,
    /// The path of the field; empty for a whole object.
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// Why something will not be honoured.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// No such field; a typing error, or one that exists elsewhere only. Only in a `status`, or where
    /// the loader [skips unknown fields](super::Loader::skip_unknown_fields): it refuses them else.
    UnknownField,
    /// As before, and there is one of this name, which is much like it.
    Misspelt(&'static str),
    /// Nothing acts on the field. Says what happens instead.
    NotActedOn(&'static str),
    /// No such kind in that group; the whole object was left out.
    UnknownKind,
}

impl fmt::Display for Unhonoured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match self.reason {
            Reason::UnknownField => write!(f, "{} is not a known field", self.path),
            Reason::Misspelt(meant) => {
                write!(
                    f,
                    "{} is not a known field; did you mean {meant}?",
                    self.path
                )
            }
            Reason::NotActedOn(instead) => write!(f, "{} is not acted on: {instead}", self.path),
            Reason::UnknownKind => f.write_str("the kind is not known; the object is left out"),
        }
    }
}
