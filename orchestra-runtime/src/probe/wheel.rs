//! One wheel that turns all probes of a process.
//!
//! One task holds the tracker of every container and one timer per container; a task of its own
//! lives only as long as one probe is in flight, and of these there is a bounded number. What is
//! due while all are busy waits its turn. Nothing is spread by chance: a container's first probe
//! is due exactly after its initial delay, and the bound evens out what is due at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::probe::{ProbeError, ProbeTarget, Prober, Verdict};
use orchestra_core::time::Timestamp;
use orchestra_sched::health::tracker::{Health, HealthTracker, ProbeKind, Sample, Ticket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::foresight::Foresight;
use super::health::{ContainerState, Entry, Shared, WheelHandle, Wish, lock};

/// The longest that a timer is set ahead; what is due later is looked at again then.
const TIMER_MAX: Duration = Duration::from_hours(24);

/// How much of a failure's reason is kept, in characters.
const REASON_CHARS_MAX: usize = 1_024;

/// The bounds of a wheel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WheelLimits {
    /// Probes in flight at once; further ones wait their turn. 256 by default.
    pub in_flight_max: usize,
}

impl Default for WheelLimits {
    fn default() -> Self {
        Self { in_flight_max: 256 }
    }
}

/// Turns the probes of many containers. Give it containers through its
/// [`handle`](Self::handle), and let it [`run`](Self::run).
#[derive(Debug)]
pub struct ProbeWheel {
    prober: Arc<dyn Prober>,
    clock: Arc<dyn Clock>,
    foresight: Option<Ahead>,
    limits: WheelLimits,
    shared: Arc<Shared>,
    slots: BTreeMap<u64, Slot>,
    timers: DelayQueue<u64>,
    /// Containers with probes that are due, each once.
    due: VecDeque<u64>,
    in_flight: JoinSet<Result<Verdict, ProbeError>>,
    /// Whose probe a task runs.
    whose: HashMap<Id, (u64, Ticket)>,
}

/// What is known ahead, and whether it still holds.
#[derive(Debug)]
struct Ahead {
    known: Arc<dyn Foresight>,
    changes: watch::Receiver<u64>,
}

/// One container on the wheel.
#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    tracker: HealthTracker,
    target: ProbeTarget,
    attempt: Option<u32>,
    timer: Option<delay_queue::Key>,
    /// Its probes are known to pass for a while: they are counted later, and not run.
    passes: bool,
    /// It is in `ProbeWheel::due`.
    is_due: bool,
    /// Its probes in flight, at most one a kind.
    flying: Vec<(ProbeKind, AbortHandle)>,
    /// The last failure of each kind that has not passed since.
    failures: BTreeMap<ProbeKind, String>,
}

impl ProbeWheel {
    /// A wheel without containers, which looks through `prober`. `clock` and tokio's clock must
    /// go at the same pace.
    pub fn new(prober: Arc<dyn Prober>, clock: Arc<dyn Clock>, limits: WheelLimits) -> Self {
        Self {
            prober,
            clock,
            foresight: None,
            limits,
            shared: Arc::default(),
            slots: BTreeMap::new(),
            timers: DelayQueue::new(),
            due: VecDeque::new(),
            in_flight: JoinSet::new(),
            whose: HashMap::new(),
        }
    }

    /// Does not run the probes that `known` knows to pass, but counts them.
    #[must_use]
    pub fn foreseeing(mut self, known: Arc<dyn Foresight>) -> Self {
        let changes = known.changes();
        self.foresight = Some(Ahead { known, changes });
        self
    }

    /// Gives containers to this wheel.
    pub fn handle(&self) -> WheelHandle {
        WheelHandle(Arc::clone(&self.shared))
    }

    /// Turns until cancelled. No probe is in flight when it returns.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = self.shared.wake.notified() => {}
                () = voided(&mut self.foresight) => self.look_again(),
                Some(done) = self.in_flight.join_next_with_id() => self.take_result(done),
                Some(number) = poll_fn(|cx| self.timers.poll_expired(cx)) => {
                    if let Some(slot) = self.slots.get_mut(number.get_ref()) {
                        slot.timer = None;
                    }
                    self.schedule(number.into_inner());
                }
            }
            self.take_wishes();
            self.begin_due();
            self.shared
                .in_flight
                .store(self.in_flight.len(), Ordering::Relaxed);
        }
        self.in_flight.shutdown().await;
        self.shared.in_flight.store(0, Ordering::Relaxed);
    }

    /// Learns what happened to containers since the last look.
    fn take_wishes(&mut self) {
        let dirty = std::mem::take(&mut *lock(&self.shared.dirty));
        for entry in dirty {
            // First open the way for the next wish, then look: none is left lying.
            entry.queued.store(false, Ordering::SeqCst);
            let wishes = std::mem::take(&mut *lock(&entry.wishes));
            let number = entry.number;
            self.catch_up(number);
            for wish in wishes {
                self.take_wish(&entry, wish);
            }
            self.schedule(number);
        }
    }

    fn take_wish(&mut self, entry: &Arc<Entry>, wish: Wish) {
        if wish == Wish::Forgotten {
            if let Some(mut slot) = self.slots.remove(&entry.number) {
                slot.abort();
                slot.timer.map(|timer| self.timers.remove(&timer));
            }
            return;
        }
        let slot = self
            .slots
            .entry(entry.number)
            .or_insert_with(|| Slot::new(entry));
        match wish {
            Wish::Started { address, attempt } => {
                if slot.attempt == Some(attempt) && slot.target.address == address {
                    return;
                }
                slot.abort();
                slot.failures.clear();
                (slot.attempt, slot.target.address) = (Some(attempt), address);
                slot.tracker.handle_started(self.clock.now());
            }
            Wish::Stopped => {
                slot.abort();
                slot.attempt = None;
                slot.tracker.handle_stopped(true);
            }
            Wish::Deleted => {
                slot.tracker.handle_deleted();
            }
            Wish::Forgotten => {}
        }
        slot.publish();
    }

    /// Puts a container where its next probe wants it: among what is due, or on a timer.
    fn schedule(&mut self, number: u64) {
        self.catch_up(number);
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        if let Some(timer) = slot.timer.take() {
            self.timers.remove(&timer);
        }
        let Some(mut at) = slot.tracker.poll_timeout() else {
            return;
        };
        let now = self.clock.now();
        if at > now
            && slot.tracker.is_steady()
            && let Some(ahead) = &self.foresight
            && let Some(until) = ahead.known.passes_until(&slot.target)
            && until > at
        {
            slot.passes = true;
            if until == Timestamp::MAX {
                return;
            }
            at = until;
        }
        if at > now {
            slot.timer = Some(self.timers.insert(number, at.since(now).min(TIMER_MAX)));
        } else if !std::mem::replace(&mut slot.is_due, true) {
            self.due.push_back(number);
        }
    }

    /// Counts the probes of a container that were not run because they were known to pass.
    fn catch_up(&mut self, number: u64) {
        let slot = self.slots.get_mut(&number);
        if let Some(slot) = slot.filter(|slot| slot.passes) {
            slot.passes = false;
            let passed = slot.tracker.pass_before(self.clock.now());
            self.shared.begun.fetch_add(passed, Ordering::Relaxed);
        }
    }

    /// What was known ahead may not hold any more.
    fn look_again(&mut self) {
        let passing = self.slots.iter().filter(|(_, slot)| slot.passes);
        let passing: Vec<u64> = passing.map(|(number, _)| *number).collect();
        for number in passing {
            self.schedule(number);
        }
    }

    /// Begins what is due, one probe of each container in turn, as far as there is room.
    fn begin_due(&mut self) {
        while self.in_flight.len() < self.limits.in_flight_max.max(1)
            && let Some(number) = self.due.pop_front()
        {
            let Some(slot) = self.slots.get_mut(&number) else {
                continue;
            };
            slot.is_due = false;
            if let Some(ticket) = slot.tracker.poll_probe(self.clock.now())
                && let Some(spec) = slot.entry.probes.spec(ticket.kind)
            {
                let (prober, target) = (Arc::clone(&self.prober), slot.target.clone());
                let (spec, shared) = (spec.clone(), Arc::clone(&self.shared));
                let task = self.in_flight.spawn(async move {
                    match timeout(ticket.timeout, prober.probe(&target, &spec)).await {
                        Ok(outcome) => outcome,
                        Err(_) => {
                            shared.timed_out.fetch_add(1, Ordering::Relaxed);
                            let reason = format!("no answer within {:?}", ticket.timeout);
                            Ok(Verdict::Fail { reason })
                        }
                    }
                });
                self.shared.begun.fetch_add(1, Ordering::Relaxed);
                self.whose.insert(task.id(), (number, ticket));
                slot.flying.push((ticket.kind, task));
            }
            self.schedule(number);
        }
    }

    fn take_result(&mut self, done: Result<(Id, Result<Verdict, ProbeError>), JoinError>) {
        let (id, sample, failure) = match done {
            Ok((id, outcome)) => {
                if let Err(error) = &outcome {
                    self.shared.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!("a probe could not look: {}", report(error));
                }
                let failure = match &outcome {
                    Ok(Verdict::Fail { reason }) => Some(reason.as_str()),
                    _ => None,
                };
                let failure = failure.map(|text| text.chars().take(REASON_CHARS_MAX).collect());
                (id, Sample::from(&outcome), failure)
            }
            Err(error) => {
                if error.is_panic() {
                    self.shared.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "a prober panicked");
                }
                (error.id(), Sample::Error, None)
            }
        };
        let Some((number, ticket)) = self.whose.remove(&id) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&number) else {
            return;
        };
        let before = slot.flying.len();
        slot.flying.retain(|(_, task)| task.id() != id);
        if slot.flying.len() == before {
            return; // it was aborted: a result of an earlier life
        }
        match sample {
            Sample::Pass => drop(slot.failures.remove(&ticket.kind)),
            Sample::Fail => drop(
                slot.failures
                    .insert(ticket.kind, failure.unwrap_or_default()),
            ),
            Sample::Error => {}
        }
        slot.tracker.handle_result(ticket, sample, self.clock.now());
        slot.publish();
        self.schedule(number);
    }
}

impl Slot {
    fn new(entry: &Arc<Entry>) -> Self {
        Self {
            entry: Arc::clone(entry),
            tracker: HealthTracker::new(entry.probes.policy()),
            target: ProbeTarget {
                workload: entry.workload.clone(),
                address: None,
            },
            attempt: None,
            timer: None,
            passes: false,
            is_due: false,
            flying: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Ends its probes in flight.
    fn abort(&mut self) {
        self.flying.drain(..).for_each(|(_, task)| task.abort());
    }

    fn publish(&self) {
        let health = self.tracker.health();
        let state = ContainerState {
            attempt: self.attempt,
            reason: self.reason(health),
            health,
        };
        self.entry.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    fn reason(&self, health: Health) -> String {
        let wanted = match health.restart {
            Some(kind) => kind,
            None if !health.started => ProbeKind::Startup,
            None if !health.ready => ProbeKind::Readiness,
            None => return String::new(),
        };
        self.failures.get(&wanted).cloned().unwrap_or_default()
    }
}

/// Waits until what is known ahead may not hold any more; for ever if nothing is.
async fn voided(ahead: &mut Option<Ahead>) {
    let Some(Ahead { changes, .. }) = ahead else {
        return std::future::pending().await;
    };
    if changes.changed().await.is_err() {
        // Nobody will ever know better.
        *ahead = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use async_trait::async_trait;
    use orchestra_core::meta::Uid;
    use orchestra_core::port::driver::WorkloadId;
    use orchestra_core::port::probe::{ProbeErrorKind, ProbeSpec};
    use orchestra_sched::health::tracker::ProbePolicy;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, sleep};

    use crate::clock::TokioClock;
    use crate::probe::{ContainerHealth, WatchedProbe, WatchedProbes};

    /// What the target does at a probe: of the first, the second, … ; the last one stays.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Pass,
        Fail,
        Hang,
        Error,
        Panic,
        /// Passes after so many seconds.
        Slow(u64),
    }

    const STARTUP: u16 = 1;
    const LIVENESS: u16 = 2;
    const READINESS: u16 = 3;

    /// Acts by a script for each port, and writes down when it was asked.
    #[derive(Debug)]
    struct Scripted {
        began: Instant,
        scripts: Mutex<BTreeMap<u16, Vec<Act>>>,
        asked: Mutex<Vec<(u16, u64)>>,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Scripted {
        fn new<const N: usize>(scripts: [(u16, &[Act]); N]) -> Arc<Self> {
            let scripts = scripts.map(|(port, acts)| (port, acts.to_vec()));
            Arc::new(Self {
                began: Instant::now(),
                scripts: Mutex::new(scripts.into()),
                asked: Mutex::default(),
                now: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            })
        }

        /// Seconds at which that port was asked.
        fn asked(&self, port: u16) -> Vec<u64> {
            let asked = lock(&self.asked);
            asked
                .iter()
                .filter(|(p, _)| *p == port)
                .map(|(_, at)| *at)
                .collect()
        }
    }

    struct Here<'a>(&'a AtomicUsize);

    impl Drop for Here<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[async_trait]
    impl Prober for Scripted {
        async fn probe(&self, _: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
            let ProbeSpec::Tcp { port, .. } = spec else {
                panic!("only TCP is scripted")
            };
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            let _here = Here(&self.now);
            self.most.fetch_max(now, Ordering::Relaxed);
            lock(&self.asked).push((*port, self.began.elapsed().as_secs()));
            let act = {
                let mut scripts = lock(&self.scripts);
                let script = scripts.get_mut(port).unwrap();
                if script.len() > 1 {
                    script.remove(0)
                } else {
                    script[0]
                }
            };
            match act {
                Act::Pass => {}
                Act::Slow(seconds) => sleep(Duration::from_secs(seconds)).await,
                Act::Fail => {
                    return Ok(Verdict::Fail {
                        reason: format!("port {port} is sick"),
                    });
                }
                Act::Hang => std::future::pending().await,
                Act::Error => return Err(ProbeError::new(ProbeErrorKind::Exhausted, "probe")),
                Act::Panic => panic!("a prober's own fault"),
            }
            Ok(Verdict::Pass {
                took: Duration::ZERO,
            })
        }
    }

    struct Bed {
        prober: Arc<Scripted>,
        wheel: WheelHandle,
        cancel: CancellationToken,
        task: JoinHandle<()>,
    }

    fn bed<const N: usize>(in_flight_max: usize, scripts: [(u16, &[Act]); N]) -> Bed {
        let prober = Scripted::new(scripts);
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let wheel = ProbeWheel::new(
            Arc::clone(&prober) as _,
            clock,
            WheelLimits { in_flight_max },
        );
        let (handle, cancel) = (wheel.handle(), CancellationToken::new());
        let task = tokio::spawn(wheel.run(cancel.clone()));
        Bed {
            prober,
            wheel: handle,
            cancel,
            task,
        }
    }

    fn probe(port: u16, period: u64, failures: u32) -> Option<WatchedProbe> {
        let policy = ProbePolicy {
            period: Duration::from_secs(period),
            failure_threshold: failures,
            ..Default::default()
        };
        Some(WatchedProbe {
            spec: ProbeSpec::Tcp { host: None, port },
            policy,
        })
    }

    fn watch(bed: &Bed, probes: WatchedProbes) -> ContainerHealth {
        bed.wheel.watch(
            WorkloadId {
                pod: Uid(1),
                container: "main".into(),
            },
            probes,
        )
    }

    /// Lets time pass until shortly after that second.
    async fn until(bed: &Bed, second: u64) {
        let at = bed.prober.began + Duration::from_secs(second) + Duration::from_millis(20);
        tokio::time::sleep_until(at).await;
    }

    #[tokio::test(start_paused = true)]
    async fn startup_gates_the_others_and_readiness_follows_the_target() {
        use Act::{Fail, Pass};
        let bed = bed(
            8,
            [
                (STARTUP, &[Fail, Pass]),
                (LIVENESS, &[Pass]),
                (READINESS, &[Fail, Pass, Fail, Pass]),
            ],
        );
        let health = watch(
            &bed,
            WatchedProbes {
                startup: probe(STARTUP, 5, 3),
                liveness: probe(LIVENESS, 10, 3),
                readiness: probe(READINESS, 10, 1),
            },
        );
        until(&bed, 3).await;
        assert_eq!(
            bed.wheel.stats().begun,
            0,
            "nothing is probed before it runs"
        );
        health.on_started(None, 0);
        until(&bed, 4).await;
        let state = health.state();
        assert_eq!((state.attempt, state.health.started), (Some(0), false));
        assert_eq!(state.reason, "port 1 is sick");
        until(&bed, 9).await;
        let state = health.state();
        assert!(state.health.started && !state.health.ready);
        assert_eq!(state.reason, "port 3 is sick");
        let mut ready = Vec::new();
        for second in [19, 29, 39] {
            until(&bed, second).await;
            ready.push(health.state().health.ready);
        }
        assert_eq!(ready, [true, false, true]);
        assert_eq!(
            bed.prober.asked(STARTUP),
            [3, 8],
            "once started it is not asked again"
        );
        assert_eq!(bed.prober.asked(LIVENESS), [8, 18, 28, 38]);
        assert_eq!(health.state().health.restart, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_is_a_failure_and_asks_for_one_restart() {
        let bed = bed(8, [(LIVENESS, &[Act::Hang])]);
        let mut health = watch(
            &bed,
            WatchedProbes {
                liveness: probe(LIVENESS, 10, 3),
                ..Default::default()
            },
        );
        health.on_started(None, 0);
        let state = loop {
            let state = health.changed().await;
            if state.health.restart.is_some() {
                break state;
            }
        };
        assert_eq!(
            bed.prober.began.elapsed().as_secs(),
            21,
            "at 0, 10 and 20, 1 s each"
        );
        assert_eq!(state.health.restart, Some(ProbeKind::Liveness));
        assert_eq!(state.reason, "no answer within 1s");
        until(&bed, 60).await;
        assert_eq!(
            bed.prober.asked(LIVENESS).len(),
            3,
            "on hold until it was restarted"
        );
        health.on_stopped();
        health.on_started(None, 1);
        until(&bed, 62).await;
        assert_eq!(
            health.state().health,
            Health {
                started: true,
                ready: true,
                restart: None
            }
        );
        assert_eq!(health.state().attempt, Some(1));
        assert_eq!(bed.prober.asked(LIVENESS).len(), 4);
        assert_eq!(bed.wheel.stats().timed_out, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_panics_of_the_prober_do_not_count() {
        use Act::{Error, Panic, Pass};
        let bed = bed(8, [(READINESS, &[Pass, Error, Panic, Error, Panic, Pass])]);
        let health = watch(
            &bed,
            WatchedProbes {
                readiness: probe(READINESS, 1, 1),
                ..Default::default()
            },
        );
        health.on_started(None, 0);
        for second in 0..6 {
            until(&bed, second).await;
            assert!(health.state().health.ready, "second {second}");
        }
        assert_eq!((bed.wheel.stats().begun, bed.wheel.stats().errors), (6, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_or_a_drop_ends_what_is_in_flight() {
        let bed = bed(8, [(READINESS, &[Act::Hang])]);
        let mut slow = probe(READINESS, 10, 1);
        slow.as_mut().unwrap().policy.timeout = Duration::from_hours(1);
        let probes = WatchedProbes {
            readiness: slow,
            ..Default::default()
        };
        let (stopped, dropped) = (watch(&bed, probes.clone()), watch(&bed, probes));
        stopped.on_started(None, 0);
        dropped.on_started(None, 0);
        until(&bed, 1).await;
        assert_eq!(
            (
                bed.wheel.stats().in_flight,
                bed.prober.now.load(Ordering::Relaxed)
            ),
            (2, 2)
        );
        stopped.on_stopped();
        drop(dropped);
        until(&bed, 100).await;
        assert_eq!(
            (
                bed.wheel.stats().in_flight,
                bed.prober.now.load(Ordering::Relaxed)
            ),
            (0, 0)
        );
        assert_eq!(
            (bed.wheel.stats().begun, stopped.state().attempt),
            (2, None)
        );
        stopped.on_started(None, 1);
        until(&bed, 101).await;
        assert_eq!(bed.wheel.stats().in_flight, 1);
        bed.cancel.cancel();
        bed.task.await.unwrap();
        assert_eq!(
            bed.prober.now.load(Ordering::Relaxed),
            0,
            "run leaves nothing behind"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_allowed_are_in_flight_and_everyone_has_a_turn() {
        let bed = bed(10, [(READINESS, &[Act::Slow(1)])]);
        let mut probes = WatchedProbes {
            readiness: probe(READINESS, 100, 1),
            ..Default::default()
        };
        probes.readiness.as_mut().unwrap().policy.timeout = Duration::from_secs(2);
        let all: Vec<_> = (0..200).map(|_| watch(&bed, probes.clone())).collect();
        all.iter().for_each(|health| health.on_started(None, 0));
        until(&bed, 10).await;
        let ready = || {
            all.iter()
                .filter(|health| health.state().health.ready)
                .count()
        };
        assert_eq!(ready(), 100, "10 a second");
        until(&bed, 20).await;
        assert_eq!(ready(), 200);
        assert_eq!(bed.prober.most.load(Ordering::Relaxed), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_pod_is_not_restarted_but_still_taken_out_of_service() {
        let bed = bed(
            8,
            [
                (LIVENESS, &[Act::Fail]),
                (READINESS, &[Act::Pass, Act::Fail]),
            ],
        );
        let health = watch(
            &bed,
            WatchedProbes {
                liveness: probe(LIVENESS, 1, 3),
                readiness: probe(READINESS, 5, 1),
                ..Default::default()
            },
        );
        health.on_started(None, 0);
        until(&bed, 1).await;
        assert!(health.state().health.ready);
        health.on_deleted();
        until(&bed, 10).await;
        assert_eq!(
            health.state().health,
            Health {
                started: true,
                ready: false,
                restart: None
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_thousands_turn_at_their_pace() {
        const CONTAINERS: u64 = 4_000;
        let bed = bed(256, [(READINESS, &[Act::Pass])]);
        let probes = WatchedProbes {
            readiness: probe(READINESS, 10, 1),
            ..Default::default()
        };
        let all: Vec<_> = (0..CONTAINERS)
            .map(|_| watch(&bed, probes.clone()))
            .collect();
        all.iter().for_each(|health| health.on_started(None, 0));
        until(&bed, 25).await;
        assert_eq!(bed.wheel.stats().begun, 3 * CONTAINERS, "at 0, 10 and 20");
        assert!(all.iter().all(|health| health.state().health.ready));
        drop(all);
        until(&bed, 50).await;
        assert_eq!(bed.wheel.stats().begun, 3 * CONTAINERS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_script_gives_the_same_history() {
        use Act::{Error, Fail, Pass, Slow};
        let history = async || {
            let script: &[Act] = &[Fail, Slow(3), Pass, Error, Pass, Fail, Slow(0), Pass];
            let bed = bed(
                3,
                [(STARTUP, script), (LIVENESS, script), (READINESS, script)],
            );
            let all: Vec<_> = (1..9)
                .map(|period| {
                    let health = watch(
                        &bed,
                        WatchedProbes {
                            startup: probe(STARTUP, period, 9),
                            liveness: probe(LIVENESS, 2, 1),
                            readiness: probe(READINESS, period, 1),
                        },
                    );
                    health.on_started(None, 0);
                    health
                })
                .collect();
            until(&bed, 60).await;
            let states: Vec<_> = all.iter().map(ContainerHealth::state).collect();
            let asked = lock(&bed.prober.asked).clone();
            (asked, states)
        };
        let first = history().await;
        assert!(first.0.len() > 50);
        assert_eq!(first, history().await);
    }
}
