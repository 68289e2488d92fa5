//! The last bytes that were printed.

use std::collections::VecDeque;

/// Keeps the newest bytes of a stream, at most as many as it was made for.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    bytes_max: usize,
}

impl Ring {
    /// An empty ring. Memory is taken as bytes come, up to `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            bytes_max,
        }
    }

    /// Adds bytes; the oldest make room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.bytes_max)..];
        let surplus = (self.bytes.len() + kept.len()).saturating_sub(self.bytes_max);
        self.bytes.drain(..surplus);
        self.bytes.extend(kept);
    }

    /// The newest `bytes_max` bytes, or all if there are fewer.
    pub(super) fn tail(&self, bytes_max: usize) -> Vec<u8> {
        let from = self.bytes.len().saturating_sub(bytes_max);
        self.bytes.range(from..).copied().collect()
    }

    /// How many bytes are held.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The plain twin keeps everything and cuts at the end.
        #[test]
        fn the_newest_bytes_are_kept_and_no_more(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            bytes_max in 0_usize..50,
            asked in 0_usize..60,
        ) {
            let mut ring = Ring::new(bytes_max);
            let mut everything = Vec::new();
            for chunk in &chunks {
                ring.push(chunk);
                everything.extend_from_slice(chunk);
                prop_assert!(ring.len() <= bytes_max);
            }
            let from = everything.len().saturating_sub(bytes_max.min(asked));
            prop_assert_eq!(ring.tail(asked), &everything[from..]);
        }
    }
}
