//! Which rows the rules on domains let pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counted::{Counted, Limit};
use super::{Bound, DomainRule, Source};
use crate::snapshot::relations::{Domains, NOWHERE};
use crate::snapshot::{Ledger, NodeIx};

/// Keys with so few domains divide the rows into cells; with more, rows are looked at one by one.
const COARSE_MAX: usize = 64;
/// How many cells there may be, one for each combination of such domains.
const CELLS_MAX: usize = 512;

/// The rows, divided by the domains of all keys with few of them, and what rules say of each.
#[derive(Debug)]
pub(super) struct Fence {
    rules: Vec<Watched>,
    /// The keys by which cells differ.
    keys: Vec<Arc<Domains>>,
    cells: Vec<Cell>,
    /// By row: its cell. Empty if there is one cell.
    cell_of: Vec<u32>,
    /// By row: how many rules with many domains turn it down. Empty if there are none.
    barred: Vec<u16>,
}

/// Rows that are in the same domains of all keys with few.
#[derive(Debug)]
pub(super) struct Cell {
    /// By key; [`NOWHERE`] if they lack it.
    pub(super) domains: Vec<u32>,
    /// Whether the rules on those keys let them pass.
    pub(super) open: bool,
}

/// A rule, and what it said last.
#[derive(Debug)]
struct Watched {
    domains: Arc<Domains>,
    source: Source,
    bound: Bound,
    limit: Limit,
    nowhere: bool,
    /// By domain.
    open: Vec<bool>,
    over: Over,
}

/// What a rule speaks of.
#[derive(Debug)]
enum Over {
    /// Cells: which of their keys.
    Cells(usize),
    /// Single rows, as its domains are many.
    Rows(Members),
}

/// The rows of each domain: where they start, and all of them.
#[derive(Debug)]
pub(super) struct Members {
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Members {
    pub(super) fn of(domains: &Domains) -> Self {
        let (starts, rows) = domains.members();
        Self { starts, rows }
    }

    pub(super) fn rows(&self, domain: usize) -> &[u32] {
        &self.rows[self.starts[domain] as usize..self.starts[domain + 1] as usize]
    }
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
    /// `rows` rows under `rules`, which stand in `ledger`'s counts; cells differ by the keys in
    /// `also`, too, if those have few domains.
    pub(super) fn new<'a>(
        rows: usize,
        rules: &[DomainRule],
        also: impl Iterator<Item = &'a Arc<Domains>>,
        ledger: &Ledger,
    ) -> Self {
        let mut fence = Self {
            rules: Vec::with_capacity(rules.len()),
            keys: Vec::new(),
            cells: Vec::new(),
            cell_of: Vec::new(),
            barred: Vec::new(),
        };
        let mut room = CELLS_MAX;
        for rule in rules {
            let Some(counted) = Counted::of(ledger, &rule.domains, rule.source) else {
                continue;
            };
            let limit = Limit::of(rule.bound, &counted);
            let open = counted.pods().iter().map(|&pods| limit.allows(pods));
            let over = match fence.divide(&rule.domains, &mut room) {
                Some(key) => Over::Cells(key),
                None => Over::Rows(Members::of(&rule.domains)),
            };
            fence.rules.push(Watched {
                domains: Arc::clone(&rule.domains),
                source: rule.source,
                bound: rule.bound,
                limit,
                nowhere: rule.nowhere,
                open: open.collect(),
                over,
            });
        }
        for domains in also {
            fence.divide(domains, &mut room);
        }
        fence.partition(rows);
        fence.bar(rows);
        fence
    }

    /// Lets cells differ by a key, if that makes not too many; its place.
    fn divide(&mut self, domains: &Arc<Domains>, room: &mut usize) -> Option<usize> {
        if let Some(known) = self.key(domains) {
            return Some(known);
        }
        let parts = domains.len() + 1;
        if parts > COARSE_MAX + 1 || parts > *room {
            return None;
        }
        *room /= parts;
        self.keys.push(Arc::clone(domains));
        Some(self.keys.len() - 1)
    }

    /// Which of the keys by which cells differ that is.
    pub(super) fn key(&self, domains: &Arc<Domains>) -> Option<usize> {
        let mut keys = self.keys.iter();
        keys.position(|known| Arc::ptr_eq(known, domains))
    }

    fn partition(&mut self, rows: usize) {
        if self.keys.is_empty() || rows == 0 {
            self.cells.push(Cell {
                domains: vec![NOWHERE; self.keys.len()],
                open: true,
            });
            return;
        }
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut of_row = vec![0; self.keys.len()];
        self.cell_of.reserve_exact(rows);
        for row in 0..rows {
            for (domain, key) in of_row.iter_mut().zip(&self.keys) {
                *domain = key.of_rows()[row];
            }
            let cell = known.get(&of_row).copied().unwrap_or_else(|| {
                known.insert(of_row.clone(), self.cells.len() as u32);
                self.cells.push(Cell {
                    domains: of_row.clone(),
                    open: true,
                });
                self.cells.len() as u32 - 1
            });
            self.cell_of.push(cell);
        }
        self.open_cells();
    }

    fn open_cells(&mut self) {
        for cell in &mut self.cells {
            cell.open = self.rules.iter().all(|rule| match rule.over {
                Over::Cells(key) => rule.passes(cell.domains[key]),
                Over::Rows(_) => true,
            });
        }
    }

    fn bar(&mut self, rows: usize) {
        let fine = self
            .rules
            .iter()
            .filter(|rule| matches!(rule.over, Over::Rows(_)));
        for rule in fine {
            self.barred.resize(rows, 0);
            for (barred, &domain) in self.barred.iter_mut().zip(rule.domains.of_rows()) {
                *barred += u16::from(!rule.passes(domain));
            }
        }
    }

    /// Takes in what the rules say after pods came to or left the rows in `changed`. `None` if they
    /// may be others than before.
    pub(super) fn follow(&mut self, ledger: &Ledger, changed: &[NodeIx]) -> Option<Moved> {
        let (mut cells, mut moved) = (false, Vec::new());
        for rule in &mut self.rules {
            let counted = Counted::of(ledger, &rule.domains, rule.source)?;
            let (pods, limit) = (counted.pods(), Limit::of(rule.bound, &counted));
            if std::mem::replace(&mut rule.limit, limit) == limit {
                for node in changed {
                    if let Some(domain) = rule.domains.of(*node) {
                        cells |= rule.look(pods, domain, &mut moved);
                    }
                }
            } else {
                for domain in 0..rule.open.len() {
                    cells |= rule.look(pods, domain, &mut moved);
                }
            }
        }
        if cells {
            self.open_cells();
        }
        let rows = moved.into_iter().map(|(row, open)| {
            let barred = &mut self.barred[row as usize];
            *barred = if open { *barred - 1 } else { *barred + 1 };
            row as usize
        });
        let rows = rows.collect();
        Some(Moved { rows, cells })
    }

    /// Whether there is neither a rule nor a division.
    pub(super) fn is_bare(&self) -> bool {
        self.cell_of.is_empty() && self.barred.is_empty()
    }

    /// Whether a rule with many domains turns a row down.
    pub(super) fn is_barred(&self, row: usize) -> bool {
        self.barred.get(row).is_some_and(|barred| *barred > 0)
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// A row's cell.
    pub(super) fn cell_of(&self, row: usize) -> usize {
        self.cell_of.get(row).map_or(0, |&cell| cell as usize)
    }
}

impl Watched {
    fn passes(&self, domain: u32) -> bool {
        if domain == NOWHERE {
            self.nowhere
        } else {
            self.open[domain as usize]
        }
    }

    /// Asks about a domain again, and adds its rows to `moved` if that changed and the rule speaks of
    /// rows; whether it changed and the rule speaks of cells.
    fn look(&mut self, pods: &[i64], domain: usize, moved: &mut Vec<(u32, bool)>) -> bool {
        let open = self.limit.allows(pods[domain]);
        if std::mem::replace(&mut self.open[domain], open) == open {
            return false;
        }
        match &self.over {
            Over::Cells(_) => true,
            Over::Rows(members) => {
                moved.extend(members.rows(domain).iter().map(|&row| (row, open)));
                false
            }
        }
    }
}
