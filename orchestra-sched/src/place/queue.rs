//! Which pods are worth a plan, and when.
//!
//! A pod that was refused waits for a change that could help it, and is planned for at once when one
//! comes. Its [explanation](crate::explain::Explanation) says which kinds of change could; where all
//! that could help is more room on a node, what is free there is looked at too, so that a change
//! that frees too little wakes nobody. What could not be written rests: 1 s, doubling to 10 s.
//!
//! Nobody starves: who was passed [`PASSES_MAX`](QueueSettings::passes_max) times by pods that come
//! after it, or has waited [`patience`](QueueSettings::patience) and was passed since, is
//! [overdue](Pending::overdue), and the plan keeps the room of a node for it.
//!
//! Pods of a gang are handed out together, once none of them rests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::Pod;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::{Changes, Pending, Plan};
use crate::explain::{Explanation, Outlook};
use crate::fits::Obstacle;
use crate::snapshot::{NodeIx, PodId, Snapshot};

/// How many nodes are told apart among the changes since the last turn; with more, a change is
/// taken to be anywhere.
const NODES_MAX: usize = 256;

/// The bounds of a [`Queue`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// The first rest of a pod whose placement could not be written; doubles.
    pub backoff_base: Duration,
    /// The longest rest.
    pub backoff_max: Duration,
    /// A pod that was refused is looked at again after this long even if nothing happened that
    /// could help it.
    pub review: Duration,
    /// How many pods are handed out at once. A gang is never cut.
    pub turn_max: usize,
    /// A pod that was passed in so many plans is overdue.
    pub passes_max: u32,
    /// A pod that was refused so long ago is overdue once it is passed.
    pub patience: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(10),
            review: Duration::from_secs(300),
            turn_max: 1_000,
            passes_max: 20,
            patience: Duration::from_secs(60),
        }
    }
}

/// Whether a pod wants a node from the scheduler of that name: it has none, it neither ends nor has
/// ended, and none of its scheduling gates is left. A pod that names no scheduler is the default's.
pub fn waits(pod: &Pod, scheduler: &str) -> bool {
    let asked = &pod.spec.scheduler_name;
    let ours = asked == scheduler || (asked.is_empty() && scheduler == Pod::DEFAULT_SCHEDULER);
    ours && pod.node_name().is_none()
        && !pod.is_terminating()
        && !pod.is_terminal()
        && pod.spec.scheduling_gates.is_empty()
}

/// The pods that want a node.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    settings: QueueSettings,
    waiting: BTreeMap<PodId, Waiting>,
    /// What happened since the last turn, wherever it was.
    anywhere: Changes,
    /// What happened on which node.
    on_node: BTreeMap<SmolStr, Changes>,
    /// Gangs that lost a pod that waited: the rest may need fewer of them.
    shrunk: BTreeSet<(SmolStr, SmolStr)>,
    /// Whether some pod that waits may be of a gang, and whether one may have been refused: if not, nobody is
    /// looked through for those.
    gangs: bool,
    refused: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    pending: Pending,
    failures: u32,
    /// Not before then, whatever happens.
    not_before: Timestamp,
    refused: Option<Refused>,
    /// How often, since it was first refused, a plan placed somebody who comes after it.
    passed: u32,
    first_refused: Option<Timestamp>,
    /// The node whose room the last plan kept for it, and since when.
    held: Option<(SmolStr, Timestamp)>,
}

#[derive(Clone, Debug)]
struct Refused {
    why: Arc<Explanation>,
    review: Timestamp,
}

/// Pods to plan for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// In the order in which they are considered. Those for whom room is kept are always among them.
    pub pods: Vec<Pending>,
    /// When the next turn is due if nothing happens before; `None` if never.
    pub next: Option<Timestamp>,
}

impl Queue {
    /// Nobody waits.
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// How many pods wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether that pod waits.
    pub fn contains(&self, pod: &PodId) -> bool {
        self.waiting.contains_key(pod)
    }

    /// Adds a pod, or makes it what it is now. One that asks for something else than before is worth
    /// a plan at once; for one that does not, nothing changes but where room is made for it.
    pub fn offer(&mut self, pod: Pending) {
        self.gangs |= pod.gang.is_some();
        let Some(known) = self.waiting.get_mut(&pod.id) else {
            let waiting = Waiting {
                pending: pod,
                failures: 0,
                not_before: Timestamp::EPOCH,
                refused: None,
                passed: 0,
                first_refused: None,
                held: None,
            };
            self.waiting.insert(waiting.pending.id.clone(), waiting);
            return;
        };
        let same = known.pending.demand == pod.demand
            && known.pending.priority == pod.priority
            && known.pending.gang == pod.gang;
        let arrived = known.pending.arrived;
        known.pending = Pending { arrived, ..pod };
        if !same {
            known.refused = None;
        }
    }

    /// Takes a pod out. Harmless if it does not wait.
    pub fn withdraw(&mut self, pod: &PodId) {
        if let Some(gone) = self.waiting.remove(pod)
            && gone.refused.is_some()
            && let Some((namespace, gang)) = gone.gang()
        {
            self.shrunk.insert((namespace.clone(), gang.clone()));
        }
    }

    /// Notes a change, and on which node, if it was on one.
    pub fn changed(&mut self, changes: Changes, node: Option<&SmolStr>) {
        if changes.is_empty() {
            return;
        }
        match node {
            Some(node) if self.on_node.len() < NODES_MAX || self.on_node.contains_key(node) => {
                let known = self.on_node.entry(node.clone()).or_default();
                *known = known.with(changes);
            }
            _ => self.anywhere = self.anywhere.with(changes),
        }
    }

    /// The pods that are worth a plan now, on the cluster as `snapshot` shows it.
    pub fn turn(&mut self, now: Timestamp, snapshot: &Snapshot) -> Turn {
        self.wake(snapshot);
        let mut turn = Turn::default();
        let rests = self.rests();
        let (mut due, mut mates) = (Vec::new(), Vec::new());
        let mut gangs: Vec<GangName<'_>> = Vec::new();
        let mut kept: Vec<&Waiting> = Vec::new();
        let (mut any_gang, mut any_refused) = (false, false);
        for waiting in self.waiting.values() {
            let gang = waiting.gang();
            any_gang |= gang.is_some();
            any_refused |= waiting.refused.is_some();
            let at = waiting.due_with(&rests);
            if at <= now {
                due.push(waiting);
                gangs.extend(gang);
                continue;
            }
            turn.next = Some(turn.next.map_or(at, |next| next.min(at)));
            if waiting.keeps_room(&self.settings, now) {
                kept.push(waiting);
            } else if let Some(gang) = gang {
                mates.push((gang, waiting));
            }
        }
        if !due.is_empty() {
            gangs.sort_unstable();
            gangs.dedup();
            mates.retain(|(gang, _)| gangs.binary_search(gang).is_ok());
            due.extend(kept);
            due.extend(mates.into_iter().map(|(_, mate)| mate));
            let settings = &self.settings;
            due.sort_by_cached_key(|waiting| waiting.turn(settings, now));
            if due.len() > settings.turn_max {
                cut(&mut due, settings.turn_max);
                turn.next = Some(now);
            }
            let asked = due.into_iter().map(|waiting| waiting.asks(settings, now));
            turn.pods = asked.collect();
        }
        (self.gangs, self.refused) = (any_gang, any_refused);
        turn
    }

    /// Takes in what a plan for `pods` made of them: who was refused waits for help. Who was placed
    /// stays until it is [withdrawn](Self::withdraw) or [fails](Self::failed).
    pub fn planned(&mut self, plan: &Plan, pods: &[Pending], now: Timestamp) {
        self.refused |= !plan.unplaced.is_empty();
        for unplaced in &plan.unplaced {
            let Some(waiting) = self.waiting.get_mut(&unplaced.pod) else {
                continue;
            };
            waiting.refused = Some(Refused {
                why: Arc::clone(&unplaced.why),
                review: now + self.settings.review,
            });
            waiting.first_refused.get_or_insert(now);
            let held = plan.held.iter().find(|held| held.pod == unplaced.pod);
            let since = waiting.held.take().map_or(now, |(_, since)| since);
            waiting.held = held.map(|held| (held.node.clone(), since));
            // A gang that did not fill its room in time lets others try.
            let gang = waiting.pending.gang.as_ref();
            let timeout = gang
                .filter(|_| waiting.held.is_some())
                .map(|gang| gang.timeout);
            if let Some(timeout) = timeout {
                if now.since(since) >= timeout {
                    (waiting.passed, waiting.first_refused, waiting.held) = (0, None, None);
                } else if let Some(refused) = &mut waiting.refused {
                    refused.review = refused.review.min(since + timeout);
                }
            }
        }
        // Who sleeps is passed as well.
        if self.refused
            && let Some(last) = plan
                .placed
                .last()
                .and_then(|placed| pods.get(placed.pending))
        {
            for waiting in self.waiting.values_mut() {
                waiting.passed_by(last);
            }
        }
    }

    /// The placement of these pods could not be written: they rest. Returns when the first is due
    /// again.
    pub fn failed(&mut self, pods: &[PodId], now: Timestamp) -> Option<Timestamp> {
        let mut soonest: Option<Timestamp> = None;
        for pod in pods {
            if let Some(waiting) = self.waiting.get_mut(pod) {
                let doublings = waiting.failures.min(16);
                let rest = self.settings.backoff_base.saturating_mul(1 << doublings);
                waiting.failures = waiting.failures.saturating_add(1);
                waiting.not_before = now + rest.min(self.settings.backoff_max);
                waiting.refused = None;
                let at = waiting.not_before;
                soonest = Some(soonest.map_or(at, |soonest| soonest.min(at)));
            }
        }
        soonest
    }

    /// A pod lost its node again, because its gang could not be completed: it rests as long as anybody
    /// does, so that others may go first. Harmless if it does not wait.
    pub fn gave_back(&mut self, pod: &PodId, now: Timestamp) {
        if let Some(waiting) = self.waiting.get_mut(pod) {
            waiting.not_before = now + self.settings.backoff_max;
        }
    }

    /// When a turn is due if nothing happens before; `None` if never.
    pub fn next(&self) -> Option<Timestamp> {
        let rests = self.rests();
        let mut soonest = None;
        for waiting in self.waiting.values() {
            let due = waiting.due_with(&rests);
            soonest = Some(soonest.map_or(due, |soonest: Timestamp| soonest.min(due)));
            if due == Timestamp::EPOCH {
                break; // nothing is due sooner
            }
        }
        soonest
    }

    /// Until when a gang rests, where a member does.
    fn rests(&self) -> BTreeMap<GangName<'_>, Timestamp> {
        let mut rests: BTreeMap<GangName<'_>, Timestamp> = BTreeMap::new();
        if !self.gangs {
            return rests;
        }
        for waiting in self.waiting.values() {
            if waiting.not_before > Timestamp::EPOCH
                && let Some(gang) = waiting.gang()
            {
                let rest = rests.entry(gang).or_default();
                *rest = waiting.not_before.max(*rest);
            }
        }
        rests
    }

    /// Why the last plan refused a pod.
    pub fn refusal(&self, pod: &PodId) -> Option<&Arc<Explanation>> {
        let refused = self.waiting.get(pod)?.refused.as_ref()?;
        Some(&refused.why)
    }

    /// Forgets the refusals of those whom a change since the last turn could help.
    fn wake(&mut self, snapshot: &Snapshot) {
        let anywhere = std::mem::take(&mut self.anywhere);
        let on_node = std::mem::take(&mut self.on_node);
        let shrunk = std::mem::take(&mut self.shrunk);
        if anywhere.is_empty() && on_node.is_empty() && shrunk.is_empty() {
            return;
        }
        let all = on_node.values().fold(anywhere, |all, one| all.with(*one));
        // Whose gang grew is looked up.
        let gangs = all.meet(Changes::GANG_GREW) || !shrunk.is_empty();
        let [all, anywhere] = [all, anywhere].map(|one| one.without(Changes::GANG_GREW));
        if !self.refused {
            return;
        }
        for waiting in self.waiting.values_mut() {
            let Some(refused) = &waiting.refused else {
                continue;
            };
            let why = &refused.why;
            let helped = why.is_helped_by(all)
                && (why.is_helped_by(anywhere)
                    || on_node.iter().any(|(node, changes)| {
                        let changes = changes.without(Changes::GANG_GREW);
                        why.is_helped_by(changes)
                            && could_help(why, &waiting.pending, changes, node, snapshot)
                    }));
            if helped || gangs && waiting.has_new_gang(why, &shrunk, snapshot) {
                waiting.refused = None;
            }
        }
    }
}

impl Waiting {
    /// When it is worth a plan if nothing happens.
    fn due(&self) -> Timestamp {
        match &self.refused {
            Some(refused) => self.not_before.max(refused.review),
            None => self.not_before,
        }
    }

    /// As [`due`](Self::due), where the members of gangs rest until all have.
    fn due_with(&self, rests: &BTreeMap<GangName<'_>, Timestamp>) -> Timestamp {
        let due = self.due();
        // Mostly nobody rests.
        let rest = match rests.is_empty() {
            true => None,
            false => self.gang().and_then(|gang| rests.get(&gang)),
        };
        rest.map_or(due, |rest| due.max(*rest))
    }

    /// Notes that a plan placed `other`. Who can never run is in nobody's way, nor passed.
    fn passed_by(&mut self, other: &Pending) {
        let Some(refused) = &self.refused else {
            return;
        };
        if refused.why.outlook == Outlook::Never {
            (self.passed, self.first_refused) = (0, None);
        } else if self.pending.before(other).is_lt() {
            self.passed = self.passed.saturating_add(1);
        }
    }

    /// Whether another number of its gang runs or waits than when the pod was refused for it, so that those
    /// there are may be enough.
    fn has_new_gang(
        &self,
        why: &Explanation,
        shrunk: &BTreeSet<(SmolStr, SmolStr)>,
        snapshot: &Snapshot,
    ) -> bool {
        let (Some(short), Some((namespace, gang))) = (&why.gang, self.gang()) else {
            return false;
        };
        snapshot.gang_size(namespace, gang) > short.running
            || (!shrunk.is_empty() && shrunk.contains(&(namespace.clone(), gang.clone())))
    }

    fn gang(&self) -> Option<GangName<'_>> {
        let gang = self.pending.gang.as_ref()?;
        Some((&self.pending.id.key.namespace, &gang.name))
    }

    fn is_overdue(&self, settings: &QueueSettings, now: Timestamp) -> bool {
        let long = |first: Timestamp| now.since(first) >= settings.patience;
        self.passed >= settings.passes_max
            || (self.passed > 0 && self.first_refused.is_some_and(long))
    }

    fn keeps_room(&self, settings: &QueueSettings, now: Timestamp) -> bool {
        self.pending.nominated.is_some() || self.is_overdue(settings, now)
    }

    /// Its place in the order of a turn: that of [`Pending::before`].
    fn turn(
        &self,
        settings: &QueueSettings,
        now: Timestamp,
    ) -> (Reverse<i32>, Reverse<bool>, Timestamp, &PodId) {
        let pod = &self.pending;
        let overdue = pod.nominated.is_none() && self.is_overdue(settings, now);
        let nominated = pod.nominated.is_some() || (overdue && self.held.is_some());
        (
            Reverse(pod.priority),
            Reverse(nominated),
            pod.arrived,
            &pod.id,
        )
    }

    /// The pod as a plan sees it.
    fn asks(&self, settings: &QueueSettings, now: Timestamp) -> Pending {
        let mut pending = self.pending.clone();
        pending.overdue = self.is_overdue(settings, now);
        if pending.nominated.is_none() && pending.overdue {
            pending.nominated = self.held.as_ref().map(|(node, _)| node.clone());
        }
        pending
    }
}

/// A gang's namespace and name.
type GangName<'a> = (&'a SmolStr, &'a SmolStr);

/// Leaves the first `most` pods, and the gangs of those whole.
fn cut(pods: &mut Vec<&Waiting>, most: usize) {
    let inside = pods[..most].iter().filter_map(|pod| pod.gang());
    let inside: BTreeSet<GangName<'_>> = inside.collect();
    let mut at = 0;
    pods.retain(|pod| {
        at += 1;
        at <= most || pod.gang().is_some_and(|gang| inside.contains(&gang))
    });
}

/// Whether changes of these kinds on `node` could help a pod that was refused for `why`.
fn could_help(
    why: &Explanation,
    pod: &Pending,
    changes: Changes,
    node: &str,
    snapshot: &Snapshot,
) -> bool {
    // Only where every reason that the changes touch is too little of something does the amount
    // count; nodes that come are looked at by all rules.
    let amounts_only = why.others == 0
        && !changes.meet(Changes::NODE_ADDED.with(Changes::POD_ITSELF))
        && why.reasons.iter().all(|reason| {
            !reason.obstacle.helped_by().meet(changes)
                || matches!(reason.obstacle, Obstacle::Lacks { .. })
        });
    match snapshot.find(node) {
        Some(node) if amounts_only => could_hold(snapshot, node, pod),
        _ => true,
    }
}

/// Whether `node` has room for the pod, if need be with pods of lower priority gone.
fn could_hold(snapshot: &Snapshot, node: NodeIx, pod: &Pending) -> bool {
    let row = snapshot.node(node);
    let rows = snapshot.rows();
    let at = node.row();
    let asked = &pod.demand.requests;
    let leaves = |running: &&Arc<crate::snapshot::Running>| {
        running.terminating || (pod.preempts && running.priority < pod.priority)
    };
    let lacks = |asked: i64, free: i64, of: &dyn Fn(&crate::snapshot::Demand) -> i64| {
        let short = |freed: i64| crate::fits::lacks(asked, free.saturating_add(freed));
        short(0) && {
            let leaving = row.pods().iter().filter(leaves);
            short(leaving.fold(0, |sum, running| sum.saturating_add(of(&running.demand))))
        }
    };
    let extended_free = |name: &str| {
        let total = row.facts().allocatable.extended.get(name).copied();
        total.unwrap_or(0).saturating_sub(row.extended_used(name))
    };
    !(lacks(1, rows.pods_free[at], &|_| 1)
        || lacks(asked.cpu_milli, rows.cpu_free[at], &|held| {
            held.requests.cpu_milli
        })
        || lacks(asked.memory, rows.memory_free[at], &|held| {
            held.requests.memory
        })
        || lacks(asked.storage, rows.storage_free[at], &|held| {
            held.requests.storage
        })
        || asked.extended.iter().any(|(name, &amount)| {
            lacks(amount, extended_free(name), &|held| {
                held.requests.extended.get(name).copied().unwrap_or(0)
            })
        }))
}
