//! Placement: pods that want a node get one.
//!
//! One pass plans for all that wait and are worth a plan, and commits the placements in small
//! transactions. Each depends on the pod and the node as they were seen, and on fences that others
//! move (see [`fence`]): two schedulers conflict only where one may break what the other relied on, and
//! nothing is placed on a node that was tainted, closed or removed meanwhile.
//!
//! A gang that one commit cannot hold is bound in several, and waits on its nodes until enough of it are
//! there: see [`gangs`](super::gangs).
//!
//! Who is worth a plan, and when, is decided by [`Queue`](orchestra_sched::place::queue::Queue); where
//! others have to leave for a pod, `evict` sees to it.

mod evict;
pub(super) mod fence;
mod gate;
mod guard;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::error::report;
use orchestra_core::kind::gang::Gang;
use orchestra_core::kind::{Pod, accelerator};
use orchestra_core::meta::{Condition, ConditionStatus, condition, set_condition};
use orchestra_core::port::store::{Guard, Key, Revision, TXN_OPS_MAX};
use orchestra_core::time::Timestamp;
use orchestra_sched::place::queue::{self, waits};
use orchestra_sched::place::{Pending, Placement, Plan, PlanInputs, Scheduler};
use orchestra_sched::rng::PlanRng;
use orchestra_sched::snapshot::{PodId, SnapshotBuilder};
use smol_str::SmolStr;

use fence::Fences;
use gate::{Gate, Gates};

use super::caches::Caches;
use super::gangs::{self, gave_back};
use crate::api::{ApiError, ApiErrorKind, Client};
use crate::control::{Outcome, PassError, Queue, Reconcile};
use crate::events::Recorder;

/// Guards of one commit that placements may take at most: one a pod, two a node. Left out of what a
/// store takes is room for the fences of the whole cluster and for a leader's own.
pub const COMMIT_GUARDS_MAX: usize = TXN_OPS_MAX - 8;

/// Refusals told in one commit.
const REFUSALS_PER_COMMIT_MAX: usize = 40;

/// Places pods.
pub struct PlacementLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
    scheduler: Arc<dyn Scheduler>,
    name: SmolStr,
    seed: u64,
    guards_per_commit: usize,
    state: Arc<Mutex<State>>,
}

/// What is known between two passes.
#[derive(Default)]
struct State {
    builder: SnapshotBuilder,
    /// Who waits, and for what.
    queue: queue::Queue,
    /// The pods that wait, as they stand.
    pods: BTreeMap<PodId, Arc<Pod>>,
    /// The commit that last moved each fence, as far as known.
    fences: BTreeMap<Key, Guard>,
    /// Each node as the builder knows it: when it last changed, counted in changes, and its
    /// version.
    versions: BTreeMap<SmolStr, (u64, Revision)>,
    node_changes: u64,
}

/// What a plan knew of the cluster.
#[derive(Clone, Copy)]
struct Seen {
    /// How many changes of nodes.
    node_changes: u64,
    /// The pods as of which commit, at least.
    pods: Revision,
}

impl PlacementLoop {
    /// A controller that places the pods whose `schedulerName` is `name`, asking `scheduler`.
    /// Register it with [`feed`](Self::feed) before the caches run.
    pub fn new(
        client: Client,
        caches: Caches,
        events: Recorder,
        scheduler: Arc<dyn Scheduler>,
        name: impl Into<SmolStr>,
        seed: u64,
    ) -> Self {
        let (name, state) = (name.into(), Arc::default());
        Self {
            client,
            caches,
            events,
            scheduler,
            name,
            seed,
            guards_per_commit: COMMIT_GUARDS_MAX,
            state,
        }
    }

    /// How many guards one commit may hold: one a pod, two a node. Held between 3 and
    /// [`COMMIT_GUARDS_MAX`].
    pub fn guards_per_commit(mut self, max: usize) -> Self {
        self.guards_per_commit = max.clamp(3, COMMIT_GUARDS_MAX);
        self
    }

    /// Keeps the snapshot and the pods that wait up to date with the caches, and calls for a pass
    /// whenever one may place something. The caches must not run yet: it is built change by
    /// change.
    pub fn feed(&self, queue: &Queue<()>) {
        let (state, adds) = (self.state.clone(), queue.clone());
        self.caches.nodes.on_change(move |event| {
            let mut state = lock(&state);
            state.node_changes += 1;
            let change = match &event.new {
                Some(node) => {
                    let version = (state.node_changes, node.metadata.resource_version);
                    state.versions.insert(event.key.name.clone(), version);
                    state.builder.apply_node(node)
                }
                None => {
                    state.fences.remove(&fence::of_node(&event.key.name));
                    state.versions.remove(&event.key.name);
                    state.builder.remove_node(&event.key.name)
                }
            };
            state.queue.changed(change, Some(&event.key.name));
            if !state.queue.is_empty() {
                adds.add(());
            }
        });
        let (state, adds) = (self.state.clone(), queue.clone());
        self.caches.namespaces.on_change(move |event| {
            let mut state = lock(&state);
            let change = match &event.new {
                Some(namespace) => state.builder.apply_namespace(namespace),
                None => state.builder.remove_namespace(&event.key.name),
            };
            state.queue.changed(change, None);
            if !state.queue.is_empty() {
                adds.add(());
            }
        });
        let state = self.state.clone();
        self.caches.budgets.on_change(move |event| {
            let mut state = lock(&state);
            match &event.new {
                Some(budget) => state.builder.apply_budget(budget),
                None => state.builder.remove_budget(&event.key),
            }
        });
        let (state, adds, name) = (self.state.clone(), queue.clone(), self.name.clone());
        let clock = self.client.clock().clone();
        self.caches.pods.on_change(move |event| {
            let mut state = lock(&state);
            if let Some(old) = &event.old
                && event
                    .new
                    .as_ref()
                    .is_none_or(|new| new.metadata.uid != old.metadata.uid)
            {
                let id = PodId::of(old);
                state.forget(&id);
                let change = state.builder.remove_pod(&id);
                state.queue.changed(change, old.node_name());
            }
            if let Some(pod) = &event.new {
                let change = state.builder.apply_pod(pod);
                state.queue.changed(change, pod.node_name());
                if waits(pod, &name) {
                    let pending = state.builder.pending(pod, clock.now());
                    state.queue.offer(pending);
                    if event.old.as_deref().is_some_and(|old| gave_back(old, pod)) {
                        state.queue.gave_back(&PodId::of(pod), clock.now());
                    }
                    state.pods.insert(PodId::of(pod), pod.clone());
                } else {
                    state.forget(&PodId::of(pod));
                }
            }
            if !state.queue.is_empty() {
                adds.add(());
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn forget(&mut self, pod: &PodId) {
        self.queue.withdraw(pod);
        self.pods.remove(pod);
    }
}

impl Reconcile for PlacementLoop {
    type Key = ();

    fn name(&self) -> &'static str {
        "placement"
    }

    async fn reconcile(&self, (): &()) -> Result<Outcome, PassError> {
        let now = self.client.now();
        let pods = self.caches.pods.through();
        let (turn, snapshot, seen, rng) = {
            let mut state = self.state();
            let snapshot = state.builder.snapshot(self.caches.nodes.through());
            let turn = state.queue.turn(now, &snapshot);
            if turn.pods.is_empty() {
                return Ok(turn.next.into());
            }
            // The same in every pass, so that what one learned serves the next; another's for every
            // scheduler, so that two do not run after the same nodes.
            let rng = PlanRng::new(self.seed).part(&self.name);
            let seen = Seen {
                node_changes: state.node_changes,
                pods,
            };
            (turn, snapshot, seen, rng)
        };
        let planned = {
            let (pods, nodes) = (turn.pods.len(), snapshot.len());
            let _span = tracing::debug_span!("plan", pods, nodes).entered();
            let inputs = PlanInputs { now, rng };
            let plan = || self.scheduler.plan(&snapshot, &turn.pods, inputs);
            panic::catch_unwind(AssertUnwindSafe(plan))
        };
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(panic) => {
                // Who waits is told; the pass counts as one that panicked, and comes again.
                let text = format!("the scheduler panicked: {}", said(&*panic));
                let pods = turn.pods.iter().map(|pod| &pod.id);
                self.tell_all(self.broken(pods, &text), now).await?;
                panic::resume_unwind(panic);
            }
        };
        let passed_over = passed_over(&plan, &turn.pods);
        {
            let mut state = self.state();
            state.queue.planned(&plan, &turn.pods, now);
            if !passed_over.is_empty() {
                let (pods, first) = (passed_over.len(), &passed_over[0]);
                tracing::warn!(pods, %first, "the scheduler neither placed nor refused some pods");
                state.queue.failed(&passed_over, now);
            }
        }
        let (misfits, kept_off) = self.guard(&mut plan, &snapshot, &turn.pods, now);
        drop(snapshot);
        let retry = self.place(&plan, seen, now).await;
        let again = self.make_room(&plan, now).await;
        self.refuse(&plan, now).await?;
        let mute = "the scheduler neither placed nor refused it";
        let mut told = self.broken(passed_over.iter(), mute);
        told.extend(kept_off);
        self.tell_all(told, now).await?;
        let next = self.state().queue.next();
        let soonest = [turn.next, misfits, retry, again, next]
            .into_iter()
            .flatten()
            .min();
        Ok(soonest.into())
    }
}

impl PlacementLoop {
    /// Commits what was placed, some at a time; what conflicts is tried again later, and when is
    /// returned.
    async fn place(&self, plan: &Plan, seen: Seen, now: Timestamp) -> Option<Timestamp> {
        let mut landed = Revision(0);
        let mut retry = None;
        let mut gates = Gates::default();
        for some in self.batches(&plan.placed) {
            let gate = self.gate(some, &mut gates);
            match self.bind(some, gate.as_ref(), seen, now).await {
                Ok(at) => {
                    landed = landed.max(at);
                    gates.bound(gate, some.len());
                }
                Err(error) if self.are_gang(some) => {
                    // Together or not at all.
                    tracing::debug!(error = %report(&error), "a gang's placement did not land");
                    let pods: Vec<PodId> = some.iter().map(|one| one.pod.clone()).collect();
                    retry = retry.or(self.state().queue.failed(&pods, now));
                }
                Err(error) => {
                    // One that changed meanwhile spoils the commit for all: each by itself then.
                    for one in some {
                        match self.bind(std::slice::from_ref(one), None, seen, now).await {
                            Ok(at) => landed = landed.max(at),
                            Err(again) => {
                                tracing::debug!(
                                    pod = %one.pod,
                                    node = %one.node,
                                    error = %report(&again),
                                    first = %report(&error),
                                    "placement did not land"
                                );
                                let pod = std::slice::from_ref(&one.pod);
                                retry = retry.or(self.state().queue.failed(pod, now));
                            }
                        }
                    }
                }
            }
        }
        // The next plan must count what this one placed.
        if landed > Revision(0) {
            self.caches.pods.wait_through(landed).await;
        }
        retry
    }

    /// What is written in one commit: the pods of a gang, as long as they are few enough, and runs of
    /// others.
    fn batches<'a>(&self, placed: &'a [Placement]) -> Vec<&'a [Placement]> {
        let state = self.state();
        let gang = |placement: &Placement| {
            let pod = state.pods.get(&placement.pod)?;
            Some((pod.metadata.namespace.clone(), Gang::of(pod)?.name))
        };
        let runs = placed.chunk_by(|one, other| gang(one) == gang(other));
        let max = self.guards_per_commit;
        runs.flat_map(|run| commits(run, max)).collect()
    }

    fn are_gang(&self, placed: &[Placement]) -> bool {
        let state = self.state();
        let mut pods = placed.iter().filter_map(|one| state.pods.get(&one.pod));
        pods.any(|pod| Gang::of(pod).is_some())
    }

    async fn bind(
        &self,
        placed: &[Placement],
        gate: Option<&Gate>,
        seen: Seen,
        now: Timestamp,
    ) -> Result<Revision, ApiError> {
        let mut commit = self.client.commit();
        let (mut nodes, mut fences) = (BTreeSet::new(), Fences::default());
        for placement in placed {
            let Some(waiting) = self.state().pods.get(&placement.pod).cloned() else {
                if gate.is_some() {
                    // Without it the others may be too few.
                    let about = format!("pods {}", placement.pod.key);
                    let error = ApiError::new(ApiErrorKind::Conflict, "place", about);
                    return Err(error.because("a member of its gang went meanwhile"));
                }
                continue; // gone, or placed by hand
            };
            let mut pod = Pod::clone(&waiting);
            pod.spec.node_name = placement.node.clone();
            pod.status.nominated_node_name = SmolStr::default();
            if !placement.devices.is_empty() {
                pod.metadata.annotations.insert(
                    accelerator::DEVICES_ANNOTATION.into(),
                    placement.devices.to_string().into(),
                );
            }
            set_condition(
                &mut pod.status.conditions,
                scheduled(ConditionStatus::True, "", ""),
                now,
            );
            if let Some(told) = gate.and_then(|gate| gate.told.as_deref()) {
                gangs::close(&mut pod, ConditionStatus::False, told, now);
            }
            fences.add(&pod, &placement.node);
            commit = commit.replace_whole(pod);
            if nodes.insert(&placement.node) {
                // Taints, labels and room as the plan saw them, or no placement.
                let version = self.state().versions.get(&placement.node).copied();
                let Some((_, version)) =
                    version.filter(|(changed, _)| *changed <= seen.node_changes)
                else {
                    let about = format!("nodes {}", placement.node);
                    let error = ApiError::new(ApiErrorKind::Conflict, "place", about);
                    return Err(error.because("it changed since the plan was made"));
                };
                let key = Key::from(["nodes/", &placement.node].concat());
                commit = commit.guard(Guard::At(key, version));
            }
        }
        if nodes.is_empty() {
            return Ok(Revision(0));
        }
        for guard in gate.into_iter().flat_map(|gate| &gate.joins) {
            commit = commit.guard(guard.clone());
        }
        let landed = match self.fenced(commit, &fences, seen.pods, now).await {
            Ok(commit) => commit.send().await,
            Err(error) => Err(error),
        };
        let mut state = self.state();
        match landed {
            Ok(landed) => {
                let moved = fences
                    .moves()
                    .map(|key| (key.clone(), Guard::At(key, landed)));
                state.fences.extend(moved);
            }
            // Somebody else may have moved any of them.
            Err(_) => fences
                .keys()
                .for_each(|key| drop(state.fences.remove(&key))),
        }
        landed
    }

    /// Tells those who found no node why, where that is news.
    async fn refuse(&self, plan: &Plan, now: Timestamp) -> Result<(), ApiError> {
        let refusals = {
            let state = self.state();
            let refused = plan.unplaced.iter().filter_map(|unplaced| {
                let pod = state.pods.get(&unplaced.pod)?;
                // Where nobody makes room for it any longer it is nominated no more.
                let room = plan.room_for(&unplaced.pod);
                let moot = !pod.status.nominated_node_name.is_empty() && room.is_none();
                let text = unplaced.why.to_string();
                Some(Refusal::of(pod, moot, "Unschedulable", text))
            });
            refused.collect()
        };
        self.tell_all(refusals, now).await
    }

    /// What those are told whose scheduler did not come to an answer.
    fn broken<'a>(&self, pods: impl Iterator<Item = &'a PodId>, text: &str) -> Vec<Refusal> {
        let state = self.state();
        let waiting = pods.filter_map(|pod| state.pods.get(pod));
        waiting
            .map(|pod| Refusal::of(pod, false, "SchedulerError", text.to_owned()))
            .collect()
    }

    async fn tell_all(&self, mut refusals: Vec<Refusal>, now: Timestamp) -> Result<(), ApiError> {
        refusals.retain(|refusal| refusal.is_news || refusal.moot);
        let mut landed = Revision(0);
        for some in refusals.chunks(REFUSALS_PER_COMMIT_MAX) {
            for told in some.iter().filter(|refusal| refusal.is_news) {
                let pod = told.pod.as_ref();
                self.events.warning(pod, "FailedScheduling", &told.text);
            }
            match self.tell(some, now).await {
                Ok(at) => landed = landed.max(at),
                // One that changed meanwhile spoils the commit for all: each by itself then.
                Err(error) if error.is_conflict() || error.is_not_found() => {
                    for one in some {
                        match self.tell(std::slice::from_ref(one), now).await {
                            Ok(at) => landed = landed.max(at),
                            Err(error) if error.is_conflict() || error.is_not_found() => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if landed > Revision(0) {
            self.caches.pods.wait_through(landed).await;
        }
        Ok(())
    }

    async fn tell(&self, refused: &[Refusal], now: Timestamp) -> Result<Revision, ApiError> {
        let mut commit = self.client.commit();
        for refusal in refused {
            let mut changed = Pod::clone(&refusal.pod);
            if refusal.moot {
                changed.status.nominated_node_name = SmolStr::default();
            }
            let condition = scheduled(ConditionStatus::False, refusal.reason, &refusal.text);
            set_condition(&mut changed.status.conditions, condition, now);
            commit = commit.replace_status(changed);
        }
        commit.send().await
    }
}

/// Placements, in runs that one commit can hold.
fn commits(mut placed: &[Placement], guards_max: usize) -> Vec<&[Placement]> {
    let mut runs = Vec::new();
    while !placed.is_empty() {
        let (mut nodes, mut guards) = (BTreeSet::new(), 0);
        let fit = placed.iter().position(|placement| {
            guards += 1 + 2 * usize::from(nodes.insert(&placement.node));
            guards > guards_max
        });
        let (run, rest) = placed.split_at(fit.unwrap_or(placed.len()));
        runs.push(run);
        placed = rest;
    }
    runs
}

/// A pod that found no node.
struct Refusal {
    pod: Arc<Pod>,
    /// Whether its nomination is.
    moot: bool,
    /// Why, as one word.
    reason: &'static str,
    /// Why.
    text: String,
    /// Whether it has not been told that yet.
    is_news: bool,
}

impl Refusal {
    fn of(pod: &Arc<Pod>, moot: bool, reason: &'static str, text: String) -> Self {
        let told = condition(&pod.status.conditions, Pod::SCHEDULED);
        Self {
            pod: pod.clone(),
            moot,
            reason,
            is_news: told.is_none_or(|told| told.message != text),
            text,
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word")
}

/// Who is not in the plan, as by contract each is: they rest, or they would be asked for at once again
/// for ever.
fn passed_over(plan: &Plan, pods: &[Pending]) -> Vec<PodId> {
    if plan.placed.len() + plan.unplaced.len() == pods.len() {
        return Vec::new();
    }
    let placed = plan.placed.iter().map(|one| &one.pod);
    let answered: BTreeSet<&PodId> = placed
        .chain(plan.unplaced.iter().map(|one| &one.pod))
        .collect();
    let mute = pods.iter().filter(|pod| !answered.contains(&pod.id));
    mute.map(|pod| pod.id.clone()).collect()
}

fn scheduled(status: ConditionStatus, reason: &str, message: &str) -> Condition {
    Condition {
        kind: Pod::SCHEDULED.into(),
        status,
        reason: reason.into(),
        message: message.into(),
        ..Condition::default()
    }
}

impl fmt::Debug for PlacementLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlacementLoop")
            .field("scheduler", &self.scheduler)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use smol_str::ToSmolStr;

    use super::*;

    #[test]
    fn a_commit_holds_as_many_pods_as_a_store_takes_guards_for() {
        let on = |nodes: usize| {
            (0..300).map(move |n| Placement {
                node: (n % nodes).to_smolstr(),
                ..Placement::default()
            })
        };
        for (nodes, first) in [(1, 118), (4, 112), (40, 40), (300, 40)] {
            let placed: Vec<_> = on(nodes).collect();
            let runs = commits(&placed, COMMIT_GUARDS_MAX);
            assert_eq!(runs[0].len(), first, "{nodes} nodes");
            assert_eq!(runs.concat().len(), placed.len());
        }
        assert_eq!(commits(&[], COMMIT_GUARDS_MAX), [[]; 0]);
    }
}
