//! What a run came to.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use tokio::sync::Notify;

/// A run in which every invariant held.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the run.
    pub seed: u64,
    /// The last lines of the history, at most [`HISTORY_LINES_MAX`](super::HISTORY_LINES_MAX):
    /// one for each changed key of each commit, and one for each fault.
    pub history: Vec<String>,
    /// A checksum over all lines of the history, also those that are not kept.
    pub digest: u64,
    /// How often invariants were checked: after each commit, and at each start of a workload.
    pub steps: u64,
    /// Commits that landed.
    pub commits: u64,
    /// Faults that were made, by script or by chance. Faults of single calls are not counted
    /// here.
    pub faults: u64,
    /// Calls that were lost, late, doubled, refused, or answered with an unknown outcome.
    pub calls_disturbed: u64,
    /// Starts of workloads.
    pub starts: u64,
    /// How long the cluster lived, in its own time.
    pub lived: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} h {} min, {} commits, {} starts, {} faults, {} disturbed calls, {} \
             checks, digest {:016x}",
            self.seed,
            self.lived.as_secs() / 3_600,
            self.lived.as_secs() / 60 % 60,
            self.commits,
            self.starts,
            self.faults,
            self.calls_disturbed,
            self.steps,
            self.digest,
        )
    }
}

/// Something that must never be, was.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Violation {
    /// Which invariant, in a word: `capacity`, `one-life`, `placement`, `convergence` …
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in the cluster's time.
    pub at: Timestamp,
    /// How long after its start.
    pub after: Duration,
    /// The newest revision then.
    pub revision: Revision,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invariant {:?} broken {} after the start, at revision {}: {}",
            self.invariant,
            super::history::elapsed(self.after),
            self.revision,
            self.what
        )
    }
}

impl std::error::Error for Violation {}

/// A run that did not go well. Its text ends with how to see it again.
#[derive(Clone)]
pub struct Failure {
    why: Why,
    replay: String,
    report: Box<Report>,
}

#[derive(Clone, Debug)]
enum Why {
    Violation(Violation),
    Story(String),
}

impl Failure {
    pub(super) fn violation(violation: Violation, replay: String, report: Report) -> Self {
        Self {
            why: Why::Violation(violation),
            replay,
            report: Box::new(report),
        }
    }

    pub(super) fn story(why: String, replay: String, report: Report) -> Self {
        Self {
            why: Why::Story(why),
            replay,
            report: Box::new(report),
        }
    }

    /// The invariant that was broken; `None` if the story itself failed.
    pub fn broken(&self) -> Option<&Violation> {
        match &self.why {
            Why::Violation(violation) => Some(violation),
            Why::Story(_) => None,
        }
    }

    /// How to see it again.
    pub fn replay(&self) -> &str {
        &self.replay
    }

    /// The run up to then.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// Lines of the history that a failure shows.
const LINES_SHOWN: usize = 20;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let history = &self.report.history;
        for line in &history[history.len().saturating_sub(LINES_SHOWN)..] {
            writeln!(f, "  {line}")?;
        }
        match &self.why {
            Why::Violation(violation) => writeln!(f, "seed {}: {violation}", self.report.seed)?,
            Why::Story(why) => writeln!(f, "seed {}: {why}", self.report.seed)?,
        }
        write!(f, "replay: {}", self.replay)
    }
}

/// As [`Display`](fmt::Display): what `unwrap` prints is for people.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Where violations go: the first counts.
#[derive(Debug, Default)]
pub(super) struct Sink {
    first: Mutex<Option<Violation>>,
    raised: Notify,
}

impl Sink {
    pub(super) fn raise(&self, violation: Violation) {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(violation);
        self.raised.notify_one();
    }

    pub(super) fn first(&self) -> Option<Violation> {
        self.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for the first. Cancel-safe.
    pub(super) async fn broken(&self) -> Violation {
        loop {
            if let Some(first) = self.first() {
                return first;
            }
            self.raised.notified().await;
        }
    }
}
