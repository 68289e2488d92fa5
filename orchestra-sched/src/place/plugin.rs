//! What extends the scheduler that is shipped here: filters, scorers and keepers of accounts.

use std::fmt;

use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

pub use super::each_node::EachNode;

use super::Pending;
pub use super::domains::{DomainRule, DomainScore};
pub use super::kernel::Kernel;
use crate::fits::Obstacle;
use crate::snapshot::{Ledger, NodeIx, Rows, Snapshot};

/// The best score of a scorer that is taken [as it is](Scale::AsIs), and the best of every scorer
/// once scaled.
pub const SCORE_MAX: Score = 100;

/// How much a node suits a pod: more is better, but for [`Scale::ByMaxReversed`].
pub type Score = u32;

/// Everything an extension point may see. Notably absent: a clock, a store, a runtime.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Cycle<'a> {
    /// The cluster with what this plan has placed so far.
    pub ledger: &'a Ledger,
    /// The pod in question; where pods share an answer, one of them.
    pub pod: &'a Pending,
    /// When planning began. Who looks at it declares [`PodFields::NOW`].
    pub now: Timestamp,
}

impl<'a> Cycle<'a> {
    /// The question where to put `pod` on top of what `ledger` holds.
    pub fn new(ledger: &'a Ledger, pod: &'a Pending, now: Timestamp) -> Self {
        Self { ledger, pod, now }
    }

    /// The cluster as it was when planning began.
    pub fn snapshot(&self) -> &'a Snapshot {
        self.ledger.snapshot()
    }
}

/// A set of a pod's fields. Pods that agree on the fields a plugin names share its answer.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct PodFields(u32);

impl PodFields {
    /// No field: the answer is the same for every pod.
    pub const NONE: Self = Self(0);
    /// What it requests, and is scored by.
    pub const REQUESTS: Self = Self(1);
    /// The one node it names.
    pub const NODE_NAME: Self = Self(1 << 1);
    /// Its node selector and node affinity, required and preferred.
    pub const NODE_AFFINITY: Self = Self(1 << 2);
    /// What it tolerates.
    pub const TOLERATIONS: Self = Self(1 << 3);
    /// Its host ports.
    pub const HOST_PORTS: Self = Self(1 << 4);
    /// Its namespace.
    pub const NAMESPACE: Self = Self(1 << 5);
    /// Its labels.
    pub const LABELS: Self = Self(1 << 6);
    /// Its priority.
    pub const PRIORITY: Self = Self(1 << 7);
    /// Its topology spread constraints, required and preferred, with its namespace, and what they
    /// look at besides: its labels, and, as far as they honour them, its node affinity and
    /// tolerations.
    pub const SPREAD: Self = Self(1 << 8);
    /// Its affinity and anti-affinity to pods, required and preferred; and its namespace and labels
    /// as far as others may mean it by them.
    pub const POD_AFFINITY: Self = Self(1 << 9);
    /// The images of its containers.
    pub const IMAGES: Self = Self(1 << 10);
    /// What it reads: claims of storage, and data that it needs or wants.
    pub const DATA: Self = Self(1 << 11);
    /// The accelerators that it wants.
    pub const ACCELERATORS: Self = Self(1 << 12);
    /// What the other nodes are, which is no field of the pod either: with [`Reach::Fixed`], an
    /// answer for a row that looks at other nodes' names, labels, taints or capacity too.
    pub const NODES: Self = Self(1 << 13);
    /// When planning began, which is no field of the pod: answers of one plan say nothing to the
    /// next.
    pub const NOW: Self = Self(1 << 14);
    /// What it is expected to use hour by hour.
    pub const FORECAST: Self = Self(1 << 16);
    /// Which pod it is: name, uid and time of arrival. No two pods share an answer.
    pub const IDENTITY: Self = Self(1 << 15);
    /// Every field: always right, and slow.
    pub const ALL: Self = Self(u32::MAX);

    /// The fields of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every field of `other` is among these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const NAMES: [(Self, &str); 17] = [
        (Self::REQUESTS, "REQUESTS"),
        (Self::NODE_NAME, "NODE_NAME"),
        (Self::NODE_AFFINITY, "NODE_AFFINITY"),
        (Self::TOLERATIONS, "TOLERATIONS"),
        (Self::HOST_PORTS, "HOST_PORTS"),
        (Self::NAMESPACE, "NAMESPACE"),
        (Self::LABELS, "LABELS"),
        (Self::PRIORITY, "PRIORITY"),
        (Self::SPREAD, "SPREAD"),
        (Self::POD_AFFINITY, "POD_AFFINITY"),
        (Self::IMAGES, "IMAGES"),
        (Self::DATA, "DATA"),
        (Self::ACCELERATORS, "ACCELERATORS"),
        (Self::NODES, "NODES"),
        (Self::NOW, "NOW"),
        (Self::FORECAST, "FORECAST"),
        (Self::IDENTITY, "IDENTITY"),
    ];
}

impl fmt::Debug for PodFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => return f.write_str("PodFields::NONE"),
            Self::ALL => return f.write_str("PodFields::ALL"),
            _ => {}
        }
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().filter(|(field, _)| self.has(*field)) {
            write!(f, "{separator}PodFields::{name}")?;
            separator = " | ";
        }
        Ok(())
    }
}

/// How far an answer looks, and so how far a placement's effect on it reaches.
///
/// The wider answer is always right, only slower; one too narrow makes plans wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Reach {
    /// The plugin has nothing to say on this pod: every node passes, all score alike. It is not
    /// asked.
    Nothing,
    /// The answer for a row depends on the pod and on what no placement changes: the node's name,
    /// labels, taints, capacity; those of other nodes too if it declares [`PodFields::NODES`]. It
    /// is asked once, and again for a node that becomes another.
    Fixed,
    /// The answer for a row depends on the pod and on that node alone, with what runs there. It is
    /// asked again for the row that a placement changed.
    Node,
    /// The answer may depend on every row. It is always handed the whole cluster, and asked again
    /// after each placement.
    Cluster,
}

/// Rules nodes out.
///
/// # Contract
///
/// A pure function of what it declares. Asked about one row it says what it says of that row among
/// all, unless it declares [`Reach::Cluster`].
pub trait Filter: fmt::Debug + Send + Sync {
    /// For reports and metrics. Unique within a profile.
    fn name(&self) -> &'static str;

    /// The fields of the pod that its answers depend on, [`reach`](Self::reach) included.
    fn depends(&self) -> PodFields;

    /// How far it looks for this pod. May depend on what no placement changes.
    fn reach(&self, cycle: &Cycle<'_>) -> Reach;

    /// Clears `fits[i]` where row `i` cannot run the pod. Never sets it. `fits` is as long as
    /// `rows`; rows already cleared may be skipped.
    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]);

    /// Why it turns `node` down: everything that is in the way there, and nothing exactly where
    /// [`filter`](Self::filter) lets the node pass.
    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle>;

    /// The shipped arithmetic that [`filter`](Self::filter) is for this pod, if it is nothing but
    /// that. Only speed hangs on it.
    fn kernel(&self, cycle: &Cycle<'_>) -> Option<Kernel> {
        let _ = cycle;
        None
    }

    /// The rules on domains that [`filter`](Self::filter) is for this pod, if it is nothing but
    /// that, with [`Reach::Cluster`]. Only speed hangs on it.
    fn domains(&self, cycle: &Cycle<'_>) -> Option<Vec<DomainRule>> {
        let _ = cycle;
        None
    }
}

/// How a scorer's answers become 0 to [`SCORE_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scale {
    /// They are that already; what is above counts as [`SCORE_MAX`].
    AsIs,
    /// In proportion to the largest among the nodes that fit, rounded down; all 0 if that is 0.
    ByMax,
    /// As [`ByMax`](Self::ByMax), from the other end: least is best.
    ByMaxReversed,
}

impl Scale {
    /// `raw`, where `max` is the largest among the nodes that fit.
    pub fn apply(self, raw: Score, max: Score) -> Score {
        let share = || match max {
            0 => 0,
            _ => (u64::from(SCORE_MAX) * u64::from(raw) / u64::from(max)).min(100) as Score,
        };
        match self {
            Self::AsIs => raw.min(SCORE_MAX),
            Self::ByMax => share(),
            Self::ByMaxReversed => SCORE_MAX - share(),
        }
    }
}

/// Ranks nodes.
///
/// # Contract
///
/// A pure function of what it declares. Asked about one row it says what it says of that row among
/// all, unless it declares [`Reach::Cluster`].
pub trait Scorer: fmt::Debug + Send + Sync {
    /// For reports and metrics. Unique within a profile.
    fn name(&self) -> &'static str;

    /// The fields of the pod that its answers depend on, [`reach`](Self::reach) included.
    fn depends(&self) -> PodFields;

    /// How far it looks for this pod. May depend on what no placement changes.
    fn reach(&self, cycle: &Cycle<'_>) -> Reach;

    /// How its answers are read.
    fn scale(&self) -> Scale;

    /// Writes to `out[i]` how much row `i` suits the pod. `out` and `fits` are as long as `rows`,
    /// and `out` begins as zeros; what is written where `fits[i]` is false does not count. Only a
    /// scorer of [`Reach::Cluster`] may let `fits` change its other answers.
    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]);

    /// The shipped arithmetic that [`score`](Self::score) is, if it is nothing but that and its
    /// [`scale`](Self::scale) is [`Scale::AsIs`]. Only speed hangs on it.
    fn kernel(&self) -> Option<Kernel> {
        None
    }

    /// What [`score`](Self::score) is for this pod by the domains of the nodes, if it is nothing but
    /// that, with [`Reach::Cluster`] and [`Scale::AsIs`]. Only speed hangs on it.
    fn domains(&self, cycle: &Cycle<'_>) -> Option<DomainScore> {
        let _ = cycle;
        None
    }
}

/// Says which accelerators of its node a pod gets.
///
/// # Contract
///
/// A pure function of the cycle and the node.
pub trait DeviceChoice: fmt::Debug + Send + Sync {
    /// As many different devices of `node` as the pod asks, each with enough free; `None` to leave
    /// it to the usual rule. Asked only where the pod fits.
    fn choose(&self, cycle: &Cycle<'_>, node: NodeIx) -> Option<DeviceSet>;
}

/// Why a [`Reserve`] cannot keep what a pod needs on a node.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{note}")]
pub struct Refusal {
    /// For people, for instance `volume data is attached elsewhere`.
    pub note: SmolStr,
    /// Whether pods leaving the node could change it.
    pub curable: bool,
}

/// Keeps account of something outside the columns, such as volumes or licences, for one plan.
pub trait Reserve: fmt::Debug {
    /// For reports and metrics.
    fn name(&self) -> &'static str;

    /// Claims what the pod needs on the node.
    ///
    /// # Errors
    ///
    /// A refusal, after which nothing is claimed; the next best node is tried.
    fn reserve(&mut self, cycle: &Cycle<'_>, node: NodeIx) -> Result<(), Refusal>;

    /// Gives back a claim. Called in reverse order; harmless without a claim.
    fn release(&mut self, pod: &Pending, node: NodeIx);
}

/// Opens the books of a [`Reserve`] for one plan, so that planning leaves no trace behind.
pub trait ReserveFactory: fmt::Debug + Send + Sync {
    /// Fresh books, reflecting the snapshot.
    fn open(&self, snapshot: &Snapshot) -> Box<dyn Reserve>;
}

/// Lifts a function of one row to a [`Scorer`]; the loop over rows is compiled for `F`.
#[derive(Clone)]
pub struct EachRow<F> {
    name: &'static str,
    depends: PodFields,
    reach: Reach,
    scale: Scale,
    f: F,
}

impl<F> EachRow<F>
where
    F: Fn(&Cycle<'_>, &Rows<'_>, usize) -> Score + Send + Sync,
{
    /// A scorer that calls `f` with each row's position. `reach` must not be
    /// [`Cluster`](Reach::Cluster) unless `f` looks beyond its row.
    pub fn new(name: &'static str, depends: PodFields, reach: Reach, scale: Scale, f: F) -> Self {
        Self {
            name,
            depends,
            reach,
            scale,
            f,
        }
    }
}

impl<F> fmt::Debug for EachRow<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachRow")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<F> Scorer for EachRow<F>
where
    F: Fn(&Cycle<'_>, &Rows<'_>, usize) -> Score + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn depends(&self) -> PodFields {
        self.depends
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        self.reach
    }

    fn scale(&self) -> Scale {
        self.scale
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, _: &[bool], out: &mut [Score]) {
        for (i, score) in out.iter_mut().enumerate() {
            *score = (self.f)(cycle, &rows, i);
        }
    }
}

const _: Option<&dyn Filter> = None;
const _: Option<&dyn Scorer> = None;
const _: Option<&dyn DeviceChoice> = None;
const _: Option<&dyn Reserve> = None;
const _: Option<&dyn ReserveFactory> = None;
