//! The rows in the running, and the best of them.

use std::sync::Arc;

use super::fence::Fence;
use super::graded::Graded;
use super::plain::Plain;
use super::{DomainRule, DomainScore, Own};
use crate::place::key::{OUT, rekeyed};
use crate::place::plugin::Scale;
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
    /// Whose counts are looked at, and how far the terms of others were known; `None` if nobody looks.
    counts: Option<(Arc<()>, usize)>,
}

#[derive(Debug)]
enum Ranks {
    /// Rows whose keys say all.
    Plain(Plain),
    /// Rows whose keys lack the scores that hang on others.
    Graded(Box<Graded>),
}

/// What rows are worth, where rules with many domains let them pass.
struct Fenced<'a, O> {
    fence: &'a Fence,
    own: &'a O,
}

impl<O: Own> Own for Fenced<'_, O> {
    fn key(&self, row: usize) -> u64 {
        if self.fence.is_barred(row) {
            OUT
        } else {
            self.own.key(row)
        }
    }

    fn keys(&self) -> Vec<u64> {
        let mut keys = self.own.keys();
        self.fence.bar(&mut keys);
        keys
    }
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
        let fence = Fence::new(rules, parts.map(|part| &part.domains), ledger);
        let looks = !rules.is_empty() || scored.is_some();
        let ranks = match scored {
            Some(scored) => Ranks::Graded(Box::new(Graded::new(rows, scored, &fence, ledger))),
            None => Ranks::Plain(Plain::new(rows, fence.division())),
        };
        Self {
            fence,
            ranks,
            counts: looks.then(|| (ledger.origin(), ledger.others().stage())),
        }
    }

    /// So often will the best be asked for.
    pub(in crate::place) fn expect(&mut self, expected: usize) {
        if let Ranks::Plain(plain) = &mut self.ranks {
            plain.expect(expected);
        }
    }

    /// Takes in what rules and scores say after pods came to or left the rows in `changed`. The
    /// rows to seat anew besides those; `None` if rules and scores may be others than before.
    pub(in crate::place) fn follow(
        &mut self,
        ledger: &Ledger,
        changed: &[NodeIx],
    ) -> Option<Vec<usize>> {
        if let Some((origin, stage)) = &self.counts
            && (!Arc::ptr_eq(origin, &ledger.origin()) || *stage != ledger.others().stage())
        {
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
    pub(in crate::place) fn fill(&mut self, own: &impl Own) {
        let fence = &self.fence;
        if let Ranks::Graded(graded) = &mut self.ranks {
            graded.fill(fence, Fenced { fence, own }.keys());
        }
    }

    /// The key of a row that is in the running, with all scores in it.
    pub(in crate::place) fn key(&mut self, row: usize, own: &impl Own) -> u64 {
        let fence = &self.fence;
        if !fence.open()[fence.division().cell_of(row)] {
            return OUT;
        }
        match &mut self.ranks {
            Ranks::Plain(plain) => plain.key(row, &Fenced { fence, own }),
            Ranks::Graded(graded) => graded.whole_key(fence, row),
        }
    }

    /// Gives a row another raw score of the `nth` scorer that is scaled. To be seated anew.
    pub(in crate::place) fn set_raw(&mut self, row: usize, nth: usize, raw: u32) {
        if let Ranks::Graded(graded) = &mut self.ranks {
            graded.set_raw(row, nth, raw);
        }
    }

    /// Gives a row another weighted score, or none if it does not fit or is barred. `key` makes it a key;
    /// the row of the `same_node` has settled ties before.
    pub(in crate::place) fn set(
        &mut self,
        row: usize,
        sum: Option<u64>,
        same_node: bool,
        key: impl FnOnce(u64) -> u64,
    ) {
        match &mut self.ranks {
            Ranks::Plain(plain) => plain.set(self.fence.division(), row, sum, same_node, key),
            Ranks::Graded(graded) => {
                let key = sum.map_or(OUT, |sum| match graded.key(row) {
                    old if same_node && old != OUT => rekeyed(old, sum),
                    _ => key(sum),
                });
                graded.set(&self.fence, row, key);
            }
        }
    }

    /// Keeps a row from being the best; what the others score stays. What to let it back in with.
    pub(in crate::place) fn exclude(&mut self, row: usize, own: &impl Own) -> u64 {
        let fence = &self.fence;
        match &mut self.ranks {
            Ranks::Plain(plain) => {
                plain.hide(row);
                Fenced { fence, own }.key(row)
            }
            Ranks::Graded(graded) => {
                graded.hide(row);
                graded.key(row)
            }
        }
    }

    /// Lets a row back in.
    pub(in crate::place) fn readmit(&mut self, row: usize, key: u64) {
        match &mut self.ranks {
            Ranks::Plain(plain) => plain.unhide(self.fence.division(), row, key),
            Ranks::Graded(graded) => graded.unhide(row),
        }
    }

    /// The rows that will mostly be best next, about `count` of them, if that is known.
    pub(in crate::place) fn coming(&self, count: usize) -> impl Iterator<Item = usize> {
        let plain = match &self.ranks {
            Ranks::Plain(plain) => Some(plain),
            Ranks::Graded(_) => None,
        };
        let plain = plain.into_iter();
        plain.flat_map(move |plain| plain.coming(self.fence.open(), count))
    }

    /// The row with the largest key, the lowest among equals, and its key.
    pub(in crate::place) fn best(&mut self, own: &impl Own) -> Option<(usize, u64)> {
        let fence = &self.fence;
        match &mut self.ranks {
            Ranks::Plain(plain) => {
                plain.best(fence.division(), fence.open(), &Fenced { fence, own })
            }
            Ranks::Graded(graded) => graded.best(fence),
        }
    }
}
