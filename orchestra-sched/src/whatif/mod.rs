//! Questions about a cluster that is not so yet: what happens if.
//!
//! ```
//! use orchestra_core::time::Timestamp;
//! use orchestra_sched::fixture::Cluster;
//! use orchestra_sched::place::{Framework, PlanInputs};
//! use orchestra_sched::rng::PlanRng;
//! use orchestra_sched::whatif::Question;
//!
//! let cluster: Cluster = "
//!     node a-1 cpu=4 memory=8Gi zone=a
//!     node b-1 cpu=4 memory=8Gi zone=b
//!     pod web on=a-1 cpu=1 memory=1Gi
//!     pod db on=b-1 cpu=2 memory=2Gi
//!     pod cache on=b-1 cpu=2 memory=2Gi
//! ".parse()?;
//! let inputs = PlanInputs { now: Timestamp::EPOCH, rng: PlanRng::new(1) };
//!
//! let answer = Question::new()
//!     .lose_zone("b")
//!     .ask(&cluster.snapshot(), &Framework::default(), inputs)?;
//! assert_eq!(answer.placed.len(), 1);
//! assert_eq!(
//!     answer.stranded[0].why.to_string(),
//!     "0/1 nodes fit: 1 lacks cpu (nearest a-1 misses 1)"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is touched: a question works on a snapshot that shares with the real one all that it
//! does not change. The same scheduler answers as places the pods later, so the answer is what it
//! would do. Pods of one kind come to it in a row, as those who replace them create them.

mod admit;
mod answer;
mod headroom;
mod shapes;
mod totals;
mod weak;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use orchestra_core::kind::{Deployment, Invalid, Node, Pod, Resource as _};
use orchestra_core::meta::{Labels, Uid};
use orchestra_core::quantity::ResourceList;
use orchestra_core::selector::LabelSelector;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

pub use answer::{Answer, LINES_MAX, Placed, Stranded};
pub use headroom::{HEADROOM_MAX, Headroom, headroom};
pub use totals::{Total, Totals};
pub use weak::{Loss, NODES_TRIED_MAX, WeakSpots, weak_spots};

use admit::{admitted, check_requests, namespace_or_default};
use shapes::Shapes;

use crate::place::{Pending, PlanInputs, Scheduler};
use crate::snapshot::{Amounts, Demand, Future, NodeFacts, Running, Snapshot};

/// One thing that would be otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// A node is emptied and taken out.
    Drain(SmolStr),
    /// Every node of a zone is gone, with what ran there.
    LoseZone(SmolStr),
    /// A node is added, or is otherwise than it was.
    AddNode(NodeFacts),
    /// Pods with these labels request other amounts, and are started anew.
    Request {
        /// Their namespace.
        namespace: SmolStr,
        /// Labels that they all have.
        labels: Labels,
        /// What they request instead, whole; what is not named they no longer request.
        requests: Amounts,
    },
    /// Pods that a selector selects end, and nothing replaces them.
    End {
        /// Their namespace.
        namespace: SmolStr,
        /// Which of its pods; an empty selector selects all.
        selector: LabelSelector,
    },
    /// A pod comes anew.
    Deploy(Box<Pending>),
}

/// A question names what does not exist, or asks for what the API would refuse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuestionError {
    /// No node has that name.
    #[error("there is no node {0}")]
    NoNode(SmolStr),
    /// No node is in that zone.
    #[error("no node is in zone {0}; the label is topology.kubernetes.io/zone")]
    NoZone(SmolStr),
    /// No pod that runs has those labels.
    #[error("no pod that runs in namespace {namespace} has the labels {labels}")]
    NoPods {
        /// The namespace.
        namespace: SmolStr,
        /// The labels, as `key=value`.
        labels: String,
    },
    /// Something in it breaks rules of the API, so that it could not come about.
    #[error("{what} would be refused: {invalid}")]
    Invalid {
        /// What it is, such as `Pod default/web`.
        what: SmolStr,
        /// Each rule that it breaks: the field, what stands there, and the remedy.
        invalid: Invalid,
    },
}

/// What would be otherwise; the changes happen in order, and then whatever lost its place is placed
/// anew.
///
/// Pods, deployments and nodes are taken as the API would store them: a namespace that is not named is
/// `default`, what is left out has its default, and what breaks a rule is refused when the question is
/// [asked](Self::ask). What the API looks up elsewhere is not part of a question: quotas of a namespace
/// (a pod beyond one is never created, here it finds a node), whether the namespace exists, priority
/// classes (say `spec.priority`), and hooks of your own.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "a question is answered once it is asked"]
pub struct Question {
    changes: Vec<Change>,
    /// The first thing in it that would be refused.
    refused: Option<QuestionError>,
}

impl Question {
    /// Nothing is otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more change.
    pub fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// What comes of something that is admitted; what is not is remembered until somebody asks.
    fn with<T>(
        mut self,
        admitted: Result<T, QuestionError>,
        change: impl FnOnce(Self, T) -> Self,
    ) -> Self {
        match admitted {
            Ok(admitted) => change(self, admitted),
            Err(refused) => {
                self.refused.get_or_insert(refused);
                self
            }
        }
    }

    /// These nodes are emptied and taken out.
    pub fn drain<N: Into<SmolStr>>(self, nodes: impl IntoIterator<Item = N>) -> Self {
        let nodes = nodes.into_iter().map(|node| Change::Drain(node.into()));
        nodes.fold(self, Self::change)
    }

    /// That zone is gone.
    pub fn lose_zone(self, zone: impl Into<SmolStr>) -> Self {
        self.change(Change::LoseZone(zone.into()))
    }

    /// So many nodes like this are added, called `name-1`, `name-2` and so on; one alone keeps its
    /// name.
    pub fn add_nodes(self, node: &Node, count: usize) -> Self {
        self.with(admitted(node.clone()), |question, node| {
            let facts = NodeFacts::of(&node);
            let nodes = (1..=count).map(|nth| {
                let mut facts = facts.clone();
                if count > 1 {
                    facts.name = nth_of(&facts.name, nth);
                }
                Change::AddNode(facts)
            });
            nodes.fold(question, Self::change)
        })
    }

    /// Pods of that namespace (`default`, if empty) with all these labels request something else, and are
    /// started anew.
    pub fn request(
        self,
        namespace: impl Into<SmolStr>,
        labels: Labels,
        requests: &ResourceList,
    ) -> Self {
        let namespace = namespace_or_default(namespace.into());
        self.with(check_requests(requests), |question, ()| {
            question.change(Change::Request {
                namespace,
                labels,
                requests: Amounts::of(requests),
            })
        })
    }

    /// Pods of that namespace (`default`, if empty) end, and nothing replaces them. There need not be any.
    pub fn end(self, namespace: impl Into<SmolStr>, selector: LabelSelector) -> Self {
        self.change(Change::End {
            namespace: namespace_or_default(namespace.into()),
            selector,
        })
    }

    /// A deployment is applied, and has been rolled out: the pods that it selects have ended, and as
    /// many as it asks for have come in their place. What a rollout needs beside them on the way is not
    /// asked: [`deploy`](Self::deploy) as many pods as it may surge for that.
    pub fn apply(self, deployment: &Deployment) -> Self {
        self.with(admitted(deployment.clone()), |question, deployment| {
            let (meta, spec) = (&deployment.metadata, &deployment.spec);
            let mut pod = spec.template.to_pod();
            pod.metadata.name = meta.name.clone();
            pod.metadata.namespace = meta.namespace.clone();
            let count = spec.replicas.unwrap_or(1) as usize;
            question.with(admitted(pod), |question, mut pod| {
                // As pods of one template they spread by default.
                let labels = &mut pod.metadata.labels;
                labels.insert(Pod::TEMPLATE_HASH_LABEL.into(), "applied".into());
                pod.metadata.owner_references = vec![deployment.owner_reference()];
                question
                    .end(meta.namespace.clone(), spec.selector.clone())
                    .start(&pod, count)
            })
        })
    }

    /// So many pods like this come anew, called `name-1`, `name-2` and so on.
    pub fn deploy(self, pod: &Pod, count: usize) -> Self {
        self.with(admitted(pod.clone()), |question, pod| {
            question.start(&pod, count)
        })
    }

    fn start(self, pod: &Pod, count: usize) -> Self {
        let mut pending = Pending::of(pod, Timestamp::EPOCH);
        pending.demand = pending.demand.leaving(&pod.spec.node_name);
        let pods = (1..=count).map(|nth| {
            let mut pending = pending.clone();
            pending.id.key.name = nth_of(&pending.id.key.name, nth);
            Change::Deploy(Box::new(pending))
        });
        pods.fold(self, Self::change)
    }

    /// What would happen.
    ///
    /// # Errors
    ///
    /// If it asks for what the API would refuse, or names what does not exist once the changes before have
    /// happened.
    pub fn ask(
        &self,
        snapshot: &Snapshot,
        scheduler: &dyn Scheduler,
        inputs: PlanInputs,
    ) -> Result<Answer, QuestionError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let mut leaving = Leaving::of(snapshot);
        for change in &self.changes {
            leaving.change(change)?;
        }
        leaving.line_up();
        let Leaving {
            mut future,
            pending,
            from,
            ..
        } = leaving;
        let changed = future.snapshot();
        let plan = scheduler.plan(&changed, &pending, inputs);
        let mut answer = Answer {
            question: self.clone(),
            nodes: (snapshot.len(), changed.len()),
            before: Totals::of(snapshot),
            ..Answer::default()
        };
        for placement in plan.placed {
            let pod = &pending[placement.pending];
            if let Some(node) = changed.find(&placement.node) {
                let running = Running {
                    id: pod.id.clone(),
                    demand: Arc::clone(&pod.demand),
                    priority: pod.priority,
                    started: None,
                    terminating: false,
                };
                future.add_pod(node, Arc::new(running));
            }
            answer.placed.push(Placed {
                pod: placement.pod,
                from: from[placement.pending].clone(),
                to: placement.node,
            });
        }
        for unplaced in plan.unplaced {
            answer.stranded.push(Stranded {
                pod: unplaced.pod,
                from: from[unplaced.pending].clone(),
                why: unplaced.why,
            });
        }
        answer.preemptions = plan.preemptions;
        drop(changed);
        answer.future = future.snapshot();
        answer.after = Totals::of(&answer.future);
        Ok(answer)
    }
}

impl fmt::Display for Question {
    /// Such as `drain node-1, lose zone b`. Like changes in a row are counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("change nothing");
        }
        let mut separator = "";
        let mut rest = &self.changes[..];
        while let Some(first) = rest.first() {
            let same = |change: &&Change| match (first, change) {
                (Change::AddNode(_), Change::AddNode(_)) => true,
                (Change::Deploy(one), Change::Deploy(other)) => one.demand == other.demand,
                _ => false,
            };
            let alike = 1 + rest[1..].iter().take_while(same).count();
            f.write_str(separator)?;
            separator = ", ";
            match first {
                Change::Drain(node) => write!(f, "drain {node}")?,
                Change::LoseZone(zone) => write!(f, "lose zone {zone}")?,
                Change::AddNode(facts) if alike == 1 => write!(f, "add {}", facts.name)?,
                Change::AddNode(facts) => write!(f, "add {} and {} more", facts.name, alike - 1)?,
                Change::Request {
                    namespace, labels, ..
                } => {
                    let labels = write_labels(labels);
                    write!(f, "change what {labels} of {namespace} requests")?;
                }
                Change::End {
                    namespace,
                    selector,
                } => write!(f, "end {selector} of {namespace}")?,
                Change::Deploy(pod) if alike == 1 => write!(f, "start {}", pod.id)?,
                Change::Deploy(pod) => write!(f, "start {} and {} more", pod.id, alike - 1)?,
            }
            rest = &rest[alike..];
        }
        Ok(())
    }
}

fn nth_of(name: &str, nth: usize) -> SmolStr {
    smol_str::format_smolstr!("{name}-{nth}")
}

/// Of a pod that is made up: high, so that it is nobody's who runs.
fn uid(nth: usize) -> Uid {
    Uid(u128::MAX - u128::from(u64::MAX) + nth as u128)
}

fn write_labels(labels: &Labels) -> String {
    let words: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    words.join(",")
}

/// The cluster with the changes, and who lost their place.
struct Leaving {
    future: Future,
    pending: Vec<Pending>,
    from: Vec<Option<SmolStr>>,
    shapes: Shapes,
    deployed: usize,
}

impl Leaving {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            future: Future::of(snapshot),
            pending: Vec::new(),
            from: Vec::new(),
            shapes: Shapes::default(),
            deployed: 0,
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), QuestionError> {
        match change {
            Change::Drain(node) => {
                let known = self.future.snapshot().find(node);
                known.ok_or_else(|| QuestionError::NoNode(node.clone()))?;
                self.empty(node);
            }
            Change::LoseZone(zone) => {
                let nodes = nodes_of(&self.future.snapshot(), zone);
                if nodes.is_empty() {
                    return Err(QuestionError::NoZone(zone.clone()));
                }
                nodes.iter().for_each(|node| self.empty(node));
            }
            Change::AddNode(facts) => self.future.set_node(facts.clone()),
            Change::Request {
                namespace,
                labels,
                requests,
            } => self.request(namespace, labels, requests)?,
            Change::End {
                namespace,
                selector,
            } => self.end(namespace, selector),
            Change::Deploy(pod) => {
                let mut pod = Pending::clone(pod);
                pod.id.uid = uid(self.deployed);
                self.deployed += 1;
                self.pending.push(pod);
                self.from.push(None);
            }
        }
        Ok(())
    }

    /// Takes a node out; what ran there wants another.
    fn empty(&mut self, node: &SmolStr) {
        for running in self.future.remove_node(node) {
            let demand = running.demand.leaving(node);
            self.leave(&running, node, demand);
        }
    }

    fn end(&mut self, namespace: &SmolStr, selector: &LabelSelector) {
        let is_meant =
            |demand: &Demand| demand.namespace == *namespace && selector.matches(&demand.labels);
        // Also those who have lost their place already.
        let stay: Vec<bool> = (self.pending.iter())
            .map(|pod| !is_meant(&pod.demand))
            .collect();
        let mut stays = stay.iter();
        self.pending.retain(|_| stays.next() == Some(&true));
        let mut stays = stay.iter();
        self.from.retain(|_| stays.next() == Some(&true));
        let before = self.future.snapshot();
        for (_, row) in before.nodes() {
            for running in row.pods().iter().filter(|pod| is_meant(&pod.demand)) {
                self.future.remove_pod(row.name(), running);
            }
        }
    }

    fn request(
        &mut self,
        namespace: &SmolStr,
        labels: &Labels,
        requests: &Amounts,
    ) -> Result<(), QuestionError> {
        let is_meant = |demand: &Demand| {
            demand.namespace == *namespace
                && (labels.iter()).all(|(key, value)| demand.labels.get(key) == Some(value))
        };
        let changed = |demand: &Demand| {
            let mut demand = demand.clone();
            demand.requests = requests.clone();
            demand.scored.cpu_milli = requests.cpu_milli;
            demand.scored.memory = requests.memory;
            Arc::new(demand)
        };
        let mut any = false;
        // Also those who have lost their place already.
        for pod in self.pending.iter_mut().filter(|pod| is_meant(&pod.demand)) {
            any = true;
            pod.demand = changed(&pod.demand);
        }
        let before = self.future.snapshot();
        for (_, row) in before.nodes() {
            for running in row.pods().iter().filter(|pod| is_meant(&pod.demand)) {
                any = true;
                self.future.remove_pod(row.name(), running);
                let demand = changed(&running.demand.leaving(row.name()));
                self.leave(running, row.name(), demand);
            }
        }
        match any {
            true => Ok(()),
            false => Err(QuestionError::NoPods {
                namespace: namespace.clone(),
                labels: write_labels(labels),
            }),
        }
    }

    /// Lets pods of one kind arrive in a row and share what they ask, the kinds in the order in which
    /// they came up.
    fn line_up(&mut self) {
        for pod in &mut self.pending {
            let (shape, demand) = self.shapes.find(&pod.demand);
            pod.demand = demand;
            pod.arrived = Timestamp::from_secs(shape as i64);
        }
    }

    fn leave(&mut self, running: &Running, node: &SmolStr, demand: Arc<Demand>) {
        // It ends anyway.
        if running.terminating {
            return;
        }
        self.pending.push(Pending {
            id: running.id.clone(),
            priority: running.priority,
            arrived: Timestamp::EPOCH,
            demand,
            preempts: true,
            ..Pending::default()
        });
        self.from.push(Some(node.clone()));
    }
}

/// The names of a zone's nodes, in order.
fn nodes_of(snapshot: &Snapshot, zone: &str) -> Vec<SmolStr> {
    let rows = snapshot.nodes().map(|(_, row)| row);
    let mut names: Vec<SmolStr> = rows
        .filter(|row| zone_of(row.facts()).is_some_and(|of| of == zone))
        .map(|row| row.name().clone())
        .collect();
    names.sort_unstable();
    names
}

fn zone_of(facts: &NodeFacts) -> Option<&SmolStr> {
    facts.labels.get(Node::ZONE_LABEL)
}

/// Every zone that a node is in, and in how many.
fn zones(snapshot: &Snapshot) -> BTreeMap<SmolStr, usize> {
    let mut zones = BTreeMap::new();
    for (_, row) in snapshot.nodes() {
        if let Some(zone) = zone_of(row.facts()) {
            *zones.entry(zone.clone()).or_default() += 1;
        }
    }
    zones
}
