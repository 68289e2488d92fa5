//! Rows whose keys say all, in lines by cell.

use fixedbitset::FixedBitSet;

use super::Own;
use super::line::{Entry, Line};
use crate::place::key::{OUT, at_most, tied};
use crate::snapshot::relations::Division;

/// Keys are not kept where at least one row in so many is in each cell's line.
const LINE_SHARE: usize = 64;

/// Keys of no more rows than this are not dropped: they stay in a processor's cache.
const FEW_ROWS: usize = 8_192;

/// The rows in the running, the best of each cell in line.
#[derive(Debug, Default)]
pub(super) struct Plain {
    rows: usize,
    /// By cell.
    lines: Vec<Line>,
    /// By row, but for the rows that moved. Empty if rows are many and so many are in line that no more will
    /// probably be asked for.
    keys: Vec<u64>,
    /// Rows that were given other keys since, in order, and what those are at most; [`OUT`] if they are out.
    /// Whoever notes one does not wait for the row's key to be looked up.
    moved: Vec<(u32, u64)>,
    /// The rows that were given another key since their cell was put in line.
    left: FixedBitSet,
    /// Rows that must not win.
    hidden: FixedBitSet,
    /// How often the best will be asked for, as far as that is known.
    expected: usize,
    /// Keys are not dropped where there are no more rows than this.
    few_rows: usize,
}

impl Plain {
    /// The cells of `rows` rows.
    pub(super) fn new(rows: usize, division: &Division) -> Self {
        Self {
            rows,
            lines: vec![Line::new(); division.len()],
            left: FixedBitSet::with_capacity(rows),
            few_rows: FEW_ROWS,
            ..Self::default()
        }
    }

    /// So often will the best be asked for.
    pub(super) fn expect(&mut self, expected: usize) {
        self.expected = expected;
    }

    /// Takes in that a row has another weighted score, or does not fit. `key` makes it a key; unless it is the
    /// row of the `same_node`, what settles ties is another, too.
    pub(super) fn set(
        &mut self,
        division: &Division,
        row: usize,
        sum: Option<u64>,
        same_node: bool,
        key: impl FnOnce(u64) -> u64,
    ) {
        let bound = sum.map_or(OUT, at_most);
        if !same_node {
            self.keys = Vec::new();
        }
        self.note(row, bound);
        let cell = division.cell_of(row);
        if let Some(sum) = sum.filter(|_| self.lines[cell].rises(bound)) {
            self.rise(cell, division, row, key(sum));
        }
    }

    /// Puts a row in line that has another key, if that is good enough.
    fn rise(&mut self, cell: usize, division: &Division, row: usize, key: u64) {
        let line = &mut self.lines[cell];
        if !line.rises(key) {
            return;
        }
        line.rise(row, key);
        let rows = match division.is_bare() {
            true => self.rows,
            false => division.rows(cell).len(),
        };
        if line.risen() > 64 + rows / 8 {
            // Mostly such as have left.
            *line = Line::new();
        }
    }

    /// A row has another key, which is at most `bound`.
    fn note(&mut self, row: usize, bound: u64) {
        self.left.insert(row);
        if self.keys.is_empty() {
            return;
        }
        if self.moved.len() < self.keys.len() {
            self.moved.push((row as u32, bound));
        } else {
            // To find all anew is as quick.
            self.keys = Vec::new();
        }
    }

    /// A row's key, if it may win.
    pub(super) fn key(&self, row: usize, own: &impl Own) -> u64 {
        if self.hidden.contains(row) {
            OUT
        } else {
            own.key(row)
        }
    }

    /// Keeps a row from being the best.
    pub(super) fn hide(&mut self, row: usize) {
        if self.hidden.is_empty() {
            self.hidden = FixedBitSet::with_capacity(self.rows);
        }
        self.hidden.insert(row);
        self.note(row, OUT);
    }

    /// Lets a row back in that has this key.
    pub(super) fn unhide(&mut self, division: &Division, row: usize, key: u64) {
        if self.hidden.contains(row) {
            self.hidden.remove(row);
        }
        self.note(row, key);
        self.rise(division.cell_of(row), division, row, key);
    }

    /// The rows that will mostly be best next, of each open cell.
    pub(super) fn coming(&self, open: &[bool], count: usize) -> impl Iterator<Item = usize> {
        let lines = self.lines.iter().zip(open).filter(|(_, open)| **open);
        let each = count.div_ceil(lines.clone().count().max(1));
        lines.flat_map(move |(line, _)| {
            let coming = line.coming().filter(|&row| !self.left.contains(row));
            coming.take(each)
        })
    }

    /// The row with the largest key in an open cell, the lowest among equals, and its key.
    pub(super) fn best(
        &mut self,
        division: &Division,
        open: &[bool],
        own: &impl Own,
    ) -> Option<(usize, u64)> {
        let mut best = None;
        for cell in (0..self.lines.len()).filter(|&cell| open[cell]) {
            best = best.max(self.best_in(cell, division, own));
        }
        best.map(|entry: Entry| (entry.row(), entry.key()))
    }

    fn best_in(&mut self, cell: usize, division: &Division, own: &impl Own) -> Option<Entry> {
        loop {
            let (left, hidden) = (&self.left, &self.hidden);
            let key_now = |row| match hidden.contains(row) {
                true => OUT,
                false => own.key(row),
            };
            let line = &mut self.lines[cell];
            let best = line.best(|row, _| left.contains(row), key_now);
            if best.is_some() || line.holds_all() {
                return best;
            }
            self.rank(cell, division, own);
        }
    }

    /// Puts the best of a cell in line anew, or of all where no keys are kept.
    fn rank(&mut self, cell: usize, division: &Division, own: &impl Own) {
        if self.keys.is_empty() {
            self.keys = own.keys();
            for row in self.hidden.ones() {
                self.keys[row] = OUT;
            }
            self.moved.clear();
            (0..self.lines.len()).for_each(|cell| self.put_in_line(cell, division));
        } else {
            self.update(own);
            self.put_in_line(cell, division);
        }
        let wanted = self.expected.max(self.keys.len() / LINE_SHARE);
        let mut lines = self.lines.iter();
        if self.rows > self.few_rows && lines.all(|line| line.len() >= wanted || line.holds_all()) {
            self.keys = Vec::new();
        }
    }

    /// Brings the keys up to date.
    fn update(&mut self, own: &impl Own) {
        for (row, bound) in self.moved.drain(..) {
            let row = row as usize;
            let key = &mut self.keys[row];
            *key = match (bound, *key) {
                (OUT, _) => OUT,
                (_, OUT) if self.hidden.contains(row) => OUT,
                (_, OUT) => own.key(row),
                (bound, old) => tied(bound, old),
            };
        }
    }

    fn put_in_line(&mut self, cell: usize, division: &Division) {
        let line = &mut self.lines[cell];
        if division.is_bare() {
            self.left.clear();
            line.rank(&self.keys, |at| at);
        } else {
            let rows = division.rows(cell);
            let keys = rows.iter().map(|&row| self.keys[row as usize]);
            line.rank(&keys.collect::<Vec<_>>(), |at| rows[at as usize]);
            for &row in rows {
                self.left.remove(row as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::place::key::key;
    use crate::snapshot::relations::Domains;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// By row: its weighted score, if it fits, and what settles ties.
    struct Rows(Vec<(Option<u64>, u64)>);

    impl Rows {
        fn best(
            &self,
            division: &Division,
            open: &[bool],
            hidden: &[usize],
        ) -> Option<(usize, u64)> {
            let rows = (0..self.0.len()).filter(|row| {
                open[division.cell_of(*row)] && !hidden.contains(row) && self.key(*row) != OUT
            });
            let best = rows.max_by_key(|&row| (self.key(row), std::cmp::Reverse(row)));
            best.map(|row| (row, self.key(row)))
        }
    }

    impl Own for Rows {
        fn key(&self, row: usize) -> u64 {
            let (sum, tie) = self.0[row];
            sum.map_or(OUT, |sum| key(sum, tie, 7))
        }

        fn keys(&self) -> Vec<u64> {
            (0..self.0.len()).map(|row| self.key(row)).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Of this row, or, if none is named, of the best.
        Set(Option<usize>, Option<u64>),
        OtherNode(usize, u64),
        Hide,
        Unhide,
        Open(usize, bool),
        Expect(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let sum = || prop_oneof![8 => (0u64..30).prop_map(Some), 1 => Just(None)];
        prop_oneof![
            8 => sum().prop_map(|sum| Step::Set(None, sum)),
            8 => (0usize..600, sum()).prop_map(|(row, sum)| Step::Set(Some(row), sum)),
            1 => (0usize..600, 0u64..9).prop_map(|(row, tie)| Step::OtherNode(row, tie)),
            1 => Just(Step::Hide),
            1 => Just(Step::Unhide),
            1 => (0usize..4, any::<bool>()).prop_map(|(cell, open)| Step::Open(cell, open)),
            1 => (0usize..300).prop_map(Step::Expect),
        ]
    }

    proptest! {
        #[test]
        fn the_best_is_the_first_of_the_largest_after_every_step(
            rows in prop_oneof![
                vec((proptest::option::weighted(0.9, 0u64..30), 0u64..9), 0..600),
                vec((proptest::option::weighted(0.9, 0u64..30), any::<u64>()), 0..600),
            ],
            cells in proptest::option::of(vec(0u32..4, 600)),
            expected in prop_oneof![Just(0usize), 0usize..900],
            steps in vec(step(), 0..300),
        ) {
            let domain = |row: usize| cells.as_ref().map_or(0, |cells| cells[row]);
            let of: Vec<u32> = (0..rows.len()).map(domain).collect();
            let keys = match &cells {
                Some(_) => vec![Arc::new(Domains::numbered(4, of))],
                None => Vec::new(),
            };
            let division = Division::new(rows.len(), &keys);
            let mut open = vec![true; division.len()];
            let (mut rows, mut hidden) = (Rows(rows), Vec::new());
            let mut plain = Plain::new(rows.0.len(), &division);
            plain.few_rows = 128;
            plain.expect(expected);
            for step in steps {
                let best = plain.best(&division, &open, &rows);
                prop_assert_eq!(best, rows.best(&division, &open, &hidden));
                match step {
                    Step::Set(row, sum) => {
                        let row = row.or(best.map(|(row, _)| row));
                        let known = row.filter(|row| *row < rows.0.len() && !hidden.contains(row));
                        if let Some(row) = known {
                            rows.0[row].0 = sum;
                            let tie = rows.0[row].1;
                            plain.set(&division, row, sum, true, |sum| key(sum, tie, 7));
                        }
                    }
                    Step::OtherNode(row, tie) if row < rows.0.len() && !hidden.contains(&row) => {
                        rows.0[row].1 = tie;
                        let sum = rows.0[row].0;
                        plain.set(&division, row, sum, false, |sum| key(sum, tie, 7));
                    }
                    Step::OtherNode(..) => {}
                    Step::Hide => if let Some((row, key)) = best {
                        prop_assert_eq!(plain.key(row, &rows), key);
                        plain.hide(row);
                        hidden.push(row);
                        prop_assert_eq!(plain.key(row, &rows), OUT);
                    },
                    Step::Unhide => if let Some(row) = hidden.pop() {
                        plain.unhide(&division, row, rows.key(row));
                    },
                    Step::Open(cell, opens) => if let Some(open) = open.get_mut(cell) {
                        *open = opens;
                    },
                    Step::Expect(expected) => plain.expect(expected),
                }
            }
        }

        #[test]
        fn who_is_said_to_come_is_the_best_once_those_before_are_out(
            rows in vec((proptest::option::weighted(0.9, 0u64..30), any::<u64>()), 1..600),
        ) {
            let (division, mut rows) = (Division::new(rows.len(), &[]), Rows(rows));
            let mut plain = Plain::new(rows.0.len(), &division);
            plain.best(&division, &[true], &rows);
            let coming: Vec<usize> = plain.coming(&[true], 40).collect();
            let all = rows.0.iter().filter(|(sum, _)| sum.is_some()).count();
            prop_assert!(!coming.is_empty() || all == 0);
            for row in coming {
                let best = rows.best(&division, &[true], &[]);
                prop_assert_eq!(best, Some((row, rows.key(row))));
                rows.0[row].0 = None;
            }
        }
    }
}
