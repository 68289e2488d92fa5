//! One container's life: start, watch, restart, until it has ended for good.

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::error::{Retry, report};
use orchestra_core::kind::Container;
use orchestra_core::kind::pod::{LifecycleHandler, RestartPolicy, TerminationMessagePolicy};
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, Exit, Limits, Observed, RunState, Workload, WorkloadId,
};
use orchestra_core::port::probe::{ProbeSpec, ProbeTarget, Verdict};
use orchestra_core::time::Timestamp;
use orchestra_sched::health::backoff::{Backoff, restarts};
use tokio_util::sync::CancellationToken;

use super::env::{ConfigError, Facts, Sources, environment, expand};
use super::pod::PodShared;
use super::status::SeenState;
use super::stop::{pre_stop, stop_surely};
use super::volumes::{mount_variable, mounts};
use crate::probe::{ContainerHealth, WatchedProbes};

/// The wait after a start that could not be tried: configuration missing, or the host refused.
const START_RETRY_BASE: Duration = Duration::from_secs(1);
const START_RETRY_MAX: Duration = Duration::from_secs(60);

/// So much of what a container printed last becomes its termination message, if that is asked for:
/// as Kubernetes has it.
const TERMINATION_TAIL_BYTES: usize = 2_048;
const TERMINATION_TAIL_LINES: usize = 80;

/// How long a failed `wait` of a driver rests before it is asked again.
const WAIT_RETRY: Duration = Duration::from_millis(500);

/// Which container of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Slot {
    Init(usize),
    Main(usize),
}

/// One container at work.
pub(crate) struct ContainerRun {
    pub(crate) shared: Arc<PodShared>,
    pub(crate) slot: Slot,
    /// The attempt to begin with: that of a container found running, or the next one.
    pub(crate) attempt: u32,
    /// How it ended under a driver that knows nothing of it any more.
    pub(crate) before: Option<(Exit, Option<Timestamp>)>,
    /// It was found running: it stays as ready as it was until a probe says otherwise.
    pub(crate) kept: bool,
    /// Set when the pod is to end: nothing is started any more.
    pub(crate) ending: CancellationToken,
}

impl ContainerRun {
    fn container(&self) -> &Container {
        match self.slot {
            Slot::Init(n) => &self.shared.pod.spec.init_containers[n],
            Slot::Main(n) => &self.shared.pod.spec.containers[n],
        }
    }

    fn policy(&self) -> RestartPolicy {
        match (self.slot, self.shared.pod.spec.restart_policy) {
            (Slot::Init(_), _) if self.container().is_sidecar() => RestartPolicy::Always,
            // An init container has a job to do; once done it is not done again.
            (Slot::Init(_), RestartPolicy::Always) => RestartPolicy::OnFailure,
            (_, policy) => policy,
        }
    }

    /// Runs it until it has ended for good, or the pod is ending. Returns its last exit, if it
    /// ran.
    pub(crate) async fn run(mut self) -> Option<Exit> {
        let id = self.shared.workload_id(&self.container().name);
        if let Some((exit, since)) = self.before.take() {
            if !restarts(self.policy(), exit.code == 0) {
                self.shared.see(self.slot, |seen| {
                    let exit = exit.clone();
                    seen.state = SeenState::Ended { exit, since };
                });
                return Some(exit);
            }
            self.shared
                .see(self.slot, |seen| seen.last = Some((exit, since)));
        }
        let mut backoff = Backoff::new(self.shared.settings().restart_backoff);
        let mut health = match self.probes() {
            Ok(probes) if probes == WatchedProbes::default() => None,
            Ok(probes) => Some(self.shared.engine.probes.watch(id.clone(), probes)),
            Err(error) => {
                let message = report(&error).to_string();
                self.wait_as("CreateContainerConfigError", message);
                self.ending.cancelled().await;
                return None;
            }
        };
        loop {
            // What takes long in all is waiting: the rest is in boxes while it is done.
            let observed = Box::pin(self.start(&id)).await?;
            if self.ending.is_cancelled() {
                // It was asked to stop before it ran.
                Box::pin(stop_surely(&self.shared, &id, self.shared.grace())).await;
            }
            let (since, exit) = match observed.state {
                RunState::Running { since } => self.attend(&id, since, health.as_mut()).await,
                RunState::Ended(exit) => (exit.at, exit),
            };
            if let Some(health) = &health {
                health.on_stopped();
            }
            let again = !self.ending.is_cancelled() && restarts(self.policy(), exit.code == 0);
            if !again {
                self.shared.see(self.slot, |seen| {
                    seen.state = SeenState::Ended {
                        exit: exit.clone(),
                        since: Some(since),
                    };
                    (seen.started, seen.ready) = (false, false);
                });
                return Some(exit);
            }
            let at = backoff.handle_exit(since, exit.at);
            let waits = at > self.shared.client().now();
            self.shared.see(self.slot, |seen| {
                seen.last = Some((exit.clone(), Some(since)));
                (seen.started, seen.ready) = (false, false);
                seen.state = if waits {
                    SeenState::Waiting {
                        reason: "CrashLoopBackOff",
                        message: format!("it {}; it starts again at {at}", told(&exit)),
                    }
                } else {
                    SeenState::Ended {
                        exit: exit.clone(),
                        since: Some(since),
                    }
                };
            });
            let name = &self.container().name;
            let mut why = format!("container {name} {}", told(&exit));
            if !exit.message.is_empty() {
                why = format!("{why}: {}", exit.message);
            }
            self.shared
                .warn(if waits { "BackOff" } else { "Restarted" }, &why);
            if !self.rest_until(at).await {
                return Some(exit);
            }
            self.attempt = self.attempt.saturating_add(1);
        }
    }

    fn probes(&self) -> Result<WatchedProbes, orchestra_core::port::probe::ProbeError> {
        WatchedProbes::of(self.container(), |port| {
            self.shared.place.port(port).unwrap_or(port)
        })
    }

    /// Starts it, again and again if need be. `None` once the pod is ending.
    async fn start(&mut self, id: &WorkloadId) -> Option<Observed> {
        let mut rest = START_RETRY_BASE;
        loop {
            if self.ending.is_cancelled() {
                return None;
            }
            let (reason, why) = match self.workload(id).await {
                Err(error) => ("CreateContainerConfigError", error.to_string()),
                Ok(workload) => match self.shared.engine.driver.ensure(&workload).await {
                    Ok(observed) => return Some(observed),
                    Err(error) if error.kind() == DriverErrorKind::Stale => {
                        self.attempt = self.attempt.saturating_add(1);
                        continue;
                    }
                    Err(error) => (reason(&error), report(&error).to_string()),
                },
            };
            self.shared.warn("Failed", &why);
            self.wait_as(reason, why);
            let until = self.shared.client().now() + rest;
            if !self.rest_until(until).await {
                return None;
            }
            rest = rest.saturating_mul(2).min(START_RETRY_MAX);
        }
    }

    /// Watches it until it ends; restarts it, by stopping it, if a probe says so. Returns when it
    /// began and how it ended.
    async fn attend(
        &mut self,
        id: &WorkloadId,
        since: Timestamp,
        mut health: Option<&mut ContainerHealth>,
    ) -> (Timestamp, Exit) {
        let mut kept = std::mem::take(&mut self.kept);
        if !kept && let Some(handler) = self.post_start() {
            // Until the hook is done it counts as not running: nothing is probed or served.
            self.wait_as("ContainerCreating", String::new());
            let outcome = tokio::select! {
                biased;
                () = self.ending.cancelled() => Ok(()),
                outcome = Box::pin(run_handler(&self.shared, self.container(), id, &handler)) => outcome,
            };
            if let Err(why) = outcome {
                self.shared.warn("FailedPostStartHook", &why);
                Box::pin(self.stop(id, None)).await;
            }
        }
        let probed = health.is_some();
        self.shared.see(self.slot, |seen| {
            seen.state = SeenState::Running { since };
            seen.restarts = self.attempt;
            seen.against.clear();
            if !(kept && probed) {
                (seen.started, seen.ready) = (!probed, !probed);
            }
        });
        if let Some(health) = &health {
            health.on_started(Some(self.shared.place.ip), self.attempt);
        }
        let mut told = false;
        // Why a probe had it stopped.
        let mut failed: Option<String> = None;
        loop {
            tokio::select! {
                biased;
                ended = self.shared.engine.driver.wait(id) => match ended {
                    Ok(exit) => {
                        let exit = Box::pin(self.explained(id, exit, failed)).await;
                        return (since, exit);
                    }
                    Err(error) if error.retry() == Retry::Backoff => {
                        tokio::time::sleep(WAIT_RETRY).await;
                    }
                    Err(error) => return (since, self.lost(&error)),
                },
                () = self.ending.cancelled(), if !told => {
                    told = true;
                    if let Some(health) = &health {
                        health.on_deleted();
                    }
                }
                state = changed(health.as_deref_mut()) => {
                    if state.attempt != Some(self.attempt) {
                        continue;
                    }
                    // Of one that was adopted nothing is known until a probe has answered.
                    let silent = !state.health.ready
                        && state.health.restart.is_none()
                        && state.reason.is_empty();
                    if kept && silent {
                        continue;
                    }
                    kept = false;
                    // Who is about to be stopped must not be asked anything any more.
                    let ready = state.health.ready && state.health.restart.is_none();
                    self.shared.see(self.slot, |seen| {
                        (seen.started, seen.ready) = (state.health.started, ready);
                        seen.against.clone_from(&state.reason);
                    });
                    if !state.reason.is_empty() {
                        self.shared.warn("Unhealthy", &state.reason);
                    }
                    if let Some(kind) = state.health.restart
                        && !self.ending.is_cancelled()
                        && failed.is_none()
                    {
                        let name = &self.container().name;
                        let why = format!("failed its {kind} probe: {}", state.reason);
                        self.shared.warn("Killing", &format!("container {name} {why}"));
                        failed = Some(format!("it {why}"));
                        Box::pin(self.stop(id, Some(kind))).await;
                    }
                }
            }
        }
    }

    /// Stops it for a restart, with the grace of the probe that asked or of the pod.
    async fn stop(
        &self,
        id: &WorkloadId,
        kind: Option<orchestra_sched::health::tracker::ProbeKind>,
    ) {
        use orchestra_sched::health::tracker::ProbeKind;
        let container = self.container();
        let probe = match kind {
            Some(ProbeKind::Liveness) => container.liveness_probe.as_deref(),
            Some(ProbeKind::Startup) => container.startup_probe.as_deref(),
            _ => None,
        };
        let seconds = probe
            .and_then(|probe| probe.termination_grace_period_seconds)
            .or(self.shared.pod.spec.termination_grace_period_seconds)
            .unwrap_or(orchestra_core::kind::Pod::GRACE_SECONDS);
        let stopped = async {
            let grace = Duration::from_secs(seconds);
            let left = pre_stop(&self.shared, container, id, grace).await;
            stop_surely(&self.shared, id, left).await;
        };
        // The deletion of the pod may want it sooner; then it stops it itself.
        tokio::select! {
            biased;
            () = self.ending.cancelled() => {}
            () = stopped => {}
        }
    }

    /// Its end as its status tells it: with the probe that `failed`, if one had it stopped, and with
    /// the last that it printed, if that is asked for.
    async fn explained(&self, id: &WorkloadId, mut exit: Exit, failed: Option<String>) -> Exit {
        let mut told: Vec<String> = failed.into_iter().collect();
        let asked = self.container().termination_message_policy;
        if asked == TerminationMessagePolicy::FallbackToLogsOnError
            && exit.code != 0
            && let Some(logs) = self.shared.engine.driver.logs()
            && let Ok(tail) = logs.tail(id, TERMINATION_TAIL_BYTES).await
            && !tail.is_empty()
        {
            let text = String::from_utf8_lossy(&tail);
            let lines: Vec<&str> = text.lines().collect();
            let skipped = lines.len().saturating_sub(TERMINATION_TAIL_LINES);
            told.push(lines[skipped..].join("\n"));
        } else if !exit.message.is_empty() {
            told.push(std::mem::take(&mut exit.message));
        }
        exit.message = told.join("; ");
        exit
    }

    /// The driver does not know it any more.
    fn lost(&self, error: &DriverError) -> Exit {
        Exit {
            code: 137,
            signal: None,
            reason: "Lost".into(),
            message: report(error).to_string(),
            at: self.shared.client().now(),
        }
    }

    fn wait_as(&self, reason: &'static str, message: String) {
        self.shared.see(self.slot, |seen| {
            seen.state = SeenState::Waiting { reason, message };
            (seen.started, seen.ready) = (false, false);
        });
    }

    /// Rests until then; false if the pod is ending.
    async fn rest_until(&self, at: Timestamp) -> bool {
        let rest = at.since(self.shared.client().now());
        if rest.is_zero() {
            return !self.ending.is_cancelled();
        }
        tokio::select! {
            biased;
            () = self.ending.cancelled() => false,
            () = tokio::time::sleep(rest) => true,
        }
    }

    async fn workload(&self, id: &WorkloadId) -> Result<Workload, ConfigError> {
        let container = self.container();
        let shared = &self.shared;
        let services = shared.view().services(&shared.pod.metadata.namespace);
        let facts = Facts {
            pod: &shared.pod,
            pod_ip: Some(shared.place.ip),
            host_ip: Some(shared.host_ip()),
            services: &services,
        };
        let sources = Sources {
            client: shared.client(),
            secrets: shared.secrets(),
        };
        let mounts = mounts(container, &shared.volumes)?;
        let mut env = shared.place.env();
        for mount in &container.volume_mounts {
            if let Some(at) = mounts.get(std::path::Path::new(&mount.mount_path)) {
                env.insert(
                    mount_variable(&mount.name),
                    at.to_string_lossy().into_owned(),
                );
            }
        }
        env.extend(environment(container, facts, sources).await?);
        let expanded = |all: &[String]| all.iter().map(|text| expand(text, &env)).collect();
        let limit = |name: &str| container.resources.limits.get(name);
        let positive = |amount: i64| u64::try_from(amount).ok();
        Ok(Workload {
            id: id.clone(),
            attempt: self.attempt,
            pod_name: shared.pod.metadata.key().to_string(),
            image: container.image.to_string(),
            command: expanded(&container.command),
            args: expanded(&container.args),
            working_dir: Some(&container.working_dir)
                .filter(|dir| !dir.is_empty())
                .map(std::path::PathBuf::from),
            pod_ip: Some(shared.place.ip),
            limits: Limits {
                cpu_milli: limit("cpu").and_then(|cpu| positive(cpu.as_milli())),
                memory_bytes: limit("memory").and_then(|memory| positive(memory.as_int())),
                pids: None,
            },
            mounts,
            env,
        })
    }

    fn post_start(&self) -> Option<LifecycleHandler> {
        self.container().lifecycle.as_ref()?.post_start.clone()
    }
}

/// How it ended, though it is to run.
fn told(exit: &Exit) -> String {
    match exit.code {
        // Under that policy only; the others let it rest.
        0 => "ended well, but its pod's restartPolicy is Always: it is to run until it is told to \
              stop"
            .to_owned(),
        code => format!("ended with code {code} ({})", exit.reason),
    }
}

/// What a failed start is called.
fn reason(error: &DriverError) -> &'static str {
    match error.kind() {
        DriverErrorKind::Invalid => "CreateContainerError",
        _ => "RunContainerError",
    }
}

async fn changed(health: Option<&mut ContainerHealth>) -> crate::probe::ContainerState {
    match health {
        Some(health) => health.changed().await,
        None => std::future::pending().await,
    }
}

/// Runs a hook to its end.
pub(crate) async fn run_handler(
    shared: &PodShared,
    container: &Container,
    id: &WorkloadId,
    handler: &LifecycleHandler,
) -> Result<(), String> {
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    let probe = orchestra_core::kind::Probe {
        exec: handler.exec.clone(),
        http_get: handler.http_get.clone(),
        tcp_socket: handler.tcp_socket.clone(),
        ..Default::default()
    };
    let mut watched = container.clone();
    watched.readiness_probe = Some(Box::new(probe));
    (watched.liveness_probe, watched.startup_probe) = (None, None);
    let probes = WatchedProbes::of(&watched, |port| shared.place.port(port).unwrap_or(port))
        .map_err(|error| report(&error).to_string())?;
    let Some(spec): Option<ProbeSpec> = probes.readiness.map(|probe| probe.spec) else {
        return Ok(());
    };
    let target = ProbeTarget {
        workload: id.clone(),
        address: Some(shared.place.ip),
    };
    match shared.engine.prober.probe(&target, &spec).await {
        Ok(Verdict::Pass { .. }) => Ok(()),
        Ok(Verdict::Fail { reason }) => Err(reason),
        Ok(_) => Err("the hook gave no answer that is known here".to_owned()),
        Err(error) => Err(report(&error).to_string()),
    }
}
