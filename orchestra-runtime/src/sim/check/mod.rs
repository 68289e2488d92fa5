//! The invariants: after each commit, and at rest.

mod gangs;
mod mirror;
mod rest;
mod step;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::Pod;
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::port::clock::Clock;
use orchestra_core::port::store::{Batch, Change, Key, Revision, StateStore};
use orchestra_core::time::Timestamp;

use super::acks::Acks;
use super::history::{History, checksum};
use super::oversight::Oversight;
use super::report::{Sink, Violation};
use crate::api::Client;
use gangs::Gangs;
use mirror::Mirror;

pub(super) use rest::Machine;

/// How long after a fault, or after the loss of a pod, a controller may act on what it saw before.
const STALE_MAX: Duration = Duration::from_secs(60);

/// Follows the log of commits and checks each.
pub(super) struct Checker {
    store: Arc<dyn StateStore>,
    client: Client,
    clock: Arc<dyn Clock>,
    born: Timestamp,
    sink: Arc<Sink>,
    acks: Arc<Acks>,
    oversight: Arc<Oversight>,
    history: Arc<History>,
    state: Mutex<State>,
    steps: AtomicU64,
    commits: AtomicU64,
    /// The newest revision looked at.
    newest: AtomicU64,
}

#[derive(Default)]
struct State {
    mirror: Mirror,
    gangs: Gangs,
    through: Revision,
    /// The last commit that was not about events or heartbeats, and when.
    last_change: (Revision, Timestamp, Option<Key>),
    /// Deployments that had all their pods, by how many they want: nothing but their controller
    /// took any away since.
    steady: BTreeMap<Uid, u32>,
    /// When each deployment last lost a pod otherwise.
    losses: BTreeMap<Uid, Timestamp>,
    /// When there was a fault last.
    fault: Option<Timestamp>,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker")
            .field("commits", &self.commits)
            .finish_non_exhaustive()
    }
}

impl Checker {
    pub(super) fn new(
        store: Arc<dyn StateStore>,
        client: &Client,
        sink: Arc<Sink>,
        acks: Arc<Acks>,
        oversight: Arc<Oversight>,
        history: Arc<History>,
    ) -> Self {
        let clock = client.clock().clone();
        let born = clock.now();
        Self {
            store,
            client: client.clone(),
            clock,
            born,
            sink,
            acks,
            oversight,
            history,
            state: Mutex::default(),
            steps: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            newest: AtomicU64::new(0),
        }
    }

    /// Checks every commit, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let watch = self.store.watch(Key::from(""), Revision(0)).await;
        let error = match watch {
            Ok(mut watch) => loop {
                match watch.next().await {
                    Ok(batch) => self.take(&batch),
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        self.complain(
            "watch",
            format!("the checker's watch ended: {}", report(&error)),
        );
    }

    fn take(&self, batch: &Batch) {
        let mut state = self.state();
        for commit in batch.changes.chunk_by(|a, b| a.revision() == b.revision()) {
            self.commit(&mut state, commit);
        }
        state.through = state.through.max(batch.through);
        let through = state.through;
        for ack in self.acks.take(through) {
            for (key, value) in ack.writes {
                let touched = state.mirror.touched.get(&key).copied().unwrap_or_default();
                // Removing what is not there leaves no trace.
                if touched < ack.revision && value.is_some() {
                    let what = format!("{key}, acknowledged at {}, never landed", ack.revision);
                    self.complain("no-write-lost", what);
                }
                if let Some(value) = value
                    && touched == ack.revision
                    && state.mirror.stored.get(&key).map(|(_, sum)| *sum) != Some(checksum(&value))
                {
                    let what = format!("{key} is not what was acknowledged at {}", ack.revision);
                    self.complain("no-write-lost", what);
                }
            }
        }
    }

    fn commit(&self, state: &mut State, changes: &[Change]) {
        let revision = changes.first().map_or(Revision(0), Change::revision);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.newest.store(revision.0, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        // The nodes as they were when the commit landed.
        let nodes = changes
            .iter()
            .any(|change| change.key().as_str().starts_with("nodes/"))
            .then(|| state.mirror.nodes.clone());
        let mut all = Vec::with_capacity(changes.len());
        for change in changes {
            let sum = match change {
                Change::Put(now) => checksum(&now.value),
                Change::Delete { .. } => 0,
            };
            let changed = match state.mirror.apply(change, sum, self.client.shelf()) {
                Ok(changed) => changed,
                Err(why) => {
                    self.complain("readable", why);
                    continue;
                }
            };
            let what = match change {
                Change::Put(_) => format!("{:08x}", sum as u32),
                Change::Delete { .. } => "deleted".to_owned(),
            };
            self.history.line(
                now.since(self.born),
                format_args!(
                    "r{revision} {} {what}{}",
                    change.key(),
                    Mirror::describe(&changed)
                ),
            );
            if !is_background(change.key()) {
                state.last_change = (revision, now, Some(change.key().clone()));
            }
            all.push(changed);
        }
        self.step(state, nodes.as_ref(), &all, revision, now);
    }

    /// Raises a violation.
    pub(super) fn complain(&self, invariant: &'static str, what: String) {
        self.sink.raise(self.violation(invariant, what));
    }

    fn violation(&self, invariant: &'static str, what: String) -> Violation {
        let at = self.clock.now();
        let revision = Revision(self.newest.load(Ordering::Relaxed));
        Violation {
            invariant,
            what,
            at,
            after: at.since(self.born),
            revision,
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed) + self.oversight.starts()
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// How long nothing was written but events and heartbeats.
    pub(super) fn quiet_for(&self) -> Duration {
        self.clock
            .now()
            .since(self.state().last_change.1.max(self.born))
    }

    /// The last commit that was not about events or heartbeats.
    pub(super) fn last_change(&self) -> (Revision, Option<Key>) {
        let state = self.state();
        (state.last_change.0, state.last_change.2.clone())
    }

    /// Whether every machine has a node that is ready and has addresses.
    pub(super) fn registered(&self, machines: &[Machine]) -> bool {
        let state = self.state();
        machines.iter().all(|machine| {
            let node = state
                .mirror
                .nodes
                .get(&ObjectKey::cluster(machine.name.clone()));
            node.is_some_and(|node| node.is_ready() && !node.spec.pod_cidr.is_empty())
        })
    }

    /// There is a fault now: what controllers see may be old for a while.
    pub(super) fn shaken(&self) {
        let mut state = self.state();
        state.steady.clear();
        state.fault = Some(self.clock.now());
    }

    /// The pods of a deployment, ordered by key.
    pub(super) fn pods_of(&self, deployment: &ObjectKey) -> Vec<Arc<Pod>> {
        let state = self.state();
        let owner = state.mirror.deployments.get(deployment);
        let pods = owner.map(|owner| state.mirror.pods_of(owner.metadata.uid).cloned());
        pods.into_iter().flatten().collect()
    }

    /// What is not at rest, in words; empty if all is.
    pub(super) fn unrest(&self, machines: &[Machine]) -> Vec<String> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        rest::unrest(&self.state().mirror, machines, self.clock.now())
    }

    /// Compares the whole store with what the log told.
    pub(super) async fn compare(&self) {
        let page = self
            .store
            .list(orchestra_core::port::store::ListRequest::all(""))
            .await;
        let page = match page {
            Ok(page) => page,
            Err(error) => return self.complain("readable", report(&error).to_string()),
        };
        let state = self.state();
        if state.through < page.revision {
            return; // it will be compared the next time
        }
        let stored: BTreeMap<&Key, (Revision, u64)> = page
            .items
            .iter()
            .map(|item| (&item.key, (item.modified, checksum(&item.value))))
            .collect();
        let mirrored = state.mirror.stored.iter();
        if !mirrored
            .map(|(key, at)| (key, *at))
            .eq(stored.iter().map(|(key, at)| (*key, *at)))
        {
            let differs = state
                .mirror
                .stored
                .iter()
                .find(|(key, at)| stored.get(key) != Some(at))
                .map(|(key, _)| key.to_string())
                .or_else(|| {
                    let more = stored
                        .keys()
                        .find(|key| !state.mirror.stored.contains_key(**key));
                    more.map(ToString::to_string)
                });
            let what = format!(
                "the store and its log differ at {}",
                differs.unwrap_or_default()
            );
            self.complain("no-write-lost", what);
        }
    }

    /// Sets aside what is known of a node's driver.
    pub(super) fn forget_pod(&self, uid: Uid, name: &str) {
        self.oversight.forget(uid, name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys that are written without anything being changed: events, and the leases of nodes.
fn is_background(key: &Key) -> bool {
    key.as_str().starts_with("events/") || key.as_str().starts_with("leases/")
}
