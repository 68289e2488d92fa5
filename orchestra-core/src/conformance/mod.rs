//! One suite per port, written from the contract on the trait.
//!
//! Each suite takes a factory of fresh things under test and a sleep function (so that it runs
//! on any executor, and under paused time), and gives a [`Report`]:
//!
//! ```
//! # use std::sync::Arc;
//! # use orchestra_core::conformance;
//! # use orchestra_core::port::store::StateStore;
//! # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
//! # async fn test<MyStore: StateStore + Default>() {
//! let fresh = || async { Arc::new(MyStore::default()) as Arc<dyn StateStore> };
//! let report = conformance::store::run(fresh, tokio::time::sleep).await;
//! report.assert_passed();
//! # }
//! ```
//!
//! A suite is a list of checks. Each names the sentence of the contract that it tests; one that
//! panics or hangs has failed, and the others still run.

pub mod clock;
pub mod driver;
pub mod lease;
pub mod meter;
pub mod probe;
pub mod registry;
pub mod secret;
pub mod store;

mod rng;

pub use rng::SplitMix64;

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::error::{ErrorKind, PortError, report};

/// How long one check may take by the caller's sleep function before it counts as hung.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(120);

/// What a suite found.
#[derive(Clone, Debug)]
#[must_use = "a report nobody reads proves nothing; call assert_passed()"]
pub struct Report {
    /// Which suite.
    pub suite: &'static str,
    /// What to pass to the suite to repeat its random parts, if it has any.
    pub seed: Option<u64>,
    /// What each check found, in the order they ran.
    pub checks: Vec<Checked>,
}

/// What one check found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The check.
    pub name: &'static str,
    /// The sentence of the contract that it tests.
    pub sentence: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The contract held.
    Passed,
    /// It did not.
    Failed {
        /// What the contract promises.
        expected: String,
        /// What was seen instead.
        seen: String,
    },
    /// It does not apply to this implementation.
    Skipped {
        /// Why.
        why: String,
    },
}

impl Report {
    /// Whether no check failed. Skipped ones do not count as failed.
    pub fn passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Checked> {
        self.checks
            .iter()
            .filter(|check| matches!(check.outcome, Outcome::Failed { .. }))
    }

    /// The check of that name.
    pub fn check(&self, name: &str) -> Option<&Checked> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Panics with the whole report if a check failed.
    ///
    /// # Panics
    ///
    /// If a check failed.
    pub fn assert_passed(&self) {
        assert!(
            self.passed(),
            "the implementation breaks its contract\n{self}"
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed().count();
        write!(
            f,
            "{}: {} checks, {failed} failed",
            self.suite,
            self.checks.len()
        )?;
        if let Some(seed) = self.seed {
            write!(f, " (seed {seed})")?;
        }
        for check in &self.checks {
            match &check.outcome {
                Outcome::Passed => write!(f, "\n  passed   {}", check.name)?,
                Outcome::Skipped { why } => write!(f, "\n  skipped  {}: {why}", check.name)?,
                Outcome::Failed { expected, seen } => write!(
                    f,
                    "\n  FAILED   {}\n    contract: {}\n    expected: {expected}\n    seen:     \
                     {seen}",
                    check.name, check.sentence
                )?,
            }
        }
        Ok(())
    }
}

/// Why a check ended before its end: with `?` on a [`Finding`], or on any port's result, whose
/// error then counts as a failure.
#[derive(Debug)]
pub enum Stop {
    /// The contract did not hold.
    Failed {
        /// What the contract promises.
        expected: String,
        /// What was seen instead.
        seen: String,
    },
    /// The check does not apply.
    Skipped {
        /// Why.
        why: String,
    },
}

impl Stop {
    /// Says where in a longer check it happened.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        match self {
            Self::Failed { expected, seen } => Self::Failed {
                expected,
                seen: format!("{seen} ({place})"),
            },
            skipped @ Self::Skipped { .. } => skipped,
        }
    }
}

impl<K: ErrorKind> From<PortError<K>> for Stop {
    fn from(error: PortError<K>) -> Self {
        Self::Failed {
            expected: format!("{} succeeds", error.op()),
            seen: format!("error {:?}: {}", error.kind(), report(&error)),
        }
    }
}

/// What the body of a check returns.
pub type Finding = Result<(), Stop>;

/// A failure: `expected` by the contract, `seen` instead.
pub fn fail<T>(expected: impl Into<String>, seen: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed {
        expected: expected.into(),
        seen: seen.into(),
    })
}

/// Ends a check that does not apply.
pub fn skip<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skipped { why: why.into() })
}

/// Fails unless `holds`.
///
/// # Errors
///
/// [`Stop::Failed`] if it does not hold.
pub fn ensure(holds: bool, expected: impl Into<String>, seen: impl fmt::Debug) -> Finding {
    if holds {
        Ok(())
    } else {
        fail(expected, format!("{seen:?}"))
    }
}

/// Fails unless `seen` equals `expected`; `what` names both.
///
/// # Errors
///
/// [`Stop::Failed`] if they differ.
pub fn ensure_eq<T: fmt::Debug + PartialEq>(what: &str, seen: T, expected: T) -> Finding {
    if seen == expected {
        Ok(())
    } else {
        fail(format!("{what}: {expected:?}"), format!("{seen:?}"))
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The caller's sleep function. Cloning shares it.
#[derive(Clone)]
pub struct Timer(Arc<dyn Fn(Duration) -> BoxFuture<()> + Send + Sync>);

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timer(..)")
    }
}

impl Timer {
    /// Sleeps with `sleep`, for instance `tokio::time::sleep`.
    pub fn new<S, F>(sleep: S) -> Self
    where
        S: Fn(Duration) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |span| Box::pin(sleep(span))))
    }

    /// Waits for `span`.
    pub async fn sleep(&self, span: Duration) {
        (self.0)(span).await;
    }

    /// What `work` gives, or `None` if it takes longer than `span`; it is dropped then.
    pub async fn within<T>(&self, span: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut sleep = (self.0)(span);
        let mut work = std::pin::pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// Runs checks and gathers a [`Report`].
#[derive(Debug)]
pub struct Suite {
    report: Report,
    timer: Timer,
}

impl Suite {
    /// An empty suite called `name`.
    pub fn new(name: &'static str, timer: Timer) -> Self {
        Self {
            report: Report {
                suite: name,
                seed: None,
                checks: Vec::new(),
            },
            timer,
        }
    }

    /// States the seed of the random parts.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.report.seed = Some(seed);
        self
    }

    /// Runs one check, called `name` in `snake_case`, of one `sentence` of the contract. A panic,
    /// and more than [`CHECK_TIME_MAX`], is a failure.
    pub async fn check(
        &mut self,
        name: &'static str,
        sentence: &'static str,
        body: impl Future<Output = Finding> + Send,
    ) {
        let outcome = match self.timer.within(CHECK_TIME_MAX, caught(body)).await {
            None => Outcome::Failed {
                expected: format!("an answer within {CHECK_TIME_MAX:?}"),
                seen: "none: some call hangs".into(),
            },
            Some(Err(panic)) => Outcome::Failed {
                expected: "no panic".into(),
                seen: format!("panicked: {panic}"),
            },
            Some(Ok(Ok(()))) => Outcome::Passed,
            Some(Ok(Err(Stop::Failed { expected, seen }))) => Outcome::Failed { expected, seen },
            Some(Ok(Err(Stop::Skipped { why }))) => Outcome::Skipped { why },
        };
        self.report.checks.push(Checked {
            name,
            sentence,
            outcome,
        });
    }

    /// What was found.
    pub fn finish(self) -> Report {
        self.report
    }
}

/// What `work` gives, or the text of the panic it ended in.
pub async fn caught<T>(work: impl Future<Output = T> + Send) -> Result<T, String> {
    let mut work = std::pin::pin!(work);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(text_of(&*panic))),
        },
    )
    .await
}

/// Polls both to their end, in turn, and gives both results: concurrency without an executor.
pub async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    let (mut a_done, mut b_done) = (None, None);
    poll_fn(|cx| {
        if a_done.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(cx)
        {
            a_done = Some(done);
        }
        if b_done.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(cx)
        {
            b_done = Some(done);
        }
        match (a_done.take(), b_done.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_done, b_done) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Polls all to their end, in turn, and gives their results in order.
pub async fn join_all<'a, T>(work: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>) -> Vec<T> {
    let mut work: Vec<_> = work.into_iter().map(Err).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for slot in &mut work {
            if let Err(future) = slot {
                match future.as_mut().poll(cx) {
                    Poll::Ready(done) => *slot = Ok(done),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    work.into_iter().filter_map(Result::ok).collect()
}

/// Lets others run once.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "(no text)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut cx) {
                return done;
            }
        }
    }

    fn never() -> Timer {
        Timer::new(|_| std::future::pending())
    }

    #[test]
    fn a_panic_or_a_failure_is_reported_and_the_rest_runs() {
        let report = block_on(async {
            let mut suite = Suite::new("demo", never()).seeded(7);
            suite
                .check("panics", "never panics", async { panic!("ouch {}", 1) })
                .await;
            suite
                .check("fails", "two is two", async { ensure_eq("sum", 3, 2) })
                .await;
            suite
                .check("skips", "flies", async { skip("no wings") })
                .await;
            suite.check("passes", "is", async { Ok(()) }).await;
            suite.finish()
        });
        assert!(!report.passed());
        assert_eq!(
            report.failed().map(|c| c.name).collect::<Vec<_>>(),
            ["panics", "fails"]
        );
        let text = report.to_string();
        for part in ["seed 7", "ouch 1", "sum: 2", "no wings", "two is two"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_hang_is_a_failure() {
        let report = block_on(async {
            let mut suite = Suite::new("demo", Timer::new(|_| std::future::ready(())));
            suite
                .check("hangs", "answers", std::future::pending())
                .await;
            suite.finish()
        });
        assert_eq!(report.failed().count(), 1);
    }

    #[test]
    fn joining_interleaves_and_keeps_order() {
        let log = std::sync::Mutex::new(Vec::new());
        let work = |name: u8| {
            let log = &log;
            async move {
                for step in 0..2 {
                    log.lock().expect("not poisoned").push((name, step));
                    yield_now().await;
                }
                name
            }
        };
        let done = block_on(join_all(vec![Box::pin(work(1)), Box::pin(work(2))]));
        assert_eq!(done, [1, 2]);
        let seen = log.into_inner().expect("not poisoned");
        assert_eq!(seen, [(1, 0), (2, 0), (1, 1), (2, 1)]);
        assert_eq!(block_on(join(async { 1 }, async { 2 })), (1, 2));
    }
}
