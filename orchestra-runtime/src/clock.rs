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
