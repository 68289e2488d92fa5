//! Rows whose keys say all, in lines by cell.

use super::line::{Entry, Line};
use super::Own;
use crate::place::bits::Bits;
use crate::place::key::{OUT, at_most, tied};
use crate::snapshot::relations::Division;

/// Keys are not kept where at least one row in so many is in each cell's line.
const LINE_SHARE: usize = 64;

/// The rows in the running, the best of each cell in line.
#[derive(Debug, Default)]
pub(super) struct Plain {
    rows: usize,
    /// By cell.
    lines: Vec<Line>,
    /// By row, but for the rows that moved. Empty if so many are in line that no more will probably be asked
    /// for.
    keys: Vec<u64>,
    /// Rows that were given other keys since, in order, and what those are at most; [`OUT`] if they are out.
    /// Whoever notes one does not wait for the row's key to be looked up.
    moved: Vec<(u32, u64)>,
    /// The rows that were given another key since their cell was put in line.
    left: Bits,
    /// Rows that must not win.
    hidden: Bits,
    /// How often the best will be asked for, as far as that is known.
    expected: usize,
}

impl Plain {
    /// The cells of `rows` rows.
    pub(super) fn new(rows: usize, division: &Division) -> Self {
        Self {
            rows,
            lines: vec![Line::new(); division.len()],
            left: Bits::new(rows),
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
        self.left.put(row);
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
        if self.hidden.has(row) {
            OUT
        } else {
            own.key(row)
        }
    }

    /// Keeps a row from being the best.
    pub(super) fn hide(&mut self, row: usize) {
        if self.hidden.is_empty() {
            self.hidden = Bits::new(self.rows);
        }
        self.hidden.put(row);
        self.note(row, OUT);
    }

    /// Lets a row back in that has this key.
    pub(super) fn unhide(&mut self, division: &Division, row: usize, key: u64) {
        self.hidden.take(row);
        self.note(row, key);
        self.rise(division.cell_of(row), division, row, key);
    }

    /// The rows that will mostly be best next, of each open cell.
    pub(super) fn coming(&self, open: &[bool], count: usize) -> impl Iterator<Item = usize> {
        let lines = self.lines.iter().zip(open).filter(|(_, open)| **open);
        let each = count.div_ceil(lines.clone().count().max(1));
        lines.flat_map(move |(line, _)| {
            let coming = line.coming().filter(|&row| !self.left.has(row));
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
            let key_now = |row| match hidden.has(row) {
                true => OUT,
                false => own.key(row),
            };
            let line = &mut self.lines[cell];
            let best = line.best(|row, _| left.has(row), key_now);
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
            if !self.hidden.is_empty() {
                let hidden = (0..self.keys.len()).filter(|&row| self.hidden.has(row));
                hidden.for_each(|row| self.keys[row] = OUT);
            }
            self.moved.clear();
            (0..self.lines.len()).for_each(|cell| self.put_in_line(cell, division));
        } else {
            self.update(own);
            self.put_in_line(cell, division);
        }
        let wanted = self.expected.max(self.keys.len() / LINE_SHARE);
        let mut lines = self.lines.iter();
        if lines.all(|line| line.len() >= wanted || line.holds_all()) {
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
                (_, OUT) if self.hidden.has(row) => OUT,
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
                self.left.take(row as usize);
            }
        }
    }
}
