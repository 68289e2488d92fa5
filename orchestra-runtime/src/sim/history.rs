//! What happened, line by line.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines of the history that a [`Report`](super::Report) keeps: the last ones.
pub const HISTORY_LINES_MAX: usize = 20_000;

/// The history of a run: kept up to a bound, streamed wholly to a writer if there is one, and
/// summed up in a checksum.
pub(super) struct History(Mutex<Inner>);

struct Inner {
    kept: VecDeque<String>,
    to: Option<Box<dyn Write + Send>>,
    digest: u64,
}

impl History {
    pub(super) fn new(to: Option<Box<dyn Write + Send>>) -> Self {
        Self(Mutex::new(Inner {
            kept: VecDeque::new(),
            to,
            digest: FNV_START,
        }))
    }

    pub(super) fn line(&self, after: Duration, text: fmt::Arguments<'_>) {
        let line = format!("{} {text}", elapsed(after));
        let mut inner = self.lock();
        inner.digest = fnv(inner.digest, line.as_bytes());
        if let Some(to) = &mut inner.to
            && let Err(error) = writeln!(to, "{line}")
        {
            tracing::warn!(%error, "the history cannot be written any further");
            inner.to = None;
        }
        if inner.kept.len() == HISTORY_LINES_MAX {
            inner.kept.pop_front();
        }
        inner.kept.push_back(line);
    }

    /// The lines that are kept, and the checksum of all.
    pub(super) fn close(&self) -> (Vec<String>, u64) {
        let mut inner = self.lock();
        if let Some(mut to) = inner.to.take()
            && let Err(error) = to.flush()
        {
            tracing::warn!(%error, "the end of the history was not written");
        }
        (std::mem::take(&mut inner.kept).into(), inner.digest)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("digest", &self.lock().digest)
            .finish_non_exhaustive()
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A checksum of bytes, to tell values apart.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    fnv(FNV_START, bytes)
}

/// `hh:mm:ss.micros`, as lines of the history begin.
pub(super) fn elapsed(after: Duration) -> String {
    let seconds = after.as_secs();
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:06}",
        seconds % 60,
        after.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_all_count() {
        let (a, b) = (History::new(None), History::new(None));
        for n in 0..HISTORY_LINES_MAX + 5 {
            a.line(Duration::from_millis(1), format_args!("{n}"));
            b.line(
                Duration::from_millis(1),
                format_args!("{}", n + usize::from(n == 0)),
            );
        }
        let ((a, sum), (b, other)) = (a.close(), b.close());
        assert_eq!(
            (a.len(), a[0].as_str()),
            (HISTORY_LINES_MAX, "00:00:00.001000 5")
        );
        assert_eq!(a, b);
        assert_ne!(sum, other);
    }
}
