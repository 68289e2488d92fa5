//! The workloads of one driver, and the rules by which they come and go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, Exit, Observed, RunState, WorkloadId,
};
use orchestra_core::time::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// Workloads that one driver knows at most, running and remembered together.
const WORKLOADS_MAX: usize = 200_000;

/// "Never", for a grace that no clock can count.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// Locks a mutex. What a panic left behind is still whole here: every change is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where one attempt stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// It is being started.
    Starting,
    /// It could not be started, and nothing of it remains.
    Refused(DriverErrorKind, Arc<str>),
    /// It runs.
    Running(Timestamp),
    /// It has ended.
    Ended(Exit),
}

/// One attempt of one workload. `R` is what its driver needs besides.
#[derive(Debug)]
pub(super) struct Slot<R> {
    pub(super) id: WorkloadId,
    pub(super) attempt: u32,
    pub(super) run: R,
    phase: watch::Sender<Phase>,
    kill_at: watch::Sender<Option<Instant>>,
}

impl<R> Slot<R> {
    /// A slot in the given phase, for what was found and not started here.
    pub(super) fn new(id: WorkloadId, attempt: u32, phase: Phase, run: R) -> Self {
        let (phase, _) = watch::channel(phase);
        let (kill_at, _) = watch::channel(None);
        Self {
            id,
            attempt,
            run,
            phase,
            kill_at,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Running(_))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// Moves on, unless the end was already reached: the first end counts.
    pub(super) fn advance(&self, next: Phase) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Ended(_) | Phase::Refused(..) => false,
            Phase::Starting | Phase::Running(_) => {
                *phase = next;
                true
            }
        });
    }

    fn observed(&self) -> Option<Observed> {
        let state = match self.phase() {
            Phase::Starting | Phase::Refused(..) => return None,
            Phase::Running(since) => RunState::Running { since },
            Phase::Ended(exit) => RunState::Ended(exit),
        };
        Some(Observed {
            id: self.id.clone(),
            attempt: self.attempt,
            state,
        })
    }

    /// Waits until the start has succeeded or failed.
    pub(super) async fn started(&self) -> Result<Observed, DriverError> {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot close.
        let _ = phase
            .wait_for(|phase| !matches!(phase, Phase::Starting))
            .await;
        match self.phase() {
            Phase::Refused(kind, why) => Err(DriverError::new(kind, "ensure")
                .about(self.id.to_string())
                .because(&*why)),
            _ => self.observed().ok_or_else(|| {
                DriverError::new(DriverErrorKind::Unavailable, "ensure").about(self.id.to_string())
            }),
        }
    }

    /// Waits for the end. `None`: it was never started.
    pub(super) async fn ended(&self) -> Option<Exit> {
        let mut phase = self.phase.subscribe();
        let _ = phase
            .wait_for(|phase| matches!(phase, Phase::Ended(_) | Phase::Refused(..)))
            .await;
        match self.phase() {
            Phase::Ended(exit) => Some(exit),
            _ => None,
        }
    }

    /// Asks for the end within `grace`. The nearest deadline ever asked for holds. Whether this
    /// was the first time.
    pub(super) fn ask_to_end(&self, grace: Duration) -> bool {
        let now = Instant::now();
        let by = now
            .checked_add(grace)
            .or_else(|| now.checked_add(FAR))
            .unwrap_or(now);
        let mut first = false;
        self.kill_at.send_if_modified(|kill_at| {
            first = kill_at.is_none();
            let nearer = kill_at.is_none_or(|before| by < before);
            if nearer {
                *kill_at = Some(by);
            }
            nearer
        });
        first
    }

    /// Waits until the end was asked for.
    pub(super) async fn asked_to_end(&self) {
        let mut kill_at = self.kill_at.subscribe();
        let _ = kill_at.wait_for(Option::is_some).await;
    }

    /// Waits until the grace, once asked for, is over.
    pub(super) async fn grace_is_over(&self) {
        let mut kill_at = self.kill_at.subscribe();
        loop {
            let deadline = *kill_at.borrow_and_update();
            match deadline {
                Some(deadline) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(deadline) => return,
                    _ = kill_at.changed() => {}
                },
                None => {
                    let _ = kill_at.changed().await;
                }
            }
        }
    }
}

/// What became of a wish.
pub(super) enum Admitted<R> {
    /// This attempt is there already.
    Known(Arc<Slot<R>>),
    /// It is new, and the caller starts it.
    New {
        /// In phase `Starting`.
        slot: Arc<Slot<R>>,
        /// The ended attempt whose place it took.
        before: Option<Arc<Slot<R>>>,
    },
}

/// All workloads of a driver, by id.
#[derive(Debug)]
pub(super) struct Table<R> {
    slots: Mutex<BTreeMap<WorkloadId, Arc<Slot<R>>>>,
    closed: AtomicBool,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }
}

impl<R> Table<R> {
    /// Applies the rules of admission to one wish.
    pub(super) fn admit(
        &self,
        id: &WorkloadId,
        attempt: u32,
        run: impl FnOnce() -> R,
    ) -> Result<Admitted<R>, DriverError> {
        let refuse = |kind| DriverError::new(kind, "ensure").about(id.to_string());
        let mut slots = lock(&self.slots);
        if self.closed.load(Ordering::Acquire) {
            return Err(refuse(DriverErrorKind::Unavailable)
                .because("the driver was shut down; make a new one"));
        }
        let known = slots.len();
        let before = match slots.entry(id.clone()) {
            Entry::Occupied(held) if attempt < held.get().attempt => {
                return Err(refuse(DriverErrorKind::Stale)
                    .because(format!("attempt {attempt} after {}", held.get().attempt)));
            }
            Entry::Occupied(held) if attempt == held.get().attempt => {
                return Ok(Admitted::Known(Arc::clone(held.get())));
            }
            Entry::Occupied(held) if !held.get().has_ended() => {
                return Err(refuse(DriverErrorKind::Running).because(format!(
                    "attempt {attempt} asked for while {} runs",
                    held.get().attempt
                )));
            }
            Entry::Occupied(held) => Some(Arc::clone(held.get())),
            Entry::Vacant(_) if known >= WORKLOADS_MAX => {
                return Err(refuse(DriverErrorKind::Exhausted).because(format!(
                    "{WORKLOADS_MAX} workloads are known; remove ended ones"
                )));
            }
            Entry::Vacant(_) => None,
        };
        let slot = Arc::new(Slot::new(id.clone(), attempt, Phase::Starting, run()));
        slots.insert(id.clone(), Arc::clone(&slot));
        Ok(Admitted::New { slot, before })
    }

    /// Puts a slot in place that was found and not started here.
    pub(super) fn adopt(&self, slot: Arc<Slot<R>>) {
        lock(&self.slots).insert(slot.id.clone(), slot);
    }

    /// Takes back an admission whose start failed.
    pub(super) fn take_back(&self, slot: &Arc<Slot<R>>, before: Option<Arc<Slot<R>>>) {
        let mut slots = lock(&self.slots);
        if slots
            .get(&slot.id)
            .is_some_and(|held| Arc::ptr_eq(held, slot))
        {
            match before {
                Some(before) => slots.insert(slot.id.clone(), before),
                None => slots.remove(&slot.id),
            };
        }
    }

    pub(super) fn get(&self, id: &WorkloadId) -> Option<Arc<Slot<R>>> {
        lock(&self.slots).get(id).map(Arc::clone)
    }

    /// The slot, or an error of kind `Unknown`.
    pub(super) fn find(
        &self,
        id: &WorkloadId,
        op: &'static str,
    ) -> Result<Arc<Slot<R>>, DriverError> {
        self.get(id)
            .ok_or_else(|| DriverError::new(DriverErrorKind::Unknown, op).about(id.to_string()))
    }

    /// The slot, if it runs; else an error of kind `Unknown`.
    pub(super) fn find_running(
        &self,
        id: &WorkloadId,
        op: &'static str,
    ) -> Result<Arc<Slot<R>>, DriverError> {
        let slot = self.find(id, op)?;
        if slot.is_running() {
            return Ok(slot);
        }
        Err(DriverError::new(DriverErrorKind::Unknown, op)
            .about(id.to_string())
            .because("it does not run"))
    }

    /// Waits for an end, by the contract of the port.
    pub(super) async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        let slot = self.find(id, "wait")?;
        slot.ended()
            .await
            .ok_or_else(|| DriverError::new(DriverErrorKind::Unknown, "wait").about(id.to_string()))
    }

    /// Forgets an ended workload, and hands over what was forgotten.
    pub(super) fn remove(&self, id: &WorkloadId) -> Result<Option<Arc<Slot<R>>>, DriverError> {
        let mut slots = lock(&self.slots);
        if slots.get(id).is_some_and(|slot| !slot.has_ended()) {
            return Err(DriverError::new(DriverErrorKind::Running, "remove").about(id.to_string()));
        }
        Ok(slots.remove(id))
    }

    pub(super) fn survey(&self) -> Vec<Observed> {
        lock(&self.slots)
            .values()
            .filter_map(|slot| slot.observed())
            .collect()
    }

    /// Every slot, ordered by id.
    pub(super) fn all(&self) -> Vec<Arc<Slot<R>>> {
        lock(&self.slots).values().map(Arc::clone).collect()
    }

    /// Admits nothing any more.
    pub(super) fn close(&self) {
        let _slots = lock(&self.slots); // no admission is half done
        self.closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId {
            container: name.into(),
            ..WorkloadId::default()
        }
    }

    fn exit() -> Exit {
        Exit {
            code: 0,
            signal: None,
            reason: "Completed".into(),
            message: String::new(),
            at: Timestamp::EPOCH,
        }
    }

    fn admit(table: &Table<()>, attempt: u32) -> Result<bool, DriverErrorKind> {
        match table.admit(&id("a"), attempt, || ()) {
            Ok(Admitted::New { slot, .. }) => {
                slot.advance(Phase::Running(Timestamp::EPOCH));
                Ok(true)
            }
            Ok(Admitted::Known(_)) => Ok(false),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn attempts_follow_each_other_and_never_overlap_or_go_back() {
        let table = Table::default();
        assert_eq!(admit(&table, 3), Ok(true));
        assert_eq!(admit(&table, 3), Ok(false));
        assert_eq!(admit(&table, 2), Err(DriverErrorKind::Stale));
        assert_eq!(admit(&table, 4), Err(DriverErrorKind::Running));
        table.get(&id("a")).unwrap().advance(Phase::Ended(exit()));
        assert_eq!(
            admit(&table, 3),
            Ok(false),
            "an ended attempt does not run again"
        );
        assert_eq!(admit(&table, 4), Ok(true));
        table.close();
        assert_eq!(admit(&table, 5), Err(DriverErrorKind::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn the_nearest_deadline_holds() {
        let slot = Slot::new(id("a"), 0, Phase::Running(Timestamp::EPOCH), ());
        let start = Instant::now();
        assert!(slot.ask_to_end(Duration::from_secs(30)));
        assert!(!slot.ask_to_end(Duration::MAX));
        let (_, ()) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                slot.ask_to_end(Duration::from_secs(2))
            },
            slot.grace_is_over()
        );
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
