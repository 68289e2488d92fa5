//! A hold on a simulated cluster, for the story that is told with it.

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::{Node, Pod, Resource, Scope, Taint};
use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::fault::Fault;
use super::report::Violation;
use super::world::World;
use crate::api::{Api, ApiError, Client, DeleteParams, Deleted};
use crate::driver::sim::SimDriver;

/// How long nothing may be written for a cluster to count as at rest.
const QUIET: Duration = Duration::from_secs(60);

/// How long a cluster may take to come to rest once nothing goes wrong any more. Long enough for
/// the longest restart back-off, and for lost nodes to be emptied one after the other.
pub const SETTLE_MAX: Duration = Duration::from_secs(4 * 3_600);

/// A running simulation. Time passes only while something waits: by [`advance`](Self::advance),
/// [`settle`](Self::settle), or any call that has to.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) world: Arc<World>,
}

impl Cluster {
    /// For reading and writing objects as a user does: on a line that is never cut.
    pub fn client(&self) -> &Client {
        &self.world.client
    }

    /// The objects of one kind.
    pub fn api<K: Resource>(&self) -> Api<K> {
        self.world.client.api()
    }

    /// Makes `object` as it is given here: creates it, or changes what is there.
    ///
    /// # Errors
    ///
    /// [`ApiErrorKind::Invalid`](crate::api::ApiErrorKind::Invalid) if it breaks rules, naming
    /// each field.
    pub async fn apply<K: Resource>(&self, object: K) -> Result<Arc<K>, ApiError> {
        self.api::<K>().apply(object).await
    }

    /// Deletes the object `name` of the default namespace (or cluster-wide), in order.
    ///
    /// # Errors
    ///
    /// [`ApiErrorKind::NotFound`](crate::api::ApiErrorKind::NotFound) if it does not exist.
    pub async fn delete<K: Resource>(&self, name: &str) -> Result<Deleted<K>, ApiError> {
        self.api::<K>()
            .delete(&key::<K>(name), DeleteParams::default())
            .await
    }

    /// The object `name` of the default namespace (or cluster-wide), as the store has it.
    ///
    /// # Errors
    ///
    /// [`ApiErrorKind::NotFound`](crate::api::ApiErrorKind::NotFound) if it does not exist.
    pub async fn get<K: Resource>(&self, name: &str) -> Result<Arc<K>, ApiError> {
        self.api::<K>().get(&key::<K>(name)).await
    }

    /// How many pods of that deployment of the default namespace are ready and not on their way
    /// out.
    pub fn ready(&self, deployment: &str) -> u32 {
        let pods = self.pods(deployment);
        let ready = pods
            .iter()
            .filter(|pod| pod.is_ready() && !pod.is_terminating());
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }

    /// The pods of that deployment of the default namespace, ordered by name; those on their way
    /// out too: what a lost machine ran stays until the machine is back or removed.
    pub fn pods(&self, deployment: &str) -> Vec<Arc<Pod>> {
        self.world
            .checker
            .pods_of(&ObjectKey::namespaced("default", deployment))
    }

    /// The names of the machines, with and without power, in their order.
    pub fn nodes(&self) -> Vec<SmolStr> {
        self.world
            .machines()
            .into_iter()
            .map(|machine| machine.name)
            .collect()
    }

    /// What runs on a machine, to look at and to disturb.
    pub fn driver(&self, node: &str) -> Option<Arc<SimDriver>> {
        self.world.driver(node)
    }

    /// Adds a machine and starts its agent, which registers the node.
    pub fn add_node(&self, node: Node) {
        self.world.note(&format!("AddNode({})", node.metadata.name));
        self.world.add_node(node);
    }

    /// Takes a machine away for good: its power, and then its object.
    ///
    /// # Errors
    ///
    /// If its object cannot be deleted.
    pub async fn remove_node(&self, name: &str) -> Result<(), ApiError> {
        self.world.note(&format!("RemoveNode({name})"));
        self.world.remove_node(name);
        match self.delete::<Node>(name).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The time in the cluster.
    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// How long the cluster has lived.
    pub fn lived(&self) -> Duration {
        self.world.lived()
    }

    /// Lets time pass, with everything that happens in it.
    pub async fn advance(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// Makes something go wrong, or right again.
    ///
    /// # Errors
    ///
    /// If it is about a machine that does not exist, or if a node's object cannot be changed.
    pub async fn fault(&self, fault: Fault) -> Result<(), FaultError> {
        let unknown = || FaultError::NoSuchNode(format!("{fault:?}"));
        self.world.strike(&fault).ok_or_else(unknown)?;
        match fault {
            Fault::Cordon(name) => {
                self.change_node(&name, |node| node.spec.unschedulable = true)
                    .await?;
            }
            Fault::Uncordon(name) => {
                self.change_node(&name, |node| node.spec.unschedulable = false)
                    .await?;
            }
            Fault::Taint(name, taint) => {
                let same = |old: &Taint| old.key == taint.key && old.effect == taint.effect;
                self.change_node(&name, |node| {
                    node.spec.taints.retain(|old| !same(old));
                    node.spec.taints.push(taint.clone());
                })
                .await?;
            }
            Fault::Untaint(name, taint) => {
                self.change_node(&name, |node| {
                    node.spec.taints.retain(|old| old.key != taint)
                })
                .await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn change_node(
        &self,
        name: &str,
        change: impl FnMut(&mut Node) + Send,
    ) -> Result<(), ApiError> {
        self.api::<Node>()
            .update(&ObjectKey::cluster(name), change)
            .await
            .map(drop)
    }

    /// Waits until the cluster is at rest, and checks that it is as it should be: deployments
    /// complete, nothing waits that fits somewhere, endpoints are the ready pods, every pod's
    /// status says what its driver does, nothing runs without a pod, nothing is left of an owner
    /// that is gone. Nodes without power, or cut off, are at rest once they are known to be lost
    /// and told to be empty.
    ///
    /// # Errors
    ///
    /// A violation of `convergence` if that is not so within [`SETTLE_MAX`]: it says what is not
    /// at rest.
    pub async fn settle(&self) -> Result<(), Violation> {
        let began = self.now();
        let until = began + SETTLE_MAX;
        let checker = &self.world.checker;
        // What was written just now is seen by the checker before anything else happens.
        let mut unrest = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // What happened just before may take its time to show.
            let quiet = checker.quiet_for().min(self.now().since(began));
            if quiet < QUIET && self.now() < until {
                tokio::time::sleep(QUIET.saturating_sub(quiet)).await;
                continue;
            }
            let unrest = checker.unrest(&self.world.machines());
            if unrest.is_empty() || self.now() >= until {
                break unrest;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        };
        checker.compare().await;
        if let Some(broken) = self.world.sink.first() {
            return Err(broken);
        }
        if checker.quiet_for() < QUIET {
            let (revision, last) = checker.last_change();
            let last = last.map(|key| key.to_string()).unwrap_or_default();
            unrest.push(format!(
                "it does not come to rest; the last write was {revision}: {last}"
            ));
        }
        if unrest.is_empty() {
            return Ok(());
        }
        checker.complain("convergence", unrest.join("; "));
        Err(self.broken())
    }

    /// Lets `span` pass, in which nothing may be written but old events removed: what is at rest
    /// stays at rest.
    ///
    /// # Errors
    ///
    /// A violation of `fixpoint` that names the first key that was written.
    pub async fn still(&self, span: Duration) -> Result<(), Violation> {
        let checker = &self.world.checker;
        let (before, _) = checker.last_change();
        self.advance(span).await;
        let (after, key) = checker.last_change();
        if after == before {
            return self.world.sink.first().map_or(Ok(()), Err);
        }
        let key = key.map(|key| key.to_string()).unwrap_or_default();
        checker.complain(
            "fixpoint",
            format!("at rest, and then {key} was written at {after}"),
        );
        Err(self.broken())
    }

    /// Waits until every machine's node is ready and has addresses for its pods.
    pub(super) async fn registered(&self) {
        while !self.world.checker.registered(&self.world.machines()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn broken(&self) -> Violation {
        let none = || unreachable!("a complaint was made");
        self.world.sink.first().unwrap_or_else(none)
    }
}

/// A fault could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// There is no such machine.
    #[error("{0}: there is no such machine; `nodes()` of the running cluster lists them")]
    NoSuchNode(String),
    /// The node's object could not be changed.
    #[error("the node could not be changed")]
    Api(#[from] ApiError),
}

fn key<K: Resource>(name: &str) -> ObjectKey {
    match K::SCOPE {
        Scope::Namespaced => ObjectKey::namespaced("default", name),
        Scope::Cluster => ObjectKey::cluster(name),
    }
}
