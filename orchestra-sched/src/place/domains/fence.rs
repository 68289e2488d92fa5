//! Which rows the rules on domains let pass.

use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::counted::{Counted, Limit};
use super::{Bound, DomainRule, Source};
use crate::place::key::OUT;
use crate::snapshot::relations::{Division, Domains, NOWHERE, Tally};
use crate::snapshot::{Ledger, NodeIx};

/// Keys with so few domains divide the rows into cells; with more, rows are looked at one by one.
const COARSE_MAX: usize = 64;
/// How many cells there may be, one for each combination of such domains.
const CELLS_MAX: usize = 512;

/// The rows, divided by the domains of all keys with few of them, and what rules say of each.
#[derive(Debug)]
pub(super) struct Fence {
    rules: Vec<Watched>,
    division: Arc<Division>,
    /// By cell: whether the rules on the keys by which cells differ let it pass.
    open: Vec<bool>,
}

/// A rule, and what it said last.
#[derive(Debug)]
struct Watched {
    domains: Arc<Domains>,
    source: Source,
    bound: Bound,
    limit: Limit,
    nowhere: bool,
    /// The domains that it turns down.
    shut: FixedBitSet,
    /// Where it speaks of cells: by which of their keys. Otherwise it speaks of single rows, as its domains
    /// are many.
    key: Option<usize>,
}

/// What a fence says has changed.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Rows that are barred now, or no longer.
    pub(super) rows: Vec<usize>,
    /// Whether a cell was opened or closed.
    pub(super) cells: bool,
}

impl Fence {
    /// The nodes of `ledger` under `rules`, which stand in its counts; cells differ by the keys in
    /// `also`, too, if those have few domains.
    pub(super) fn new<'a>(
        rules: &[DomainRule],
        also: impl Iterator<Item = &'a Arc<Domains>>,
        ledger: &Ledger,
    ) -> Self {
        let (mut keys, mut room) = (Vec::new(), CELLS_MAX);
        let mut watched = Vec::with_capacity(rules.len());
        for rule in rules {
            let Some(counted) = Counted::of(ledger, &rule.domains, rule.source) else {
                continue;
            };
            let limit = Limit::of(rule.bound, &counted);
            watched.push(Watched {
                domains: Arc::clone(&rule.domains),
                source: rule.source,
                bound: rule.bound,
                limit,
                nowhere: rule.nowhere,
                shut: shut(counted.pods(), limit),
                key: divide(&mut keys, &mut room, &rule.domains),
            });
        }
        for domains in also {
            divide(&mut keys, &mut room, domains);
        }
        let division = ledger.snapshot().division(&keys);
        let mut fence = Self {
            rules: watched,
            open: vec![true; division.len()],
            division,
        };
        fence.open_cells();
        fence
    }

    fn open_cells(&mut self) {
        for (cell, open) in self.open.iter_mut().enumerate() {
            *open = self.rules.iter().all(|rule| match rule.key {
                Some(key) => rule.passes(self.division.domain(cell, key)),
                None => true,
            });
        }
    }

    /// Takes in what the rules say after pods came to or left the rows in `changed`. `None` if they
    /// may be others than before.
    pub(super) fn follow(&mut self, ledger: &Ledger, changed: &[NodeIx]) -> Option<Moved> {
        let mut moved = Moved::default();
        for rule in &mut self.rules {
            let counted = Counted::of(ledger, &rule.domains, rule.source)?;
            let (pods, limit) = (counted.pods(), Limit::of(rule.bound, &counted));
            if std::mem::replace(&mut rule.limit, limit) == limit {
                for node in changed {
                    if let Some(domain) = rule.domains.of(*node) {
                        rule.look(pods, domain, &mut moved);
                    }
                }
            } else {
                for domain in 0..rule.domains.len() {
                    rule.look(pods, domain, &mut moved);
                }
            }
        }
        if moved.cells {
            self.open_cells();
        }
        Some(moved)
    }

    /// Whether a rule with many domains turns a row down.
    pub(super) fn is_barred(&self, row: usize) -> bool {
        let mut fine = self.rules.iter().filter(|rule| rule.key.is_none());
        fine.any(|rule| !rule.passes(rule.domains.of_rows()[row]))
    }

    /// Puts [`OUT`] for the rows that a rule with many domains turns down.
    pub(super) fn bar(&self, keys: &mut [u64]) {
        for rule in self.rules.iter().filter(|rule| rule.key.is_none()) {
            for (key, &domain) in keys.iter_mut().zip(rule.domains.of_rows()) {
                if !rule.passes(domain) {
                    *key = OUT;
                }
            }
        }
    }

    /// The rows' cells.
    pub(super) fn division(&self) -> &Division {
        &self.division
    }

    /// By cell: whether the rules on the keys by which cells differ let it pass.
    pub(super) fn open(&self) -> &[bool] {
        &self.open
    }
}

/// Lets cells differ by a key, if that makes not too many; its place.
fn divide(keys: &mut Vec<Arc<Domains>>, room: &mut usize, domains: &Arc<Domains>) -> Option<usize> {
    let known = keys.iter().position(|known| Arc::ptr_eq(known, domains));
    if known.is_some() {
        return known;
    }
    let parts = domains.len() + 1;
    if parts > COARSE_MAX + 1 || parts > *room {
        return None;
    }
    *room /= parts;
    keys.push(Arc::clone(domains));
    Some(keys.len() - 1)
}

/// The domains that have too many or too few pods.
fn shut(pods: &Tally, limit: Limit) -> FixedBitSet {
    let mut shut = FixedBitSet::with_capacity(pods.len());
    shut.set_range(.., !limit.allows(0));
    for (domain, pods) in pods.counted() {
        shut.set(domain, !limit.allows(pods));
    }
    shut
}

impl Watched {
    fn passes(&self, domain: u32) -> bool {
        if domain == NOWHERE {
            self.nowhere
        } else {
            !self.shut.contains(domain as usize)
        }
    }

    /// Asks about a domain again, and notes what that moves.
    fn look(&mut self, pods: &Tally, domain: usize, moved: &mut Moved) {
        let shut = !self.limit.allows(pods.get(domain));
        if self.shut.contains(domain) == shut {
            return;
        }
        self.shut.set(domain, shut);
        match self.key {
            Some(_) => moved.cells = true,
            None => {
                let rows = self.domains.members().rows(domain).iter();
                moved.rows.extend(rows.map(|&row| row as usize));
            }
        }
    }
}
