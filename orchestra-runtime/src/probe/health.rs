//! The health of one container, as its owner sees it; the wheel does the work.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::port::driver::WorkloadId;
use orchestra_sched::health::tracker::Health;
use tokio::sync::{Notify, watch};

use super::spec::WatchedProbes;

/// How a container is, and what the probes last said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContainerState {
    /// Which start of the container this speaks of, as given to
    /// [`ContainerHealth::on_started`]; `None` while it does not run.
    pub attempt: Option<u32>,
    /// Started, ready, and whether it must be restarted.
    pub health: Health,
    /// The reason of the last failure of the probe that asks for the restart, or else of the
    /// readiness probe while it fails; empty if there is none.
    pub reason: String,
}

/// What the wheel has done since it began, and what it is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WheelStats {
    /// Probes begun.
    pub begun: u64,
    /// Probes that took longer than they may.
    pub timed_out: u64,
    /// Probes that could not look, or panicked; their samples were discarded.
    pub errors: u64,
    /// Probes in flight now.
    pub in_flight: usize,
}

/// Gives containers to a wheel. Cloning shares it.
#[derive(Clone, Debug)]
pub struct WheelHandle(pub(super) Arc<Shared>);

impl WheelHandle {
    /// Watches over a container that does not run yet. Nothing is probed before
    /// [`ContainerHealth::on_started`], nor after the returned value was dropped.
    pub fn watch(&self, workload: WorkloadId, probes: WatchedProbes) -> ContainerHealth {
        let (sender, receiver) = watch::channel(ContainerState::default());
        let entry = Arc::new(Entry {
            number: self.0.numbers.fetch_add(1, Ordering::Relaxed),
            workload,
            probes,
            wishes: Mutex::default(),
            queued: AtomicBool::new(false),
            state: sender,
        });
        ContainerHealth {
            entry,
            receiver,
            shared: Arc::clone(&self.0),
        }
    }

    /// What the wheel has done so far.
    pub fn stats(&self) -> WheelStats {
        WheelStats {
            begun: self.0.begun.load(Ordering::Relaxed),
            timed_out: self.0.timed_out.load(Ordering::Relaxed),
            errors: self.0.errors.load(Ordering::Relaxed),
            in_flight: self.0.in_flight.load(Ordering::Relaxed),
        }
    }
}

/// The health of one container: tell it what happens to the container, ask it how that is.
/// Dropping it ends its probes.
#[derive(Debug)]
pub struct ContainerHealth {
    entry: Arc<Entry>,
    receiver: watch::Receiver<ContainerState>,
    shared: Arc<Shared>,
}

impl ContainerHealth {
    /// The container runs at that address, for the `attempt`th time. Results of earlier attempts
    /// no longer count, and the first probe is due after its initial delay. Never waits.
    pub fn on_started(&self, address: Option<IpAddr>, attempt: u32) {
        self.wish(Wish::Started { address, attempt });
    }

    /// The container has ended: it is neither started nor ready, and nothing is probed until it
    /// runs again. Never waits.
    pub fn on_stopped(&self) {
        self.wish(Wish::Stopped);
    }

    /// The pod is being deleted: nothing is restarted any more, and only readiness is still
    /// probed. Never waits.
    pub fn on_deleted(&self) {
        self.wish(Wish::Deleted);
    }

    /// How the container is now.
    pub fn state(&self) -> ContainerState {
        self.receiver.borrow().clone()
    }

    /// Follows the state. Where it changes faster than it is read, only the newest is seen.
    pub fn subscribe(&self) -> watch::Receiver<ContainerState> {
        self.receiver.clone()
    }

    /// Waits until the state is another than the last one this returned, and gives it. Waits for
    /// ever once the wheel has ended. Cancel-safe.
    pub async fn changed(&mut self) -> ContainerState {
        // The sender lives as long as `entry`, which is ours.
        while self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.receiver.borrow_and_update().clone()
    }

    fn wish(&self, wish: Wish) {
        {
            let mut wishes = lock(&self.entry.wishes);
            // What a later one makes void goes: at most one of each is left.
            wishes.retain(|earlier| match wish {
                Wish::Stopped => *earlier == Wish::Deleted,
                Wish::Started { .. } => !matches!(earlier, Wish::Started { .. }),
                Wish::Deleted | Wish::Forgotten => *earlier != wish,
            });
            wishes.push(wish);
        }
        self.shared.enqueue(&self.entry);
    }
}

impl Drop for ContainerHealth {
    fn drop(&mut self) {
        {
            let mut wishes = lock(&self.entry.wishes);
            wishes.clear();
            wishes.push(Wish::Forgotten);
        }
        self.shared.enqueue(&self.entry);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is changed in single calls, so that a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened to a container that the wheel has not seen yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Started {
        address: Option<IpAddr>,
        attempt: u32,
    },
    Stopped,
    Deleted,
    Forgotten,
}

/// One container, as its owner and the wheel both see it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) workload: WorkloadId,
    pub(super) probes: WatchedProbes,
    pub(super) wishes: Mutex<Vec<Wish>>,
    /// It is in `Shared::dirty`, which thereby never holds it twice.
    pub(super) queued: AtomicBool,
    pub(super) state: watch::Sender<ContainerState>,
}

/// What the wheel and its handles share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) numbers: AtomicU64,
    /// Containers with wishes; at most all.
    pub(super) dirty: Mutex<Vec<Arc<Entry>>>,
    pub(super) wake: Notify,
    pub(super) begun: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) in_flight: AtomicUsize,
}

impl Shared {
    fn enqueue(&self, entry: &Arc<Entry>) {
        if !entry.queued.swap(true, Ordering::SeqCst) {
            lock(&self.dirty).push(Arc::clone(entry));
            self.wake.notify_one();
        }
    }
}
