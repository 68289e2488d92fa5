//! From single probes to the health of a container: thresholds, gates and holds.
//!
//! No clock and no I/O: ask [`poll_timeout`](HealthTracker::poll_timeout) when to come back, take
//! the probes that are due with [`poll_probe`](HealthTracker::poll_probe), and report what came of
//! them with [`handle_result`](HealthTracker::handle_result).

use std::fmt;
use std::time::Duration;

use orchestra_core::kind::Probe;
use orchestra_core::kind::pod::Container;
use orchestra_core::port::probe::{ProbeError, Verdict};
use orchestra_core::time::Timestamp;

/// What a probe is asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProbeKind {
    /// Whether the container has started; until then the others wait. A failure restarts it.
    Startup,
    /// Whether it still works. A failure restarts it.
    Liveness,
    /// Whether it can serve. A failure takes the pod out of its services, and no more.
    Readiness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        })
    }
}

impl ProbeKind {
    /// What is taken for granted until the first results are in.
    pub const fn initial_result(self) -> ProbeResult {
        match self {
            Self::Startup => ProbeResult::Unknown,
            Self::Liveness => ProbeResult::Success,
            Self::Readiness => ProbeResult::Failure,
        }
    }
}

/// What a run of probes has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeResult {
    /// Too few results yet.
    Unknown,
    /// It is well.
    Success,
    /// It is not.
    Failure,
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sample {
    /// The target answered as hoped.
    Pass,
    /// It answered badly, or not in time.
    Fail,
    /// The prober could not look. Discarded.
    Error,
}

impl From<&Result<Verdict, ProbeError>> for Sample {
    fn from(outcome: &Result<Verdict, ProbeError>) -> Self {
        match outcome {
            Ok(Verdict::Pass { .. }) => Self::Pass,
            Ok(_) => Self::Fail,
            Err(_) => Self::Error,
        }
    }
}

/// How often one probe looks, and how many results count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProbePolicy {
    /// From the container's start to the first probe.
    pub initial_delay: Duration,
    /// How long one probe may take; the caller reports a longer one as [`Sample::Fail`].
    pub timeout: Duration,
    /// From one probe to the next.
    pub period: Duration,
    /// So many passes in a row make a success; 0 counts as 1.
    pub success_threshold: u32,
    /// So many failures in a row make a failure; 0 counts as 1.
    pub failure_threshold: u32,
}

impl Default for ProbePolicy {
    /// At once, 1 s, every 10 s; one pass, three failures.
    fn default() -> Self {
        Self {
            initial_delay: Duration::ZERO,
            timeout: Duration::from_secs(1),
            period: Duration::from_secs(10),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }
}

impl From<&Probe> for ProbePolicy {
    /// Numbers left at zero become their defaults.
    fn from(probe: &Probe) -> Self {
        let default = Self::default();
        let or = |count: u32, default: u32| if count == 0 { default } else { count };
        let seconds = |count: u32, default: Duration| match count {
            0 => default,
            count => Duration::from_secs(count.into()),
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, default.initial_delay),
            timeout: seconds(probe.timeout_seconds, default.timeout),
            period: seconds(probe.period_seconds, default.period),
            success_threshold: or(probe.success_threshold, default.success_threshold),
            failure_threshold: or(probe.failure_threshold, default.failure_threshold),
        }
    }
}

/// The probes of one container.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthPolicy {
    /// Whether it has started; without one it has as soon as it runs.
    pub startup: Option<ProbePolicy>,
    /// Whether it works; without one it does as long as it runs.
    pub liveness: Option<ProbePolicy>,
    /// Whether it can serve; without one it can once it has started.
    pub readiness: Option<ProbePolicy>,
}

impl From<&Container> for HealthPolicy {
    fn from(container: &Container) -> Self {
        let policy = |probe: &Option<Box<Probe>>| probe.as_deref().map(ProbePolicy::from);
        Self {
            startup: policy(&container.startup_probe),
            liveness: policy(&container.liveness_probe),
            readiness: policy(&container.readiness_probe),
        }
    }
}

/// How a container is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health {
    /// It runs and has started.
    pub started: bool,
    /// It runs, has started, and can serve.
    pub ready: bool,
    /// It must be restarted, for this probe's sake. Stands until it was.
    pub restart: Option<ProbeKind>,
}

/// A probe to run now. Hand it back with its result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// Which probe.
    pub kind: ProbeKind,
    /// How long it may take.
    pub timeout: Duration,
    life: u64,
}

/// Follows one container.
///
/// ```
/// use std::time::Duration;
/// use orchestra_core::time::Timestamp;
/// use orchestra_sched::health::tracker::{HealthPolicy, HealthTracker, ProbePolicy, Sample};
///
/// let policy = HealthPolicy { readiness: Some(ProbePolicy::default()), ..Default::default() };
/// let mut tracker = HealthTracker::new(policy);
/// let now = Timestamp::EPOCH;
/// tracker.handle_started(now);
/// assert!(!tracker.health().ready);
///
/// let ticket = tracker.poll_probe(now).expect("due at once");
/// let changed = tracker.handle_result(ticket, Sample::Pass, now);
/// assert!(changed.is_some_and(|health| health.ready));
/// assert_eq!(tracker.poll_timeout(), Some(now + Duration::from_secs(10)));
/// ```
#[derive(Clone, Debug)]
pub struct HealthTracker {
    // In the order of `ProbeKind`, which is the order in which probes due at once are taken.
    probes: Vec<Machine>,
    running: bool,
    restart: Option<ProbeKind>,
    life: u64,
}

impl HealthTracker {
    /// A container that does not run yet.
    pub fn new(policy: HealthPolicy) -> Self {
        let machine =
            |kind, policy: Option<ProbePolicy>| policy.map(|policy| Machine::new(kind, policy));
        let probes = [
            machine(ProbeKind::Startup, policy.startup),
            machine(ProbeKind::Liveness, policy.liveness),
            machine(ProbeKind::Readiness, policy.readiness),
        ];
        Self {
            probes: probes.into_iter().flatten().collect(),
            running: false,
            restart: None,
            life: 0,
        }
    }

    /// When the next probe is due; it may lie in the past. `None` while there is nothing to
    /// probe, or all that could be is being probed.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.eligible().map(|probe| probe.due).min()
    }

    /// A probe that is due, and now counts as being run. Call until `None`.
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<Ticket> {
        let kind = self
            .eligible()
            .filter(|probe| probe.due <= now)
            .map(|p| (p.due, p.kind))
            .min();
        let life = self.life;
        let probe = self.machine_mut(kind?.1)?;
        probe.in_flight = true;
        // At a fixed rate from the first probe on; what was missed is not made up for.
        let next = probe.due + probe.policy.period;
        probe.due = if next > now {
            next
        } else {
            now + probe.policy.period
        };
        Some(Ticket {
            kind: probe.kind,
            timeout: probe.policy.timeout,
            life,
        })
    }

    /// Takes what came of a probe. Returns the container's health if that changed. Results of an
    /// earlier life of the container, or of a container that does not run, change nothing.
    pub fn handle_result(
        &mut self,
        ticket: Ticket,
        sample: Sample,
        now: Timestamp,
    ) -> Option<Health> {
        if ticket.life != self.life {
            return None;
        }
        let before = self.health();
        let running = self.running;
        let probe = self.machine_mut(ticket.kind)?;
        if !std::mem::take(&mut probe.in_flight) || !running {
            return None;
        }
        if probe.handle(sample) && ticket.kind != ProbeKind::Readiness {
            self.restart = self.restart.or(Some(ticket.kind));
        }
        if !before.started && self.health().started {
            for probe in &mut self.probes {
                probe.due = probe.due.max(now);
            }
        }
        self.changed_from(before)
    }

    /// Whether further passes would change nothing: it runs, no probe is in flight, and each that
    /// may run has come to a success by samples of its own. Who knows that all probes up to an
    /// instant will pass need not run them: see [`pass_before`](Self::pass_before).
    pub fn is_steady(&self) -> bool {
        self.running
            && self.restart.is_none()
            && self.probes.iter().all(|probe| !probe.in_flight)
            && self.eligible().all(Machine::is_steady)
    }

    /// Every probe that was due before `now` was run when it was due, and passed at once. Returns
    /// how many that were. Changes nothing unless it [is steady](Self::is_steady).
    pub fn pass_before(&mut self, now: Timestamp) -> u64 {
        if !self.is_steady() {
            return 0;
        }
        let started = self.health().started;
        let may_run = |probe: &&mut Machine| {
            (started || probe.kind == ProbeKind::Startup) && !probe.finished && !probe.on_hold
        };
        let probes = self.probes.iter_mut().filter(may_run);
        probes.map(|probe| probe.pass_before(now)).sum()
    }

    /// The container runs, for the first time or again: everything starts anew. Returns its
    /// health if that changed.
    pub fn handle_started(&mut self, now: Timestamp) -> Option<Health> {
        let before = self.health();
        self.life += 1;
        self.running = true;
        self.restart = None;
        for probe in self.probes.iter_mut().filter(|probe| !probe.finished) {
            *probe = Machine::new(probe.kind, probe.policy);
            probe.due = now + probe.policy.initial_delay;
        }
        self.changed_from(before)
    }

    /// The container does not run any more, or cannot start yet: a failure of every probe. If it
    /// will not run again, nothing is probed any more. Returns its health if that changed.
    pub fn handle_stopped(&mut self, runs_again: bool) -> Option<Health> {
        let before = self.health();
        self.running = false;
        self.restart = None;
        for probe in self.probes.iter_mut().filter(|probe| !probe.finished) {
            probe.in_flight = false;
            probe.result = ProbeResult::Failure;
            probe.finished = !runs_again;
        }
        self.changed_from(before)
    }

    /// The pod has come to its end: nothing is probed any more, and what the probes had come to
    /// stays. Returns the health if that changed.
    pub fn handle_ended(&mut self) -> Option<Health> {
        let before = self.health();
        self.running = false;
        self.restart = None;
        for probe in &mut self.probes {
            probe.in_flight = false;
            probe.finished = true;
        }
        self.changed_from(before)
    }

    /// The pod is being deleted: startup and liveness end with a success, so that nothing is
    /// restarted any more; readiness goes on. Returns the health if that changed.
    pub fn handle_deleted(&mut self) -> Option<Health> {
        let before = self.health();
        self.restart = None;
        for probe in &mut self.probes {
            if probe.kind != ProbeKind::Readiness {
                probe.result = ProbeResult::Success;
                probe.finished = true;
            }
        }
        self.changed_from(before)
    }

    /// How the container is.
    pub fn health(&self) -> Health {
        let passes = |kind| {
            self.result(kind)
                .is_none_or(|result| result == ProbeResult::Success)
        };
        let started = self.running && passes(ProbeKind::Startup);
        Health {
            started,
            ready: started && passes(ProbeKind::Readiness),
            restart: self.restart,
        }
    }

    /// What that probe has come to; `None` if the container has no such probe.
    pub fn result(&self, kind: ProbeKind) -> Option<ProbeResult> {
        self.machine(kind).map(|probe| probe.result)
    }

    /// How many results in a row were the same, since the last restart that was asked for.
    pub fn streak(&self, kind: ProbeKind) -> u32 {
        self.machine(kind).map_or(0, |probe| probe.run)
    }

    /// Whether that probe rests until the container was started anew: it has asked for that, or
    /// the container has started and it was the startup probe.
    pub fn on_hold(&self, kind: ProbeKind) -> bool {
        self.machine(kind).is_some_and(|probe| probe.on_hold)
    }

    /// Whether that probe may ever run again. False if there is none, the pod is being deleted
    /// (but for readiness), or the container has ended for good.
    pub fn is_probing(&self, kind: ProbeKind) -> bool {
        self.machine(kind).is_some_and(|probe| !probe.finished)
    }

    fn eligible(&self) -> impl Iterator<Item = &Machine> {
        let health = self.health();
        self.probes.iter().filter(move |probe| {
            let gate_open = probe.kind == ProbeKind::Startup || health.started;
            self.running && gate_open && !probe.finished && !probe.on_hold && !probe.in_flight
        })
    }

    fn machine(&self, kind: ProbeKind) -> Option<&Machine> {
        self.probes.iter().find(|probe| probe.kind == kind)
    }

    fn machine_mut(&mut self, kind: ProbeKind) -> Option<&mut Machine> {
        self.probes.iter_mut().find(|probe| probe.kind == kind)
    }

    fn changed_from(&self, before: Health) -> Option<Health> {
        let health = self.health();
        (health != before).then_some(health)
    }
}

/// One probe of one container.
#[derive(Clone, Debug)]
struct Machine {
    kind: ProbeKind,
    policy: ProbePolicy,
    result: ProbeResult,
    /// What the last sample said, and how often in a row.
    last: Option<Sample>,
    run: u32,
    due: Timestamp,
    in_flight: bool,
    on_hold: bool,
    finished: bool,
}

impl Machine {
    fn new(kind: ProbeKind, policy: ProbePolicy) -> Self {
        Self {
            kind,
            policy,
            result: kind.initial_result(),
            last: None,
            run: 0,
            due: Timestamp::EPOCH,
            in_flight: false,
            on_hold: false,
            finished: false,
        }
    }

    fn is_steady(&self) -> bool {
        self.result == ProbeResult::Success
            && self.last == Some(Sample::Pass)
            && self.run >= self.policy.success_threshold
            && !self.policy.period.is_zero()
    }

    fn pass_before(&mut self, now: Timestamp) -> u64 {
        let (late, period) = (
            now.since(self.due).as_micros(),
            self.policy.period.as_micros(),
        );
        if self.due >= now || period == 0 {
            return 0;
        }
        // The first at `due`, the others a period apart, the last before `now`.
        let count = late.div_ceil(period);
        let span = count.saturating_mul(period);
        self.due = self.due + Duration::from_micros(u64::try_from(span).unwrap_or(u64::MAX));
        let passed = u32::try_from(count).unwrap_or(u32::MAX);
        self.run = self.run.saturating_add(passed);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Counts a sample; returns whether the probe has failed now.
    fn handle(&mut self, sample: Sample) -> bool {
        if self.finished || self.on_hold || sample == Sample::Error {
            return false;
        }
        if self.last == Some(sample) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(sample);
            self.run = 1;
        }
        let (threshold, result) = match sample {
            Sample::Pass => (self.policy.success_threshold, ProbeResult::Success),
            _ => (self.policy.failure_threshold, ProbeResult::Failure),
        };
        if self.run < threshold {
            return false;
        }
        self.result = result;
        let failed = result == ProbeResult::Failure;
        if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && failed) {
            self.on_hold = true;
            self.run = 0;
        }
        failed
    }
}

#[cfg(test)]
mod tests;
