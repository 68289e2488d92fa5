//! One shape for the failures of every port: kind, operation, subject, cause.

use std::error::Error;
use std::fmt;

use crate::time::Timestamp;

/// What a caller should do next. Carried by the error so that no caller has to guess.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Retry {
    /// Try again with back-off.
    Backoff,
    /// Try again, not before the given instant.
    NotBefore(Timestamp),
    /// Re-read the inputs first: they were stale, or the outcome is unknown.
    AfterRefresh,
    /// Trying the same again cannot help.
    Never,
}

/// A kind of failure, which also fixes the retry advice.
pub trait ErrorKind: Copy + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// The advice that goes with this kind.
    fn retry(self) -> Retry;
}

/// What lies below an error.
pub type Cause = Box<dyn Error + Send + Sync + 'static>;

/// An error of a port whose failures are classified by `K`.
///
/// `Display` gives the operation, the subject and the kind, and leaves the cause to whoever
/// prints the chain (see [`report`]).
#[derive(Debug)]
pub struct PortError<K> {
    kind: K,
    op: &'static str,
    subject: Option<Box<str>>,
    cause: Option<Cause>,
}

impl<K: ErrorKind> PortError<K> {
    /// An error of kind `kind` while doing `op`, for instance `"commit"`.
    pub fn new(kind: K, op: &'static str) -> Self {
        Self {
            kind,
            op,
            subject: None,
            cause: None,
        }
    }

    /// Names what the operation was about: a key, a pod, an address.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into().into_boxed_str());
        self
    }

    /// Adds what lies below.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The kind.
    pub fn kind(&self) -> K {
        self.kind
    }

    /// The operation that failed.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// What it was about, if that is known.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// What the caller should do next.
    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }
}

impl<K: ErrorKind> fmt::Display for PortError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(subject) => write!(f, "{} {subject}: {}", self.op, self.kind),
            None => write!(f, "{}: {}", self.op, self.kind),
        }
    }
}

impl<K: ErrorKind> Error for PortError<K> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

/// Renders an error with everything below it: `a: b: c`.
///
/// ```
/// use orchestra_core::error::{PortError, report};
/// use orchestra_core::port::store::StoreErrorKind;
///
/// let error = PortError::new(StoreErrorKind::Unavailable, "commit")
///     .about("pods/default/web-1")
///     .because("connection refused");
/// assert_eq!(
///     report(&error).to_string(),
///     "commit pods/default/web-1: the store cannot be reached now; try again with back-off: connection refused"
/// );
/// ```
pub fn report<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut below = self.0.source();
        while let Some(error) = below {
            write!(f, ": {error}")?;
            below = error.source();
        }
        Ok(())
    }
}
