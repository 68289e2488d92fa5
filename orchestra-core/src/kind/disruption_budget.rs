//! A disruption budget: how many pods of a group may be away at once.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::rules::Path;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::int_or::IntOrPercent;
use crate::meta::{Condition, ObjectMeta};
use crate::selector::LabelSelector;
use crate::time::Timestamp;

kind! {
    /// How many pods of a group may be away at once for reasons of ours: draining, preemption,
    /// rebalancing.
    pub struct PodDisruptionBudget {
        /// What is asked for.
        pub spec: PodDisruptionBudgetSpec,
        /// What is so.
        pub status: PodDisruptionBudgetStatus,
    }
}

part! {
    /// Which pods, and how many of them may be away. Exactly one of `min_available` and
    /// `max_unavailable` is set.
    pub struct PodDisruptionBudgetSpec {
        /// How many must stay available; a share rounds up.
        pub min_available: Option<IntOrPercent>,
        /// How many may be away; a share rounds up.
        pub max_unavailable: Option<IntOrPercent>,
        /// Which pods. None selects no pod, an empty selector all of the namespace.
        pub selector: Option<LabelSelector>,
        /// Whether pods that run but are not ready may always go.
        pub unhealthy_pod_eviction_policy: Option<UnhealthyPodEvictionPolicy>,
    }

    /// What a budget allows now.
    pub struct PodDisruptionBudgetStatus {
        /// The generation of the spec that this speaks of.
        pub observed_generation: u64,
        /// Pods whose eviction was granted and not yet seen, and when.
        pub disrupted_pods: BTreeMap<SmolStr, Timestamp>,
        /// How many more may go now.
        pub disruptions_allowed: u32,
        /// How many are healthy.
        pub current_healthy: u32,
        /// How many must be.
        pub desired_healthy: u32,
        /// How many there should be.
        pub expected_pods: u32,
        /// Details.
        pub conditions: Vec<Condition>,
    }
}

words! {
    /// Whether pods that run but are not ready may always go.
    pub enum UnhealthyPodEvictionPolicy {
        /// Only while the group is healthy enough.
        #[default]
        IfHealthyBudget = "IfHealthyBudget",
        /// Always.
        AlwaysAllow = "AlwaysAllow",
    }
}

impl PodDisruptionBudget {
    /// A budget for the pods of `selector`; say next how many.
    pub fn new(name: impl Into<SmolStr>, selector: LabelSelector) -> Self {
        let spec = PodDisruptionBudgetSpec {
            selector: Some(selector),
            ..PodDisruptionBudgetSpec::default()
        };
        Self {
            metadata: ObjectMeta::named(name),
            spec,
            ..Self::default()
        }
    }

    /// At least this many stay available. Takes back any `max_unavailable`.
    #[must_use]
    pub fn min_available(mut self, pods: impl Into<IntOrPercent>) -> Self {
        self.spec.min_available = Some(pods.into());
        self.spec.max_unavailable = None;
        self
    }

    /// At most this many are away. Takes back any `min_available`.
    #[must_use]
    pub fn max_unavailable(mut self, pods: impl Into<IntOrPercent>) -> Self {
        self.spec.max_unavailable = Some(pods.into());
        self.spec.min_available = None;
        self
    }
}

impl Resource for PodDisruptionBudget {
    const API_VERSION: &'static str = "policy/v1";
    const KIND: &'static str = "PodDisruptionBudget";
    const PLURAL: &'static str = "poddisruptionbudgets";
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
        if self.spec.min_available.is_some() == self.spec.max_unavailable.is_some() {
            let both = self.spec.min_available.is_some();
            invalid.refuse(
                "spec",
                "",
                if both {
                    "has both minAvailable and maxUnavailable"
                } else {
                    "has neither minAvailable nor maxUnavailable"
                },
                "write exactly one of them",
            );
        }
        let path = Path::root("spec");
        for (field, bound) in [
            ("minAvailable", self.spec.min_available),
            ("maxUnavailable", self.spec.max_unavailable),
        ] {
            if let Some(IntOrPercent::Percent(percent @ 101..)) = bound {
                let value = format!("{percent}%");
                invalid.refuse(
                    path.field(field),
                    value,
                    "is more than all",
                    "write 100% or less",
                );
            }
        }
        if let Some(selector) = &self.spec.selector {
            selector.validate("spec.selector", &mut invalid);
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
