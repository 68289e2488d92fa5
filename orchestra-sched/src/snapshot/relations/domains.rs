//! The domains of one topology key: which nodes are near each other.

use smol_str::SmolStr;
use std::collections::BTreeMap;

use crate::snapshot::{NodeIx, Snapshot};

/// The domain of a node that lacks the label.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// The values of one node label, numbered in the order of the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domains {
    pub(crate) key: SmolStr,
    /// By row; [`NOWHERE`] where the node lacks the label.
    of: Vec<u32>,
    /// By number.
    values: Vec<SmolStr>,
}

impl Domains {
    pub(crate) fn new(snapshot: &Snapshot, key: &SmolStr) -> Self {
        let mut numbers: BTreeMap<&SmolStr, u32> = BTreeMap::new();
        let mut values = Vec::new();
        let of = snapshot.nodes().map(|(_, node)| {
            let Some(value) = node.facts().labels.get(key) else {
                return NOWHERE;
            };
            *numbers.entry(value).or_insert_with(|| {
                values.push(value.clone());
                values.len() as u32 - 1
            })
        });
        let of = of.collect();
        Self {
            key: key.clone(),
            of,
            values,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// By row.
    pub(crate) fn of_rows(&self) -> &[u32] {
        &self.of
    }

    /// The domain of a node, if it is in one.
    pub(crate) fn of(&self, node: NodeIx) -> Option<usize> {
        let domain = self.of[node.row()];
        (domain != NOWHERE).then_some(domain as usize)
    }

    /// The rows of each domain: where they start, one more than there are domains, and all of them.
    pub(crate) fn members(&self) -> (Vec<u32>, Vec<u32>) {
        let mut starts = vec![0; self.len() + 1];
        let inside = || self.of.iter().filter(|&&domain| domain != NOWHERE);
        inside().for_each(|&domain| starts[domain as usize + 1] += 1);
        for domain in 0..self.len() {
            starts[domain + 1] += starts[domain];
        }
        let (mut next, mut rows) = (starts.clone(), vec![0; inside().count()]);
        for (row, &domain) in self.of.iter().enumerate() {
            if domain != NOWHERE {
                let at = &mut next[domain as usize];
                rows[*at as usize] = row as u32;
                *at += 1;
            }
        }
        (starts, rows)
    }

    pub(crate) fn value(&self, domain: usize) -> &SmolStr {
        &self.values[domain]
    }
}
