//! Probes, back-off, node and zone state, disruption budgets: `orchestra_sched::{health, budget}`.

use std::collections::BTreeMap;
use std::time::Duration;

use orchestra_core::int_or::IntOrPercent;
use orchestra_core::kind::{PodDisruptionBudgetSpec, Probe};
use orchestra_core::time::Timestamp;
use orchestra_sched::budget;
use orchestra_sched::health::backoff::BackoffPolicy;
use orchestra_sched::health::nodes::{DEFAULT_TOLERATION_SECONDS, NodePolicy};
use orchestra_sched::health::tracker::{
    HealthPolicy, HealthTracker, ProbeKind, ProbePolicy, ProbeResult, Sample, Ticket,
};
use orchestra_sched::health::zones::{ZoneNodes, ZonePolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Check, Complaint, read, same};

pub(super) fn check_for(section: &str) -> Option<Check> {
    Some(match section {
        "probe_timelines" => timeline,
        "probe_initial_results" => initial_results,
        "probe_single_step" => single_step,
        "probe_defaults" => probe_defaults,
        "crash_loop_backoff" => crash_loop,
        "job_pod_backoff" => job_backoff,
        "zone_disruption_state" => zone_state,
        "node_lifecycle_defaults" => node_defaults,
        "disruption_budget" => disruption_budget,
        _ => return None,
    })
}

const KINDS: [(&str, ProbeKind); 3] = [
    ("liveness", ProbeKind::Liveness),
    ("readiness", ProbeKind::Readiness),
    ("startup", ProbeKind::Startup),
];

fn kind_named(name: &str) -> Result<ProbeKind, Complaint> {
    let found = KINDS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind);
    found.ok_or_else(|| Complaint::Unreadable(format!("probe {name:?}")))
}

fn result_named(result: Option<ProbeResult>) -> &'static str {
    match result {
        Some(ProbeResult::Unknown) => "Unknown",
        Some(ProbeResult::Success) => "Success",
        Some(ProbeResult::Failure) => "Failure",
        None => "no such probe",
    }
}

/// A container with one probe, and a clock that moves when it should.
struct Bench {
    kind: ProbeKind,
    tracker: HealthTracker,
    now: Timestamp,
    /// A startup probe under way, whose success is still to come.
    gate: Option<Ticket>,
}

impl Bench {
    /// If `started` is false there is a startup probe besides, which has not succeeded yet.
    fn new(kind: ProbeKind, policy: ProbePolicy, started: bool) -> Self {
        let mut all = HealthPolicy::default();
        if !started {
            all.startup = Some(ProbePolicy {
                success_threshold: 1,
                ..policy
            });
        }
        match kind {
            ProbeKind::Startup => all.startup = Some(policy),
            ProbeKind::Liveness => all.liveness = Some(policy),
            ProbeKind::Readiness => all.readiness = Some(policy),
        }
        let tracker = HealthTracker::new(all);
        Self {
            kind,
            tracker,
            now: Timestamp::from_secs(1_000),
            gate: None,
        }
    }

    fn start(&mut self) {
        let _ = self.tracker.handle_started(self.now);
        let gated = self.kind != ProbeKind::Startup && !self.tracker.health().started;
        self.gate = if gated {
            self.tracker.poll_probe(self.now)
        } else {
            None
        };
    }

    /// The startup probe that is not the one on the bench succeeds.
    fn open_gate(&mut self) {
        if let Some(ticket) = self.gate.take() {
            let _ = self.tracker.handle_result(ticket, Sample::Pass, self.now);
        }
    }

    /// Runs what is due now, then lets time pass; a probe that rests does not run.
    fn probe(&mut self, sample: Sample) {
        while let Some(ticket) = self.tracker.poll_probe(self.now) {
            self.tracker.handle_result(ticket, sample, self.now);
        }
        self.now = self.now + ProbePolicy::default().period;
    }

    fn result(&self) -> &'static str {
        result_named(self.tracker.result(self.kind))
    }
}

fn timeline(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        r#type: String,
        #[serde(default = "one")]
        success_threshold: u32,
        #[serde(default = "three")]
        failure_threshold: u32,
        #[serde(default = "yes", alias = "containerStarted")]
        started: bool,
        steps: Vec<Step>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Step {
        probe: Option<String>,
        result: Option<String>,
        on_hold: Option<bool>,
        #[serde(alias = "run", alias = "streak")]
        result_run: Option<u32>,
        /// Before the probe, the container is started anew.
        #[serde(
            default,
            alias = "newContainerId",
            alias = "newContainerID",
            alias = "containerId",
            alias = "containerID",
            alias = "containerRestarted",
            alias = "restarted",
            alias = "restart"
        )]
        new_container: Option<Value>,
        event: Option<String>,
        /// Whether the container has started: its startup probe has succeeded.
        #[serde(alias = "containerStarted")]
        started: Option<bool>,
        #[serde(rename = "name", alias = "note", alias = "message", alias = "msg")]
        _name: Option<String>,
    }
    fn one() -> u32 {
        1
    }
    fn three() -> u32 {
        3
    }
    fn yes() -> bool {
        true
    }
    let row: Row = read(row)?;
    let policy = ProbePolicy {
        success_threshold: row.success_threshold,
        failure_threshold: row.failure_threshold,
        ..ProbePolicy::default()
    };
    let started = row
        .steps
        .iter()
        .find_map(|step| step.started)
        .unwrap_or(row.started);
    let mut bench = Bench::new(kind_named(&row.r#type)?, policy, started);
    bench.start();
    for (n, step) in row.steps.iter().enumerate() {
        let anew = step
            .new_container
            .as_ref()
            .is_some_and(|new| !matches!(new, Value::Bool(false)));
        match step.event.as_deref().map(str::to_lowercase) {
            None => {}
            Some(event) if event.contains("container") || event.contains("restart") => {
                bench.start();
            }
            Some(event) => return Err(Complaint::Unreadable(format!("event {event:?}"))),
        }
        if anew {
            bench.tracker.handle_stopped(true);
            bench.start();
        }
        if step.started == Some(true) {
            bench.open_gate();
        }
        match step.probe.as_deref() {
            None | Some("none") => {}
            Some("success" | "warning") => bench.probe(Sample::Pass),
            Some("failure") => bench.probe(Sample::Fail),
            Some("error" | "unknown" | "panic" | "crash") => bench.probe(Sample::Error),
            Some(other) => return Err(Complaint::Unreadable(format!("probe {other:?}"))),
        }
        let got = (
            step.result.as_ref().map(|_| bench.result().to_owned()),
            step.on_hold.map(|_| bench.tracker.on_hold(bench.kind)),
            step.result_run.map(|_| bench.tracker.streak(bench.kind)),
        );
        same(
            &(n, (step.result.clone(), step.on_hold, step.result_run)),
            &(n, got),
        )?;
    }
    Ok(())
}

fn initial_results(row: &Value) -> Result<(), Complaint> {
    let expected: BTreeMap<String, String> = read(row)?;
    for (kind, expected) in expected {
        let initial = kind_named(&kind)?.initial_result();
        same(&expected.as_str(), &result_named(Some(initial)))?;
    }
    Ok(())
}

/// A situation is told in words. What it brings about is read off them; words that say nothing
/// known make the row unreadable.
fn single_step(row: &Value) -> Result<(), Complaint> {
    let situation: String = read(&row["situation"])?;
    let expected: BTreeMap<String, bool> = read(&row["continueProbing"])?;
    for (kind, goes_on) in expected {
        let policy = ProbePolicy {
            failure_threshold: 1,
            ..ProbePolicy::default()
        };
        let (mut bench, event) = situated(&situation.to_lowercase(), kind_named(&kind)?, policy)?;
        let before = bench.result();
        event(&mut bench);
        let got = if bench.result() == before {
            "unchanged"
        } else {
            bench.result()
        };
        let result = match &row["result"] {
            Value::Object(by_kind) => by_kind.get(&kind).and_then(Value::as_str),
            result => result.as_str(),
        };
        let result = match result {
            // A result that was there before is that result as well.
            Some(result) if got == "unchanged" && result == before => "unchanged",
            Some(result @ ("Success" | "Failure" | "Unknown")) => result,
            None | Some(_) => "unchanged",
        };
        let going_on = bench.tracker.is_probing(bench.kind);
        same(
            &(kind.as_str(), goes_on, result),
            &(kind.as_str(), going_on, got),
        )?;
    }
    Ok(())
}

type Event = fn(&mut Bench);

/// A container as it was before the situation came about, and what then happens to it.
fn situated(
    words: &str,
    kind: ProbeKind,
    policy: ProbePolicy,
) -> Result<(Bench, Event), Complaint> {
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    let fresh = || Bench::new(kind, policy, true);
    let running = || {
        let mut bench = fresh();
        bench.start();
        bench
    };
    let denied = says(&["no ", "not ", "without", "missing", "yet"]);
    if denied && says(&["status", "container id", "created"]) && !says(&["running"]) {
        return Ok((fresh(), |bench| bench.probe(Sample::Pass)));
    }
    if says(&[
        "internal error",
        "prober error",
        "returned an error",
        "prober returned",
        "panic",
    ]) {
        return Ok((running(), |bench| bench.probe(Sample::Error)));
    }
    if says(&["deleted", "deletion", "deleting"]) {
        return Ok((running(), |bench| {
            bench.tracker.handle_deleted();
            bench.probe(Sample::Pass);
        }));
    }
    if says(&[
        "pod failed",
        "pod succeeded",
        "pod has failed",
        "pod has succeeded",
        "phase",
    ]) {
        return Ok((running(), |bench| {
            let _ = bench.tracker.handle_ended();
        }));
    }
    if says(&["initial delay", "initialdelay"]) {
        let delayed = ProbePolicy {
            initial_delay: Duration::from_secs(30),
            ..policy
        };
        let mut bench = Bench::new(kind, delayed, true);
        bench.start();
        let past = says(&["after", "elapsed", "passed", "over"]);
        if past && !denied && !says(&["before", "during", "within"]) {
            bench.now = bench.now + delayed.initial_delay;
        }
        return Ok((bench, |bench| bench.probe(Sample::Pass)));
    }
    if says(&["hold"]) {
        let mut bench = running();
        bench.probe(Sample::Fail);
        return Ok((bench, |bench| bench.probe(Sample::Pass)));
    }
    if says(&["waiting"]) {
        return Ok((running(), |bench| {
            let _ = bench.tracker.handle_stopped(true);
        }));
    }
    if says(&["terminated", "exited", "not running", "stopped"]) {
        let for_good = says(&[
            "never",
            "will not",
            "won't",
            "not be restarted",
            "no restart",
        ]);
        let again = says(&["always", "onfailure", "will be restarted", "restarts"]);
        // The published table's pods are never restarted unless it says so.
        return Ok(if again && !for_good {
            (running(), |bench| {
                let _ = bench.tracker.handle_stopped(true);
            })
        } else {
            (running(), |bench| {
                let _ = bench.tracker.handle_stopped(false);
            })
        });
    }
    if says(&[
        "not started",
        "has not succeeded",
        "started=false",
        "started is false",
    ]) {
        let mut bench = Bench::new(kind, policy, false);
        bench.start();
        return Ok((bench, |bench| bench.probe(Sample::Pass)));
    }
    if says(&["running", "prob", "container ok", "success"]) {
        return Ok(if says(&["fail", "unhealthy"]) {
            (running(), |bench| bench.probe(Sample::Fail))
        } else {
            (running(), |bench| bench.probe(Sample::Pass))
        });
    }
    Err(Complaint::Unreadable(format!("situation {words:?}")))
}

/// Compares a table of defaults with ours. What it says beyond numbers is for people.
fn same_table(row: &Value, ours: &Value) -> Result<(), Complaint> {
    let Value::Object(expected) = row else {
        return Err(Complaint::Unreadable("not a table".to_owned()));
    };
    for (key, expected) in expected {
        if let Some(ours) = ours.get(key) {
            let numbers = (expected.as_f64(), ours.as_f64());
            if !matches!(numbers, (Some(a), Some(b)) if a == b) {
                same(&(key, expected), &(key, ours))?;
            }
        } else if expected.is_number() && !key.contains("Before") {
            return Err(Complaint::Unreadable(format!("default {key:?}")));
        }
    }
    Ok(())
}

fn probe_defaults(row: &Value) -> Result<(), Complaint> {
    for policy in [ProbePolicy::default(), ProbePolicy::from(&Probe::default())] {
        same_table(
            row,
            &json!({
                "initialDelaySeconds": policy.initial_delay.as_secs(),
                "timeoutSeconds": policy.timeout.as_secs(),
                "periodSeconds": policy.period.as_secs(),
                "successThreshold": policy.success_threshold,
                "failureThreshold": policy.failure_threshold,
            }),
        )?;
    }
    Ok(())
}

fn crash_loop(row: &Value) -> Result<(), Complaint> {
    let policy = BackoffPolicy::default();
    same(&Duration::ZERO, &policy.delay(0))?;
    let delays: Vec<u64> = match &row["delaysForConsecutiveRestarts"] {
        Value::Array(delays) => {
            let restarts = 1..=u32::try_from(delays.len()).unwrap_or(u32::MAX);
            restarts
                .map(|restarts| policy.delay(restarts).as_secs())
                .collect()
        }
        _ => Vec::new(),
    };
    same_table(
        row,
        &json!({
            "initialSeconds": policy.delay(1).as_secs(),
            "factor": policy.delay(2).as_secs() / policy.delay(1).as_secs(),
            "maxSeconds": policy.delay(u32::MAX).as_secs(),
            "resetAfterCleanRunSeconds": policy.reset_after.as_secs(),
            "delaysForConsecutiveRestarts": delays,
        }),
    )
}

fn job_backoff(row: &Value) -> Result<(), Complaint> {
    let policy = BackoffPolicy::JOB;
    same_table(
        row,
        &json!({
            "initialSeconds": policy.delay(0).as_secs(),
            "factor": policy.delay(1).as_secs() / policy.delay(0).as_secs(),
            "maxSeconds": policy.delay(u32::MAX).as_secs(),
            "backoffLimitDefault": BackoffPolicy::JOB_LIMIT,
        }),
    )
}

fn zone_state(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        ready: u32,
        not_ready: u32,
        unhealthy_threshold: Option<f64>,
        expect: String,
    }
    let row: Row = read(row)?;
    let mut policy = ZonePolicy::default();
    if let Some(threshold) = row.unhealthy_threshold {
        policy.unhealthy_permille = (threshold * 1_000.0).round() as u32;
    }
    let state = policy.state(ZoneNodes {
        ready: row.ready,
        not_ready: row.not_ready,
    });
    same(&row.expect, &format!("{state:?}"))
}

fn node_defaults(row: &Value) -> Result<(), Complaint> {
    let (nodes, zones) = (NodePolicy::default(), ZonePolicy::default());
    let per_second = |interval: Duration| 1.0 / interval.as_secs_f64();
    same_table(
        row,
        &json!({
            "nodeStatusUpdateFrequencySeconds": nodes.heartbeat_interval.as_secs(),
            "nodeLeaseDurationSeconds": nodes.lease.as_secs(),
            "nodeLeaseRenewIntervalSeconds": nodes.heartbeat_interval.as_secs(),
            "nodeMonitorPeriodSeconds": nodes.monitor_interval.as_secs(),
            "nodeMonitorGracePeriodSeconds": nodes.grace.as_secs(),
            "nodeStartupGracePeriodSeconds": nodes.startup_grace.as_secs(),
            "defaultNotReadyTolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            "defaultUnreachableTolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            "nodeEvictionRatePerSecond": per_second(zones.interval),
            "secondaryNodeEvictionRatePerSecond": per_second(zones.secondary_interval),
            "largeClusterSizeThreshold": zones.large_zone_nodes,
            "unhealthyZoneThreshold": f64::from(zones.unhealthy_permille) / 1_000.0,
        }),
    )
}

fn disruption_budget(row: &Value) -> Result<(), Complaint> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        expected_pods: u32,
        current_healthy: u32,
        min_available: Option<IntOrPercent>,
        max_unavailable: Option<IntOrPercent>,
        expect: Expected,
    }
    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", default)]
    struct Expected {
        desired_healthy: Option<u32>,
        disruptions_allowed: Option<u32>,
    }
    let row: Row = read(row)?;
    let budget = PodDisruptionBudgetSpec {
        min_available: row.min_available,
        max_unavailable: row.max_unavailable,
        ..PodDisruptionBudgetSpec::default()
    };
    let state = budget::state(&budget, row.expected_pods, row.current_healthy);
    let got = Expected {
        desired_healthy: row.expect.desired_healthy.map(|_| state.desired_healthy),
        disruptions_allowed: row
            .expect
            .disruptions_allowed
            .map(|_| state.disruptions_allowed),
    };
    same(&row.expect, &got)
}
