//! Passes over keys: bounded, spaced out after failures, contained.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::error::{Retry, report};
use orchestra_core::port::clock::Clock;
use orchestra_core::port::meter::{Meter, NoMeter};
use rand::Rng;
use rand_pcg::Pcg64;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::queue::Queue;
use super::{Outcome, PassError, Reconcile};

/// Passes of one controller at once, unless it says otherwise.
const PASSES_AT_ONCE: usize = 16;

/// How long running passes may go on after a cancel, unless the controller says otherwise.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How long a key rests after failed passes: `base`, doubled with each further failure, at most
/// `max`; reset by a pass that succeeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// At most.
    pub max: Duration,
    /// Which part of the rest chance may take away, in percent, 0 to 100: so that keys which
    /// failed together do not come back together. Chance comes from `seed`.
    pub jitter_percent: u32,
    /// Where chance comes from.
    pub seed: u64,
}

impl Default for Backoff {
    /// From 10 milliseconds to 60 seconds, without jitter.
    fn default() -> Self {
        let (base, max) = (Duration::from_millis(10), Duration::from_secs(60));
        Self {
            base,
            max,
            jitter_percent: 0,
            seed: 0,
        }
    }
}

impl Backoff {
    /// The rest after the `failures`th failure in a row, counted from 1.
    fn rest(&self, failures: u32, chance: &mut Pcg64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.base.saturating_mul(1 << doublings).min(self.max);
        if self.jitter_percent == 0 {
            return full;
        }
        let taken = u64::from(chance.next_u32()) * u64::from(self.jitter_percent.min(100));
        // `taken` is below 100 * 2^32.
        full - full.mul_f64(taken as f64 / (100.0 * 4_294_967_296.0))
    }
}

/// Runs the passes of one controller over the keys of its queue.
///
/// A failed pass is repeated as its error advises: with the key's own back-off
/// ([`Retry::Backoff`], [`Retry::AfterRefresh`]), at an instant, or not before the key is added
/// again ([`Retry::Never`]). A pass that panics counts as one that failed; others go on.
#[must_use]
pub struct Controller<R: Reconcile> {
    reconcile: Arc<R>,
    queue: Queue<R::Key>,
    clock: Arc<dyn Clock>,
    meter: Arc<dyn Meter>,
    passes_at_once: usize,
    backoff: Backoff,
    drain_max: Duration,
}

impl<R: Reconcile> Controller<R> {
    /// A controller with an empty queue, 16 passes at once and the default back-off.
    pub fn new(reconcile: R, clock: Arc<dyn Clock>) -> Self {
        Self::on_queue(reconcile, Queue::new(clock.clone()), clock)
    }

    /// The same over a queue that exists already. It must be on the same clock, and nobody else's.
    pub fn on_queue(reconcile: R, queue: Queue<R::Key>, clock: Arc<dyn Clock>) -> Self {
        Self {
            reconcile: Arc::new(reconcile),
            queue,
            clock,
            meter: Arc::new(NoMeter),
            passes_at_once: PASSES_AT_ONCE,
            backoff: Backoff::default(),
            drain_max: DRAIN_MAX,
        }
    }

    /// At most this many passes at once, at least 1.
    pub fn passes_at_once(mut self, max: usize) -> Self {
        self.passes_at_once = max.max(1);
        self
    }

    /// How long keys rest after failures.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long running passes may go on after a cancel before they are dropped.
    pub fn drain_max(mut self, max: Duration) -> Self {
        self.drain_max = max;
        self
    }

    /// Where the controller counts: `reconcile_total` by controller and result (`settled`,
    /// `review`, `failed`, `panicked`), `reconcile_seconds`, `reconcile_ready_keys`.
    pub fn meter(mut self, meter: Arc<dyn Meter>) -> Self {
        self.meter = meter;
        self
    }

    /// The keys it looks at: add what has to be looked at.
    pub fn queue(&self) -> &Queue<R::Key> {
        &self.queue
    }

    /// What it does with a key.
    pub fn reconciler(&self) -> &Arc<R> {
        &self.reconcile
    }

    /// Runs passes until `cancel`, then lets the running ones end within their bound.
    pub async fn run(self, cancel: CancellationToken) {
        let mut running = Running::<R> {
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            failures: BTreeMap::new(),
            chance: Pcg64::new(self.backoff.seed.into(), 0x0070_6173),
        };
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(ended) = running.tasks.join_next_with_id() => {
                    self.handle_end(&mut running, ended);
                }
                key = self.queue.next(), if running.tasks.len() < self.passes_at_once => {
                    self.begin(&mut running, key);
                }
            }
        }
        let drained = async {
            while let Some(ended) = running.tasks.join_next_with_id().await {
                self.handle_end(&mut running, ended);
            }
        };
        if tokio::time::timeout(self.drain_max, drained).await.is_err() {
            let dropped = running.tasks.len();
            tracing::warn!(
                controller = self.reconcile.name(),
                dropped,
                "passes did not end"
            );
            running.tasks.shutdown().await;
        }
    }

    fn begin(&self, running: &mut Running<R>, key: R::Key) {
        let span =
            tracing::debug_span!("reconcile", controller = self.reconcile.name(), key = ?key);
        let (reconcile, clock, began) =
            (self.reconcile.clone(), self.clock.clone(), self.clock.now());
        let pass = {
            let key = key.clone();
            async move {
                let result = reconcile.reconcile(&key).await;
                (result, clock.now().since(began))
            }
        };
        let id = running.tasks.spawn(pass.instrument(span)).id();
        running.keys.insert(id, key);
    }

    fn handle_end(&self, running: &mut Running<R>, ended: Result<(Id, Ended), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(key) = running.keys.remove(&id) else {
            return;
        };
        let name = self.reconcile.name();
        let now = self.clock.now();
        let result = match ended {
            Ok((_, (Ok(outcome), took))) => {
                running.failures.remove(&key);
                self.meter.observe(
                    "reconcile_seconds",
                    &[("controller", name)],
                    took.as_secs_f64(),
                );
                match outcome {
                    Outcome::Settled => "settled",
                    Outcome::ReviewAt(at) => {
                        self.queue.add_at(key.clone(), at);
                        "review"
                    }
                }
            }
            Ok((_, (Err(error), _))) => {
                let error_is_stale = error.retry() == Retry::AfterRefresh;
                let again = match error.retry() {
                    Retry::Never => None,
                    Retry::NotBefore(at) => Some(at),
                    _ => Some(now + self.rest(running, &key)),
                };
                let again_at = again.map(tracing::field::display);
                let error = report(&error);
                // Somebody else wrote first: the ordinary way of things, not a fault.
                if error_is_stale {
                    tracing::debug!(controller = name, ?key, %error, again = again_at, "pass was stale");
                } else {
                    tracing::warn!(controller = name, ?key, %error, again = again_at, "pass failed");
                }
                if let Some(at) = again {
                    self.queue.add_at(key.clone(), at);
                }
                "failed"
            }
            Err(panic) => {
                let at = now + self.rest(running, &key);
                tracing::error!(
                    controller = name,
                    key = ?key,
                    error = %panic,
                    again = %at,
                    "pass panicked"
                );
                self.queue.add_at(key.clone(), at);
                "panicked"
            }
        };
        self.meter.count(
            "reconcile_total",
            &[("controller", name), ("result", result)],
            1,
        );
        self.queue.done(key);
        let ready = self.queue.ready();
        self.meter.gauge(
            "reconcile_ready_keys",
            &[("controller", name)],
            ready as f64,
        );
    }

    fn rest(&self, running: &mut Running<R>, key: &R::Key) -> Duration {
        let failures = running.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        self.backoff.rest(*failures, &mut running.chance)
    }
}

type Ended = (Result<Outcome, PassError>, Duration);

/// The passes that run, and what is remembered of those before.
struct Running<R: Reconcile> {
    tasks: JoinSet<Ended>,
    /// Looked up, never walked: its order does not show.
    keys: HashMap<Id, R::Key>,
    /// Failures in a row. Only keys whose last pass failed are in here.
    failures: BTreeMap<R::Key, u32>,
    chance: Pcg64,
}

impl<R: Reconcile> fmt::Debug for Controller<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("reconcile", &self.reconcile)
            .field("passes_at_once", &self.passes_at_once)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::TokioClock;
    use orchestra_core::time::Timestamp;
    use std::sync::Mutex;

    type Log = Arc<Mutex<Vec<(i64, &'static str, &'static str)>>>;

    /// Does what the key says.
    #[derive(Debug)]
    struct Scripted {
        clock: Arc<TokioClock>,
        log: Log,
    }

    impl Scripted {
        fn note(&self, key: &'static str, what: &'static str) -> usize {
            let millis = self.clock.now().as_micros() / 1_000;
            let mut log = self.log.lock().unwrap();
            log.push((millis, key, what));
            log.iter()
                .filter(|(_, k, w)| (*k, *w) == (key, what))
                .count()
        }
    }

    impl Reconcile for Scripted {
        type Key = &'static str;

        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn reconcile(&self, key: &&'static str) -> Result<Outcome, PassError> {
            let times = self.note(key, "begin");
            match *key {
                "panics" if times < 3 => panic!("as scripted"),
                "fails" if times < 4 => {
                    return Err(PassError::new(Retry::Backoff, "as scripted"));
                }
                "never" => return Err(PassError::new(Retry::Never, "as scripted")),
                "reviews" if times < 3 => {
                    return Ok(Outcome::ReviewAt(self.clock.now() + Duration::from_secs(1)));
                }
                "hangs" => std::future::pending().await,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
            self.note(key, "end");
            Ok(Outcome::Settled)
        }
    }

    fn controller() -> (Controller<Scripted>, Log) {
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let log = Log::default();
        let scripted = Scripted {
            clock: clock.clone(),
            log: log.clone(),
        };
        (Controller::new(scripted, clock), log)
    }

    async fn run_for(controller: Controller<Scripted>, span: Duration) {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let running = tokio::spawn(controller.run(cancel));
        tokio::time::sleep(span).await;
        stop.cancel();
        running.await.unwrap();
    }

    fn begins(log: &Log, of: &str) -> Vec<i64> {
        let log = log.lock().unwrap();
        log.iter()
            .filter(|(_, key, what)| (*key, *what) == (of, "begin"))
            .map(|e| e.0)
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_back_off_and_stop_nobody_else() {
        let (controller, log) = controller();
        for key in ["panics", "fails", "never", "reviews", "good"] {
            controller.queue().add(key);
        }
        run_for(controller, Duration::from_secs(5)).await;
        assert_eq!(begins(&log, "fails"), [0, 10, 30, 70]);
        assert_eq!(begins(&log, "panics"), [0, 10, 30]);
        assert_eq!(begins(&log, "never"), [0]);
        assert_eq!(begins(&log, "reviews"), [0, 1_000, 2_000]);
        assert_eq!(begins(&log, "good"), [0]);
        assert!(log.lock().unwrap().contains(&(130, "panics", "end")));
    }

    #[tokio::test(start_paused = true)]
    async fn passes_at_once_are_bounded_and_one_per_key() {
        let (controller, log) = controller();
        let controller = controller.passes_at_once(2);
        let queue = controller.queue().clone();
        for key in ["a", "b", "c"] {
            queue.add(key);
        }
        let again = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            queue.add("a");
        };
        tokio::join!(run_for(controller, Duration::from_secs(1)), again);
        assert_eq!(begins(&log, "b"), [0]);
        assert_eq!(begins(&log, "c"), [100]);
        assert_eq!(begins(&log, "a"), [0, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_lets_passes_end_within_their_bound() {
        let (controller, log) = controller();
        let controller = controller.drain_max(Duration::from_secs(2));
        for key in ["good", "hangs"] {
            controller.queue().add(key);
        }
        let began = tokio::time::Instant::now();
        run_for(controller, Duration::from_millis(50)).await;
        assert_eq!(began.elapsed(), Duration::from_millis(2_050));
        assert!(log.lock().unwrap().contains(&(100, "good", "end")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_keys_give_the_same_history() {
        let mut histories = Vec::new();
        for _ in 0..3 {
            let (controller, log) = controller();
            let controller = controller.passes_at_once(3).backoff(Backoff {
                jitter_percent: 50,
                seed: 7,
                ..Backoff::default()
            });
            for key in ["x", "fails", "y", "panics", "reviews", "z", "good"] {
                controller.queue().add(key);
            }
            run_for(controller, Duration::from_secs(5)).await;
            histories.push(log.lock().unwrap().clone());
        }
        assert!(histories[0].len() > 10);
        assert_eq!(histories[0], histories[1]);
        assert_eq!(histories[1], histories[2]);
    }

    #[test]
    fn the_rest_doubles_to_its_bound_and_jitter_only_shortens_it() {
        let mut chance = Pcg64::new(1, 1);
        let plain = Backoff::default();
        let rests: Vec<_> = [1, 2, 3, 14, 99].map(|n| plain.rest(n, &mut chance)).into();
        assert_eq!(
            rests.iter().map(Duration::as_millis).collect::<Vec<_>>(),
            [10, 20, 40, 60_000, 60_000]
        );
        let jittery = Backoff {
            jitter_percent: 20,
            ..plain
        };
        for _ in 0..100 {
            let rest = jittery.rest(1, &mut chance).as_micros();
            assert!((8_000..=10_000).contains(&rest), "{rest}");
        }
    }
}
