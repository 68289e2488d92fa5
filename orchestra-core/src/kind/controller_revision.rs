//! A controller revision: what a controller may have to take back.

use smol_str::SmolStr;

use super::wire::kind;
use super::{Invalid, Resource, Scope};
use crate::meta::ObjectMeta;

kind! {
    /// A snapshot that a controller keeps in order to go back to it. Never changed once written,
    /// but for its number.
    pub struct ControllerRevision {
        /// The snapshot, in a form that only its controller reads.
        pub data: serde_json::Value,
        /// Its place in the order of revisions; the highest is the newest.
        pub revision: i64,
    }
}

impl ControllerRevision {
    /// A snapshot of that name.
    pub fn new(name: impl Into<SmolStr>, revision: i64, data: serde_json::Value) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            data,
            revision,
            ..Self::default()
        }
    }
}

impl Resource for ControllerRevision {
    const API_VERSION: &'static str = "apps/v1";
    const KIND: &'static str = "ControllerRevision";
    const PLURAL: &'static str = "controllerrevisions";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {}

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        if self.revision < 0 {
            invalid.refuse("revision", self.revision, "is negative", "count from 1");
        }
        if self.data.is_null() {
            invalid.missing("data", "write the snapshot");
        }
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.data == other.data && self.revision == other.revision
    }
}
