//! The rows in the running, and the best of them.

use super::fence::Fence;
use super::graded::{FirstKeys, Graded};
use super::{DomainRule, DomainScore};
use crate::place::key::OUT;
use crate::place::plugin::Scale;
use crate::place::ranking::Ranking;
use crate::snapshot::{Ledger, NodeIx};

/// The scores that hang on which other rows fit, each with its weight.
#[derive(Debug, Default)]
pub(in crate::place) struct Scored {
    pub(in crate::place) by_domain: Vec<(DomainScore, u64)>,
    /// Of these every row has a raw score of its own.
    pub(in crate::place) scaled: Vec<(Scale, u64)>,
}

/// The rows in the running, by the domains that they are in.
#[derive(Debug)]
pub(in crate::place) struct Field {
    fence: Fence,
    ranks: Ranks,
    /// How far the terms of others were known; `None` if nobody looks at them.
    others: Option<usize>,
}

#[derive(Debug)]
enum Ranks {
    /// Rows whose keys say all: one ranking a cell.
    Plain(Plain),
    /// Rows whose keys lack the scores that hang on others.
    Graded(Box<Graded>),
}

#[derive(Debug)]
struct Plain {
    /// By cell.
    rankings: Vec<Ranking>,
    /// By cell: its rows. Empty if there is one cell: all.
    rows: Vec<Vec<u32>>,
    /// By row: its place in its cell. Empty if there is one cell.
    places: Vec<u32>,
}

impl Field {
    /// `rows` rows, all out, under `rules`, and ranked by `scored` too if that is some; both stand
    /// in `ledger`'s counts.
    pub(in crate::place) fn new(
        rows: usize,
        rules: &[DomainRule],
        scored: Option<Scored>,
        ledger: &Ledger,
    ) -> Self {
        let parts = scored.iter().flat_map(|scored| &scored.by_domain);
        let parts = parts.flat_map(|(score, _)| &score.parts);
        let fence = Fence::new(rows, rules, parts.map(|part| &part.domains), ledger);
        let looks = !rules.is_empty() || scored.is_some();
        let ranks = match scored {
            Some(scored) => Ranks::Graded(Box::new(Graded::new(rows, scored, &fence, ledger))),
            None => Ranks::Plain(Plain::new(rows, &fence)),
        };
        Self {
            fence,
            ranks,
            others: looks.then(|| ledger.others().stage()),
        }
    }

    /// Takes in what rules and scores say after pods came to or left the rows in `changed`. The
    /// rows to seat anew besides those; `None` if rules and scores may be others than before.
    pub(in crate::place) fn follow(
        &mut self,
        ledger: &Ledger,
        changed: &[NodeIx],
    ) -> Option<Vec<usize>> {
        if (self.others).is_some_and(|stage| ledger.others().stage() != stage) {
            return None;
        }
        let moved = self.fence.follow(ledger, changed)?;
        let mut rows = moved.rows;
        if let Ranks::Graded(graded) = &mut self.ranks {
            rows.extend(graded.follow(ledger, changed, moved.cells)?);
        }
        Some(rows)
    }

    /// Whether a rule with many domains turns a row down.
    pub(in crate::place) fn is_barred(&self, row: usize) -> bool {
        self.fence.is_barred(row)
    }

    /// Gives every row its key anew.
    pub(in crate::place) fn fill(&mut self, keys: Vec<u64>) {
        let fence = &self.fence;
        match &mut self.ranks {
            Ranks::Plain(plain) => plain.fill(fence, keys),
            Ranks::Graded(graded) => {
                let mut first = FirstKeys::default();
                for (row, key) in keys.into_iter().enumerate() {
                    if key != OUT && !fence.is_barred(row) {
                        graded.enter(fence, row, key, &mut first);
                    }
                }
                graded.rank(first);
            }
        }
    }

    /// The key of a row that is in the running, with all scores in it.
    pub(in crate::place) fn key(&mut self, row: usize) -> u64 {
        if !self.fence.cells()[self.fence.cell_of(row)].open {
            return OUT;
        }
        match &mut self.ranks {
            Ranks::Plain(_) => self.key_of(row),
            Ranks::Graded(graded) => graded.whole_key(&self.fence, row),
        }
    }

    /// The key that a row was given, in the running or not.
    pub(in crate::place) fn key_of(&self, row: usize) -> u64 {
        match &self.ranks {
            Ranks::Plain(plain) => {
                let (cell, place) = seat(&self.fence, &plain.places, row);
                plain.rankings[cell].key(place)
            }
            Ranks::Graded(graded) => graded.key(row),
        }
    }

    /// Gives a row another raw score of the `nth` scorer that is scaled. To be seated anew.
    pub(in crate::place) fn set_raw(&mut self, row: usize, nth: usize, raw: u32) {
        if let Ranks::Graded(graded) = &mut self.ranks {
            graded.set_raw(row, nth, raw);
        }
    }

    /// Gives a row another key. A barred row must be given none.
    pub(in crate::place) fn set(&mut self, row: usize, key: u64) {
        match &mut self.ranks {
            Ranks::Plain(plain) => {
                let (cell, place) = seat(&self.fence, &plain.places, row);
                plain.rankings[cell].set(place, key);
            }
            Ranks::Graded(graded) => graded.set(&self.fence, row, key),
        }
    }

    /// Keeps a row from being the best; what the others score stays. What to let it back in with.
    pub(in crate::place) fn exclude(&mut self, row: usize) -> u64 {
        let key = self.key_of(row);
        match &mut self.ranks {
            Ranks::Plain(_) => self.set(row, OUT),
            Ranks::Graded(graded) => graded.hide(row),
        }
        key
    }

    /// Lets a row back in.
    pub(in crate::place) fn readmit(&mut self, row: usize, key: u64) {
        match &mut self.ranks {
            Ranks::Plain(_) => self.set(row, key),
            Ranks::Graded(graded) => graded.unhide(row),
        }
    }

    /// The rows that will mostly be best next, if that is known.
    pub(in crate::place) fn coming(&self) -> impl Iterator<Item = usize> {
        let one = match &self.ranks {
            Ranks::Plain(plain) if self.fence.is_bare() => plain.rankings.first(),
            _ => None,
        };
        one.into_iter().flat_map(Ranking::coming)
    }

    /// The row with the largest key, the lowest among equals, and its key.
    pub(in crate::place) fn best(&mut self) -> Option<(usize, u64)> {
        match &mut self.ranks {
            Ranks::Plain(plain) => plain.best(&self.fence),
            Ranks::Graded(graded) => graded.best(&self.fence),
        }
    }
}

impl Plain {
    /// `rows` rows, without keys yet.
    fn new(rows: usize, fence: &Fence) -> Self {
        let cells = fence.cells().len();
        let mut plain = Self {
            rankings: Vec::with_capacity(cells),
            rows: Vec::new(),
            places: Vec::new(),
        };
        if cells > 1 {
            plain.rows.resize(cells, Vec::new());
            plain.places.reserve_exact(rows);
            for row in 0..rows {
                let cell = &mut plain.rows[fence.cell_of(row)];
                plain.places.push(cell.len() as u32);
                cell.push(row as u32);
            }
        }
        plain
    }

    fn fill(&mut self, fence: &Fence, mut keys: Vec<u64>) {
        if !fence.is_bare() {
            let barred = (0..keys.len()).filter(|&row| fence.is_barred(row));
            barred.for_each(|row| keys[row] = OUT);
        }
        self.rankings.clear();
        if self.rows.is_empty() {
            self.rankings.push(Ranking::of(keys));
            return;
        }
        for rows in &self.rows {
            let keys = rows.iter().map(|&row| keys[row as usize]);
            self.rankings.push(Ranking::of(keys.collect()));
        }
    }

    fn best(&mut self, fence: &Fence) -> Option<(usize, u64)> {
        let mut best: Option<(usize, u64)> = None;
        let cells = fence.cells().iter().zip(&mut self.rankings).enumerate();
        for (cell, (_, ranking)) in cells.filter(|(_, (cell, _))| cell.open) {
            let Some((at, top)) = ranking.best() else {
                continue;
            };
            if best.is_some_and(|(_, key)| key > top) {
                continue;
            }
            let rows = self.rows.get(cell);
            let row = rows.map_or(at, |rows| rows[at] as usize);
            if best.is_none_or(|(other, key)| top > key || row < other) {
                best = Some((row, top));
            }
        }
        best
    }
}

/// The cell of a row and its place there.
fn seat(fence: &Fence, places: &[u32], row: usize) -> (usize, usize) {
    match places.get(row) {
        Some(&place) => (fence.cell_of(row), place as usize),
        None => (0, row),
    }
}
