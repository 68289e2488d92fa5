//! The best row of many, when one row at a time changes.

/// Keys in a complete binary tree whose every node holds the larger of its children: the best is
/// read from the root, and a change walks one path.
#[derive(Clone, Debug)]
pub(crate) struct Tournament {
    /// Node 1 is the root; the leaves start at `leaves`.
    nodes: Vec<u64>,
    leaves: usize,
}

impl Tournament {
    /// No such row, or a row that must not win.
    pub(crate) const OUT: u64 = 0;

    /// A tournament among `keys`.
    pub(crate) fn new(keys: &[u64]) -> Self {
        let leaves = keys.len().next_power_of_two().max(1);
        let mut nodes = vec![Self::OUT; 2 * leaves];
        nodes[leaves..leaves + keys.len()].copy_from_slice(keys);
        for at in (1..leaves).rev() {
            nodes[at] = nodes[2 * at].max(nodes[2 * at + 1]);
        }
        Self { nodes, leaves }
    }

    /// The row with the largest key, the lowest among equals; `None` if all are out.
    pub(crate) fn best(&self) -> Option<usize> {
        let top = self.nodes[1];
        if top == Self::OUT {
            return None;
        }
        let mut at = 1;
        while at < self.leaves {
            at = 2 * at + usize::from(self.nodes[2 * at] != top);
        }
        Some(at - self.leaves)
    }

    /// The key of `row`.
    pub(crate) fn key(&self, row: usize) -> u64 {
        self.nodes[self.leaves + row]
    }

    /// Gives `row` another key.
    pub(crate) fn set(&mut self, row: usize, key: u64) {
        let mut at = self.leaves + row;
        self.nodes[at] = key;
        while at > 1 {
            let winner = self.nodes[at].max(self.nodes[at ^ 1]);
            at /= 2;
            if self.nodes[at] == winner {
                return;
            }
            self.nodes[at] = winner;
        }
    }
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
            mut keys in proptest::collection::vec(0u64..6, 0..40),
            changes in proptest::collection::vec((0usize..40, 0u64..8), 0..80),
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
