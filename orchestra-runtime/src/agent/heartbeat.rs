//! The node says that it is there: a lease of the store, and the node's own object.

use std::time::Duration;

use orchestra_core::codec;
use orchestra_core::error::report;
use orchestra_core::kind::{Lease, Node, Resource};
use orchestra_core::meta::{Condition, ConditionStatus, ObjectKey, condition, set_condition};
use orchestra_core::port::lease::{KeptAlive, LeaseId};
use orchestra_core::port::store::{Key, StoreError, StoreErrorKind, Txn, Write};
use smol_str::SmolStr;

use super::{AgentSettings, NodeView};
use crate::api::{ApiError, Client};
use crate::cache::Signal;

/// The namespace of the leases by which nodes say that they are there.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// After a failure the next heartbeat comes sooner.
const RETRY: Duration = Duration::from_secs(1);

/// How long an agent that ends waits for the store to take its lease back.
const REVOKE_MAX: Duration = Duration::from_secs(5);

/// Keeps a node's lease and its object as they should be.
pub(crate) struct Heartbeat<'a> {
    pub(crate) client: &'a Client,
    pub(crate) view: &'a dyn NodeView,
    pub(crate) node: &'a Node,
    pub(crate) settings: &'a AgentSettings,
    /// Raised whenever the node was made ready.
    pub(crate) registered: &'a Signal,
    pub(crate) lease: Option<LeaseId>,
    /// The node was perhaps made ready, and nobody was told.
    pub(crate) in_doubt: bool,
}

impl Heartbeat<'_> {
    /// Beats until dropped. What fails is tried again a second later.
    pub(crate) async fn run(&mut self) {
        loop {
            let rest = match self.beat().await {
                Ok(()) => self.settings.node_policy.heartbeat_interval,
                Err(error) => {
                    let node = &self.node.metadata.name;
                    tracing::warn!(%node, error = %report(&error), "heartbeat failed");
                    RETRY.min(self.settings.node_policy.heartbeat_interval)
                }
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// Gives the lease up, so that the node counts as gone at once.
    pub(crate) async fn end(&mut self) {
        if let (Some(lease), Some(leases)) = (self.lease.take(), self.client.store().leases()) {
            match tokio::time::timeout(REVOKE_MAX, leases.revoke(lease)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %report(&error), "the lease is left to run out");
                }
                Err(_) => tracing::debug!("the store is silent; the lease is left to run out"),
            }
        }
    }

    /// One heartbeat: the lease first, so that nobody finds a node without one.
    pub(crate) async fn beat(&mut self) -> Result<(), ApiError> {
        let name = self.node.metadata.name.clone();
        self.hold_lease(&name)
            .await
            .map_err(|error| ApiError::store(error, "heartbeat", format!("nodes {name}")))?;
        self.register().await
    }

    async fn hold_lease(&mut self, name: &SmolStr) -> Result<(), StoreError> {
        let Some(leases) = self.client.store().leases() else {
            return Err(StoreError::new(StoreErrorKind::Invalid, "grant")
                .about(name.as_str())
                .because("the store has no leases; nodes need a store that has"));
        };
        let key = Key::from(format!("{}/{LEASE_NAMESPACE}/{name}", Lease::PLURAL));
        let kept = match self.lease {
            Some(lease) => match leases.keep_alive(lease).await? {
                KeptAlive::For(_) => Some(lease),
                _ => None,
            },
            None => None,
        };
        // Somebody may have deleted the object, while the lease goes on.
        if kept.is_some() && self.client.store().get(&key).await?.is_some() {
            return Ok(());
        }
        let lease = match kept {
            Some(lease) => lease,
            None => leases.grant(self.settings.node_policy.grace).await?,
        };
        // Noted before it is used, so that it is given back even if this ends in between.
        self.lease = Some(lease);
        let now = self.client.now();
        let mut object = Lease::new(LEASE_NAMESPACE, name.clone());
        object.metadata.uid = self.client.ids().uid();
        object.metadata.creation_timestamp = Some(now);
        object.spec.holder_identity = name.clone();
        let seconds = self.settings.node_policy.lease.as_secs();
        object.spec.lease_duration_seconds = u32::try_from(seconds).ok();
        object.spec.acquire_time = Some(now);
        object.spec.renew_time = Some(now);
        let value = codec::encode(&object).map_err(|error| {
            StoreError::new(StoreErrorKind::Invalid, "encode")
                .about(name.as_str())
                .because(error)
        })?;
        let write = Write::Put {
            key,
            value,
            lease: Some(lease),
        };
        self.client.store().commit(Txn::new().then(write)).await?;
        Ok(())
    }

    /// Creates the node's object, or makes it say that the node is ready.
    async fn register(&mut self) -> Result<(), ApiError> {
        let wanted = &self.node.status;
        let well = |node: &Node| {
            condition(&node.status.conditions, Node::READY)
                .is_some_and(|ready| ready.status == ConditionStatus::True)
                && node.status.allocatable == wanted.allocatable
                && node.status.capacity == wanted.capacity
        };
        if self.view.node().is_some_and(|seen| well(&seen)) {
            // It landed after all, though nobody heard so.
            if std::mem::take(&mut self.in_doubt) {
                self.registered.raise();
            }
            return Ok(());
        }
        self.in_doubt = true;
        let api = self.client.api::<Node>();
        let key = ObjectKey::cluster(self.node.metadata.name.clone());
        if api.find(&key).await?.is_none() {
            match api.create(self.node.clone()).await {
                Ok(_) => {}
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        let now = self.client.now();
        api.update_status(&key, |node| {
            node.status.capacity.clone_from(&wanted.capacity);
            node.status.allocatable.clone_from(&wanted.allocatable);
            node.status.addresses.clone_from(&wanted.addresses);
            let ready = Condition {
                kind: Node::READY.into(),
                status: ConditionStatus::True,
                reason: "AgentReady".into(),
                message: "the agent sends heartbeats".into(),
                ..Condition::default()
            };
            set_condition(&mut node.status.conditions, ready, now);
        })
        .await?;
        self.in_doubt = false;
        self.registered.raise();
        Ok(())
    }
}
