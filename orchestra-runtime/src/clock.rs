//! The one clock of a runtime.

use orchestra_core::port::clock::Clock;
use orchestra_core::time::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Wall time at its creation plus what tokio's clock has counted since, so that under paused
/// tokio time timers and timestamps move together, and no adjustment of the wall clock makes it
/// go backwards.
#[derive(Clone, Debug)]
pub struct TokioClock {
    start: Timestamp,
    created: Instant,
}

impl TokioClock {
    /// A clock that starts at the wall clock's time.
    pub fn wall() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::starting_at(Timestamp::EPOCH + since_epoch)
    }

    /// A clock that reads `start` now: for repeatable histories.
    pub fn starting_at(start: Timestamp) -> Self {
        Self {
            start,
            created: Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start + self.created.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestra_core::conformance::clock::run;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_contract_under_paused_time() {
        let fresh = || Arc::new(TokioClock::starting_at(Timestamp::EPOCH)) as Arc<dyn Clock>;
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[tokio::test]
    async fn it_keeps_the_contract_on_the_wall() {
        let fresh = || Arc::new(TokioClock::wall()) as Arc<dyn Clock>;
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_with_tokios_timers() {
        let clock = TokioClock::starting_at(Timestamp::from_secs(100));
        tokio::time::sleep(Duration::from_hours(24)).await;
        assert_eq!(clock.now(), Timestamp::from_secs(100 + 86_400));
    }

    /// Clocks that each break one sentence, by what the `n`th reading gives.
    #[derive(Debug)]
    struct Broken(fn(i64) -> i64, AtomicI64);

    impl Clock for Broken {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros((self.0)(self.1.fetch_add(1, Ordering::Relaxed)))
        }
    }

    /// Tells the time since each thread first asked.
    #[derive(Debug)]
    struct OnePerThread;

    impl Clock for OnePerThread {
        fn now(&self) -> Timestamp {
            thread_local!(static READINGS: AtomicI64 = const { AtomicI64::new(0) });
            READINGS.with(|n| Timestamp::from_millis(n.fetch_add(1, Ordering::Relaxed)))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_suite_finds_each_planted_bug() {
        let broken = |f: fn(i64) -> i64| Arc::new(Broken(f, AtomicI64::new(0))) as Arc<dyn Clock>;
        let bugs: [(Arc<dyn Clock>, &str); 4] = [
            (broken(|_| 7), "moves_with_time"),
            (broken(|n| n % 1_000), "never_backwards"),
            (broken(|n| -n), "never_backwards"),
            (Arc::new(OnePerThread), "never_backwards_across_threads"),
        ];
        for (clock, check) in bugs {
            let report = run(|| Arc::clone(&clock), tokio::time::sleep).await;
            assert!(
                report.failed().any(|failed| failed.name == check),
                "{clock:?}\n{report}"
            );
        }
    }
}
