//! The suite for [`Clock`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Finding, Report, Suite, Timer, ensure, fail};
use crate::port::clock::Clock;

/// Readings taken in a row.
const READINGS: usize = 100_000;
/// Threads that read at once, and how often each reads.
const THREADS: usize = 4;
const READINGS_EACH: usize = 10_000;

/// Tests a clock. `fresh` gives one, `sleep` waits by the same time that the clock tells.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance;
/// # use orchestra_core::port::clock::Clock;
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyClock: Clock + Default>() {
/// let fresh = || Arc::new(MyClock::default()) as Arc<dyn Clock>;
/// conformance::clock::run(fresh, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<F, S, Z>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> Arc<dyn Clock>,
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    let timer = Timer::new(sleep);
    let mut suite = Suite::new("clock", timer.clone());
    let back = "now never goes backwards within one process.";
    let clock = fresh();
    suite
        .check("never_backwards", back, async { never_backwards(&*clock) })
        .await;
    let clock = fresh();
    suite
        .check("never_backwards_across_threads", back, async {
            across_threads(&clock)
        })
        .await;
    let clock = fresh();
    suite
        .check("never_backwards_between_threads", back, async {
            between_threads(&*clock)
        })
        .await;
    let clock = fresh();
    let passing = never_backwards_as_time_passes(&*clock, &timer);
    suite
        .check("never_backwards_as_time_passes", back, passing)
        .await;
    let clock = fresh();
    let tells = "Tells the time.";
    suite
        .check("moves_with_time", tells, moves_with_time(&*clock, &timer))
        .await;
    suite.finish()
}

fn never_backwards(clock: &dyn Clock) -> Finding {
    let mut last = clock.now();
    for _ in 0..READINGS {
        let now = clock.now();
        ensure(now >= last, format!("{last} or later"), now)?;
        last = now;
    }
    Ok(())
}

/// Each thread begins after the one before it has ended, so that its readings come later.
fn across_threads(clock: &Arc<dyn Clock>) -> Finding {
    let mut last = clock.now();
    for _ in 0..8 {
        let clock = Arc::clone(clock);
        let Ok(now) = std::thread::spawn(move || clock.now()).join() else {
            return fail("no panic", "now panicked on another thread");
        };
        ensure(now >= last, format!("{last} or later"), now)?;
        last = now;
    }
    Ok(())
}

/// Threads take turns at one lock, so that what the one read before is told to the next.
fn between_threads(clock: &dyn Clock) -> Finding {
    let last = Mutex::new(clock.now());
    let read = || -> Finding {
        for _ in 0..READINGS_EACH {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock.now();
            ensure(now >= *last, format!("{} or later", *last), now)?;
            *last = now;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(read)).collect();
        for thread in threads {
            match thread.join() {
                Ok(found) => found?,
                Err(_) => return fail("no panic", "now panicked on another thread"),
            }
        }
        Ok(())
    })
}

async fn never_backwards_as_time_passes(clock: &dyn Clock, timer: &Timer) -> Finding {
    let mut last = clock.now();
    for _ in 0..60 {
        timer.sleep(Duration::from_millis(2)).await;
        let now = clock.now();
        ensure(now >= last, format!("{last} or later"), now)?;
        last = now;
    }
    Ok(())
}

async fn moves_with_time(clock: &dyn Clock, timer: &Timer) -> Finding {
    let span = Duration::from_millis(20);
    let before = clock.now();
    timer.sleep(span).await;
    let passed = clock.now().since(before);
    // Half: timers and clocks round in their own ways.
    ensure(
        passed >= span / 2,
        format!("about {span:?} pass in a sleep of {span:?}"),
        passed,
    )
}
