//! The domains of one topology key: which nodes are near each other.

use smol_str::SmolStr;

use crate::snapshot::{NodeIx, Snapshot, name_hash};

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
        let mut numbers = Numbers::new(snapshot.len());
        let of = snapshot.nodes().map(|(_, node)| {
            let value = node.facts().labels.get(key);
            value.map_or(NOWHERE, |value| numbers.of(value))
        });
        Self {
            key: key.clone(),
            of: of.collect(),
            values: numbers.values.into_iter().cloned().collect(),
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

/// Values, numbered as they come. Each is sought where its hash says, and then from there on: every
/// node may have a value of its own, and an ordered map would compare each with many.
struct Numbers<'a> {
    /// A number and one, or 0; a power of two of them, of which half stay free.
    slots: Vec<u32>,
    values: Vec<&'a SmolStr>,
}

impl<'a> Numbers<'a> {
    /// For so many values at most.
    fn new(values: usize) -> Self {
        Self {
            slots: vec![0; (2 * values).next_power_of_two()],
            values: Vec::new(),
        }
    }

    fn of(&mut self, value: &'a SmolStr) -> u32 {
        let last = self.slots.len() - 1;
        let mut at = name_hash(value) as usize & last;
        loop {
            match self.slots[at].checked_sub(1) {
                Some(number) if self.values[number as usize] == value => return number,
                Some(_) => at = (at + 1) & last,
                None => {
                    self.values.push(value);
                    self.slots[at] = self.values.len() as u32;
                    return self.values.len() as u32 - 1;
                }
            }
        }
    }
}
