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
            digest: 0,
        }))
    }

    pub(super) fn line(&self, after: Duration, text: fmt::Arguments<'_>) {
        let line = format!("{} {text}", elapsed(after));
        let mut inner = self.lock();
        inner.digest = sum(inner.digest, line.as_bytes());
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

/// FNV-1a: for short texts, whose every bit must count.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A checksum of bytes behind `start`, to tell values apart: eight bytes at a time, each step
/// reversible, so that values of one length which differ in one word never meet.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words
        .iter()
        .fold(start, |sum, word| step(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(whole, u64::from_le_bytes(last)), bytes.len() as u64)
}

/// A checksum of a value.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    sum(0, bytes)
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
    fn values_that_differ_anywhere_have_other_checksums() {
        let value: Vec<u8> = (0..61).collect();
        let whole = checksum(&value);
        for at in 0..value.len() {
            let mut other = value.clone();
            other[at] ^= 1;
            assert_ne!(checksum(&other), whole, "byte {at}");
            assert_ne!(checksum(&value[..at]), whole);
        }
        assert_ne!(checksum(&[0; 8]), checksum(&[0; 16]), "length counts");
    }

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
