//! A lease: who leads, or that a node lives.

use smol_str::SmolStr;

use super::wire::{kind, part};
use super::{Invalid, Resource, Scope};
use crate::meta::ObjectMeta;
use crate::time::Timestamp;

kind! {
    /// Who holds something, and since when nobody has heard of them: leader election and node
    /// heartbeats. Not a [`LeaseId`](crate::port::lease::LeaseId) of a store.
    pub struct Lease {
        /// Who holds it.
        pub spec: LeaseSpec,
    }
}

part! {
    /// Who holds a lease.
    pub struct LeaseSpec {
        /// The holder; empty if nobody holds it.
        pub holder_identity: SmolStr,
        /// How long after `renew_time` others wait before they take it, in seconds.
        pub lease_duration_seconds: Option<u32>,
        /// When the present holder took it.
        pub acquire_time: Option<Timestamp>,
        /// When the present holder last renewed it.
        pub renew_time: Option<Timestamp>,
        /// How often the holder changed.
        pub lease_transitions: u32,
        /// How a leader is chosen, where that is coordinated.
        pub strategy: SmolStr,
        /// Who should have it next, where that is coordinated.
        pub preferred_holder: SmolStr,
    }
}

impl Lease {
    /// A lease in `namespace` that nobody holds.
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        let metadata = ObjectMeta {
            namespace: namespace.into(),
            ..ObjectMeta::named(name)
        };
        Self {
            metadata,
            ..Self::default()
        }
    }

    /// Since when the lease is free to take: the last renewal and its duration. `None` if it
    /// was never renewed or names no duration.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let span = self.spec.lease_duration_seconds?;
        Some(self.spec.renew_time? + std::time::Duration::from_secs(span.into()))
    }
}

impl Resource for Lease {
    const API_VERSION: &'static str = "coordination.k8s.io/v1";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";
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
        if self.spec.lease_duration_seconds == Some(0) {
            invalid.refuse(
                "spec.leaseDurationSeconds",
                0,
                "is not positive",
                "write how long others wait, in seconds, or leave it out",
            );
        }
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
