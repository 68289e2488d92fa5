//! The order of nodes by name, in numbers: who has to compare many names compares those.

use smol_str::SmolStr;

/// Which row's name comes how far.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameOrder {
    /// By row: how many names come before its own.
    ranks: Vec<u32>,
    /// The rows, by name.
    rows: Vec<u32>,
}

impl NameOrder {
    /// The order of `names`, which differ, by row.
    pub(crate) fn of(names: &[SmolStr]) -> Self {
        let mut rows: Vec<u32> = (0..names.len() as u32).collect();
        rows.sort_unstable_by(|&a, &b| names[a as usize].cmp(&names[b as usize]));
        let mut ranks = vec![0; rows.len()];
        for (rank, &row) in rows.iter().enumerate() {
            ranks[row as usize] = rank as u32;
        }
        Self { ranks, rows }
    }

    /// By row: how many names come before its own.
    pub(crate) fn ranks(&self) -> &[u32] {
        &self.ranks
    }

    /// Takes in the last of `names`, which is new.
    pub(crate) fn push(&mut self, names: &[SmolStr]) {
        let Some((name, others)) = names.split_last() else {
            return;
        };
        let before = |&row: &u32| others[row as usize] < *name;
        let place = self.rows.partition_point(before);
        for rank in &mut self.ranks {
            *rank += u32::from(*rank >= place as u32);
        }
        self.ranks.push(place as u32);
        self.rows.insert(place, others.len() as u32);
    }

    /// Row `at` is gone, and the last row is in its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        let gone = self.ranks.swap_remove(at);
        self.rows.remove(gone as usize);
        for rank in &mut self.ranks {
            *rank -= u32::from(*rank > gone);
        }
        if let Some(&rank) = self.ranks.get(at) {
            self.rows[rank as usize] = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_that_come_and_go_are_in_the_order_of_those_left(
            steps in proptest::collection::vec((0u32..60, 0usize..60), 0..80),
        ) {
            let mut names: Vec<SmolStr> = Vec::new();
            let mut order = NameOrder::of(&names);
            for (name, at) in steps {
                let name = SmolStr::from(format!("n{name}"));
                if names.contains(&name) {
                    let at = at % names.len();
                    names.swap_remove(at);
                    order.swap_remove(at);
                } else {
                    names.push(name);
                    order.push(&names);
                }
                let plain = |name: &SmolStr| names.iter().filter(|other| *other < name).count();
                let wanted: Vec<u32> = names.iter().map(|name| plain(name) as u32).collect();
                prop_assert_eq!(order.ranks(), &wanted[..]);
                let anew = NameOrder::of(&names);
                prop_assert_eq!(anew.ranks(), &wanted[..]);
            }
        }
    }
}
