//! From single probes to the health of a container: thresholds, gates and holds.
//!
//! No clock and no I/O: ask [`poll_timeout`](HealthTracker::poll_timeout) when to come back, take
//! the probes that are due with [`poll_probe`](HealthTracker::poll_probe), and report what came of
//! them with [`handle_result`](HealthTracker::handle_result).

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
mod tests {
    use orchestra_core::port::probe::ProbeErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn all() -> HealthPolicy {
        let probe = ProbePolicy::default();
        HealthPolicy {
            startup: Some(ProbePolicy {
                period: Duration::from_secs(2),
                ..probe
            }),
            liveness: Some(ProbePolicy {
                initial_delay: Duration::from_secs(5),
                ..probe
            }),
            readiness: Some(ProbePolicy {
                period: Duration::from_secs(1),
                ..probe
            }),
        }
    }

    /// Runs the probes due at that second, all with the same outcome.
    fn probe(tracker: &mut HealthTracker, second: i64, sample: Sample) -> Vec<ProbeKind> {
        let mut ran = Vec::new();
        while let Some(ticket) = tracker.poll_probe(at(second)) {
            ran.push(ticket.kind);
            tracker.handle_result(ticket, sample, at(second));
        }
        ran
    }

    use ProbeKind::{Liveness, Readiness, Startup};

    #[test]
    fn startup_gates_the_others_which_then_run_at_their_own_pace() {
        let mut tracker = HealthTracker::new(all());
        assert_eq!(tracker.poll_timeout(), None);
        tracker.handle_started(at(0));
        assert_eq!(probe(&mut tracker, 0, Sample::Fail), [Startup]);
        assert_eq!(tracker.poll_timeout(), Some(at(2)));
        assert_eq!(probe(&mut tracker, 1, Sample::Pass), []);
        // With its success readiness is due at once, liveness after its initial delay.
        assert_eq!(probe(&mut tracker, 2, Sample::Pass), [Startup, Readiness]);
        assert_eq!(
            tracker.health(),
            Health {
                started: true,
                ready: true,
                restart: None
            }
        );
        assert_eq!(probe(&mut tracker, 3, Sample::Pass), [Readiness]);
        assert_eq!(probe(&mut tracker, 5, Sample::Pass), [Readiness, Liveness]);
        assert_eq!(probe(&mut tracker, 14, Sample::Pass), [Readiness]);
        assert_eq!(probe(&mut tracker, 15, Sample::Pass), [Liveness, Readiness]);
    }

    #[test]
    fn liveness_asks_for_a_restart_once_and_holds_until_it_happened() {
        let policy = HealthPolicy {
            liveness: Some(ProbePolicy::default()),
            ..Default::default()
        };
        let mut tracker = HealthTracker::new(policy);
        tracker.handle_started(at(0));
        assert!(
            tracker.health().ready,
            "no readiness probe: ready once started"
        );
        for second in [0, 10, 20] {
            assert_eq!(tracker.health().restart, None);
            assert_eq!(probe(&mut tracker, second, Sample::Fail), [Liveness]);
        }
        assert_eq!(tracker.health().restart, Some(Liveness));
        assert!(tracker.on_hold(Liveness));
        assert_eq!(tracker.poll_timeout(), None);
        assert_eq!(
            tracker.handle_stopped(true).map(|health| health.restart),
            Some(None)
        );
        tracker.handle_started(at(30));
        assert_eq!(tracker.result(Liveness), Some(ProbeResult::Success));
        assert_eq!(tracker.streak(Liveness), 0);
        assert_eq!(tracker.poll_timeout(), Some(at(30)));
    }

    #[test]
    fn a_late_result_of_an_earlier_life_is_nobodys() {
        let mut tracker = HealthTracker::new(all());
        tracker.handle_started(at(0));
        let late = tracker.poll_probe(at(0)).unwrap();
        tracker.handle_stopped(true);
        assert_eq!(tracker.handle_result(late, Sample::Pass, at(1)), None);
        tracker.handle_started(at(1));
        assert_eq!(tracker.handle_result(late, Sample::Pass, at(1)), None);
        assert_eq!(tracker.result(Startup), Some(ProbeResult::Unknown));
        assert_eq!(probe(&mut tracker, 1, Sample::Pass), [Startup, Readiness]);
    }

    #[test]
    fn a_probe_in_flight_is_not_run_twice() {
        let mut tracker = HealthTracker::new(all());
        tracker.handle_started(at(0));
        let ticket = tracker.poll_probe(at(0)).unwrap();
        assert_eq!(tracker.poll_probe(at(100)), None);
        assert_eq!(tracker.poll_timeout(), None);
        tracker.handle_result(ticket, Sample::Error, at(100));
        assert_eq!(tracker.result(Startup), Some(ProbeResult::Unknown));
        assert_eq!(
            tracker.poll_timeout(),
            Some(at(2)),
            "an error is no sample, the pace stays"
        );
    }

    #[test]
    fn deletion_ends_what_could_restart_and_a_stop_ends_readiness() {
        let mut tracker = HealthTracker::new(all());
        tracker.handle_started(at(0));
        probe(&mut tracker, 0, Sample::Pass);
        tracker.handle_deleted();
        assert!(!tracker.is_probing(Liveness) && !tracker.is_probing(Startup));
        assert!(tracker.is_probing(Readiness) && tracker.health().ready);
        assert_eq!(probe(&mut tracker, 1, Sample::Fail), [Readiness]);
        assert!(!tracker.handle_stopped(false).unwrap().ready);
        assert!(!tracker.is_probing(Readiness));
        assert_eq!(tracker.poll_timeout(), None);
    }

    #[test]
    fn an_ended_pod_is_not_probed_and_not_ready() {
        let mut tracker = HealthTracker::new(all());
        tracker.handle_started(at(0));
        probe(&mut tracker, 0, Sample::Pass);
        assert_eq!(tracker.handle_ended(), Some(Health::default()));
        assert_eq!(tracker.result(Readiness), Some(ProbeResult::Success));
        assert_eq!(tracker.poll_timeout(), None);
        assert!(
            ![Startup, Liveness, Readiness]
                .iter()
                .any(|kind| tracker.is_probing(*kind))
        );
    }

    #[test]
    fn a_probers_outcome_is_a_sample() {
        let pass = Ok(Verdict::Pass {
            took: Duration::ZERO,
        });
        let fail = Ok(Verdict::Fail {
            reason: "503".into(),
        });
        let error = Err(ProbeError::new(ProbeErrorKind::Exhausted, "probe"));
        assert_eq!(
            [&pass, &fail, &error].map(Sample::from),
            [Sample::Pass, Sample::Fail, Sample::Error]
        );
    }

    #[test]
    fn a_manifests_zeros_are_defaults() {
        assert_eq!(
            ProbePolicy::from(&Probe::tcp(80_u16)),
            ProbePolicy::default()
        );
        let probe = Probe::tcp(80_u16)
            .initial_delay(3)
            .period(4)
            .timeout(5)
            .failures(6);
        assert_eq!(
            ProbePolicy::from(&probe),
            ProbePolicy {
                initial_delay: Duration::from_secs(3),
                timeout: Duration::from_secs(5),
                period: Duration::from_secs(4),
                success_threshold: 1,
                failure_threshold: 6,
            }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The slow plain twin of the thresholds: look back over all samples.
        #[test]
        fn readiness_is_the_last_run_that_was_long_enough(
            samples in proptest::collection::vec(0_u8..3, 0..60),
            success in 1_usize..4,
            failure in 1_usize..4,
        ) {
            let policy = ProbePolicy {
                success_threshold: success as u32,
                failure_threshold: failure as u32,
                ..ProbePolicy::default()
            };
            let readiness = HealthPolicy { readiness: Some(policy), ..Default::default() };
            let mut tracker = HealthTracker::new(readiness);
            tracker.handle_started(at(0));
            let mut seen = Vec::new();
            for (n, sample) in samples.iter().enumerate() {
                let sample = [Sample::Pass, Sample::Fail, Sample::Error][usize::from(*sample)];
                probe(&mut tracker, 10 * n as i64, sample);
                if sample != Sample::Error {
                    seen.push(sample);
                }
                let run_ends_at = |end: usize, of: Sample, length: usize| {
                    end >= length && seen[end - length..end].iter().all(|s| *s == of)
                };
                let expected = (1..=seen.len()).rev().find_map(|end| {
                    let ready = run_ends_at(end, Sample::Pass, success);
                    (ready || run_ends_at(end, Sample::Fail, failure)).then_some(ready)
                });
                prop_assert_eq!(tracker.health().ready, expected.unwrap_or(false));
            }
        }

        /// The slow plain twin of passing ahead: run each probe when it is due.
        #[test]
        fn passing_ahead_is_passing_one_by_one(
            before in proptest::collection::vec(any::<bool>(), 0..12),
            looks in proptest::collection::vec(0_i64..50, 1..8),
            periods in (1_u64..9, 1_u64..9),
            delay in 0_u64..20,
            success in 0_u32..3,
            deleted in any::<bool>(),
        ) {
            let policy = |period| ProbePolicy {
                period: Duration::from_secs(period),
                success_threshold: success,
                ..ProbePolicy::default()
            };
            let liveness = ProbePolicy {
                initial_delay: Duration::from_secs(delay),
                success_threshold: 1,
                ..policy(periods.0)
            };
            let mut ahead = HealthTracker::new(HealthPolicy {
                startup: Some(policy(1)),
                liveness: Some(liveness),
                readiness: Some(policy(periods.1)),
            });
            ahead.handle_started(at(0));
            let mut now = 0;
            for passes in before {
                let sample = if passes { Sample::Pass } else { Sample::Fail };
                probe(&mut ahead, now, sample);
                now += 1;
            }
            if deleted {
                ahead.handle_deleted();
            }
            let mut plain = ahead.clone();
            for step in looks {
                let (steady, until) = (ahead.is_steady(), now + step);
                let skipped = ahead.pass_before(at(until));
                let mut ran = 0;
                while steady && let Some(due) = plain.poll_timeout().filter(|due| *due < at(until)) {
                    let ticket = plain.poll_probe(due).expect("it is due");
                    prop_assert_eq!(plain.handle_result(ticket, Sample::Pass, due), None);
                    ran += 1;
                }
                prop_assert_eq!(skipped, ran);
                prop_assert_eq!(format!("{ahead:?}"), format!("{plain:?}"));
                now = until;
                for tracker in [&mut ahead, &mut plain] {
                    probe(tracker, now, Sample::Pass);
                }
            }
        }
    }
}
