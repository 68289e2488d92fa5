//! What callers may say about a list or a delete.

use orchestra_core::kind::Namespace;
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

/// How to delete. The default: with the object's own grace, whatever its version, dependents in
/// the background.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeleteParams {
    /// How long a graceful end may take, in seconds; `None` is what the object says. Zero removes
    /// a pod at once, without waiting for its agent: agents do so once they have stopped it.
    pub grace_seconds: Option<u64>,
    /// Only this life of that name.
    pub uid: Option<Uid>,
    /// Only this version.
    pub resource_version: Option<Revision>,
    /// What becomes of the objects it owns; `None` keeps to the finalizers it has.
    pub propagation: Option<Propagation>,
}

impl DeleteParams {
    /// At once, without grace.
    pub fn now() -> Self {
        Self {
            grace_seconds: Some(0),
            ..Self::default()
        }
    }

    /// Only this life of that name.
    #[must_use]
    pub fn uid(mut self, uid: Uid) -> Self {
        self.uid = Some(uid);
        self
    }

    /// What becomes of the objects it owns.
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }
}

/// What becomes of the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Propagation {
    /// The owner goes at once, they are collected after it.
    Background,
    /// They go first; the owner waits, held by the finalizer
    /// [`FINALIZER_FOREGROUND`].
    Foreground,
    /// They stay and lose their owner; it waits until that is done, held by the finalizer
    /// [`FINALIZER_ORPHAN`].
    Orphan,
}

/// Holds an owner until the objects that block its deletion are gone.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

/// Holds an owner until its dependents no longer refer to it.
pub const FINALIZER_ORPHAN: &str = "orphan";

/// The namespaces that exist without being created.
pub const NAMESPACES_BUILT_IN: [&str; 4] = [
    Namespace::DEFAULT,
    "kube-node-lease",
    "kube-public",
    "kube-system",
];

/// Where objects go whose namespace nobody named.
pub const NAMESPACE_DEFAULT: SmolStr = SmolStr::new_static(Namespace::DEFAULT);
