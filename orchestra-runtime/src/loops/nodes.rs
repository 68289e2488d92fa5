//! Nodes: whether they are there, what their taints say, and who must leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use orchestra_core::error::Retry;
use orchestra_core::kind::{Node, Pod, Resource, Taint, TaintEffect};
use orchestra_core::meta::{
    Condition, ConditionStatus, ObjectKey, condition, condition_holds, set_condition,
};
use orchestra_core::port::store::{Guard, Key, Write};
use orchestra_core::time::Timestamp;
use orchestra_sched::health::nodes::{Heartbeat, NodePolicy, NodeState, evict_at, taints};
use orchestra_sched::health::zones::{
    EvictionLimiter, ZoneNodes, ZonePolicy, ZoneState, ZoneVerdict,
};
use smol_str::SmolStr;

use super::caches::{BY_NODE, Caches};
use super::pace::Pace;
use super::placement::fence::forget_node;
use crate::agent::{LEASE_NAMESPACE, NODE_NOT_READY};
use crate::api::{ApiError, Client, DeleteParams};
use crate::control::{Outcome, PassError, Queue, Reconcile};
use crate::events::Recorder;
use crate::net::address::{AddressPlan, AddressRange};

/// Where it stands in the store which node has which addresses: one key a range.
const RANGE_PREFIX: &str = "podranges/";

/// Pods told to go, or taken out of their services, in one commit.
const PODS_PER_COMMIT_MAX: usize = 60;

/// When it is looked again at pods of which some went while they were told to go.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// So many nodes are many.
const LARGE_NODES: usize = 100;

/// The least time from one look at all lost nodes to the next, for each node there is.
const REST_PER_NODE: Duration = Duration::from_micros(100);

/// The longest rest between two looks at all lost nodes.
const REST_MAX: Duration = Duration::from_secs(1);

/// Watches over nodes.
#[derive(Debug)]
pub struct NodesLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
    nodes: NodePolicy,
    zones: ZonePolicy,
    addresses: AddressPlan,
    /// When this controller began to look: silence before that was not heard.
    since: Timestamp,
    memory: Mutex<Memory>,
    /// What is to be looked at: set once it is fed.
    queue: OnceLock<Queue<ObjectKey>>,
    /// How often all lost nodes are looked at.
    pace: Pace,
}

/// What is known beyond the store. Lost with the controller, which then waits once more.
#[derive(Debug, Default)]
struct Memory {
    /// Nodes whose lease was there at some time.
    heard: BTreeSet<SmolStr>,
    limiters: BTreeMap<SmolStr, EvictionLimiter>,
    /// Where to look first for a free range of addresses.
    next_range: u32,
}

impl NodesLoop {
    /// A controller that reads from `caches` and writes through `client`. `addresses` are those that
    /// nodes get for their pods.
    pub fn new(
        client: Client,
        caches: Caches,
        events: Recorder,
        nodes: NodePolicy,
        zones: ZonePolicy,
        addresses: AddressPlan,
    ) -> Self {
        let since = client.now();
        Self {
            client,
            caches,
            events,
            nodes,
            zones,
            addresses,
            since,
            memory: Mutex::default(),
            queue: OnceLock::new(),
            pace: Pace::new(LARGE_NODES, REST_PER_NODE, REST_MAX),
        }
    }

    /// Adds to `queue` every node that a change of a node, a lease or a pod may concern.
    pub fn feed(&self, queue: &Queue<ObjectKey>) {
        let caches = &self.caches;
        self.queue.get_or_init(|| queue.clone());
        crate::control::enqueue_changed(&caches.nodes, queue);
        let adds = queue.clone();
        caches.nodes.on_change(move |event| {
            let ready = |node: &Option<Arc<Node>>| node.as_ref().map(|node| node.is_ready());
            if ready(&event.old) != ready(&event.new) {
                // How fast nodes may be emptied depends on how many are lost.
                adds.add(all_lost());
            }
        });
        let adds = queue.clone();
        caches.leases.on_change(move |event| {
            if event.key.namespace == LEASE_NAMESPACE {
                adds.add(ObjectKey::cluster(event.key.name.clone()));
            }
        });
        let (nodes, adds) = (caches.nodes.clone(), queue.clone());
        caches.pods.on_change(move |event| {
            let Some(pod) = &event.new else { return };
            // Its generation moves whenever it asks for something else.
            let arrived = event.old.as_ref().is_none_or(|old| {
                old.metadata.generation != pod.metadata.generation
                    || old.metadata.uid != pod.metadata.uid
            });
            if arrived && let Some(name) = pod.node_name() {
                let key = ObjectKey::cluster(name.clone());
                if nodes
                    .get(&key)
                    .is_some_and(|node| !node.spec.taints.is_empty())
                {
                    adds.add(key);
                }
            }
        });
    }

    /// Has all lost nodes looked at again. One look serves many changes: among ten thousand nodes
    /// that begin together, each would else look at all the others.
    fn spread(&self) -> Outcome {
        let now = self.client.now();
        let key = all_lost();
        if let Some(due) = self.pace.rests_until(&key, now) {
            return Outcome::ReviewAt(due);
        }
        let nodes = self.caches.nodes.list();
        self.pace.looks(&key, nodes.len(), now);
        if let Some(queue) = self.queue.get() {
            for lost in nodes.iter().filter(|node| !node.is_ready()) {
                queue.add(lost.key());
            }
        }
        Outcome::Settled
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heartbeat(&self, node: &Node) -> Heartbeat {
        let name = &node.metadata.name;
        let lease = ObjectKey::namespaced(LEASE_NAMESPACE, name.clone());
        if self.caches.leases.get(&lease).is_some() {
            self.memory().heard.insert(name.clone());
            return Heartbeat::Held;
        }
        if self.memory().heard.contains(name) {
            return Heartbeat::Lost;
        }
        let created = node.metadata.creation_timestamp.unwrap_or(self.since);
        match condition(&node.status.conditions, Node::READY) {
            Some(_) => Heartbeat::At(self.since),
            None => Heartbeat::Never(created.max(self.since)),
        }
    }

    /// How fast each zone's lost nodes may be emptied, given that this pass found `lost` lost,
    /// which may not be written yet.
    fn verdicts(&self, lost: &Node) -> BTreeMap<SmolStr, ZoneVerdict> {
        let mut zones: BTreeMap<SmolStr, ZoneNodes> = BTreeMap::new();
        for other in self.caches.nodes.list() {
            let zone = zones.entry(other.zone_name().into()).or_default();
            if other.is_ready() && other.metadata.name != lost.metadata.name {
                zone.ready += 1
            } else {
                zone.not_ready += 1
            }
        }
        self.zones.verdicts(&zones)
    }

    /// Whether a node of that zone may be emptied now; else when to ask again.
    fn may_evict(
        &self,
        zone: SmolStr,
        verdicts: &BTreeMap<SmolStr, ZoneVerdict>,
        now: Timestamp,
    ) -> Result<(), Option<Timestamp>> {
        let interval = verdicts.get(&zone).and_then(|verdict| verdict.interval);
        let mut memory = self.memory();
        let limiter = memory.limiters.entry(zone).or_default();
        if limiter.take(interval, now) {
            Ok(())
        } else {
            Err(limiter.next_at(interval))
        }
    }
}

/// Stands for all lost nodes in the queue: no node has no name.
fn all_lost() -> ObjectKey {
    ObjectKey::cluster("")
}

impl Reconcile for NodesLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "nodes"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        if *key == all_lost() {
            return Ok(self.spread());
        }
        let Some(node) = self.caches.nodes.get(key) else {
            self.memory().heard.remove(&key.name);
            forget_node(&self.client, &key.name).await?;
            return Ok(Outcome::Settled);
        };
        if node.spec.pod_cidr.is_empty() {
            self.give_range(&node).await?;
            return Ok(Outcome::Settled); // the change brings the node back
        }
        let now = self.client.now();
        let reported = condition(&node.status.conditions, Node::READY).map(|ready| ready.status);
        let (state, changes_at) = self.nodes.state(self.heartbeat(&node), reported, now);
        let mut outcome = Outcome::from(changes_at);

        let told = node.spec.taints.iter().any(tells_to_go);
        let mut evict = false;
        // A node that is new and has never been ready has nobody to lose.
        let mut spare = false;
        if state != NodeState::Ready && reported.is_some() {
            let verdicts = self.verdicts(&node);
            // Where every zone is lost, the observer is more likely at fault: nobody is told to go
            // or taken out of a service, and those told before may stay and serve. The first node
            // that is back changes that.
            spare = verdicts
                .values()
                .all(|verdict| verdict.state == ZoneState::FullDisruption);
            if !told && !spare {
                match self.may_evict(node.zone_name().into(), &verdicts, now) {
                    Ok(()) => evict = true,
                    Err(again) => outcome = outcome.or(Outcome::from(again)),
                }
            }
        }
        if let Some(changed) = judged(&node, state, evict, spare, now) {
            let commit = self.client.commit().replace_whole(changed);
            let landed = match commit.send().await {
                Ok(landed) => landed,
                Err(error) => return Err(error.into()),
            };
            self.caches.nodes.wait_through(landed).await;
            if reported == Some(ConditionStatus::True) && state != NodeState::Ready {
                self.events
                    .warning(node.as_ref(), "NodeNotReady", "its heartbeats stopped");
            }
            return Ok(outcome.or(Outcome::ReviewAt(now)));
        }
        if state != NodeState::Ready && reported.is_some() {
            self.close(&node, spare, now).await?;
        }
        let leaving = self.evict(&node, now).await?;
        Ok(outcome.or(Outcome::from(leaving)))
    }
}

/// Whether the taint is ours and ends pods.
fn tells_to_go(taint: &Taint) -> bool {
    taint.effect == TaintEffect::NoExecute
        && [Taint::NOT_READY, Taint::UNREACHABLE].contains(&taint.key.as_str())
}

/// Whether a pod would be ready had it not been closed with its node.
fn was_well(pod: &Pod) -> bool {
    let conditions = &pod.status.conditions;
    let closed =
        condition(conditions, Pod::READY).is_some_and(|ready| ready.reason == NODE_NOT_READY);
    closed
        && !pod.is_terminating()
        && pod.has_open_gates()
        && condition_holds(conditions, Pod::CONTAINERS_READY)
}

/// The node with the conditions and taints that its state asks for; `None` if it has them.
/// `spare` takes back that its pods have to go.
fn judged(node: &Node, state: NodeState, evict: bool, spare: bool, now: Timestamp) -> Option<Node> {
    let mut changed = node.clone();
    if state == NodeState::Unknown {
        let unknown = Condition {
            kind: Node::READY.into(),
            status: ConditionStatus::Unknown,
            reason: "NodeStatusUnknown".into(),
            message: "its agent stopped sending heartbeats".into(),
            ..Condition::default()
        };
        set_condition(&mut changed.status.conditions, unknown, now);
    }
    let unschedulable = node.spec.unschedulable;
    let mut before = node.spec.taints.clone();
    if spare {
        before.retain(|taint| !tells_to_go(taint));
    }
    changed.spec.taints = taints(&before, state, unschedulable, evict, now);
    (changed != *node).then_some(changed)
}

impl NodesLoop {
    /// Takes the pods of a lost node out of their services, as whether they still answer is not
    /// known; or, to `spare` them, puts back those it took out that were well when last heard of.
    /// Guarded by the node as it was seen, so that none is closed after its agent has registered
    /// anew, upon which it tells of each pod how it is.
    async fn close(&self, node: &Node, spare: bool, now: Timestamp) -> Result<(), ApiError> {
        let mut pods = self.caches.pods.by_index(BY_NODE, &node.metadata.name);
        pods.retain(|pod| if spare { was_well(pod) } else { pod.is_ready() });
        let key = Key::from(format!("nodes/{}", node.metadata.name));
        let guard = Guard::At(key, node.metadata.resource_version);
        for some in pods.chunks(PODS_PER_COMMIT_MAX) {
            let mut commit = self.client.commit().guard(guard.clone());
            for pod in some {
                let mut changed = Pod::clone(pod);
                let (reason, message) = match spare {
                    true => ("", String::new()),
                    false => (
                        NODE_NOT_READY,
                        format!("{} is not ready", node.metadata.name),
                    ),
                };
                let ready = Condition {
                    kind: Pod::READY.into(),
                    status: spare.into(),
                    reason: reason.into(),
                    message,
                    ..Condition::default()
                };
                set_condition(&mut changed.status.conditions, ready, now);
                commit = commit.replace_status(changed);
            }
            let landed = commit.send().await?;
            self.caches.pods.wait_through(landed).await;
        }
        Ok(())
    }

    /// Tells those pods to go that do not tolerate the node's taints any longer. Returns when the
    /// next one has to.
    async fn evict(&self, node: &Node, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
        let mut next: Option<Timestamp> = None;
        let mut due = Vec::new();
        for pod in self.caches.pods.by_index(BY_NODE, &node.metadata.name) {
            if pod.is_terminating() {
                continue;
            }
            // A taint that does not say since when holds since the pod came.
            let placed = condition(&pod.status.conditions, Pod::SCHEDULED)
                .and_then(|placed| placed.last_transition_time);
            let seen = placed.or(pod.metadata.creation_timestamp).unwrap_or(now);
            match evict_at(&pod.spec.tolerations, &node.spec.taints, seen) {
                Some(at) if at <= now => due.push(pod),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        for some in due.chunks(PODS_PER_COMMIT_MAX) {
            let mut commit = self.client.commit();
            for pod in some {
                // Whatever its version: its status may change meanwhile.
                let params = DeleteParams::default().uid(pod.metadata.uid);
                commit = commit.delete_key::<Pod>(pod.key(), params);
            }
            let landed = match commit.send().await {
                Ok(landed) => landed,
                // One that went by itself spoils the commit for all: they come again without it.
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    return Ok(Some(now + LOOK_AGAIN));
                }
                Err(error) => return Err(error),
            };
            for pod in some {
                let why = format!("{} is not fit to run it any longer", node.metadata.name);
                self.events
                    .warning(pod.as_ref(), "TaintManagerEviction", &why);
            }
            self.caches.pods.wait_through(landed).await;
        }
        Ok(next)
    }

    /// One commit takes the lowest free range of addresses and gives it to the node.
    async fn give_range(&self, node: &Arc<Node>) -> Result<(), PassError> {
        // Ranges before this one were taken when last looked at; what was freed there since is
        // found once all others are gone.
        let from = self.memory().next_range;
        let room = self.addresses.nodes_max();
        for n in (from..room).chain(0..from.min(room)) {
            let range = self
                .addresses
                .of_node(n)
                .map_err(|error| PassError::new(Retry::Never, error))?
                .to_string();
            let key = Key::from(format!("{RANGE_PREFIX}{range}"));
            let guard = match self.client.store().get(&key).await? {
                None => Guard::Absent(key.clone()),
                Some(stored) => {
                    if super::owners::exists::<Node>(&self.client, &stored.value).await? {
                        continue;
                    }
                    Guard::At(key.clone(), stored.modified)
                }
            };
            self.memory().next_range = n + 1;
            let mut changed = Node::clone(node);
            changed.spec.pod_cidr = range.as_str().into();
            changed.spec.pod_cidrs = vec![changed.spec.pod_cidr.clone()];
            let owner = super::owners::text(node.as_ref());
            let commit = self.client.commit().replace(changed).guard(guard);
            let landed = commit
                .write(Write::put(key, owner.as_bytes()))
                .send()
                .await?;
            self.caches.nodes.wait_through(landed).await;
            return Ok(());
        }
        let why = format!("all {room} ranges of pod addresses are taken; delete a node");
        Err(PassError::new(Retry::Backoff, why))
    }
}

/// The range of addresses of a node's pods, if it has one.
pub(crate) fn pod_range(node: &Node) -> Option<AddressRange> {
    let (address, prefix) = node.spec.pod_cidr.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    AddressRange::new(address, prefix.parse().ok()?).ok()
}
