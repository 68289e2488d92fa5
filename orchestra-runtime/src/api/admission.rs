//! The seam at which writes are changed or refused before they are stored.

pub(crate) mod gates;
mod priority;
mod quota;
mod tolerations;

use std::any::Any;
use std::fmt;

use async_trait::async_trait;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::{Guard, Key, Value, Write};

pub use gates::GateAdmission;
pub use priority::{PRIORITY_CLASSES_BUILT_IN, PriorityAdmission};
pub use quota::QuotaAdmission;
pub use tolerations::TolerationAdmission;

/// Looks at each create and each replace of an object, and may change or refuse it.
///
/// # Contract
///
/// * Hooks run in the order in which the client lists them, after defaults are filled in and
///   before the object is checked: what a hook makes of it is checked too.
/// * A hook may run for a write that then does not land, and more than once for one that does:
///   what it must count, it adds to the transaction with [`AdmissionRequest::write`], so that it lands
///   with the object or not at all.
/// * Changes of the status alone and deletions are not shown to hooks.
#[async_trait]
pub trait Admission: fmt::Debug + Send + Sync + 'static {
    /// Names the hook in errors.
    fn name(&self) -> &'static str;

    /// Admits, changes or refuses one write. `Err` says why, with the remedy.
    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String>;
}

const _: Option<&dyn Admission> = None;

/// What is about to be written.
pub struct AdmissionRequest<'a> {
    pub(crate) kind: &'static str,
    pub(crate) key: ObjectKey,
    pub(crate) object: &'a mut (dyn Any + Send + Sync),
    pub(crate) old: Option<&'a (dyn Any + Send + Sync)>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) writes: Vec<Write>,
    /// What the transaction holds already.
    pub(crate) earlier: &'a [Write],
}

impl AdmissionRequest<'_> {
    /// The kind, for instance `Pod`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The object's key.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Whether the object is new.
    pub fn is_create(&self) -> bool {
        self.old.is_none()
    }

    /// The object, if it is a `K`.
    pub fn object<K: Any>(&self) -> Option<&K> {
        self.object.downcast_ref()
    }

    /// The object, if it is a `K`, to change. Its name, namespace and uid must stay.
    pub fn object_mut<K: Any>(&mut self) -> Option<&mut K> {
        self.object.downcast_mut()
    }

    /// The object before the change, if it is a `K` and not new.
    pub fn old<K: Any>(&self) -> Option<&K> {
        self.old?.downcast_ref()
    }

    /// Makes the write depend on `guard`.
    pub fn guard(&mut self, guard: Guard) {
        self.guards.push(guard);
    }

    /// What the transaction writes to `key` so far, if hooks made it write there.
    pub fn written(&self, key: &Key) -> Option<&Value> {
        self.earlier.iter().find_map(|write| match write {
            Write::Put {
                key: written,
                value,
                ..
            } if written == key => Some(value),
            _ => None,
        })
    }

    /// Adds `write` to the same transaction. It takes the place of one to the same key that a hook
    /// added before.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }
}

impl fmt::Debug for AdmissionRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionRequest")
            .field("kind", &self.kind)
            .field("key", &self.key)
            .field("is_create", &self.is_create())
            .finish_non_exhaustive()
    }
}
