//! What is counted now.

use std::sync::Arc;

use super::{Bound, Source};
use crate::snapshot::Ledger;
use crate::snapshot::relations::{Company, Domains, Others, Spreading, Tally};

/// Counts as they are. Not to be kept when pods come or go: they would be copied.
pub(super) enum Counted {
    Spread(Arc<Spreading>, usize),
    SpreadHere(Arc<Spreading>, usize),
    Company(Arc<Company>, usize),
    Repelled(Arc<Others>, usize),
    Attracted(Arc<Others>, usize),
}

impl Counted {
    /// `None` if it is no longer counted.
    pub(super) fn of(ledger: &Ledger, domains: &Arc<Domains>, source: Source) -> Option<Self> {
        let counted = match source {
            Source::Spread(number, nth) => Self::Spread(ledger.spreading_numbered(number)?, nth),
            Source::SpreadHere(number, nth) => {
                Self::SpreadHere(ledger.spreading_numbered(number)?, nth)
            }
            Source::Company(number, nth) => Self::Company(ledger.company_numbered(number)?, nth),
            Source::Repelled(nth) => Self::Repelled(ledger.others(), nth),
            Source::Attracted(nth) => Self::Attracted(ledger.others(), nth),
        };
        let known = match &counted {
            Self::Spread(all, nth) | Self::SpreadHere(all, nth) => &all.counts.get(*nth)?.domains,
            Self::Company(all, nth) => all.domains(*nth)?,
            Self::Repelled(all, nth) => all.repelling_domains(*nth)?,
            Self::Attracted(all, nth) => all.attracting_domains(*nth)?,
        };
        // A number of another ledger's counts may be anything's here.
        Arc::ptr_eq(known, domains).then_some(counted)
    }

    /// By domain, but for [`Self::SpreadHere`] by row.
    pub(super) fn pods(&self) -> &Tally {
        match self {
            Self::Spread(all, nth) => &all.counts[*nth].pods,
            Self::SpreadHere(all, nth) => &all.counts[*nth].here,
            Self::Company(all, nth) => all.column(*nth).1,
            Self::Repelled(all, nth) => all.repels(*nth),
            Self::Attracted(all, nth) => all.attracts(*nth),
        }
    }
}

/// A bound in numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Limit {
    Any,
    AtMost(i64),
    AtLeast(i64),
}

impl Limit {
    pub(super) fn of(bound: Bound, counted: &Counted) -> Self {
        match (bound, counted) {
            (Bound::Empty, _) => Self::AtMost(0),
            (Bound::Above { least, min_domains }, Counted::Spread(all, nth)) => {
                Self::AtMost(least + all.counts[*nth].least(min_domains))
            }
            (Bound::Peopled { or_first: true }, Counted::Company(all, _)) if all.is_empty() => {
                Self::Any
            }
            (Bound::Above { .. } | Bound::Peopled { .. }, _) => Self::AtLeast(1),
        }
    }

    pub(super) fn allows(self, pods: i64) -> bool {
        match self {
            Self::Any => true,
            Self::AtMost(most) => pods <= most,
            Self::AtLeast(least) => pods >= least,
        }
    }
}
