//! Moving from one revision to the next.
//!
//! A strategy is a pure step function: from what there is ([`RolloutView`]) to what to change now
//! ([`RolloutStep`]). The runtime calls it whenever something changed, at the latest at the
//! instant the last step asked for, passes the outcome through the [`guard`], and carries it out.
//!
//! There is no object between a deployment and its pods. What Kubernetes calls a replica set is
//! here a *set*: the pods of one revision that are neither ending nor ended. Its size is their
//! number; nothing else is stored but the small [`Memo`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use orchestra_core::meta::Uid;
use orchestra_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

pub mod arithmetic;
pub mod guard;
mod outcome;
mod recreate;
mod rolling;
mod sets;

pub use recreate::Recreate;
pub use rolling::RollingUpdate;

use arithmetic::{Counts, Pace};

/// The number of a revision of the pod template: of two, the greater is newer. Rolling back
/// gives an old template a new, greater number.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One pod of the deployment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replica {
    /// The pod.
    pub pod: Uid,
    /// Its name: what is written to people, and what breaks ties.
    pub name: SmolStr,
    /// The revision it runs.
    pub generation: Generation,
    /// The node it is placed on; empty if it waits for one.
    pub node: SmolStr,
    /// Its phase is Running.
    pub running: bool,
    /// Since when it has been ready without a break; `None` if it is not ready.
    pub ready_since: Option<Timestamp>,
    /// It is being deleted. Such a pod belongs to no set any more.
    pub terminating: bool,
    /// It has come to its end by itself: phase Succeeded or Failed, for instance evicted. Such a
    /// pod belongs to no set; every step stops it, so that it is cleared away.
    pub ended: bool,
    /// When it was created.
    pub created: Timestamp,
    /// How often its containers were restarted, all together.
    pub restarts: u32,
    /// What stopping it costs, by annotation `controller.kubernetes.io/pod-deletion-cost`; of
    /// two ready pods the cheaper goes first.
    pub deletion_cost: i32,
}

impl Replica {
    /// Whether it belongs to the set of its revision.
    pub fn counts(&self) -> bool {
        !self.terminating && !self.ended
    }

    /// Whether it is ready.
    pub fn ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// From when on it is available if it stays ready: once it has been ready for `min_ready`.
    /// `None` if it is not ready.
    pub fn available_at(&self, min_ready: Duration) -> Option<Timestamp> {
        self.ready_since.map(|since| since + min_ready)
    }

    /// Whether it has been ready for at least `min_ready`.
    pub fn available(&self, min_ready: Duration, now: Timestamp) -> bool {
        self.available_at(min_ready).is_some_and(|at| at <= now)
    }
}

/// What the rollout looks at.
#[derive(Clone, Copy, Debug)]
pub struct RolloutView<'a> {
    /// Where it should end.
    pub target: Generation,
    /// How many replicas are wanted.
    pub wanted: u32,
    /// What there is now: every pod that the deployment owns, in any order.
    pub replicas: &'a [Replica],
    /// What the last step left behind; the default if there was none.
    pub memo: &'a Memo,
    /// The current instant.
    pub now: Timestamp,
    /// How long a pod must have been ready to count as available (`minReadySeconds`).
    pub min_ready: Duration,
    /// How long the rollout may go without progress before it counts as stalled
    /// (`progressDeadlineSeconds`); `None` is for ever. A stalled rollout goes on trying.
    pub deadline: Option<Duration>,
    /// Keep every set as it is: replace what is lost by the same revision, scale in proportion,
    /// but move nothing from one revision to another.
    pub paused: bool,
}

/// What a strategy remembers between two steps. Stored beside the rollout, so that a restart or
/// another leader goes on mid-way. A step that changes nothing returns it unchanged.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memo {
    /// Where the last step was going.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Generation>,
    /// How large the deployment was when it was last scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled: Option<Scaled>,
    /// The size that the last step gave to each set, without empty ones. While paused, what is
    /// missing from a set is started anew: keep these revisions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sizes: BTreeMap<Generation, u32>,
    /// What the last step saw, to tell progress.
    pub counts: Counts,
    /// When progress was last seen; `None` while paused and once complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progressed: Option<Timestamp>,
    /// The revision that was last rolled out completely: the one to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Generation>,
    /// Whatever a strategy that is not ours needs. Keep it small: it is stored with every step.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub own: BTreeMap<SmolStr, SmolStr>,
}

/// How large a deployment was at one instant.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaled {
    /// The replicas wanted.
    pub wanted: u32,
    /// The most there might be: the wanted ones and the surge.
    pub max: u32,
}

/// One change the rollout wants.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RolloutAction {
    /// Start that many replicas of a revision.
    Start {
        /// Which.
        generation: Generation,
        /// How many; never zero.
        count: u32,
    },
    /// Stop this replica.
    Stop(Uid),
    /// Send this share of traffic, in thousandths, to a revision.
    Shift {
        /// Which.
        generation: Generation,
        /// Thousandths, at most 1000.
        permille: u16,
    },
}

/// Where the rollout stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Phase {
    /// Moving: this step changes something.
    Progressing,
    /// Waiting on something named in the note.
    Holding,
    /// Past its deadline without progress; still trying.
    Stalled,
    /// Going back.
    Reverting,
    /// Nothing left to do.
    Done,
}

/// The outcome of a step.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a step does nothing by itself"]
pub struct RolloutStep {
    /// Where it stands now.
    pub phase: Phase,
    /// What to change now, if anything. All of it may be done at once.
    pub actions: Vec<RolloutAction>,
    /// What to remember.
    pub memo: Memo,
    /// Step again no later than this, even if nothing else happens.
    pub wake_at: Option<Timestamp>,
    /// Why, for people.
    pub note: String,
}

/// Decides the next move of a rollout.
///
/// # Contract
///
/// * Pure: equal views give equal steps.
/// * A fixed point at the end: when the view already matches the target, `step` returns
///   [`Phase::Done`], no actions, and the memo it was given by its own last step.
/// * It need not finish in one call; it is called again after every change it caused or that
///   happened by itself.
///
/// The runtime checks every step against the availability budget ([`guard::guarded`]) before it
/// acts, so a strategy cannot take a service down.
///
/// ```
/// use orchestra_sched::rollout::{Generation, Memo, Phase, RollingUpdate, RolloutAction};
/// use orchestra_sched::rollout::{RolloutStrategy, RolloutView};
/// # use orchestra_core::time::Timestamp;
/// # use std::time::Duration;
///
/// let step = RollingUpdate::default().step(RolloutView {
///     target: Generation(1),
///     wanted: 3,
///     replicas: &[],
///     memo: &Memo::default(),
///     now: Timestamp::EPOCH,
///     min_ready: Duration::ZERO,
///     deadline: Some(Duration::from_secs(600)),
///     paused: false,
/// });
/// assert_eq!(step.phase, Phase::Progressing);
/// assert_eq!(step.actions, [RolloutAction::Start { generation: Generation(1), count: 3 }]);
/// ```
pub trait RolloutStrategy: fmt::Debug + Send + Sync + 'static {
    /// The next move.
    fn step(&self, view: RolloutView<'_>) -> RolloutStep;
}

const _: Option<&dyn RolloutStrategy> = None;

impl From<Pace> for Box<dyn RolloutStrategy> {
    /// The strategy that moves at that pace.
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Rolling {
                max_surge,
                max_unavailable,
                partition,
            } => Box::new(RollingUpdate {
                max_surge,
                max_unavailable,
                partition,
            }),
            Pace::Recreate => Box::new(Recreate),
        }
    }
}
