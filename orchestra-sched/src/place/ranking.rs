//! The best row of many, when few rows at a time change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::key::OUT;

/// One row in so many is put in line at a time.
const SHARE: usize = 8;
/// Every so many-th key is looked at to learn how good the best are.
const SAMPLED: usize = 8;
/// Where there are no more rows than this, all of them are put in line.
const FEW: usize = 64;
/// Keys looked at together.
const BITS: usize = u64::BITS as usize;

/// A key and its row; the lowest row is the best among equals.
type Entry = (u64, Reverse<u32>);

/// Rows by key, of which the best stand in line: each of them is found without a look at any other, and who
/// will come next is known beforehand.
///
/// A row whose key changes leaves the line. It comes back once all that were in it have left, and the
/// next best are put in line: so that a change costs nothing but to write down the new key.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// By row.
    keys: Vec<u64>,
    /// The rows that had keys of at least `floor` when they were put in line, the best last. Those
    /// that were given another key since have left.
    line: Vec<Entry>,
    /// Rows that were given a key of at least `floor` since, likewise.
    risen: BinaryHeap<Entry>,
    floor: u64,
}

impl Ranking {
    /// Rows that have these keys.
    pub(super) fn of(keys: Vec<u64>) -> Self {
        Self {
            keys,
            line: Vec::new(),
            risen: BinaryHeap::new(),
            floor: u64::MAX,
        }
    }

    /// The key of `row`.
    pub(super) fn key(&self, row: usize) -> u64 {
        self.keys[row]
    }

    /// Gives `row` another key.
    pub(super) fn set(&mut self, row: usize, key: u64) {
        let before = std::mem::replace(&mut self.keys[row], key);
        if key >= self.floor && key != before {
            if self.risen.len() > FEW + self.keys.len() / SHARE {
                // Mostly such as have left.
                self.rank();
            } else {
                self.risen.push((key, Reverse(row as u32)));
            }
        }
    }

    /// The row with the largest key, the lowest among equals, and its key; `None` if all are out.
    pub(super) fn best(&mut self) -> Option<(usize, u64)> {
        loop {
            let keys = &self.keys;
            let has_left = |&(key, Reverse(row)): &Entry| keys[row as usize] != key;
            while self.line.last().is_some_and(has_left) {
                self.line.pop();
            }
            while self.risen.peek().is_some_and(has_left) {
                self.risen.pop();
            }
            let best = self.line.last().max(self.risen.peek());
            if let Some(&(key, Reverse(row))) = best {
                return Some((row as usize, key));
            }
            if self.floor <= OUT + 1 {
                return None;
            }
            self.rank();
        }
    }

    /// The rows that will be best after those before them have left, unless others rise.
    pub(super) fn coming(&self) -> impl Iterator<Item = usize> {
        let line = self.line.iter().rev();
        let here = line.filter(|&&(key, Reverse(row))| self.keys[row as usize] == key);
        here.map(|&(_, Reverse(row))| row as usize)
    }

    /// Puts the best in line anew.
    fn rank(&mut self) {
        self.floor = self.floor();
        self.risen.clear();
        self.line.clear();
        for (keys, first) in self.keys.chunks(BITS).zip((0..).step_by(BITS)) {
            // Whether one of them is among the best nobody can guess: so no branch hangs on it.
            let mut best = 0u64;
            for (at, &key) in keys.iter().enumerate() {
                best |= u64::from(key >= self.floor) << at;
            }
            while best != 0 {
                let at = best.trailing_zeros();
                self.line.push((keys[at as usize], Reverse(first + at)));
                best &= best - 1;
            }
        }
        self.line.sort_unstable();
    }

    /// A key that about one row in [`SHARE`] has or exceeds: at least one of those sampled.
    fn floor(&self) -> u64 {
        let lowest = OUT + 1;
        if self.keys.len() <= FEW {
            return lowest;
        }
        let mut sample: Vec<u64> = self.keys.iter().copied().step_by(SAMPLED).collect();
        let nth = sample.len() - 1 - sample.len() / SHARE;
        let (_, &mut floor, _) = sample.select_nth_unstable(nth);
        floor.max(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn plain(keys: &[u64]) -> Option<(usize, u64)> {
        let best = keys.iter().copied().max();
        let best = best.filter(|&key| key != OUT)?;
        keys.iter()
            .position(|&key| key == best)
            .map(|row| (row, best))
    }

    proptest! {
        #[test]
        fn the_best_is_the_first_of_the_largest_after_every_change(
            mut keys in prop_oneof![vec(0u64..6, 0..600), vec(0u64..1_000_000, 0..600)],
            changes in vec((0usize..600, prop_oneof![0u64..8, 0u64..2_000_000]), 0..300),
            best_is_changed in any::<bool>(),
        ) {
            let mut ranking = Ranking::of(keys.clone());
            prop_assert_eq!(ranking.best(), plain(&keys));
            for (row, key) in changes {
                let best = ranking.best().filter(|_| best_is_changed);
                let row = best.map_or(row, |(row, _)| row);
                if row < keys.len() {
                    keys[row] = key;
                    ranking.set(row, key);
                    prop_assert_eq!(ranking.key(row), key);
                    prop_assert_eq!(ranking.best(), plain(&keys));
                }
            }
        }

        #[test]
        fn who_is_said_to_come_is_the_best_once_those_before_are_out(
            mut keys in vec(0u64..1_000, 0..600),
            out in vec(0usize..600, 0..40),
        ) {
            let mut ranking = Ranking::of(keys.clone());
            let rows = keys.len();
            for row in out.into_iter().filter(|&row| row < rows) {
                ranking.best();
                keys[row] = OUT;
                ranking.set(row, OUT);
            }
            ranking.best();
            let coming: Vec<usize> = ranking.coming().collect();
            prop_assert_eq!(coming.first().copied(), plain(&keys).map(|(row, _)| row));
            for row in coming {
                prop_assert_eq!(Some((row, keys[row])), plain(&keys));
                keys[row] = OUT;
            }
        }
    }
}
