//! What looks at a node only through the domains that it is in: rules, and scores.
//!
//! After each placement the framework looks at the domains that it changed instead of at every
//! node. That changes how long an answer takes, never the answer.

mod counted;
mod fence;
mod field;
mod graded;
mod grades;
mod line;
mod plain;

use std::sync::Arc;

use crate::snapshot::relations::Domains;

pub(in crate::place) use field::{Field, Scored};

/// What rows are worth by what is their own.
pub(in crate::place) trait Own {
    /// The key of a row; [`OUT`](super::key::OUT) if it does not fit.
    fn key(&self, row: usize) -> u64;

    /// The keys of all rows.
    fn keys(&self) -> Vec<u64>;
}

/// One rule of a filter that turns a node down by how many pods of some kind its domain has.
#[derive(Clone, Debug)]
pub struct DomainRule {
    pub(crate) domains: Arc<Domains>,
    pub(crate) source: Source,
    pub(crate) bound: Bound,
    /// Whether a node in no domain passes.
    pub(crate) nowhere: bool,
}

/// The answer of a scorer that ranks nodes by how many pods of some kinds their domains have, and
/// by how that lies among the nodes that fit.
#[derive(Clone, Debug)]
pub struct DomainScore {
    pub(crate) parts: Vec<Part>,
    pub(crate) blend: Blend,
}

/// What is counted for a score.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) domains: Arc<Domains>,
    pub(crate) source: Source,
    /// For [`Blend::Spread`] the `maxSkew`, for [`Blend::Company`] what each pod counts.
    pub(crate) weight: i64,
}

/// How what is counted becomes a score.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blend {
    /// As [`PodTopologySpread`](super::score::PodTopologySpread) does; whether a row that lacks a label is
    /// ranked by the others all the same.
    Spread { by_default: bool },
    /// As [`InterPodAffinity`](super::score::InterPodAffinity) does.
    Company,
}

/// Where the pods are counted: which of a ledger's counts, and which column of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    Spread(u64, usize),
    /// By row, where the domains are the nodes themselves.
    SpreadHere(u64, usize),
    Company(u64, usize),
    Repelled(usize),
    /// Not pods, but what they count.
    Attracted(usize),
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
