//! From the first init container to the last sidecar: what runs of a pod, and its end in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::kind::pod::RestartPolicy;
use orchestra_core::kind::{Container, Pod, Resource};
use orchestra_core::port::driver::{Exit, Observed};
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::container::{ContainerRun, Slot};
use super::pod::{
    PodShared, Wish, finish, known, out_of_sight, runs_since, unless_ending, unwanted,
};
use super::status::{SeenState, ended};
use super::stop::{remove, stop_container};

/// The containers whose preStop hook has begun: it runs once.
pub(super) type Hooked = Arc<Mutex<BTreeSet<SmolStr>>>;

/// What runs of a pod, and how it comes to its end.
pub(super) struct Life {
    pub(super) shared: Arc<PodShared>,
    pub(super) wishes: watch::Receiver<Wish>,
    pub(super) found: BTreeMap<SmolStr, Observed>,
    /// Cancelled when the pod is to end: nothing is started any more.
    pub(super) ending: CancellationToken,
    pub(super) containers: JoinSet<(Slot, Option<Exit>)>,
}

impl Life {
    pub(super) async fn live(&mut self) {
        let deadline = self.deadline();
        let mut wishes = self.wishes.clone();
        let overdue = async {
            match deadline {
                Some(at) => {
                    tokio::time::sleep(at.since(self.shared.client().now())).await;
                }
                None => std::future::pending().await,
            }
        };
        let late = {
            let shared = self.shared.clone();
            let work = run_containers(&shared, &self.found, &self.ending, &mut self.containers);
            tokio::select! {
                biased;
                () = unwanted(&mut wishes) => false,
                () = work => false,
                () = overdue => true,
            }
        };
        // In a box, as most pods live for long and end but once.
        Box::pin(self.end(late)).await;
    }

    /// What comes after the last container, or when the pod shall not run any longer; it is `late`
    /// if its time was up.
    async fn end(&mut self, late: bool) {
        if late {
            let why = "it ran for longer than its activeDeadlineSeconds".to_owned();
            self.shared.warn("DeadlineExceeded", &why);
            self.shared
                .note(|seen| seen.failed = Some(("DeadlineExceeded", why)));
        }
        let told = matches!(&*self.wishes.borrow(), Wish::Follow(pod) if !pod.is_terminating());
        self.stop().await;
        let shutdown = matches!(&*self.wishes.borrow(), Wish::Shutdown);
        self.shared.note(|seen| {
            seen.stopped = true;
            if shutdown && !told && seen.failed.is_none() {
                let why = "the agent of its node was told to stop".to_owned();
                seen.failed = Some(("Terminated", why));
            }
        });
        if told {
            // It ended by itself: it stays as it is until somebody deletes it.
            unless_ending(&self.wishes, self.shared.report()).await;
            unwanted(&mut self.wishes).await;
        }
        if !matches!(&*self.wishes.borrow(), Wish::Gone) {
            unless_ending(&self.wishes, self.shared.report()).await;
        }
        self.remove().await;
        unless_ending(&self.wishes, finish(&self.shared.parts, &self.shared.pod)).await;
        out_of_sight(&mut self.wishes).await;
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.shared.pod.spec.active_deadline_seconds?;
        let start = self
            .shared
            .seen()
            .start_time
            .unwrap_or(self.shared.client().now());
        Some(start + Duration::from_secs(seconds))
    }

    /// Out of the services, in-flight work done, preStop, SIGTERM, grace, SIGKILL; sidecars last.
    /// Somebody may shorten the grace meanwhile.
    async fn stop(&mut self) {
        let mut wishes = self.wishes.clone();
        let hooked = Arc::new(Mutex::new(BTreeSet::new()));
        let mut drained = false;
        loop {
            let grace = self.grace(&self.wishes.borrow());
            *self
                .shared
                .grace
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(grace);
            self.ending.cancel();
            // Takes it out of its services, where its object does not say so already.
            self.shared.note(|seen| seen.ending = true);
            let shorter = async {
                while wishes.changed().await.is_ok() {
                    if self.grace(&wishes.borrow()) < grace {
                        return;
                    }
                }
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = self.stop_all(grace, drained, &hooked) => break,
                () = shorter => drained = true,
            }
        }
        while self.containers.join_next().await.is_some() {}
    }

    async fn stop_all(&self, grace: Duration, drained: bool, hooked: &Hooked) {
        let running = self
            .shared
            .seen()
            .containers
            .iter()
            .any(|seen| matches!(seen.state, SeenState::Running { .. }));
        if running && !drained && !grace.is_zero() {
            let patience = grace.min(self.shared.settings().drain_max);
            self.shared
                .parts
                .traffic
                .drained(self.shared.pod.metadata.uid, patience)
                .await;
        }
        let mut stops = JoinSet::new();
        for container in &self.shared.pod.spec.containers {
            stops.spawn(stop_container(
                self.shared.clone(),
                container.clone(),
                grace,
                hooked.clone(),
            ));
        }
        while stops.join_next().await.is_some() {}
        for container in self.shared.pod.spec.init_containers.iter().rev() {
            let (shared, container) = (self.shared.clone(), container.clone());
            stop_container(shared, container, grace, hooked.clone()).await;
        }
    }

    fn grace(&self, wish: &Wish) -> Duration {
        let whole = self
            .shared
            .pod
            .spec
            .termination_grace_period_seconds
            .unwrap_or(Pod::GRACE_SECONDS);
        let seconds = match wish {
            Wish::Follow(pod) => pod.metadata.deletion_grace_period_seconds.unwrap_or(whole),
            Wish::Gone => 0,
            Wish::Shutdown => {
                return self
                    .shared
                    .settings()
                    .shutdown_grace_max
                    .min(Duration::from_secs(whole));
            }
        };
        Duration::from_secs(seconds)
    }

    /// Frees what the driver kept.
    async fn remove(&self) {
        let spec = &self.shared.pod.spec;
        for container in spec.containers.iter().chain(&spec.init_containers) {
            let id = self.shared.workload_id(&container.name);
            remove(&self.shared.engine, &id).await;
        }
    }
}

/// Starts init containers one after the other, then all others; returns when those have ended
/// for good.
async fn run_containers(
    shared: &Arc<PodShared>,
    found: &BTreeMap<SmolStr, Observed>,
    ending: &CancellationToken,
    running: &mut JoinSet<(Slot, Option<Exit>)>,
) {
    let spec = &shared.pod.spec;
    // A pod of which a container was found has its init containers behind it.
    let adopted = spec
        .containers
        .iter()
        .any(|container| found.contains_key(&container.name));
    for (n, container) in spec.init_containers.iter().enumerate() {
        let slot = Slot::Init(n);
        if container.is_sidecar() {
            spawn(shared, found, ending, running, slot, container);
            started(shared, n).await;
        } else if adopted {
            shared.see(slot, |seen| {
                if matches!(seen.state, SeenState::Ended { .. }) {
                    return; // as its status remembers
                }
                let exit = Exit {
                    code: 0,
                    signal: None,
                    reason: "Completed".into(),
                    message: String::new(),
                    at: shared.client().now(),
                };
                seen.state = SeenState::Ended { exit, since: None };
            });
        } else {
            spawn(shared, found, ending, running, slot, container);
            let exit = loop {
                match running.join_next().await {
                    Some(Ok((ended, exit))) if ended == slot => break exit,
                    Some(_) => {}
                    None => break None,
                }
            };
            let well = exit.is_some_and(|exit| exit.code == 0);
            if !well {
                if spec.restart_policy == RestartPolicy::Never {
                    let why = format!("init container {} failed", container.name);
                    shared.note(|seen| seen.failed = Some(("InitContainerFailed", why)));
                }
                return;
            }
        }
    }
    for (n, container) in spec.containers.iter().enumerate() {
        spawn(shared, found, ending, running, Slot::Main(n), container);
    }
    let mut left = spec.containers.len();
    while left > 0 {
        match running.join_next().await {
            Some(Ok((Slot::Main(_), _))) => left -= 1,
            Some(Ok((Slot::Init(_), _))) => {}
            Some(Err(panic)) => {
                tracing::error!(pod = %shared.pod.key(), error = %panic, "a container's keeper panicked");
                left -= 1;
            }
            None => return,
        }
    }
}

/// Waits until a sidecar has started.
async fn started(shared: &PodShared, n: usize) {
    // The wheel tells within its period; a short look at the table costs nothing.
    const LOOK: Duration = Duration::from_millis(100);
    while !shared.seen().init.get(n).is_some_and(|seen| seen.started) {
        tokio::time::sleep(LOOK).await;
    }
}

fn spawn(
    shared: &Arc<PodShared>,
    found: &BTreeMap<SmolStr, Observed>,
    ending: &CancellationToken,
    running: &mut JoinSet<(Slot, Option<Exit>)>,
    slot: Slot,
    container: &Container,
) {
    let known = known(&shared.pod, &container.name);
    let found = found.get(&container.name);
    let (attempt, before) = match (found, known) {
        (Some(found), _) => (found.attempt, None),
        (None, None) => (0, None),
        // It ran under a driver that knows nothing of it any more.
        (None, Some(known)) => {
            let next = known.restart_count.saturating_add(1);
            let lost = || Exit {
                code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".into(),
                message: "its driver does not know it any more".into(),
                at: shared.client().now(),
            };
            let running = known.state.running();
            match ended(&known.state).or_else(|| running.map(|r| (lost(), r.started_at))) {
                Some(before) => (next, Some(before)),
                None if known.restart_count > 0 => (next, None),
                None => (0, None),
            }
        }
    };
    let run = ContainerRun {
        shared: shared.clone(),
        slot,
        attempt,
        before,
        kept: found.is_some_and(|found| runs_since(found).is_some()),
        ending: ending.clone(),
    };
    let span = tracing::debug_span!("container", name = %container.name);
    running.spawn(async move { (slot, run.run().await) }.instrument(span));
}
