//! Rows that score by more than what is theirs: alike in that, they stand in one class, and the best
//! of a class is known by what is a row's own.

use std::collections::BTreeMap;

use super::fence::Fence;
use super::field::Scored;
use super::grades::{Classes, Grades};
use super::line::{Entry, Line};
use crate::place::key::{OUT, TIE_BITS};
use crate::snapshot::{Ledger, NodeIx};

/// A row whose class is not known yet.
const NO_CLASS: u32 = u32::MAX;

/// The rows in the running, in classes of those that all scores that look beyond the row give the
/// same. How many rows each class has is all that those scores have to know, so a change costs what
/// the classes are, not what the rows are.
#[derive(Debug)]
pub(super) struct Graded {
    grades: Grades,
    /// By row: what is its own. [`OUT`] for a row that does not fit.
    keys: Vec<u64>,
    /// By row, the last it was in.
    class_of: Vec<u32>,
    classes: Classes,
    /// By class: the best of its rows, and of such as were there before.
    lines: Vec<Line>,
    by_grade: BTreeMap<Box<[i64]>, u32>,
    /// Classes without rows.
    free: Vec<u32>,
    /// By cell: the class that was last entered there.
    latest: Vec<u32>,
    /// Rows that must not win.
    hidden: Vec<u32>,
    grade: Vec<i64>,
}

impl Graded {
    /// `rows` rows, all out.
    pub(super) fn new(rows: usize, scored: Scored, fence: &Fence, ledger: &Ledger) -> Self {
        let grades = Grades::new(rows, scored, fence, ledger);
        Self {
            classes: Classes::new(grades.width()),
            grades,
            keys: Vec::new(),
            class_of: vec![NO_CLASS; rows],
            lines: Vec::new(),
            by_grade: BTreeMap::new(),
            free: Vec::new(),
            latest: vec![NO_CLASS; fence.division().len()],
            hidden: Vec::new(),
            grade: Vec::new(),
        }
    }

    /// Takes in what is counted after pods came to or left the rows in `changed`. The rows to seat
    /// anew; `None` if something is no longer counted.
    pub(super) fn follow(
        &mut self,
        ledger: &Ledger,
        changed: &[NodeIx],
        cells_moved: bool,
    ) -> Option<Vec<usize>> {
        if cells_moved {
            self.grades.population_moved();
        }
        self.grades.follow(ledger, changed)
    }

    pub(super) fn set_raw(&mut self, row: usize, nth: usize, raw: u32) {
        self.grades.set_raw(row, nth, raw);
    }

    /// What is a row's own.
    pub(super) fn key(&self, row: usize) -> u64 {
        self.keys[row]
    }

    /// Gives rows, which are all out, their first keys.
    pub(super) fn fill(&mut self, fence: &Fence, keys: Vec<u64>) {
        self.keys = keys;
        for row in 0..self.keys.len() {
            if self.keys[row] == OUT {
                continue;
            }
            let class = self.class(fence.division().cell_of(row), row);
            self.class_of[row] = class;
            self.classes.rows[class as usize] += 1;
        }
        // All at once is quicker than one after the other.
        self.lines.fill_with(Line::new);
        self.grades.population_moved();
    }

    /// Gives a row another key, in the class that it now belongs to.
    pub(super) fn set(&mut self, fence: &Fence, row: usize, key: u64) {
        let before = std::mem::replace(&mut self.keys[row], key);
        let old = self.class_of[row];
        let cell = fence.division().cell_of(row);
        let same = old != NO_CLASS && self.is_grade_of(old, cell, row);
        let (was_in, is_in) = (before != OUT, key != OUT);
        if was_in && is_in && same {
            if key != before {
                self.push(old, row, key);
            }
            return;
        }
        if was_in {
            self.leave(old);
        }
        if is_in {
            let class = self.class(cell, row);
            self.class_of[row] = class;
            self.classes.rows[class as usize] += 1;
            self.push(class, row, key);
        }
        if was_in || is_in {
            self.grades.population_moved();
        }
    }

    fn is_grade_of(&self, class: u32, cell: usize, row: usize) -> bool {
        let (of_cell, levels) = self.classes.grade(class as usize);
        // One by one: they are few, and comparing nothing as memory is strangely slow.
        let mut levels = levels.iter().zip(self.grades.levels(row));
        of_cell == cell && levels.all(|(one, other)| one == other)
    }

    fn leave(&mut self, class: u32) {
        let rows = &mut self.classes.rows[class as usize];
        *rows -= 1;
        if *rows == 0 {
            let grade = self.classes.whole_grade(class as usize);
            self.by_grade.remove(grade);
            self.lines[class as usize] = Line::of_none();
            self.free.push(class);
        }
    }

    /// The class that a row belongs to, made if there is none.
    fn class(&mut self, cell: usize, row: usize) -> u32 {
        // Neighbours in a cell are mostly alike.
        let latest = self.latest[cell];
        if latest != NO_CLASS
            && self.classes.rows[latest as usize] > 0
            && self.is_grade_of(latest, cell, row)
        {
            return latest;
        }
        self.grade.clear();
        self.grade.push(cell as i64);
        self.grade.extend_from_slice(self.grades.levels(row));
        let known = self.by_grade.get(&self.grade[..]).copied();
        let class = known.unwrap_or_else(|| {
            let class = self.free.pop().unwrap_or(self.lines.len() as u32);
            if class as usize == self.lines.len() {
                self.lines.push(Line::of_none());
            }
            self.classes.set(class as usize, &self.grade);
            self.by_grade.insert(self.grade.as_slice().into(), class);
            class
        });
        self.latest[cell] = class;
        class
    }

    fn push(&mut self, class: u32, row: usize, key: u64) {
        let line = &mut self.lines[class as usize];
        if !line.rises(key) {
            return;
        }
        line.rise(row, key);
        // Those that have left are let go once they are most.
        if line.risen() > 64 + 4 * self.classes.rows[class as usize] as usize {
            let (keys, class_of) = (&self.keys, &self.class_of);
            line.sift(|row| match class_of[row] == class {
                true => keys[row],
                false => OUT,
            });
        }
    }

    /// Keeps a row from being the best, without its leaving its class.
    pub(super) fn hide(&mut self, row: usize) {
        self.hidden.push(row as u32);
    }

    pub(super) fn unhide(&mut self, row: usize) {
        self.hidden.retain(|&hidden| hidden as usize != row);
        let (key, class) = (self.keys[row], self.class_of[row]);
        if key != OUT {
            self.push(class, row, key);
        }
    }

    /// The key of a row in an open cell, with all scores in it.
    pub(super) fn whole_key(&mut self, fence: &Fence, row: usize) -> u64 {
        let (key, class) = (self.keys[row], self.class_of[row]);
        if key == OUT || self.hidden.contains(&(row as u32)) {
            return OUT;
        }
        self.score(fence);
        key + (self.classes.bonus[class as usize] << TIE_BITS)
    }

    /// The row with the largest key, the lowest among equals, and its key.
    pub(super) fn best(&mut self, fence: &Fence) -> Option<(usize, u64)> {
        self.score(fence);
        let mut best = None;
        for class in 0..self.lines.len() {
            let (cell, _) = self.classes.grade(class);
            if self.classes.rows[class] > 0
                && fence.open()[cell]
                && let Some(first) = self.best_of(class, fence)
            {
                let key = first.key() + (self.classes.bonus[class] << TIE_BITS);
                best = best.max(Some(Entry::new(key, first.row() as u32)));
            }
        }
        best.map(|entry: Entry| (entry.row(), entry.key()))
    }

    /// The best row of a class, by what is its own.
    fn best_of(&mut self, class: usize, fence: &Fence) -> Option<Entry> {
        loop {
            let (keys, class_of, hidden) = (&self.keys, &self.class_of, &self.hidden);
            let key_now = |row: usize| {
                let is_in = class_of[row] == class as u32 && !hidden.contains(&(row as u32));
                if is_in { keys[row] } else { OUT }
            };
            let line = &mut self.lines[class];
            let best = line.best(|row, key| key_now(row) != key, key_now);
            if best.is_some() || line.holds_all() {
                return best;
            }
            let (cell, _) = self.classes.grade(class);
            let division = fence.division();
            if division.is_bare() {
                let keys: Vec<u64> = (0..keys.len()).map(key_now).collect();
                line.rank(&keys, |at| at);
            } else {
                let rows = division.rows(cell);
                let keys: Vec<u64> = rows.iter().map(|&row| key_now(row as usize)).collect();
                line.rank(&keys, |at| rows[at as usize]);
            }
        }
    }

    fn score(&mut self, fence: &Fence) {
        let rows = self.keys.iter().zip(&self.class_of);
        let rows = rows.map(|(&key, &class)| (key != OUT).then_some(class));
        self.grades.score(&mut self.classes, fence, rows);
    }
}
