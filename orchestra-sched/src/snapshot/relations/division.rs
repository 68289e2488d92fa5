//! The rows, divided by the domains of several keys at once.

use std::sync::Arc;

use super::domains::Members;
use super::{Domains, NOWHERE};

/// No cell yet.
const UNSEEN: u32 = u32::MAX;

/// Rows in cells: those of one cell are in the same domains of all keys.
#[derive(Debug, Default)]
pub(crate) struct Division {
    keys: Vec<Arc<Domains>>,
    /// By cell: its domain of each key; [`NOWHERE`] if its rows lack the label.
    domains: Vec<Vec<u32>>,
    /// By row. Empty if there is no key.
    cell_of: Vec<u32>,
    members: Members,
}

impl Division {
    /// `rows` rows by `keys`, which have so few domains that a table of all their combinations is small.
    /// Cells are numbered in the order of the rows.
    pub(crate) fn new(rows: usize, keys: &[Arc<Domains>]) -> Self {
        let mut division = Self {
            keys: keys.to_vec(),
            ..Self::default()
        };
        if keys.is_empty() || rows == 0 {
            division.domains.push(vec![NOWHERE; keys.len()]);
            return division;
        }
        let combinations = keys.iter().map(|key| key.len() + 1).product();
        let mut cells = vec![UNSEEN; combinations];
        division.cell_of.reserve_exact(rows);
        for row in 0..rows {
            let combination = keys.iter().fold(0, |all, key| {
                let domain = (key.of_rows()[row] as usize).min(key.len());
                all * (key.len() + 1) + domain
            });
            let cell = &mut cells[combination];
            if *cell == UNSEEN {
                *cell = division.domains.len() as u32;
                let domains = keys.iter().map(|key| key.of_rows()[row]);
                division.domains.push(domains.collect());
            }
            division.cell_of.push(*cell);
        }
        division.members = Members::new(division.domains.len(), &division.cell_of);
        division
    }

    /// Whether these are the keys, in this order.
    pub(super) fn is_by(&self, keys: &[Arc<Domains>]) -> bool {
        let pairs = || self.keys.iter().zip(keys);
        self.keys.len() == keys.len() && pairs().all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Which of the keys that is.
    pub(crate) fn key(&self, domains: &Arc<Domains>) -> Option<usize> {
        let mut keys = self.keys.iter();
        keys.position(|known| Arc::ptr_eq(known, domains))
    }

    /// How many cells there are: one at least.
    pub(crate) fn len(&self) -> usize {
        self.domains.len()
    }

    /// Whether rows are told apart at all.
    pub(crate) fn is_bare(&self) -> bool {
        self.cell_of.is_empty()
    }

    /// A row's cell.
    pub(crate) fn cell_of(&self, row: usize) -> usize {
        self.cell_of.get(row).map_or(0, |&cell| cell as usize)
    }

    /// A cell's domain of one of the keys; [`NOWHERE`] if its rows lack the label.
    pub(crate) fn domain(&self, cell: usize, key: usize) -> u32 {
        self.domains[cell][key]
    }

    /// A cell's rows, in order. None are listed if there is no key.
    pub(crate) fn rows(&self, cell: usize) -> &[u32] {
        self.members.rows(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key(of: &[u32]) -> Arc<Domains> {
        let of = of
            .iter()
            .map(|&domain| if domain == 3 { NOWHERE } else { domain });
        Arc::new(Domains::numbered(3, of.collect()))
    }

    proptest! {
        #[test]
        fn rows_share_a_cell_if_they_share_all_domains(
            zones in vec(0u32..4, 0..40),
            racks in vec(0u32..4, 40),
        ) {
            let rows = zones.len();
            let keys = [key(&zones), key(&racks[..rows])];
            let division = Division::new(rows, &keys);
            for one in 0..rows {
                let cell = division.cell_of(one);
                prop_assert_eq!(division.domain(cell, 0), keys[0].of_rows()[one]);
                prop_assert_eq!(division.domain(cell, 1), keys[1].of_rows()[one]);
                prop_assert!(division.rows(cell).contains(&(one as u32)));
                for other in 0..rows {
                    let together = zones[one] == zones[other] && racks[one] == racks[other];
                    prop_assert_eq!(cell == division.cell_of(other), together);
                }
            }
            prop_assert!(division.is_by(&keys) && !division.is_by(&keys[..1]));
        }
    }
}
