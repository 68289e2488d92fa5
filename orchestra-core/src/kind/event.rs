//! An event: something worth telling happened to an object.

use smol_str::SmolStr;

use super::rules::Path;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::meta::{ObjectMeta, Uid};
use crate::time::Timestamp;

kind! {
    /// Something worth telling happened to an object. Like happenings are counted in one event.
    pub struct Event {
        /// What it happened to.
        pub involved_object: ObjectReference,
        /// What happened, in a word for machines.
        pub reason: SmolStr,
        /// What happened, for people.
        pub message: String,
        /// Whether people should worry.
        #[serde(rename = "type")]
        pub severity: EventType,
        /// How often it happened.
        pub count: u32,
        /// When it first happened.
        pub first_timestamp: Option<Timestamp>,
        /// When it last happened.
        pub last_timestamp: Option<Timestamp>,
        /// When a single happening was seen, to the microsecond.
        pub event_time: Option<Timestamp>,
        /// What was done about it, in a word for machines.
        pub action: SmolStr,
        /// Another object that had a part in it.
        pub related: Option<ObjectReference>,
        /// Which part of the system tells it, for instance `orchestra.dev/scheduler`.
        pub reporting_component: SmolStr,
        /// Which instance of that part.
        pub reporting_instance: SmolStr,
        /// The older form of the two fields above.
        pub source: EventSource,
    }
}

part! {
    /// Names an object, or a part of it.
    pub struct ObjectReference {
        /// The object's API version.
        pub api_version: SmolStr,
        /// Its kind.
        pub kind: SmolStr,
        /// Its namespace; empty for a cluster-wide kind.
        pub namespace: SmolStr,
        /// Its name.
        pub name: SmolStr,
        /// Which life of that name.
        pub uid: Uid,
        /// Which version of it.
        pub resource_version: SmolStr,
        /// Which part of it, for instance `spec.containers{web}`.
        pub field_path: String,
    }

    /// Who told.
    pub struct EventSource {
        /// Which part of the system.
        pub component: SmolStr,
        /// On which node.
        pub host: SmolStr,
    }
}

words! {
    /// Whether people should worry.
    pub enum EventType {
        /// All is well.
        #[default]
        Normal = "Normal",
        /// Somebody may have to look.
        Warning = "Warning",
    }
}

impl ObjectReference {
    /// A reference to `object`.
    pub fn to<K: Resource>(object: &K) -> Self {
        let meta = object.metadata();
        Self {
            api_version: K::API_VERSION.into(),
            kind: K::KIND.into(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid,
            ..Self::default()
        }
    }
}

impl Resource for Event {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Event";
    const PLURAL: &'static str = "events";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        if self.count == 0 {
            self.count = 1;
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let path = Path::root("involvedObject");
        let (theirs, own) = (&self.involved_object.namespace, &self.metadata.namespace);
        if !theirs.is_empty() && !own.is_empty() && theirs != own {
            let problem = format!("is not the event's namespace, {own}");
            let remedy = "write the event into the namespace of its object";
            invalid.refuse(path.field("namespace"), theirs, problem, remedy);
        }
        if self.involved_object.kind.is_empty() {
            invalid.missing(path.field("kind"), "name the kind of the object");
        }
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        let mut other = other.clone();
        other.metadata.clone_from(&self.metadata);
        *self == other
    }
}
