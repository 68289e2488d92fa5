//! The best row of many, when one row at a time changes.

/// Children of a node: as many keys as a cache line holds.
const FAN: usize = 8;

/// Keys in a complete tree whose every node holds the largest of its eight children: the best is
/// read from the root, and a change walks one path.
#[derive(Clone, Debug)]
pub(crate) struct Tournament {
    /// Level by level, the leaves first, each padded to whole families; the last has one key.
    keys: Vec<u64>,
    /// Where each level starts.
    levels: Vec<usize>,
    rows: usize,
}

impl Tournament {
    /// No such row, or a row that must not win.
    pub(crate) const OUT: u64 = 0;

    /// A tournament among the rows below `rows`, all of them out.
    pub(crate) fn empty(rows: usize) -> Self {
        let mut levels = vec![0];
        let (mut width, mut len) = (rows.max(1), 0);
        while width > 1 {
            len += width.next_multiple_of(FAN);
            levels.push(len);
            width = width.div_ceil(FAN);
        }
        Self {
            keys: vec![Self::OUT; len + 1],
            levels,
            rows,
        }
    }

    /// A tournament among `keys`.
    #[cfg(test)]
    pub(crate) fn new(keys: &[u64]) -> Self {
        let mut tournament = Self::empty(keys.len());
        tournament.leaves_mut().copy_from_slice(keys);
        tournament.play();
        tournament
    }

    /// The keys by row. [`play`](Self::play) after changing them.
    pub(crate) fn leaves_mut(&mut self) -> &mut [u64] {
        &mut self.keys[..self.rows]
    }

    /// Finds all winners anew.
    pub(crate) fn play(&mut self) {
        for level in 1..self.levels.len() {
            let (below, above) = self.keys.split_at_mut(self.levels[level]);
            let below = &below[self.levels[level - 1]..];
            let (families, _) = below.as_chunks::<FAN>();
            for (winner, family) in above.iter_mut().zip(families) {
                *winner = largest(family);
            }
        }
    }

    /// The largest key of all.
    pub(crate) fn top(&self) -> u64 {
        self.keys[self.keys.len() - 1]
    }

    /// The row with the largest key, the lowest among equals; `None` if all are out.
    pub(crate) fn best(&self) -> Option<usize> {
        let top = self.top();
        if top == Self::OUT {
            return None;
        }
        let mut at = 0;
        for &start in self.levels.iter().rev().skip(1) {
            let family = &self.keys[start + at * FAN..][..FAN];
            at = at * FAN + family.iter().position(|&key| key == top).unwrap_or(0);
        }
        Some(at)
    }

    /// The key of `row`.
    pub(crate) fn key(&self, row: usize) -> u64 {
        self.keys[row]
    }

    /// Gives `row` another key.
    pub(crate) fn set(&mut self, row: usize, key: u64) {
        self.keys[row] = key;
        let mut at = row;
        for pair in self.levels.windows(2) {
            let [below, above] = [pair[0], pair[1]];
            at /= FAN;
            let winner = match self.keys[below + at * FAN..].first_chunk::<FAN>() {
                Some(family) => largest(family),
                None => return,
            };
            if self.keys[above + at] == winner {
                return;
            }
            self.keys[above + at] = winner;
        }
    }
}

#[inline]
fn largest(family: &[u64; FAN]) -> u64 {
    let [a, b, c, d, e, f, g, h] = *family;
    a.max(b).max(c.max(d)).max(e.max(f).max(g.max(h)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(keys: &[u64]) -> Option<usize> {
        let best = keys
            .iter()
            .copied()
            .max()
            .filter(|&key| key != Tournament::OUT)?;
        keys.iter().position(|&key| key == best)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_root_is_the_maximum_after_every_change(
            mut keys in proptest::collection::vec(0u64..6, 0..600),
            changes in proptest::collection::vec((0usize..600, 0u64..8), 0..80),
        ) {
            let mut tournament = Tournament::new(&keys);
            prop_assert_eq!(tournament.best(), plain(&keys));
            for (row, key) in changes {
                if row < keys.len() {
                    keys[row] = key;
                    tournament.set(row, key);
                    prop_assert_eq!(tournament.best(), plain(&keys));
                }
            }
        }
    }
}
