//! Whether and when an ended container starts again.

use std::time::Duration;

use orchestra_core::kind::pod::RestartPolicy;
use orchestra_core::time::Timestamp;

/// Whether a container that ended, well or not, is started again.
pub fn restarts(policy: RestartPolicy, succeeded: bool) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => !succeeded,
        _ => false,
    }
}

/// How long to wait between restarts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackoffPolicy {
    /// The first wait that is not zero; each further one is twice as long.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// After so long a run, everything starts anew.
    pub reset_after: Duration,
    /// The first restart does not wait.
    pub first_at_once: bool,
}

impl BackoffPolicy {
    /// For the pods of a job: 10 s from the first failure on, doubling to 10 min.
    pub const JOB: Self = Self {
        base: Duration::from_secs(10),
        cap: Duration::from_secs(600),
        reset_after: Duration::MAX,
        first_at_once: false,
    };

    /// How often the pods of a job may fail, unless the job says otherwise.
    pub const JOB_LIMIT: u32 = 6;

    /// The wait before the next restart, after so many that were not reset.
    pub fn delay(&self, restarts: u32) -> Duration {
        let doublings = match (self.first_at_once, restarts) {
            (true, 0) => return Duration::ZERO,
            (true, restarts) => restarts - 1,
            (false, restarts) => restarts,
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

impl Default for BackoffPolicy {
    /// For containers: at once, then 10 s doubling to 5 min; anew after 10 min of clean run.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(10),
            cap: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
            first_at_once: true,
        }
    }
}

/// Counts the restarts of one container.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backoff {
    policy: BackoffPolicy,
    in_row: u32,
}

impl Backoff {
    /// A container that was not restarted yet.
    pub const fn new(policy: BackoffPolicy) -> Self {
        Self { policy, in_row: 0 }
    }

    /// The container ran from `started` to `ended` and shall run again: when. Counts as one
    /// restart.
    pub fn handle_exit(&mut self, started: Timestamp, ended: Timestamp) -> Timestamp {
        if ended.since(started) >= self.policy.reset_after {
            self.in_row = 0;
        }
        let delay = self.policy.delay(self.in_row);
        self.in_row = self.in_row.saturating_add(1);
        ended + delay
    }

    /// How many restarts there were since it last ran for long.
    pub fn in_row(&self) -> u32 {
        self.in_row
    }

    /// Whether there were more failures than a job allows (`backoffLimit`).
    pub fn exhausted(&self, limit: u32) -> bool {
        self.in_row > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn a_crash_loop_waits_longer_and_longer_until_a_clean_run() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..9 {
            let again = backoff.handle_exit(now, now + Duration::from_secs(1));
            waits.push(again.since(now).as_secs() - 1);
            now = again;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.handle_exit(at(0), at(599)), at(899));
        assert_eq!(backoff.handle_exit(at(0), at(600)), at(600));
        assert_eq!(backoff.in_row(), 1);
    }

    #[test]
    fn a_job_waits_from_the_first_failure_on_and_gives_up() {
        let mut backoff = Backoff::new(BackoffPolicy::JOB);
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                assert!(!backoff.exhausted(7));
                backoff.handle_exit(at(0), at(0)).since(at(0)).as_secs()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert!(backoff.exhausted(BackoffPolicy::JOB_LIMIT));
    }

    #[test]
    fn the_wait_never_passes_its_cap_and_never_overflows() {
        let policy = BackoffPolicy {
            cap: Duration::MAX,
            ..BackoffPolicy::default()
        };
        let mut last = Duration::ZERO;
        for restarts in (0..200).chain([u32::MAX]) {
            let delay = policy.delay(restarts);
            assert!(delay >= last);
            last = delay;
        }
        assert_eq!(
            BackoffPolicy::default().delay(u32::MAX),
            Duration::from_secs(300)
        );
    }

    #[test]
    fn who_restarts() {
        use RestartPolicy::{Always, Never, OnFailure};
        let table = [Always, OnFailure, Never].map(|p| (restarts(p, true), restarts(p, false)));
        assert_eq!(table, [(true, true), (false, true), (false, false)]);
    }
}
