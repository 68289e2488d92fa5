//! The best rows of many, when few rows at a time change.

use std::collections::BinaryHeap;

use crate::place::key::OUT;

/// One row in so many is put in line at a time.
const SHARE: usize = 8;
/// Every so many-th key is looked at to learn how good the best are.
const SAMPLED: usize = 8;
/// Where there are no more rows than this, all of them are put in line.
const FEW: usize = 64;
/// Keys looked at together.
const BITS: usize = u64::BITS as usize;

/// A key and its row; the lowest row is the best among equals. In one number, as that is what is sorted
/// soonest: the key, and then how far the row is from the last that there can be.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Entry(u128);

impl Entry {
    #[inline]
    pub(super) fn new(key: u64, row: u32) -> Self {
        Self(u128::from(key) << u32::BITS | u128::from(!row))
    }

    #[inline]
    pub(super) fn key(self) -> u64 {
        (self.0 >> u32::BITS) as u64
    }

    #[inline]
    pub(super) fn row(self) -> usize {
        !(self.0 as u32) as usize
    }
}

/// The best of some rows, in order: each of them is found without a look at any other, and who will come
/// next is known beforehand.
///
/// A row whose key changes leaves the line. It comes back once all that were in it have left, and the
/// next best are put in line: so that a change costs next to nothing.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The rows that had keys of at least `floor` when they were put in line, the best last.
    line: Vec<Entry>,
    /// Rows that were given a key of at least `floor` since, likewise, and perhaps another since.
    risen: BinaryHeap<Entry>,
    floor: u64,
}

impl Line {
    /// Nobody is in line yet.
    pub(super) fn new() -> Self {
        Self {
            line: Vec::new(),
            risen: BinaryHeap::new(),
            floor: u64::MAX,
        }
    }

    /// The line of no rows: whoever comes gets into it.
    pub(super) fn of_none() -> Self {
        Self {
            floor: OUT + 1,
            ..Self::new()
        }
    }

    /// Whether a row of that key, which was another before, is to [`rise`](Self::rise).
    #[inline]
    pub(super) fn rises(&self, key: u64) -> bool {
        key >= self.floor
    }

    /// Takes in a row that was given another key.
    pub(super) fn rise(&mut self, row: usize, key: u64) {
        self.risen.push(Entry::new(key, row as u32));
    }

    /// How many have risen, those that left since among them.
    pub(super) fn risen(&self) -> usize {
        self.risen.len()
    }

    /// Lets those go that have risen and left since.
    pub(super) fn sift(&mut self, key_now: impl Fn(usize) -> u64) {
        let mut risen = std::mem::take(&mut self.risen).into_vec();
        risen.retain(|entry| key_now(entry.row()) == entry.key());
        risen.sort_unstable();
        risen.dedup();
        self.risen = risen.into();
    }

    /// The largest key of a row in line, and the lowest row that has it, if somebody is in line. `has_left`
    /// says whether a row has another key than when it was put there, `key_now` which key one has.
    pub(super) fn best(
        &mut self,
        has_left: impl Fn(usize, u64) -> bool,
        key_now: impl Fn(usize) -> u64,
    ) -> Option<Entry> {
        while let Some(entry) = self.line.last()
            && has_left(entry.row(), entry.key())
        {
            self.line.pop();
        }
        let first = self.line.last().copied();
        // Who has risen is asked for its key only if it would be the best.
        while let Some(&risen) = self.risen.peek()
            && Some(risen) > first
        {
            if key_now(risen.row()) == risen.key() {
                return Some(risen);
            }
            self.risen.pop();
        }
        first
    }

    /// The rows in line, the best first, those that have left among them.
    pub(super) fn coming(&self) -> impl Iterator<Item = usize> {
        self.line.iter().rev().map(|entry| entry.row())
    }

    /// Whether whoever is not in line is out.
    pub(super) fn holds_all(&self) -> bool {
        self.floor <= OUT + 1
    }

    /// How many are in line.
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    /// Puts the best of the rows that have these `keys` in line anew. `row` says which they are, in order.
    pub(super) fn rank(&mut self, keys: &[u64], row: impl Fn(u32) -> u32) {
        self.floor = floor(keys);
        self.risen.clear();
        self.line.clear();
        for (keys, first) in keys.chunks(BITS).zip((0..).step_by(BITS)) {
            // Whether one of them is among the best nobody can guess: so no branch hangs on it.
            let mut best = 0u64;
            for (at, &key) in keys.iter().enumerate() {
                best |= u64::from(key >= self.floor) << at;
            }
            while best != 0 {
                let at = best.trailing_zeros();
                self.line
                    .push(Entry::new(keys[at as usize], row(first + at)));
                best &= best - 1;
            }
        }
        self.line.sort_unstable();
    }
}

/// A key that about one row in [`SHARE`] has or exceeds: at least one of those sampled.
fn floor(keys: &[u64]) -> u64 {
    let lowest = OUT + 1;
    if keys.len() <= FEW {
        return lowest;
    }
    let mut sample: Vec<u64> = keys.iter().copied().step_by(SAMPLED).collect();
    let nth = sample.len() - 1 - sample.len() / SHARE;
    let (_, &mut floor, _) = sample.select_nth_unstable(nth);
    floor.max(lowest)
}
