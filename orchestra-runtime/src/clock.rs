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
    use std::collections::BTreeSet;
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

    /// Each thread is ahead of the time by another span.
    #[derive(Debug)]
    struct Apart;

    impl Clock for Apart {
        fn now(&self) -> Timestamp {
            static NEXT: AtomicI64 = AtomicI64::new(0);
            thread_local!(static AHEAD: i64 = NEXT.fetch_add(1, Ordering::Relaxed));
            Timestamp::from_secs(AHEAD.with(|ahead| -ahead))
        }
    }

    /// Is set back once, as a host's clock is by its operator.
    #[derive(Debug)]
    struct SetBack(TokioClock);

    impl Clock for SetBack {
        fn now(&self) -> Timestamp {
            let now = self.0.now();
            let late = now.since(Timestamp::EPOCH) > Duration::from_millis(100);
            if late {
                Timestamp::from_micros(now.as_micros() - 10_000)
            } else {
                now
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_suite_finds_each_planted_bug() {
        let broken = |f: fn(i64) -> i64| Arc::new(Broken(f, AtomicI64::new(0))) as Arc<dyn Clock>;
        let set_back = SetBack(TokioClock::starting_at(Timestamp::EPOCH));
        let bugs: [(Arc<dyn Clock>, &str); 7] = [
            // First, for it goes by the time since it began.
            (Arc::new(set_back), "never_backwards_as_time_passes"),
            (broken(|_| 7), "moves_with_time"),
            (broken(|n| n % 1_000), "never_backwards"),
            (broken(|n| -n), "never_backwards"),
            (
                broken(|n| n - i64::from(n == 70_000) * 2),
                "never_backwards",
            ),
            (Arc::new(OnePerThread), "never_backwards_across_threads"),
            (Arc::new(Apart), "never_backwards_between_threads"),
        ];
        let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for (clock, check) in bugs {
            let report = run(|| Arc::clone(&clock), tokio::time::sleep).await;
            all.extend(report.checks.iter().map(|check| check.name));
            broken.extend(report.failed().map(|check| check.name));
            assert!(
                report.failed().any(|failed| failed.name == check),
                "{clock:?}\n{report}"
            );
        }
        assert_eq!(broken, all, "checks that no planted bug breaks");
    }
}
