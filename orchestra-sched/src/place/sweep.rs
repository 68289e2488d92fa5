//! One shape of pod against every node: who fits, who scores what, who is best; kept right as
//! placements change single rows.

use super::framework::Profile;
use super::plugin::{Cycle, Reach, SCORE_MAX, Scale, Score};
use super::tournament::Tournament;
use crate::snapshot::NodeIx;

/// Bits of a key that settle ties. The rest hold the weighted score.
const TIE_BITS: u32 = 44;
const WEIGHTED_MAX: u64 = (1 << (64 - TIE_BITS)) - 2;

/// The answers of a profile for one shape of pod.
#[derive(Debug)]
pub(super) struct Sweep {
    /// What the fixed filters let pass.
    passed: Vec<bool>,
    /// What all filters let pass.
    fits: Vec<bool>,
    /// Weighted scores of the scorers that no placement changes and that are taken as they are.
    fixed: Vec<u64>,
    /// Raw scores of scorers that are scaled by the largest.
    scaled: Vec<Scaled>,
    filters_by_node: Vec<usize>,
    scorers_by_node: Vec<usize>,
    cluster: bool,
    tournament: Tournament,
    /// How much of the log of changed rows is in.
    synced: usize,
}

#[derive(Debug)]
struct Scaled {
    scorer: usize,
    by_node: bool,
    raw: Vec<Score>,
    max: Score,
}

impl Sweep {
    /// Asks every plugin about every row. `log_len` is how many changes the ledger holds.
    pub(super) fn new(profile: &Profile, cycle: &Cycle<'_>, salt: u64, log_len: usize) -> Self {
        let rows = cycle.ledger.rows();
        let nodes = rows.len();
        let mut sweep = Self {
            passed: vec![true; nodes],
            fits: Vec::new(),
            fixed: vec![0; nodes],
            scaled: Vec::new(),
            filters_by_node: Vec::new(),
            scorers_by_node: Vec::new(),
            cluster: false,
            tournament: Tournament::new(&[]),
            synced: log_len,
        };
        let mut cluster_filters = Vec::new();
        for (at, filter) in profile.filters.iter().enumerate() {
            match filter.reach(cycle) {
                Reach::Nothing => {}
                Reach::Fixed => filter.filter(cycle, rows, &mut sweep.passed),
                Reach::Node => sweep.filters_by_node.push(at),
                Reach::Cluster => cluster_filters.push(at),
            }
        }
        sweep.fits = sweep.passed.clone();
        for &at in sweep.filters_by_node.iter().chain(&cluster_filters) {
            profile.filters[at].filter(cycle, rows, &mut sweep.fits);
        }
        sweep.cluster = !cluster_filters.is_empty();

        let mut by_node = vec![0; nodes];
        let mut out = vec![0; nodes];
        for (at, (scorer, weight)) in profile.scorers.iter().enumerate() {
            let reach = scorer.reach(cycle);
            if reach == Reach::Nothing {
                continue;
            }
            out.fill(0);
            scorer.score(cycle, rows, &sweep.fits, &mut out);
            sweep.cluster |= reach == Reach::Cluster;
            if scorer.scale() != Scale::AsIs {
                let raw = out.clone();
                let by_node = reach == Reach::Node;
                sweep.scaled.push(Scaled {
                    scorer: at,
                    by_node,
                    raw,
                    max: 0,
                });
                continue;
            }
            let sums = if reach == Reach::Node {
                sweep.scorers_by_node.push(at);
                &mut by_node
            } else {
                &mut sweep.fixed
            };
            for (sum, &score) in sums.iter_mut().zip(&out) {
                *sum += weighted(score.min(SCORE_MAX), *weight);
            }
        }
        sweep.find_maxima();
        let keys: Vec<u64> = (0..nodes)
            .map(|row| {
                let hash = cycle.snapshot().name_hash(row);
                sweep.key(profile, row, by_node[row], tie(hash, salt))
            })
            .collect();
        sweep.tournament = Tournament::new(&keys);
        sweep
    }

    /// The best row: the highest weighted score, then the seeded hash of the node's name, then the
    /// lowest row. `None` if none fits.
    pub(super) fn best(&self) -> Option<NodeIx> {
        self.tournament.best().map(NodeIx::from_row)
    }

    /// Whether a row is in the running.
    pub(super) fn is_in(&self, node: NodeIx) -> bool {
        self.tournament.key(node.row()) != Tournament::OUT
    }

    /// Takes a row out of the running.
    pub(super) fn exclude(&mut self, node: NodeIx) {
        self.tournament.set(node.row(), Tournament::OUT);
    }

    /// Asks again about one row, whatever changed there.
    pub(super) fn refresh(
        &mut self,
        profile: &Profile,
        cycle: &Cycle<'_>,
        salt: u64,
        node: NodeIx,
    ) {
        let row = node.row();
        let rows = cycle.ledger.row(node);
        let mut fits = [self.passed[row]];
        for &at in &self.filters_by_node {
            if !fits[0] {
                break;
            }
            profile.filters[at].filter(cycle, rows, &mut fits);
        }
        if fits[0] && !self.fits[row] {
            // Scorers may have passed over a row that did not fit.
            *self = Self::new(profile, cycle, salt, self.synced);
            return;
        }
        let mut disturbed = fits[0] != self.fits[row] && !self.scaled.is_empty();
        self.fits[row] = fits[0];
        let mut out = [0];
        for scaled in self.scaled.iter_mut().filter(|scaled| scaled.by_node) {
            out[0] = 0;
            profile.scorers[scaled.scorer]
                .0
                .score(cycle, rows, &fits, &mut out);
            disturbed |= scaled.raw[row] != out[0];
            scaled.raw[row] = out[0];
        }
        if disturbed && self.find_maxima() {
            *self = Self::new(profile, cycle, salt, self.synced);
            return;
        }
        let mut sum = 0;
        if fits[0] {
            for &at in &self.scorers_by_node {
                let (scorer, weight) = &profile.scorers[at];
                out[0] = 0;
                scorer.score(cycle, rows, &fits, &mut out);
                sum += weighted(out[0].min(SCORE_MAX), *weight);
            }
        }
        let key = self.key(
            profile,
            row,
            sum,
            tie(cycle.snapshot().name_hash(row), salt),
        );
        self.tournament.set(row, key);
    }

    /// Brings in the rows that changed since it was last right.
    pub(super) fn sync(&mut self, profile: &Profile, cycle: &Cycle<'_>, salt: u64, log: &[NodeIx]) {
        let changed = &log[self.synced..];
        if changed.is_empty() {
            return;
        }
        if self.cluster || changed.len() > self.fits.len() {
            *self = Self::new(profile, cycle, salt, log.len());
            return;
        }
        self.synced = log.len();
        for &node in changed {
            self.refresh(profile, cycle, salt, node);
        }
    }

    /// The weighted score of a row as its key holds it.
    pub(super) fn weighted(&self, node: NodeIx) -> u32 {
        (self.tournament.key(node.row()) >> TIE_BITS).saturating_sub(1) as u32
    }

    fn key(&self, profile: &Profile, row: usize, by_node: u64, tie: u64) -> u64 {
        if !self.fits[row] {
            return Tournament::OUT;
        }
        let mut sum = self.fixed[row] + by_node;
        for scaled in &self.scaled {
            let (scorer, weight) = &profile.scorers[scaled.scorer];
            sum += weighted(scorer.scale().apply(scaled.raw[row], scaled.max), *weight);
        }
        ((sum.min(WEIGHTED_MAX) + 1) << TIE_BITS) | (tie >> (64 - TIE_BITS))
    }

    /// Finds the largest raw scores among the rows that fit; whether any moved.
    fn find_maxima(&mut self) -> bool {
        let mut moved = false;
        for scaled in &mut self.scaled {
            let fitting = scaled.raw.iter().zip(&self.fits).filter(|(_, fits)| **fits);
            let max = fitting.map(|(&raw, _)| raw).max().unwrap_or(0);
            moved |= max != scaled.max;
            scaled.max = max;
        }
        moved
    }
}

fn weighted(score: Score, weight: u32) -> u64 {
    u64::from(score) * u64::from(weight)
}

/// A number for a node that differs from plan to plan, and not with the order of the nodes.
pub(super) fn tie(name_hash: u64, salt: u64) -> u64 {
    // The finaliser of SplitMix64: every bit of the input moves every bit of the output.
    let mut z = name_hash ^ salt;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
