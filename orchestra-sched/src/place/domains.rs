//! Rules that look at a node only through the domain that it is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tournament::Tournament;
use crate::snapshot::relations::{Company, Domains, NOWHERE, Others, Spreading};
use crate::snapshot::{Ledger, NodeIx};

/// One rule of a filter that turns a node down by how many pods of some kind its domain has.
///
/// A filter whose answer for a pod is nothing but such rules says so, and after each placement the
/// framework looks at the domains that it changed instead of at every node. That changes how long an
/// answer takes, never the answer.
#[derive(Clone, Debug)]
pub struct DomainRule {
    pub(crate) domains: Arc<Domains>,
    pub(crate) source: Source,
    pub(crate) bound: Bound,
    /// Whether a node in no domain passes.
    pub(crate) nowhere: bool,
}

/// Where the pods are counted: which of a ledger's counts, and which column of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    Spread(u64, usize),
    Company(u64, usize),
    Repelled(usize),
}

/// How many pods a domain may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bound {
    /// So many more than the emptiest domain.
    Above { least: i64, min_domains: u32 },
    /// None.
    Empty,
    /// One at least, or, if the pod may be the first of its kind, any while there is none anywhere.
    Peopled { or_first: bool },
}

/// A rule with what is counted now. Not to be kept when pods come or go: the counts would be copied.
struct Now {
    counts: Counts,
    limit: Limit,
}

enum Counts {
    Spread(Arc<Spreading>, usize),
    Company(Arc<Company>, usize),
    Repelled(Arc<Others>, usize),
}

/// A bound in numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Limit {
    Any,
    AtMost(i64),
    AtLeast(i64),
}

impl Now {
    /// `None` if it is no longer counted.
    fn of(ledger: &Ledger, domains: &Arc<Domains>, source: Source, bound: Bound) -> Option<Self> {
        let counts = match source {
            Source::Spread(number, nth) => Counts::Spread(ledger.spreading_numbered(number)?, nth),
            Source::Company(number, nth) => Counts::Company(ledger.company_numbered(number)?, nth),
            Source::Repelled(nth) => Counts::Repelled(ledger.others(), nth),
        };
        let counted = match &counts {
            Counts::Spread(all, nth) => &all.counts.get(*nth)?.domains,
            Counts::Company(all, nth) => all.domains(*nth)?,
            Counts::Repelled(all, nth) => all.domains(*nth)?,
        };
        // A number of another ledger's counts may be anything's here.
        if !Arc::ptr_eq(counted, domains) {
            return None;
        }
        let limit = match (bound, &counts) {
            (Bound::Empty, _) => Limit::AtMost(0),
            (Bound::Above { least, min_domains }, Counts::Spread(all, nth)) => {
                Limit::AtMost(least + all.counts[*nth].least(min_domains))
            }
            (Bound::Peopled { or_first: true }, Counts::Company(all, _)) if all.is_empty() => {
                Limit::Any
            }
            (Bound::Above { .. } | Bound::Peopled { .. }, _) => Limit::AtLeast(1),
        };
        Some(Self { counts, limit })
    }

    fn allows(&self, domain: usize) -> bool {
        let pods = match &self.counts {
            Counts::Spread(all, nth) => all.counts[*nth].pods[domain],
            Counts::Company(all, nth) => all.column(*nth).1[domain],
            Counts::Repelled(all, nth) => all.repels(*nth)[domain],
        };
        match self.limit {
            Limit::Any => true,
            Limit::AtMost(most) => pods <= most,
            Limit::AtLeast(least) => pods >= least,
        }
    }
}

/// Rules with so few domains have a tournament for each domain; with more, rows are taken out of
/// the running one by one.
const COARSE_MAX: usize = 64;
/// How many tournaments there may be, one for each combination of such domains.
const CELLS_MAX: usize = 512;

/// The rows in the running, by the domains that they are in.
#[derive(Debug)]
pub(super) struct Field {
    cells: Vec<Cell>,
    /// By row: its cell, and its place there. Empty if there is one cell.
    seats: Vec<(u32, u32)>,
    rules: Vec<Watched>,
    /// By row: how many rules with many domains turn it down. Empty if there are none.
    barred: Vec<u16>,
    /// How many terms of others there were.
    others: usize,
}

/// The rows that are in the same domains of all rules with few.
#[derive(Debug)]
struct Cell {
    tournament: Tournament,
    /// Empty if there is one cell: all.
    rows: Vec<u32>,
    /// By rule with few domains, in their order.
    domains: Vec<u32>,
    open: bool,
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
    /// The rows of each domain, if there are many: where they start, and all of them.
    members: Option<(Vec<u32>, Vec<u32>)>,
}

impl Field {
    /// `rows` rows, all out, under `rules`, which stand in `ledger`'s counts.
    pub(super) fn new(rows: usize, rules: &[DomainRule], ledger: &Ledger) -> Self {
        let mut field = Self {
            others: if rules.is_empty() {
                0
            } else {
                ledger.others().len()
            },
            cells: Vec::new(),
            seats: Vec::new(),
            rules: Vec::with_capacity(rules.len()),
            barred: Vec::new(),
        };
        let mut cells = 1;
        for rule in rules {
            let domains = rule.domains.len();
            let coarse = domains <= COARSE_MAX && cells * (domains + 1) <= CELLS_MAX;
            if coarse {
                cells *= domains + 1;
            }
            let Some(now) = Now::of(ledger, &rule.domains, rule.source, rule.bound) else {
                continue;
            };
            field.rules.push(Watched {
                domains: Arc::clone(&rule.domains),
                source: rule.source,
                bound: rule.bound,
                limit: now.limit,
                nowhere: rule.nowhere,
                open: (0..domains).map(|domain| now.allows(domain)).collect(),
                members: (!coarse).then(|| rule.domains.members()),
            });
        }
        field.partition(rows);
        field.bar(rows);
        field
    }

    fn partition(&mut self, rows: usize) {
        let coarse: Vec<&Watched> = self.rules.iter().filter(|rule| rule.is_coarse()).collect();
        if coarse.is_empty() || rows == 0 {
            self.cells.push(Cell {
                tournament: Tournament::empty(rows),
                rows: Vec::new(),
                domains: Vec::new(),
                open: true,
            });
            return;
        }
        let mut known: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut of_row = vec![0; coarse.len()];
        for row in 0..rows {
            for (domain, rule) in of_row.iter_mut().zip(&coarse) {
                *domain = rule.domains.of_rows()[row];
            }
            let cell = known.get(&of_row).copied().unwrap_or_else(|| {
                known.insert(of_row.clone(), self.cells.len() as u32);
                self.cells.push(Cell {
                    tournament: Tournament::empty(0),
                    rows: Vec::new(),
                    domains: of_row.clone(),
                    open: true,
                });
                self.cells.len() as u32 - 1
            });
            let rows = &mut self.cells[cell as usize].rows;
            self.seats.push((cell, rows.len() as u32));
            rows.push(row as u32);
        }
        for cell in &mut self.cells {
            cell.tournament = Tournament::empty(cell.rows.len());
        }
        self.open_cells();
    }

    fn open_cells(&mut self) {
        for cell in &mut self.cells {
            let coarse = self.rules.iter().filter(|rule| rule.is_coarse());
            cell.open = coarse
                .zip(&cell.domains)
                .all(|(rule, &domain)| rule.passes(domain));
        }
    }

    fn bar(&mut self, rows: usize) {
        let fine = self.rules.iter().filter(|rule| !rule.is_coarse());
        for rule in fine {
            self.barred.resize(rows, 0);
            for (barred, &domain) in self.barred.iter_mut().zip(rule.domains.of_rows()) {
                *barred += u16::from(!rule.passes(domain));
            }
        }
    }

    /// Takes in what the rules say after pods came to or left the rows in `changed`. The rows to
    /// seat anew; `None` if the rules may be others than before.
    pub(super) fn follow(&mut self, ledger: &Ledger, changed: &[NodeIx]) -> Option<Vec<usize>> {
        if !self.rules.is_empty() && ledger.others().len() != self.others {
            return None;
        }
        let (mut cells, mut moved) = (false, Vec::new());
        for rule in &mut self.rules {
            let now = Now::of(ledger, &rule.domains, rule.source, rule.bound)?;
            if std::mem::replace(&mut rule.limit, now.limit) == now.limit {
                for node in changed {
                    if let Some(domain) = rule.domains.of(*node) {
                        cells |= rule.look(&now, domain, &mut moved);
                    }
                }
            } else {
                for domain in 0..rule.open.len() {
                    cells |= rule.look(&now, domain, &mut moved);
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
        Some(rows.collect())
    }

    /// Whether a rule with many domains turns a row down.
    pub(super) fn is_barred(&self, row: usize) -> bool {
        self.barred.get(row).is_some_and(|barred| *barred > 0)
    }

    /// Gives every row its key anew. `fill` is called with a function that sets one.
    pub(super) fn fill(&mut self, fill: impl FnOnce(&mut dyn FnMut(usize, u64))) {
        if self.seats.is_empty() && self.barred.is_empty() {
            let leaves = self.cells[0].tournament.leaves_mut();
            fill(&mut |row, key| leaves[row] = key);
        } else {
            fill(&mut |row, key| {
                if self.barred.get(row).is_none_or(|barred| *barred == 0) {
                    let (cell, at) = seat(&self.seats, row);
                    self.cells[cell].tournament.leaves_mut()[at] = key;
                }
            });
        }
        for cell in &mut self.cells {
            cell.tournament.play();
        }
    }

    /// The key of a row that is in the running.
    pub(super) fn key(&self, row: usize) -> u64 {
        let (cell, at) = seat(&self.seats, row);
        let cell = &self.cells[cell];
        if cell.open {
            cell.tournament.key(at)
        } else {
            Tournament::OUT
        }
    }

    /// The key of a row, in the running or not.
    pub(super) fn key_of(&self, row: usize) -> u64 {
        let (cell, at) = seat(&self.seats, row);
        self.cells[cell].tournament.key(at)
    }

    /// Gives a row another key. A barred row must be given none.
    pub(super) fn set(&mut self, row: usize, key: u64) {
        let (cell, at) = seat(&self.seats, row);
        self.cells[cell].tournament.set(at, key);
    }

    /// The row with the largest key, the lowest among equals, and its key.
    pub(super) fn best(&self) -> Option<(usize, u64)> {
        let mut best: Option<(usize, u64)> = None;
        for cell in self.cells.iter().filter(|cell| cell.open) {
            let top = cell.tournament.top();
            if best.is_some_and(|(_, key)| key > top) {
                continue;
            }
            let Some(at) = cell.tournament.best() else {
                continue;
            };
            let row = cell.rows.get(at).map_or(at, |&row| row as usize);
            if best.is_none_or(|(other, key)| top > key || row < other) {
                best = Some((row, top));
            }
        }
        best
    }
}

fn seat(seats: &[(u32, u32)], row: usize) -> (usize, usize) {
    seats
        .get(row)
        .map_or((0, row), |&(cell, at)| (cell as usize, at as usize))
}

impl Watched {
    fn is_coarse(&self) -> bool {
        self.members.is_none()
    }

    fn passes(&self, domain: u32) -> bool {
        if domain == NOWHERE {
            self.nowhere
        } else {
            self.open[domain as usize]
        }
    }

    /// Asks about a domain again, and adds its rows to `moved` if that changed and they stand alone;
    /// whether it changed and they do not.
    fn look(&mut self, now: &Now, domain: usize, moved: &mut Vec<(u32, bool)>) -> bool {
        let open = now.allows(domain);
        if std::mem::replace(&mut self.open[domain], open) == open {
            return false;
        }
        let Some((starts, rows)) = &self.members else {
            return true;
        };
        let members = starts[domain] as usize..starts[domain + 1] as usize;
        moved.extend(rows[members].iter().map(|&row| (row, open)));
        false
    }
}
