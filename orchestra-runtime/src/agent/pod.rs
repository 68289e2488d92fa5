//! One pod's life on its node: prepare, run, report, and end in order.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::pod::ContainerStatus;
use orchestra_core::kind::{Container, Pod, Resource};
use orchestra_core::port::driver::{Observed, RunState, WorkloadId};
use orchestra_core::port::secret::SecretProvider;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::container::Slot;
use super::env::{ConfigError, Facts, Sources};
use super::life::Life;
use super::status::{PodSeen, Seen, SeenState, is_closed, status};
use super::stop::end_stray;
use super::volumes::Prepared;
use super::{AgentSettings, NodeView, Parts, Running};
use crate::api::{Client, DeleteParams};
use crate::net::address::PodAddress;

/// The wait before a failed write of the status is tried again; doubles up to the longest.
pub(super) const REPORT_RETRY_BASE: Duration = Duration::from_millis(100);
pub(super) const REPORT_RETRY_MAX: Duration = Duration::from_secs(10);

/// The wait before volumes that cannot be made are tried again.
const VOLUMES_RETRY: Duration = Duration::from_secs(2);

/// How often mounted configuration is looked at again.
const VOLUMES_REFRESH: Duration = Duration::from_secs(60);

/// How long the last writes about a pod may take once the agent ends.
const WRITES_AT_END_MAX: Duration = Duration::from_secs(5);

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
    pub(super) grace: Mutex<Option<Duration>>,
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

    pub(super) fn note(&self, change: impl FnOnce(&mut PodSeen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    pub(super) fn seen(&self) -> PodSeen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the container of that name runs, as far as is known.
    pub(super) fn runs(&self, name: &str) -> bool {
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
    pub(super) async fn report(&self) {
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
            if let Err(error) = Box::pin(host.prepare(facts, sources)).await {
                self.warn("FailedMount", &error.to_string());
            }
        }
    }

    /// Reports every change, and anew whenever the node is back, for ever.
    ///
    /// A report is in a box of its own while it is made: what a keeper needs at its busiest would
    /// else be held for each pod for as long as it lives, and there are many that rest.
    async fn keep_reporting(&self) {
        let registered = &self.parts.registered;
        let mut seen = registered.count();
        if is_closed(&self.pod) {
            self.changed.notify_one();
        }
        loop {
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                times = registered.past(seen) => seen = times,
            }
            Box::pin(self.report()).await;
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
    let preparing = Box::pin(prepare(&parts, &pod, &mut wishes, &found));
    let Some(shared) = preparing.await else {
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
    let wishes_seen = wishes.clone();
    let preparing = async {
        loop {
            let Some(engine) = parts.engine(pod) else {
                let known = parts.engine_names();
                let asked = &pod.spec.runtime_class_name;
                let why = format!("no driver {asked:?} here; use one of {known}");
                refuse(parts, pod, "UnknownRuntimeClass", why).await;
                // Until the view knows: another keeper would refuse it once more.
                let mut wishes = wishes_seen.clone();
                let known = |wish: &Wish| match wish {
                    Wish::Follow(pod) => pod.is_terminal() || pod.is_terminating(),
                    Wish::Gone | Wish::Shutdown => true,
                };
                let _ = wishes.wait_for(known).await;
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
                        ports: place.ports.clone(),
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
            out_of_sight(wishes).await;
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

pub(super) fn runs_since(observed: &Observed) -> Option<Timestamp> {
    match observed.state {
        RunState::Running { since } => Some(since),
        RunState::Ended(_) => None,
    }
}

/// What the pod's status says of one of its containers.
pub(super) fn known<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
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
pub(super) async fn unless_ending(wishes: &watch::Receiver<Wish>, work: impl Future<Output = ()>) {
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
pub(super) async fn unwanted(wishes: &mut watch::Receiver<Wish>) {
    let over = |wish: &Wish| match wish {
        Wish::Follow(pod) => pod.is_terminating(),
        Wish::Gone | Wish::Shutdown => true,
    };
    // The agent holds the sender for as long as it lives; if it does not, the pod is unwanted.
    let _ = wishes.wait_for(over).await;
}

/// Waits until the view does not show the pod any more, or the agent ends. Whoever returned before
/// would be followed by another keeper at once, and that one by the next.
pub(super) async fn out_of_sight(wishes: &mut watch::Receiver<Wish>) {
    // As in `unwanted`, the agent holds the sender.
    let _ = wishes
        .wait_for(|wish| !matches!(wish, Wish::Follow(_)))
        .await;
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
pub(super) async fn finish(parts: &Parts, pod: &Pod) {
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
            Err(error) if error.is_not_found() => return,
            // Somebody wrote it at that moment; or another pod has its name by now, which the view
            // will show.
            Err(error) => {
                tracing::debug!(pod = %pod.key(), error = %report(&error), "not removed yet");
            }
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}
