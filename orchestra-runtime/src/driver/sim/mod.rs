//! Scripted workloads in virtual time.

mod prober;
mod script;

pub use prober::SimProber;
pub use script::{Behavior, Match, SimScript, Span};

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::meta::Uid;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecOutput, ExecSource, Exit, LogSource, Observed, RunState,
    Usage, UsageSource, Workload, WorkloadDriver, WorkloadId,
};
use orchestra_core::time::Timestamp;
use rand_pcg::Pcg64;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};

use self::script::{Health, Life};
use super::table::lock;
use crate::clock::TokioClock;

/// Workloads that one simulated driver knows at most.
const WORKLOADS_MAX: usize = 1_000_000;

/// Pretends to run workloads, as a [`SimScript`] says.
///
/// Nothing runs in the background: what a workload does is worked out from the time whenever
/// somebody looks, and only a waiting call holds a timer. So a hundred thousand workloads are a
/// hundred thousand records. What happens depends on the script, the seed, the workload's id and
/// attempt, and the clock; never on the order of calls.
pub struct SimDriver {
    script: SimScript,
    seed: u64,
    held: Held,
}

/// What is known now; has the optional powers.
struct Held {
    clock: Arc<dyn Clock>,
    reachable: AtomicBool,
    records: Mutex<BTreeMap<WorkloadId, Arc<Record>>>,
    /// Counts up when something changes that no script said.
    changes: watch::Sender<u64>,
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver")
            .field("seed", &self.seed)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("workloads", &lock(&self.records).len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Record {
    id: WorkloadId,
    attempt: u32,
    pod_name: String,
    life: Mutex<Life>,
    changed: Notify,
}

impl Record {
    fn observed(&self, now: Timestamp) -> Option<Observed> {
        self.observed_of(&lock(&self.life), now)
    }

    /// `None`: it is still being started.
    fn observed_of(&self, life: &Life, now: Timestamp) -> Option<Observed> {
        let state = match life.exit(now) {
            Some(exit) => RunState::Ended(exit),
            None if now < life.since => return None,
            None => RunState::Running { since: life.since },
        };
        Some(Observed {
            id: self.id.clone(),
            attempt: self.attempt,
            state,
        })
    }

    /// Changes the life and wakes whoever waits for it.
    fn change(&self, change: impl FnOnce(&mut Life)) {
        change(&mut lock(&self.life));
        self.changed.notify_waiters();
    }
}

impl SimDriver {
    /// A driver whose clock starts at the epoch and follows tokio's.
    pub fn new(script: SimScript, seed: u64) -> Self {
        Self::with_clock(
            script,
            seed,
            Arc::new(TokioClock::starting_at(Timestamp::EPOCH)),
        )
    }

    /// A driver that takes the time from `clock`, which must move with tokio's.
    pub fn with_clock(script: SimScript, seed: u64, clock: Arc<dyn Clock>) -> Self {
        let reachable = AtomicBool::new(true);
        Self {
            script,
            seed,
            held: Held {
                clock,
                reachable,
                records: Mutex::default(),
                changes: watch::Sender::default(),
            },
        }
    }

    /// Ends a running workload now with code 1. Whether there was one.
    pub fn crash(&self, id: &WorkloadId) -> bool {
        self.end(id, 1, "Error", "crashed by the simulation")
    }

    /// Ends a running workload now, for instance with 137 and `OOMKilled`. Whether there was one.
    pub fn end(&self, id: &WorkloadId, code: i32, reason: &str, message: &str) -> bool {
        let now = self.held.clock.now();
        let signal = (code > 128).then(|| code - 128);
        self.change_running(id, |life| life.end_at(now, code, signal, reason, message))
    }

    /// Makes a running workload stop answering (or answer again). Whether there was one.
    pub fn set_hanging(&self, id: &WorkloadId, hanging: bool) -> bool {
        let now = self.held.clock.now();
        self.change_running(id, |life| life.hangs_from = hanging.then_some(now))
    }

    /// Makes a running workload answer badly (or well again). Whether there was one.
    pub fn set_healthy(&self, id: &WorkloadId, healthy: bool) -> bool {
        let now = self.held.clock.now();
        self.change_running(id, |life| life.sick_from = (!healthy).then_some(now))
    }

    /// Sets what a running workload uses from now on. Whether there was one.
    pub fn set_usage(&self, id: &WorkloadId, cpu_milli: u64, memory_bytes: u64) -> bool {
        let now = self.held.clock.now();
        self.change_running(id, |life| life.uses(now, cpu_milli, memory_bytes))
    }

    /// The node is lost: everything ends at once with the reason `Lost` and is forgotten. How
    /// many ran.
    pub fn lose_all(&self) -> usize {
        let now = self.held.clock.now();
        let lost = std::mem::take(&mut *lock(&self.held.records));
        let mut ran = 0;
        for record in lost.values() {
            ran += usize::from(lock(&record.life).exit(now).is_none());
            record.change(|life| life.end_at(now, 137, Some(9), "Lost", "its node was lost"));
        }
        self.shaken();
        ran
    }

    /// Whether calls reach the driver; while they do not, each fails with `Unavailable`, and what
    /// runs goes on.
    pub fn set_reachable(&self, reachable: bool) {
        self.held.reachable.store(reachable, Ordering::SeqCst);
        self.shaken();
    }

    /// What was said of the future may not hold any more.
    pub(crate) fn shaken(&self) {
        self.held.changes.send_modify(|count| *count += 1);
    }

    /// What is known now, ordered by id, whether the driver is reachable or not: for whoever checks
    /// the simulation.
    pub fn observe(&self) -> Vec<Observed> {
        let now = self.held.clock.now();
        lock(&self.held.records)
            .values()
            .filter_map(|record| record.observed(now))
            .collect()
    }

    /// Whether a workload of this pod has been started and not ended.
    pub fn runs_any_of(&self, pod: Uid) -> bool {
        let now = self.held.clock.now();
        let first = WorkloadId {
            pod,
            container: SmolStr::default(),
        };
        let records = lock(&self.held.records);
        let mut of_pod = records.range(first..).take_while(|(id, _)| id.pod == pod);
        of_pod.any(|(_, record)| lock(&record.life).exit(now).is_none())
    }

    /// The workloads whose pod's `namespace/name` starts with `prefix`, ordered by id.
    pub fn ids(&self, prefix: &str) -> Vec<WorkloadId> {
        let records = lock(&self.held.records);
        let mine = records
            .values()
            .filter(|record| record.pod_name.starts_with(prefix));
        mine.map(|record| record.id.clone()).collect()
    }

    fn change_running(&self, id: &WorkloadId, change: impl FnOnce(&mut Life)) -> bool {
        let now = self.held.clock.now();
        let Some(record) = self.held.get(id) else {
            return false;
        };
        let runs = lock(&record.life).exit(now).is_none();
        if runs {
            record.change(change);
            self.shaken();
        }
        runs
    }

    /// A stream of chance of its own for each start, so that no call's order matters.
    fn chance(&self, want: &Workload) -> Pcg64 {
        let name = want
            .id
            .container
            .bytes()
            .fold(u128::from(want.attempt), |sum, byte| {
                sum.wrapping_mul(0x0100_0193).wrapping_add(u128::from(byte))
            });
        Pcg64::new(
            u128::from(self.seed) ^ want.id.pod.0.rotate_left(64),
            name ^ want.id.pod.0,
        )
    }

    fn admit(&self, want: &Workload) -> Result<Arc<Record>, DriverError> {
        let refuse = |kind| DriverError::new(kind, "ensure").about(want.id.to_string());
        let now = self.held.clock.now();
        let mut records = lock(&self.held.records);
        if let Some(held) = records.get(&want.id) {
            if want.attempt < held.attempt {
                return Err(refuse(DriverErrorKind::Stale));
            }
            if want.attempt == held.attempt {
                return Ok(Arc::clone(held));
            }
            if lock(&held.life).exit(now).is_none() {
                return Err(refuse(DriverErrorKind::Running));
            }
        } else if records.len() >= WORKLOADS_MAX {
            return Err(refuse(DriverErrorKind::Exhausted).because(format!(
                "{WORKLOADS_MAX} workloads are known; remove ended ones"
            )));
        }
        let behavior = self.script.behavior(want);
        if let Some(kind) = behavior.refusal(want.attempt) {
            return Err(refuse(kind).because("the script refuses it"));
        }
        let life = behavior.live(now, want.attempt, &mut self.chance(want));
        let record = Arc::new(Record {
            id: want.id.clone(),
            attempt: want.attempt,
            pod_name: want.pod_name.clone(),
            life: Mutex::new(life),
            changed: Notify::new(),
        });
        records.insert(want.id.clone(), Arc::clone(&record));
        Ok(record)
    }
}

impl Held {
    fn get(&self, id: &WorkloadId) -> Option<Arc<Record>> {
        lock(&self.records).get(id).map(Arc::clone)
    }

    fn reach(&self, op: &'static str, id: Option<&WorkloadId>) -> Result<(), DriverError> {
        if self.reachable.load(Ordering::SeqCst) {
            return Ok(());
        }
        let error = DriverError::new(DriverErrorKind::Unavailable, op);
        Err(match id {
            Some(id) => error.about(id.to_string()),
            None => error,
        })
    }

    fn find(&self, id: &WorkloadId, op: &'static str) -> Result<Arc<Record>, DriverError> {
        self.reach(op, Some(id))?;
        self.get(id)
            .ok_or_else(|| DriverError::new(DriverErrorKind::Unknown, op).about(id.to_string()))
    }

    /// Waits until `look` finds what it looks for, at the instants it names and at each change.
    async fn until<T>(
        &self,
        record: &Record,
        look: impl Fn(&Life, Timestamp) -> Result<T, Option<Timestamp>>,
    ) -> T {
        loop {
            let mut changed = pin!(record.changed.notified());
            changed.as_mut().enable(); // before the look: no change is missed in between
            let now = self.clock.now();
            let found = look(&lock(&record.life), now);
            match found {
                Ok(found) => return found,
                Err(Some(next)) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep(next.since(now)) => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    async fn ended(&self, record: &Record) -> Exit {
        self.until(record, |life, now| life.exit(now).ok_or(life.ends_at()))
            .await
    }
}

#[async_trait]
impl WorkloadDriver for SimDriver {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        self.held.reach("ensure", Some(&want.id))?;
        let record = self.admit(want)?;
        Ok(self
            .held
            .until(&record, |life, now| {
                let next = life.ends_at().map_or(life.since, |end| end.min(life.since));
                record.observed_of(life, now).ok_or(Some(next))
            })
            .await)
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        let record = self.held.find(id, "wait")?;
        Ok(self.held.ended(&record).await)
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        self.held.reach("stop", Some(id))?;
        if let Some(record) = self.held.get(id) {
            let now = self.held.clock.now();
            record.change(|life| life.ask_to_end(now, grace));
            self.shaken();
            self.held.ended(&record).await;
        }
        Ok(())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        self.held.reach("remove", Some(id))?;
        let now = self.held.clock.now();
        let mut records = lock(&self.held.records);
        if records
            .get(id)
            .is_some_and(|record| lock(&record.life).exit(now).is_none())
        {
            return Err(DriverError::new(DriverErrorKind::Running, "remove").about(id.to_string()));
        }
        records.remove(id);
        Ok(())
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        self.held.reach("survey", None)?;
        Ok(self.observe())
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        Some(&self.held)
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        None
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        Some(&self.held)
    }
}

/// Any command is the same question: how is it? Code 0 is well, 1 is not; a hanging workload
/// never answers.
#[async_trait]
impl ExecSource for Held {
    async fn exec(&self, id: &WorkloadId, _: &[String]) -> Result<ExecOutput, DriverError> {
        let record = self.find(id, "exec")?;
        let now = self.clock.now();
        let (health, takes) = {
            let life = lock(&record.life);
            if life.exit(now).is_some() || now < life.since {
                return Err(DriverError::new(DriverErrorKind::Unknown, "exec")
                    .about(id.to_string())
                    .because("it does not run"));
            }
            (life.health(now), life.answers_in)
        };
        Ok(match health {
            Health::Hangs => std::future::pending().await,
            Health::Sick(why) => ExecOutput {
                code: 1,
                output: why.to_owned(),
            },
            Health::Well => {
                if !takes.is_zero() {
                    tokio::time::sleep(takes).await;
                }
                ExecOutput {
                    code: 0,
                    output: String::new(),
                }
            }
        })
    }
}

#[async_trait]
impl UsageSource for Held {
    async fn usage(&self, id: &WorkloadId) -> Result<Usage, DriverError> {
        let record = self.find(id, "usage")?;
        let now = self.clock.now();
        let life = lock(&record.life);
        if life.exit(now).is_some() || now < life.since {
            return Err(DriverError::new(DriverErrorKind::Unknown, "usage").about(id.to_string()));
        }
        Ok(life.usage(now))
    }
}

#[cfg(test)]
mod tests;
