//! A priority class: a name for a priority.

use smol_str::SmolStr;

use super::pod::PreemptionPolicy;
use super::wire::kind;
use super::{Invalid, Resource, Scope};
use crate::meta::ObjectMeta;

kind! {
    /// A name for a priority that pods refer to.
    pub struct PriorityClass {
        /// The priority: higher goes first. People may use -2147483648 to 1000000000; beyond
        /// that is the system's own.
        pub value: i32,
        /// Whether it holds for pods that name no class. At most one class says so.
        pub global_default: bool,
        /// What it is for, for people.
        pub description: String,
        /// Whether its pods may take the place of others.
        pub preemption_policy: Option<PreemptionPolicy>,
    }
}

impl PriorityClass {
    /// The highest value that people may use.
    pub const VALUE_MAX: i32 = 1_000_000_000;
    /// The prefix of the names that belong to the system.
    pub const SYSTEM_PREFIX: &'static str = "system-";

    /// A class of that name and value.
    pub fn new(name: impl Into<SmolStr>, value: i32) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            value,
            ..Self::default()
        }
    }
}

impl Resource for PriorityClass {
    const API_VERSION: &'static str = "scheduling.k8s.io/v1";
    const KIND: &'static str = "PriorityClass";
    const PLURAL: &'static str = "priorityclasses";
    const SCOPE: Scope = Scope::Cluster;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert_default();
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let of_system = self.metadata.name.starts_with(Self::SYSTEM_PREFIX);
        if self.value > Self::VALUE_MAX && !of_system {
            invalid.refuse(
                "value",
                self.value,
                "is above 1000000000, where the system's own priorities begin",
                "write 1000000000 or less",
            );
        }
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.value == other.value
            && self.global_default == other.global_default
            && self.description == other.description
            && self.preemption_policy == other.preemption_policy
    }
}
