//! A namespace: names are unique within it.

use smol_str::SmolStr;

use super::rules::{Path, dns_label};
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::meta::{Condition, ObjectMeta};

kind! {
    /// A namespace: names are unique within it, and it is emptied and deleted as a whole.
    pub struct Namespace {
        /// What is asked for.
        pub spec: NamespaceSpec,
        /// What is so.
        pub status: NamespaceStatus,
    }
}

part! {
    /// What is asked of a namespace.
    pub struct NamespaceSpec {
        /// Who must agree before it goes.
        pub finalizers: Vec<SmolStr>,
    }

    /// The state of a namespace.
    pub struct NamespaceStatus {
        /// Whether it lives.
        pub phase: Option<NamespacePhase>,
        /// Details of its end.
        pub conditions: Vec<Condition>,
    }
}

words! {
    /// Whether a namespace lives.
    pub enum NamespacePhase {
        /// Objects may be created in it.
        #[default]
        Active = "Active",
        /// It is being emptied; nothing new may be created in it.
        Terminating = "Terminating",
    }
}

impl Namespace {
    /// The label that holds the namespace's own name.
    pub const NAME_LABEL: &'static str = "kubernetes.io/metadata.name";

    /// Holds a namespace that is being deleted until it is empty. Every namespace has it from its
    /// creation.
    pub const FINALIZER: &'static str = "orchestra.dev/content";

    /// Where objects go whose namespace nobody named.
    pub const DEFAULT: &'static str = "default";

    /// A namespace of that name.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            ..Self::default()
        }
    }
}

impl Resource for Namespace {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    const SCOPE: Scope = Scope::Cluster;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        let name = self.metadata.name.clone();
        if !name.is_empty() {
            // Selectors of namespaces can name one by this.
            self.metadata.labels.insert(Self::NAME_LABEL.into(), name);
        }
        let finalizers = &mut self.metadata.finalizers;
        if self.metadata.deletion_timestamp.is_none()
            && !finalizers
                .iter()
                .any(|finalizer| finalizer == Self::FINALIZER)
        {
            finalizers.push(Self::FINALIZER.into());
        }
        self.status.phase.get_or_insert_default();
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        if !self.metadata.name.is_empty() {
            let path = Path::root("metadata");
            dns_label(&mut invalid, path.field("name"), &self.metadata.name);
        }
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
