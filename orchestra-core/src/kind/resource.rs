//! What all kinds have in common: a name in the API, metadata, defaults and rules.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::meta::{ObjectKey, ObjectMeta, OwnerReference};

/// Where the names of a kind are unique.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Within a namespace.
    Namespaced,
    /// Within the whole cluster.
    Cluster,
}

/// A kind of object that the API stores. An application registers kinds of its own by
/// implementing it.
pub trait Resource:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Its group and version, for instance `apps/v1`, or `v1` for the core group.
    const API_VERSION: &'static str;
    /// Its kind, for instance `Deployment`.
    const KIND: &'static str;
    /// Its plural in lower case, for instance `deployments`: the first part of its store keys.
    /// Unique among all kinds of one store.
    const PLURAL: &'static str;
    /// Where its names are unique.
    const SCOPE: Scope;

    /// What every object has.
    fn metadata(&self) -> &ObjectMeta;

    /// What every object has, to change.
    fn metadata_mut(&mut self) -> &mut ObjectMeta;

    /// Fills in what was left out. Idempotent. Called before [`validate`](Self::validate).
    fn set_defaults(&mut self);

    /// Checks every rule that needs no other object, and names each field that breaks one.
    /// The metadata is checked by `validate_object`, not here.
    ///
    /// # Errors
    ///
    /// All the broken rules, each with path, value and remedy.
    fn validate(&self) -> Result<(), Invalid>;

    /// Replaces what a change of the spec may not touch, the status, by that of `current`.
    /// A kind without a status does nothing.
    fn take_status(&mut self, current: &Self);

    /// Whether both ask for the same thing. A change that answers no here, and only such a
    /// change, moves `metadata.generation`.
    fn same_spec(&self, other: &Self) -> bool;

    /// Whether both are the same but for the status: who writes a status then need not copy the rest
    /// once more. To answer no is always right, and is what happens where nothing else is said.
    fn same_but_for_status(&self, other: &Self) -> bool {
        let _ = other;
        false
    }

    /// The object's key.
    fn key(&self) -> ObjectKey {
        self.metadata().key()
    }

    /// A reference that makes this object the controlling owner of another.
    fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::API_VERSION.into(),
            kind: Self::KIND.into(),
            name: self.metadata().name.clone(),
            uid: self.metadata().uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// One field that breaks a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldError {
    /// Where, for instance `spec.template.spec.containers[0].name`.
    pub path: String,
    /// What stands there; empty if nothing does. Long values are cut.
    pub value: String,
    /// Which rule it breaks.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl FieldError {
    /// The most characters of a value that an error repeats.
    const VALUE_CHARS_MAX: usize = 80;

    /// An error at `path`. A value past 80 characters is cut.
    pub fn new(
        path: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let value = value.to_string();
        let value = match value.char_indices().nth(Self::VALUE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        Self {
            path: path.into(),
            value,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        if !self.value.is_empty() {
            write!(f, "{:?} ", self.value)?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// An object breaks rules.
#[derive(Clone, Debug, Default, Eq, PartialEq, thiserror::Error)]
pub struct Invalid {
    /// Each rule it breaks, in the order of the fields. Never empty in an error.
    pub errors: Vec<FieldError>,
}

impl Invalid {
    /// Collects nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `Ok` if nothing was collected.
    ///
    /// # Errors
    ///
    /// Itself, if anything was.
    pub fn into_result(self) -> Result<(), Self> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}
