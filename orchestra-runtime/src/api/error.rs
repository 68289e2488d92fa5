//! Why an API call failed, and what to do next.

use std::error::Error;
use std::fmt;

use orchestra_core::error::{Cause, Retry};
use orchestra_core::kind::{FieldError, Invalid};
use orchestra_core::port::store::{StoreError, StoreErrorKind};

/// An API call failed: which call, about what, why, and what to do next.
///
/// `Display` names the remedy and leaves the cause to whoever prints the chain.
pub struct ApiError(Box<Inner>);

crate::debug_as_report!(ApiError);

#[derive(Debug)]
struct Inner {
    kind: ApiErrorKind,
    op: &'static str,
    subject: String,
    cause: Option<Cause>,
}

/// Why an API call failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiErrorKind {
    /// No such object.
    #[error("it does not exist; create it first, or check its name and namespace")]
    NotFound,
    /// An object of that name exists.
    #[error("it exists already; choose another name, or replace or apply it")]
    AlreadyExists,
    /// It changed since it was read, or is not the object that was meant.
    #[error("it changed since it was read; read it again and repeat the change")]
    Conflict,
    /// The writer's guard no longer holds: another leader took over.
    #[error("this writer was fenced off: another took over; stop writing")]
    Fenced,
    /// The object breaks rules.
    #[error("{0}")]
    Invalid(Invalid),
    /// An admission hook refused it.
    #[error("refused by {by}: {why}")]
    Denied {
        /// The hook.
        by: &'static str,
        /// Why, with the remedy.
        why: String,
    },
    /// The namespace does not exist.
    #[error("namespace {0:?} does not exist; create it first, or use \"default\"")]
    NoNamespace(String),
    /// The namespace is being deleted.
    #[error(
        "namespace {0:?} is being deleted; wait until it is gone and create it again, or use \
         another"
    )]
    NamespaceEnding(String),
    /// The object is larger than any store accepts.
    #[error("it has {bytes} bytes, at most {max}; keep large data outside and store a reference")]
    TooLarge {
        /// Its size as stored, in bytes.
        bytes: usize,
        /// The largest size, in bytes.
        max: usize,
    },
    /// A transaction of more writes or guards than any store accepts.
    #[error("{ops} writes or guards in one transaction, at most {max}; split it")]
    TooMany {
        /// How many.
        ops: usize,
        /// The most.
        max: usize,
    },
    /// The revision asked for is no longer kept, or the watcher fell behind.
    #[error("that revision is no longer kept; list again, and watch from there")]
    Gone,
    /// The store cannot be reached now. Nothing was changed.
    #[error("the store cannot be reached now; try again with back-off")]
    Unavailable,
    /// It is not known whether the write landed.
    #[error("the outcome is unknown: it may have landed; read again")]
    Ambiguous,
    /// What is stored cannot be read, or the store refused what it was sent.
    #[error("what is stored cannot be read or written; restore it from a copy")]
    Corrupt,
}

impl ApiError {
    /// An error of kind `kind` while doing `op` (`"create"`) to `subject` (`"pods default/web"`).
    pub fn new(kind: ApiErrorKind, op: &'static str, subject: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            op,
            subject: subject.into(),
            cause: None,
        }))
    }

    /// Adds what lies below.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// One broken rule, as [`ApiErrorKind::Invalid`].
    pub fn invalid(op: &'static str, subject: impl Into<String>, error: FieldError) -> Self {
        let mut invalid = Invalid::new();
        invalid.errors.push(error);
        Self::new(ApiErrorKind::Invalid(invalid), op, subject)
    }

    /// The kind.
    pub fn kind(&self) -> &ApiErrorKind {
        &self.0.kind
    }

    /// The call that failed.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// What it was about: plural and key, for instance `pods default/web-1`.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ApiErrorKind::NotFound
    }

    /// Whether an object of that name exists already.
    pub fn is_already_exists(&self) -> bool {
        self.0.kind == ApiErrorKind::AlreadyExists
    }

    /// Whether somebody else changed it in between.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ApiErrorKind::Conflict
    }

    /// What the caller should do next.
    pub fn retry(&self) -> Retry {
        match self.0.kind {
            ApiErrorKind::Unavailable => Retry::Backoff,
            ApiErrorKind::NotFound
            | ApiErrorKind::AlreadyExists
            | ApiErrorKind::Conflict
            | ApiErrorKind::Gone
            | ApiErrorKind::Ambiguous => Retry::AfterRefresh,
            // Somebody else may create the namespace or free the quota.
            ApiErrorKind::NoNamespace(_)
            | ApiErrorKind::NamespaceEnding(_)
            | ApiErrorKind::Denied { .. } => Retry::Backoff,
            ApiErrorKind::Fenced
            | ApiErrorKind::Invalid(_)
            | ApiErrorKind::TooLarge { .. }
            | ApiErrorKind::TooMany { .. }
            | ApiErrorKind::Corrupt => Retry::Never,
        }
    }

    /// What a store's failure means while doing `op` to `subject`.
    pub(crate) fn store(error: StoreError, op: &'static str, subject: impl Into<String>) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Conflict | StoreErrorKind::LeaseEnded => ApiErrorKind::Conflict,
            StoreErrorKind::Compacted { .. } | StoreErrorKind::Lagged => ApiErrorKind::Gone,
            StoreErrorKind::Unavailable => ApiErrorKind::Unavailable,
            StoreErrorKind::Ambiguous => ApiErrorKind::Ambiguous,
            _ => ApiErrorKind::Corrupt,
        };
        Self::new(kind, op, subject).because(error)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.op, self.0.subject, self.0.kind)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestra_core::error::report;

    #[test]
    fn an_error_says_what_where_and_the_remedy_once() {
        let below = StoreError::new(StoreErrorKind::Unavailable, "commit").about("pods/a/b");
        let error = ApiError::store(below, "create", "pods a/b");
        assert_eq!(error.kind(), &ApiErrorKind::Unavailable);
        assert_eq!(error.retry(), Retry::Backoff);
        let text = report(&error).to_string();
        assert!(
            text.starts_with("create pods a/b: the store cannot be reached now"),
            "{text}"
        );
        let large = ApiErrorKind::TooLarge {
            bytes: 10_000_000,
            max: 1_500_000,
        };
        let text = ApiError::new(large, "create", "pods a/b").to_string();
        assert!(text.contains("10000000 bytes, at most 1500000; keep large data outside"));
    }
}
