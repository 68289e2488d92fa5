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
use orchestra_core::port::probe::{ProbeError, ProbeErrorKind, ProbeTarget, Prober, Verdict};
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
        let (id, sample, text) = match done {
            Ok((id, outcome)) => {
                if let Err(error) = &outcome {
                    self.shared.errors.fetch_add(1, Ordering::Relaxed);
                    // That one will never look, whatever changes out there.
                    if error.kind() == ProbeErrorKind::Unsupported {
                        tracing::warn!("a probe cannot look: {}", report(error));
                    } else {
                        tracing::debug!("a probe could not look: {}", report(error));
                    }
                }
                let text: Option<String> = match &outcome {
                    Ok(Verdict::Fail { reason }) => Some(reason.clone()),
                    Err(error) => Some(report(error).to_string()),
                    _ => None,
                };
                let text = text.map(|text| text.chars().take(REASON_CHARS_MAX).collect());
                (id, Sample::from(&outcome), text)
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
            Sample::Fail => drop(slot.failures.insert(ticket.kind, text.unwrap_or_default())),
            // It says nothing of the container, but is why nothing is known of it.
            Sample::Error => {
                let text = text.unwrap_or_else(|| "its prober panicked".to_owned());
                slot.failures.entry(ticket.kind).or_insert(text);
            }
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
mod tests;
