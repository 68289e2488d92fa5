//! One pod's life on its node: prepare, run, report, and end in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::error::{Retry, report};
use orchestra_core::kind::pod::{ContainerStatus, RestartPolicy};
use orchestra_core::kind::{Container, Pod, Resource};
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::{Exit, Observed, RunState, WorkloadId};
use orchestra_core::port::secret::SecretProvider;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::container::{ContainerRun, Slot, run_handler};
use super::env::{ConfigError, Facts, Sources};
use super::status::{PodSeen, Seen, SeenState, ended, status};
use super::volumes::Prepared;
use super::{AgentSettings, NodeView, Parts, Running};
use crate::api::{Client, DeleteParams};
use crate::net::address::PodAddress;

/// The wait before a failed write of the status is tried again; doubles up to the longest.
const REPORT_RETRY_BASE: Duration = Duration::from_millis(100);
const REPORT_RETRY_MAX: Duration = Duration::from_secs(10);

/// The wait before volumes that cannot be made are tried again.
const VOLUMES_RETRY: Duration = Duration::from_secs(2);

/// How often mounted configuration is looked at again.
const VOLUMES_REFRESH: Duration = Duration::from_secs(60);

/// How long the last writes about a pod may take once the agent ends.
const WRITES_AT_END_MAX: Duration = Duration::from_secs(5);

/// What a container always gets between SIGTERM and SIGKILL, even if its preStop hook took all of
/// the pod's grace (unless that was zero).
const GRACE_AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

/// What the agent wants of a pod.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// It shall run, or end if its object says so.
    Follow(Arc<Pod>),
    /// Its object is gone: end it at once.
    Gone,
    /// The agent ends, and its workloads with it.
    Shutdown,
}

/// What the parts of a pod's life share.
pub(crate) struct PodShared {
    pub(crate) parts: Arc<Parts>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) engine: Running,
    pub(crate) place: PodAddress,
    pub(crate) volumes: Prepared,
    seen: Mutex<PodSeen>,
    changed: Notify,
    /// What is left to containers that are told to end with the pod; `None` while it lives.
    grace: Mutex<Option<Duration>>,
}

impl PodShared {
    pub(crate) fn settings(&self) -> &AgentSettings {
        &self.parts.settings
    }

    pub(crate) fn client(&self) -> &Client {
        &self.parts.client
    }

    pub(crate) fn view(&self) -> &dyn NodeView {
        self.parts.view.as_ref()
    }

    pub(crate) fn secrets(&self) -> &dyn SecretProvider {
        self.parts.secrets.as_ref()
    }

    pub(crate) fn host_ip(&self) -> IpAddr {
        self.parts.settings.host_ip
    }

    pub(crate) fn workload_id(&self, container: &SmolStr) -> WorkloadId {
        WorkloadId {
            pod: self.pod.metadata.uid,
            container: container.clone(),
        }
    }

    /// Notes what a container does, and has it reported.
    pub(crate) fn see(&self, slot: Slot, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match slot {
            Slot::Init(n) => seen.init.get_mut(n),
            Slot::Main(n) => seen.containers.get_mut(n),
        };
        if let Some(at) = at {
            change(at);
        }
        drop(seen);
        self.changed.notify_one();
    }

    fn note(&self, change: impl FnOnce(&mut PodSeen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn seen(&self) -> PodSeen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the container of that name runs, as far as is known.
    fn runs(&self, name: &str) -> bool {
        let seen = self.seen();
        let spec = &self.pod.spec;
        let main = spec.containers.iter().zip(&seen.containers);
        let mut all = main.chain(spec.init_containers.iter().zip(&seen.init));
        all.any(|(container, seen)| {
            container.name == name && matches!(seen.state, SeenState::Running { .. })
        })
    }

    pub(crate) fn warn(&self, reason: &'static str, message: &str) {
        self.parts
            .events
            .warning(self.pod.as_ref(), reason, message);
    }

    /// Writes the status as it is now, until that has worked or nobody wants to know any more.
    async fn report(&self) {
        let mut rest = REPORT_RETRY_BASE;
        let uid = self.pod.metadata.uid;
        loop {
            let api = self.client().api::<Pod>();
            let wrote = api
                .update_status(&self.pod.key(), |pod| {
                    if pod.metadata.uid == uid {
                        pod.status = status(pod, &self.seen(), self.client().now());
                    }
                })
                .await;
            match wrote {
                Ok(_) => return,
                Err(error) if error.is_not_found() => return,
                Err(error) => {
                    let pod = self.pod.key();
                    tracing::debug!(%pod, error = %report(&error), "status not written yet");
                }
            }
            tokio::time::sleep(rest).await;
            rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
        }
    }

    /// The grace of the pod that ends; of one that does not, its own.
    pub(crate) fn grace(&self) -> Duration {
        let set = *self.grace.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = self.pod.spec.termination_grace_period_seconds;
        set.unwrap_or(Duration::from_secs(whole.unwrap_or(Pod::GRACE_SECONDS)))
    }

    /// Has the status told anew when somebody else may have opened or closed a gate, for ever.
    async fn watch_gates(&self, mut wishes: watch::Receiver<Wish>) {
        if self.pod.spec.readiness_gates.is_empty() {
            return std::future::pending().await;
        }
        while wishes.changed().await.is_ok() {
            self.changed.notify_one();
        }
        std::future::pending().await
    }

    /// Brings configuration that is mounted up to date every now and then, for ever.
    async fn keep_volumes(&self) {
        let changes = |volume: &orchestra_core::kind::pod::Volume| {
            volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some()
        };
        let Some(host) = &self.parts.volumes else {
            return std::future::pending().await;
        };
        if !self.pod.spec.volumes.iter().any(changes) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(VOLUMES_REFRESH).await;
            let services = self.view().services(&self.pod.metadata.namespace);
            let facts = Facts {
                pod: &self.pod,
                pod_ip: Some(self.place.ip),
                host_ip: Some(self.host_ip()),
                services: &services,
            };
            let sources = Sources {
                client: self.client(),
                secrets: self.secrets(),
            };
            // What was there stays until it can be had again.
            if let Err(error) = host.prepare(facts, sources).await {
                self.warn("FailedMount", &error.to_string());
            }
        }
    }

    /// Reports every change, for ever.
    async fn keep_reporting(&self) {
        loop {
            self.changed.notified().await;
            self.report().await;
        }
    }
}

/// Runs a pod to its end. `found` is what the driver ran of it already.
pub(crate) async fn run(
    parts: Arc<Parts>,
    pod: Arc<Pod>,
    mut wishes: watch::Receiver<Wish>,
    found: BTreeMap<SmolStr, Observed>,
) {
    let Some(shared) = prepare(&parts, &pod, &mut wishes, &found).await else {
        parts.release(&pod).await;
        return;
    };
    let shared = Arc::new(shared);
    let gates = wishes.clone();
    let mut life = Life {
        shared: shared.clone(),
        wishes,
        found,
        ending: CancellationToken::new(),
        containers: JoinSet::new(),
    };
    tokio::select! {
        biased;
        () = life.live() => {}
        () = shared.keep_reporting() => {}
        () = shared.watch_gates(gates) => {}
        () = shared.keep_volumes() => {}
    }
    parts.release(&shared.pod).await;
}

/// Finds a place and makes the volumes. `None` if the pod is not wanted any more, or refused.
async fn prepare(
    parts: &Arc<Parts>,
    pod: &Arc<Pod>,
    wishes: &mut watch::Receiver<Wish>,
    found: &BTreeMap<SmolStr, Observed>,
) -> Option<PodShared> {
    let preparing = async {
        loop {
            let Some(engine) = parts.engine(pod) else {
                let known = parts.engine_names();
                let asked = &pod.spec.runtime_class_name;
                let why = format!("no driver {asked:?} here; use one of {known}");
                refuse(parts, pod, "UnknownRuntimeClass", why).await;
                return None;
            };
            match try_prepare(parts, pod).await {
                Ok((place, volumes)) => {
                    let remembered = |container: &Container| {
                        let runs = found.get(&container.name).and_then(runs_since);
                        Seen::remembered(known(pod, &container.name), runs)
                    };
                    let init = pod.spec.init_containers.iter().map(remembered).collect();
                    let containers = pod.spec.containers.iter().map(remembered).collect();
                    let start_time = pod.status.start_time.or(Some(parts.client.now()));
                    let seen = PodSeen {
                        init,
                        containers,
                        pod_ip: Some(place.ip),
                        host_ip: Some(parts.settings.host_ip),
                        start_time,
                        ..PodSeen::default()
                    };
                    return Some(PodShared {
                        parts: parts.clone(),
                        pod: pod.clone(),
                        engine,
                        place,
                        volumes,
                        seen: Mutex::new(seen),
                        changed: Notify::new(),
                        grace: Mutex::default(),
                    });
                }
                Err(error) => {
                    parts
                        .events
                        .warning(pod.as_ref(), "FailedMount", error.to_string());
                    tracing::debug!(pod = %pod.key(), %error, "not prepared yet");
                }
            }
            tokio::time::sleep(VOLUMES_RETRY).await;
        }
    };
    tokio::pin!(preparing);
    tokio::select! {
        biased;
        () = unwanted(wishes) => {
            // Nothing was started. What a driver still has of it goes with its uid.
            forget_found(parts, pod, found).await;
            unless_ending(wishes, finish(parts, pod)).await;
            None
        }
        prepared = &mut preparing => prepared,
    }
}

async fn try_prepare(parts: &Parts, pod: &Pod) -> Result<(PodAddress, Prepared), ConfigError> {
    let place = parts.place(pod)?;
    let Some(host) = &parts.volumes else {
        return Ok((place, Prepared::new()));
    };
    let services = parts.view.services(&pod.metadata.namespace);
    let facts = Facts {
        pod,
        pod_ip: Some(place.ip),
        host_ip: Some(parts.settings.host_ip),
        services: &services,
    };
    let sources = Sources {
        client: &parts.client,
        secrets: parts.secrets.as_ref(),
    };
    let volumes = host.prepare(facts, sources).await?;
    Ok((place, volumes))
}

fn runs_since(observed: &Observed) -> Option<Timestamp> {
    match observed.state {
        RunState::Running { since } => Some(since),
        RunState::Ended(_) => None,
    }
}

/// What the pod's status says of one of its containers.
fn known<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = &pod.status;
    let mut all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    all.find(|status| status.name == name)
}

/// Stops and forgets what was found of a pod that shall not run.
async fn forget_found(parts: &Parts, pod: &Pod, found: &BTreeMap<SmolStr, Observed>) {
    let Some(engine) = parts.engine(pod) else {
        return;
    };
    for observed in found.values() {
        end_stray(&engine, &observed.id).await;
    }
}

/// Lets `work` take its time, but not for ever once the agent ends.
async fn unless_ending(wishes: &watch::Receiver<Wish>, work: impl Future<Output = ()>) {
    let mut wishes = wishes.clone();
    let over = async {
        let _ = wishes.wait_for(|wish| matches!(wish, Wish::Shutdown)).await;
        tokio::time::sleep(WRITES_AT_END_MAX).await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = over => tracing::warn!("the agent ends before the store knows how a pod ended"),
    }
}

/// Waits until the pod shall not run any longer.
async fn unwanted(wishes: &mut watch::Receiver<Wish>) {
    let over = |wish: &Wish| match wish {
        Wish::Follow(pod) => pod.is_terminating(),
        Wish::Gone | Wish::Shutdown => true,
    };
    // The agent holds the sender for as long as it lives; if it does not, the pod is unwanted.
    let _ = wishes.wait_for(over).await;
}

/// Marks a pod as failed for good.
async fn refuse(parts: &Parts, pod: &Pod, reason: &'static str, why: String) {
    parts.events.warning(pod, reason, &why);
    let seen = PodSeen {
        init: vec![Seen::default(); pod.spec.init_containers.len()],
        containers: vec![Seen::default(); pod.spec.containers.len()],
        failed: Some((reason, why)),
        ..PodSeen::default()
    };
    let uid = pod.metadata.uid;
    let mut rest = REPORT_RETRY_BASE;
    loop {
        let wrote = parts
            .client
            .api::<Pod>()
            .update_status(&pod.key(), |pod| {
                if pod.metadata.uid == uid {
                    pod.status = status(pod, &seen, parts.client.now());
                }
            })
            .await;
        match wrote {
            Err(error) if !error.is_not_found() => {}
            _ => return,
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}

/// Removes the object of a pod that has ended, if that was asked for.
async fn finish(parts: &Parts, pod: &Pod) {
    let mut rest = REPORT_RETRY_BASE;
    loop {
        let params = DeleteParams::now().uid(pod.metadata.uid);
        let still = parts
            .view
            .pods()
            .iter()
            .any(|seen| seen.metadata.uid == pod.metadata.uid && seen.is_terminating());
        if !still {
            return; // gone, or the agent ends and the pod stays
        }
        match parts.client.api::<Pod>().delete(&pod.key(), params).await {
            Ok(_) => return,
            // Gone, or another pod has its name by now.
            Err(error) if error.is_not_found() || error.is_conflict() => return,
            Err(error) => {
                tracing::debug!(pod = %pod.key(), error = %report(&error), "not removed yet");
            }
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}

/// The containers whose preStop hook has begun: it runs once.
type Hooked = Arc<Mutex<BTreeSet<SmolStr>>>;

struct Life {
    shared: Arc<PodShared>,
    wishes: watch::Receiver<Wish>,
    found: BTreeMap<SmolStr, Observed>,
    /// Cancelled when the pod is to end: nothing is started any more.
    ending: CancellationToken,
    containers: JoinSet<(Slot, Option<Exit>)>,
}

impl Life {
    async fn live(&mut self) {
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
    running.spawn(async move { (slot, run.run().await) });
}

/// preStop, then the driver's stop, within `grace` in all.
async fn stop_container(
    shared: Arc<PodShared>,
    container: Container,
    grace: Duration,
    hooked: Hooked,
) {
    let id = shared.workload_id(&container.name);
    let first = hooked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(container.name.clone());
    let left = if first && shared.runs(&container.name) {
        pre_stop(&shared, &container, &id, grace).await
    } else {
        grace
    };
    stop_surely(&shared, &id, left).await;
}

/// Runs the preStop hook, if there is one and `grace` leaves room for it. Returns what is left of
/// the grace.
pub(crate) async fn pre_stop(
    shared: &PodShared,
    container: &Container,
    id: &WorkloadId,
    grace: Duration,
) -> Duration {
    let lifecycle = container.lifecycle.as_ref();
    let Some(hook) = lifecycle.and_then(|l| l.pre_stop.as_ref()) else {
        return grace;
    };
    if grace.is_zero() {
        return grace;
    }
    let begun = tokio::time::Instant::now();
    match tokio::time::timeout(grace, run_handler(shared, container, id, hook)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => shared.warn("FailedPreStopHook", &why),
        Err(_) => shared.warn("FailedPreStopHook", "it took longer than the pod's grace"),
    }
    grace
        .saturating_sub(begun.elapsed())
        .max(GRACE_AFTER_HOOK_MIN)
}

/// Asks the driver to stop it, until it has.
pub(crate) async fn stop_surely(shared: &PodShared, id: &WorkloadId, grace: Duration) {
    let begun = tokio::time::Instant::now();
    let mut rest = REPORT_RETRY_BASE;
    loop {
        let left = grace.saturating_sub(begun.elapsed());
        match shared.engine.driver.stop(id, left).await {
            Ok(()) => return,
            Err(error) => shared.warn("FailedKillContainer", &report(&error).to_string()),
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}

/// Stops and forgets workloads whose pod is gone; returns the others.
pub(crate) async fn stop_strays(
    engine: &Running,
    survey: Vec<Observed>,
    pods: &BTreeSet<Uid>,
) -> Vec<Observed> {
    let (known, strays): (Vec<_>, Vec<_>) = survey
        .into_iter()
        .partition(|observed| pods.contains(&observed.id.pod));
    for stray in strays {
        tracing::info!(workload = %stray.id, "stopped: its pod is gone");
        end_stray(engine, &stray.id).await;
    }
    known
}

async fn end_stray(engine: &Running, id: &WorkloadId) {
    let mut rest = REPORT_RETRY_BASE;
    while let Err(error) = engine.driver.stop(id, Duration::ZERO).await {
        tracing::warn!(workload = %id, error = %report(&error), "stray not stopped");
        if error.retry() == Retry::Never {
            break;
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
    remove(engine, id).await;
}

/// Frees what the driver kept of an ended workload: nobody would ever ask again.
async fn remove(engine: &Running, id: &WorkloadId) {
    let mut rest = REPORT_RETRY_BASE;
    while let Err(error) = engine.driver.remove(id).await {
        tracing::warn!(workload = %id, error = %report(&error), "not removed");
        if error.retry() == Retry::Never {
            break;
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}
