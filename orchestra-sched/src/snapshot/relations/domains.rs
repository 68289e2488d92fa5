//! The domains of one topology key: which nodes are near each other.

use std::sync::OnceLock;

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
    /// Once it was asked for.
    members: OnceLock<Members>,
}

/// Rows in parts: those of each domain, or of each cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members {
    /// By part: where its rows start; one more than there are parts.
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Members {
    /// The rows of `parts` parts, in order; `of` says by row which it is in, [`NOWHERE`] if in none.
    pub(crate) fn new(parts: usize, of: &[u32]) -> Self {
        let mut starts = vec![0; parts + 1];
        let inside = || of.iter().filter(|&&part| part != NOWHERE);
        inside().for_each(|&part| starts[part as usize + 1] += 1);
        for part in 0..parts {
            starts[part + 1] += starts[part];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; starts[parts] as usize];
        for (row, &part) in of.iter().enumerate() {
            if part != NOWHERE {
                let at = &mut next[part as usize];
                rows[*at as usize] = row as u32;
                *at += 1;
            }
        }
        Self { starts, rows }
    }

    /// The rows of one part.
    pub(crate) fn rows(&self, part: usize) -> &[u32] {
        &self.rows[self.starts[part] as usize..self.starts[part + 1] as usize]
    }

    /// How many rows are in some part.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
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
            members: OnceLock::new(),
        }
    }

    /// So many domains, by row: which.
    #[cfg(test)]
    pub(crate) fn numbered(domains: usize, of: Vec<u32>) -> Self {
        Self {
            of,
            values: vec![SmolStr::default(); domains],
            ..Self::default()
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

    /// The rows of each domain. The first call finds them.
    pub(crate) fn members(&self) -> &Members {
        self.members
            .get_or_init(|| Members::new(self.len(), &self.of))
    }

    /// Whether every node has the label.
    pub(crate) fn is_complete(&self) -> bool {
        self.members().len() == self.of.len()
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
