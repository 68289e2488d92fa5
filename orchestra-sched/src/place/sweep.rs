//! One shape of pod against every node: who fits, who scores what, who is best; kept right as
//! single rows change.

use super::ask::Ask;
use super::domains::{DomainRule, Field, Own, Scored};
use super::kernel::Fused;
use super::key::{OUT, WEIGHTED_MAX, key, weighted_in};
use super::plugin::{Reach, SCORE_MAX, Scale, Score};
use super::sketch::Sketch;
use crate::snapshot::NodeIx;

/// A filter of more rules on domains than this is asked about every row.
const RULES_MAX: usize = 16;
/// How many kinds of rows are found to have too high a bound before all rows are looked at that
/// might.
const KINDS_MAX: usize = 4;
/// Bounds looked at together.
const CHUNK: usize = 32;

/// The answers of a profile for one shape of pod.
///
/// The shipped arithmetic is kept nowhere: it is computed in one loop whenever it is needed. Of
/// the rest there is a column only if some plugin has something to say on the pod.
#[derive(Debug)]
pub(super) struct Sweep {
    /// How far each filter and then each scorer looks.
    reaches: Vec<Reach>,
    rows: usize,
    kernel: Fused,
    /// What the fixed filters let pass; empty if none is asked.
    passed: Vec<bool>,
    /// What all filters let pass; empty if only the kernel and the fixed filters are asked.
    fits: Vec<bool>,
    /// Weighted scores of the scorers that no placement changes and that are taken as they are;
    /// empty if there are none.
    fixed: Vec<u64>,
    /// Weighted scores of the scorers that look at one node and are not in the kernel; empty if
    /// there are none.
    by_node: Vec<u64>,
    /// Raw scores of scorers that are scaled by the largest.
    scaled: Vec<Scaled>,
    cluster: bool,
    /// The filters that are rules on domains, which the columns leave out.
    by_domain: Vec<usize>,
    /// The scorers that look at domains only, which the columns leave out.
    by_domain_scored: Vec<usize>,
    /// Whether the scores that hang on which rows fit are left to the field.
    graded: bool,
    /// Once it is worth it.
    field: Option<Box<Field>>,
    salt: u64,
    /// How much of the plan's log of changed rows is in.
    pub(super) synced: usize,
}

#[derive(Debug)]
struct Scaled {
    scorer: usize,
    raw: Vec<Score>,
    max: Score,
}

impl Sweep {
    /// Asks every plugin about every row. `synced` is how many changes the ledger holds.
    pub(super) fn new(ask: &Ask<'_>, synced: usize) -> Self {
        let (profile, rows) = (ask.profile, ask.cycle.ledger.rows());
        let nodes = rows.len();
        let mut sweep = Self {
            reaches: reaches(ask),
            rows: nodes,
            kernel: Fused::new(&ask.cycle.pod.demand),
            passed: Vec::new(),
            fits: Vec::new(),
            fixed: Vec::new(),
            by_node: Vec::new(),
            scaled: Vec::new(),
            cluster: false,
            by_domain: Vec::new(),
            by_domain_scored: Vec::new(),
            graded: false,
            field: None,
            salt: ask.salt,
            synced,
        };
        for at in 0..profile.filters.len() {
            if sweep.reaches[at] == Reach::Fixed {
                if sweep.passed.is_empty() {
                    sweep.passed = vec![true; nodes];
                }
                ask.filter(at, rows, &mut sweep.passed);
            }
        }
        let domains_do = ask.cleverly && sweep.scores_follow(ask);
        let mut others = Vec::new();
        for (at, filter) in profile.filters.iter().enumerate() {
            let reach = sweep.reaches[at];
            if reach < Reach::Node {
                continue;
            }
            match filter.kernel(&ask.cycle) {
                Some(kernel) if reach == Reach::Node => sweep.kernel.add(kernel, 0),
                _ if reach == Reach::Cluster
                    && domains_do
                    && (filter.domains(&ask.cycle))
                        .is_some_and(|rules| rules.len() <= RULES_MAX) =>
                {
                    sweep.by_domain.push(at);
                }
                _ => {
                    others.push(at);
                    sweep.cluster |= reach == Reach::Cluster;
                }
            }
        }
        let mut scorers = Vec::new();
        for (at, (scorer, weight)) in profile.scorers.iter().enumerate() {
            let reach = sweep.reaches[profile.filters.len() + at];
            match scorer.kernel() {
                _ if reach == Reach::Nothing => {}
                Some(kernel) if reach == Reach::Node => sweep.kernel.add(kernel, *weight),
                _ if reach == Reach::Cluster && domains_do => sweep.by_domain_scored.push(at),
                _ => {
                    scorers.push(at);
                    sweep.cluster |= reach == Reach::Cluster;
                }
            }
        }
        if !others.is_empty() || !scorers.is_empty() {
            sweep.fits = match sweep.passed.is_empty() {
                true => vec![true; nodes],
                false => sweep.passed.clone(),
            };
            sweep.kernel.filter(rows, &mut sweep.fits);
            for at in others {
                ask.filter(at, rows, &mut sweep.fits);
            }
        }
        let mut out = vec![0; if scorers.is_empty() { 0 } else { nodes }];
        for at in scorers {
            out.fill(0);
            ask.score(at, rows, &sweep.fits, &mut out);
            let (scorer, weight) = &profile.scorers[at];
            if scorer.scale() != Scale::AsIs {
                sweep.scaled.push(Scaled {
                    scorer: at,
                    raw: out.clone(),
                    max: 0,
                });
                continue;
            }
            let sums = match sweep.reaches[profile.filters.len() + at] {
                Reach::Node => &mut sweep.by_node,
                _ => &mut sweep.fixed,
            };
            sums.resize(nodes, 0);
            for (sum, &score) in sums.iter_mut().zip(&out) {
                *sum += weighted(score.min(SCORE_MAX), *weight);
            }
        }
        sweep.graded = !sweep.by_domain_scored.is_empty()
            || !sweep.by_domain.is_empty() && !sweep.scaled.is_empty();
        sweep.find_maxima();
        sweep
    }

    /// Whether all scores are a row's own, or hang on others only as a field can follow.
    fn scores_follow(&self, ask: &Ask<'_>) -> bool {
        let reaches = &self.reaches[ask.profile.filters.len()..];
        let mut scorers = ask.profile.scorers.iter().zip(reaches);
        let weights = ask.profile.scorers.iter();
        let most = weights.map(|(_, weight)| weighted(SCORE_MAX, *weight));
        // Beyond, sums are held to what fits into a key, and could not be pieced together.
        most.sum::<u64>() <= WEIGHTED_MAX
            && scorers.all(|((scorer, _), &reach)| {
                reach < Reach::Cluster
                    || scorer.scale() == Scale::AsIs && scorer.domains(&ask.cycle).is_some()
            })
    }

    /// The scores that are left to the field, if any are.
    fn scored(&self, ask: &Ask<'_>) -> Option<Scored> {
        let scorer = |at: usize| {
            let (scorer, weight) = &ask.profile.scorers[at];
            (scorer, u64::from(*weight))
        };
        let scaled = self.scaled.iter().map(|scaled| scorer(scaled.scorer));
        let by_domain = self.by_domain_scored.iter().map(|&at| scorer(at));
        self.graded.then(|| Scored {
            by_domain: by_domain
                .filter_map(|(scorer, weight)| Some((scorer.domains(&ask.cycle)?, weight)))
                .collect(),
            scaled: scaled
                .map(|(scorer, weight)| (scorer.scale(), weight))
                .collect(),
        })
    }

    /// What the filters that are rules on domains say now.
    fn rules(&self, ask: &Ask<'_>) -> Vec<DomainRule> {
        let filters = self.by_domain.iter().map(|&at| &ask.profile.filters[at]);
        let rules = filters.map(|filter| filter.domains(&ask.cycle).unwrap_or_default());
        rules.flatten().collect()
    }

    /// A row and its weighted score, if it is in the running.
    pub(super) fn at(&mut self, ask: &Ask<'_>, node: NodeIx) -> Option<(NodeIx, u32)> {
        self.prepare_if_by_domain(ask);
        let known = self.in_field(ask, |field, own| field.key(node.row(), own));
        let key = known.unwrap_or_else(|| OwnKeys { sweep: self, ask }.key(node.row()));
        (key != OUT).then(|| (node, weighted_in(key)))
    }

    /// The best row and its weighted score: the highest, then the seeded hash of the node's name,
    /// then the lowest row. `None` if none fits.
    pub(super) fn best(&mut self, ask: &Ask<'_>) -> Option<(NodeIx, u32)> {
        self.prepare_if_by_domain(ask);
        if let Some(best) = self.in_field(ask, |field, own| field.best(own)) {
            let (row, key) = best?;
            return Some((NodeIx::from_row(row), weighted_in(key)));
        }
        let (mut best, mut at) = (OUT, 0);
        let mut leading = 0;
        self.scan(ask, |row, sum| {
            // Only who may win needs its tie settled.
            if sum >= leading {
                let key = key(sum, ask.cycle.snapshot().name_hash(row), self.salt);
                if key > best {
                    (best, at, leading) = (key, row, sum);
                }
            }
        });
        (best != OUT).then(|| (NodeIx::from_row(at), weighted_in(best)))
    }

    /// Asks the field, if there is one, which is told what is a row's own.
    fn in_field<R>(
        &mut self,
        ask: &Ask<'_>,
        of: impl FnOnce(&mut Field, &OwnKeys<'_, '_>) -> R,
    ) -> Option<R> {
        let mut field = self.field.take()?;
        let answer = of(&mut field, &OwnKeys { sweep: self, ask });
        self.field = Some(field);
        Some(answer)
    }

    /// The rows that will mostly be best next, about `count` of them, as far as that is known.
    pub(super) fn coming(&self, count: usize) -> impl Iterator<Item = NodeIx> {
        let coming = self.field.iter();
        let coming = coming.flat_map(move |field| field.coming(count));
        coming.map(NodeIx::from_row)
    }

    /// As [`best`](Self::best), with the help of bounds; `None` where they do not help.
    #[expect(clippy::option_option, reason = "no bounds, and nobody fits")]
    pub(super) fn best_by(
        &self,
        ask: &Ask<'_>,
        sketch: &mut Sketch,
    ) -> Option<Option<(NodeIx, u32)>> {
        if self.field.is_some() || !self.fits.is_empty() || self.is_by_domain() {
            return None;
        }
        let rows = ask.cycle.ledger.rows();
        let (mut top, bounds) = sketch.bounds(self.kernel.asked(), self.kernel.rough()?);
        if !self.passed.is_empty() {
            top = -1.0;
            for (bound, passed) in bounds.iter_mut().zip(&self.passed) {
                *bound = if *passed { *bound } else { -1.0 };
                top = if *bound > top { *bound } else { top };
            }
        }
        // Whole numbers below 2^22, so exact.
        let exact = |row: usize| self.kernel.score(&rows, row).map_or(-1.0, |sum| sum as f32);
        let mut kinds_left = KINDS_MAX;
        while top >= 0.0 {
            // Of those with the highest bound, the one that would win a tie.
            let (mut best, mut at) = (OUT, 0);
            for (some, bounds) in bounds.chunks(CHUNK).enumerate() {
                if !bounds
                    .iter()
                    .fold(false, |any, &bound| any | (bound == top))
                {
                    continue;
                }
                for (i, _) in bounds
                    .iter()
                    .enumerate()
                    .filter(|(_, bound)| **bound == top)
                {
                    let row = some * CHUNK + i;
                    let key = key(top as u64, ask.cycle.snapshot().name_hash(row), self.salt);
                    if key > best {
                        (best, at) = (key, row);
                    }
                }
            }
            let said = exact(at);
            if said == top {
                return Some(Some((NodeIx::from_row(at), weighted_in(best))));
            }
            // The bound was too high, for all of its kind; perhaps for others too.
            let mut next = -1.0;
            for (row, bound) in bounds.iter_mut().enumerate() {
                if *bound == top {
                    if rows.are_alike(row, at) {
                        *bound = said;
                    } else if kinds_left == 0 {
                        *bound = exact(row);
                    }
                }
                next = if *bound > next { *bound } else { next };
            }
            kinds_left = kinds_left.saturating_sub(1);
            top = next;
        }
        Some(None)
    }

    /// Makes the best quick to find again after a change of one row. It will be asked for so often, or rows
    /// that are will go to others.
    pub(super) fn prepare(&mut self, ask: &Ask<'_>, expected: usize) {
        if let Some(field) = &mut self.field {
            field.expect(expected);
            return;
        }
        let (rules, scored) = (self.rules(ask), self.scored(ask));
        let mut field = Box::new(Field::new(self.rows, &rules, scored, ask.cycle.ledger));
        if self.graded {
            for (nth, scaled) in self.scaled.iter().enumerate() {
                let raw = scaled.raw.iter().enumerate();
                raw.for_each(|(row, &raw)| field.set_raw(row, nth, raw));
            }
        }
        field.expect(expected);
        field.fill(&OwnKeys { sweep: self, ask });
        self.field = Some(field);
    }

    /// Whether the best is quick to find.
    pub(super) fn is_prepared(&self) -> bool {
        self.field.is_some()
    }

    /// Whether domains are looked at.
    fn is_by_domain(&self) -> bool {
        !self.by_domain.is_empty() || self.graded
    }

    fn prepare_if_by_domain(&mut self, ask: &Ask<'_>) {
        if self.is_by_domain() && self.field.is_none() {
            self.prepare(ask, 1);
        }
    }

    /// Takes a row out of the running; its key, to let it back in.
    pub(super) fn exclude(&mut self, ask: &Ask<'_>, node: NodeIx) -> u64 {
        if self.field.is_none() {
            self.prepare(ask, 1);
        }
        let key = self.in_field(ask, |field, own| field.exclude(node.row(), own));
        key.unwrap_or(OUT)
    }

    /// Lets a row back in.
    pub(super) fn readmit(&mut self, node: NodeIx, key: u64) {
        if let Some(field) = &mut self.field {
            field.readmit(node.row(), key);
        }
    }

    /// Brings in the rows that this plan's placements changed since it was last right.
    pub(super) fn sync(&mut self, ask: &Ask<'_>, log: &[NodeIx]) {
        let changed = &log[self.synced..];
        if changed.is_empty() {
            return;
        }
        if self.cluster || changed.len() > self.rows {
            *self = Self::new(ask, log.len());
            return;
        }
        self.synced = log.len();
        let mut disturbed = false;
        for &node in changed {
            disturbed |= self.refresh(ask, node, false);
        }
        self.rescale(disturbed);
        self.follow(ask, changed, true);
    }

    /// Gives the rows in `changed` the keys that they now have, and those that the domains say.
    /// Pods came to them or left them, or, unless they are the `same_nodes`, anything else happened.
    fn follow(&mut self, ask: &Ask<'_>, changed: &[NodeIx], same_nodes: bool) {
        let Some(mut field) = self.field.take() else {
            return;
        };
        let moved = match self.is_by_domain() {
            true => field.follow(ask.cycle.ledger, changed),
            false => Some(Vec::new()),
        };
        let Some(moved) = moved else {
            return;
        };
        for &node in changed {
            self.seat(ask, &mut field, node, same_nodes);
        }
        for row in moved {
            self.seat(ask, &mut field, NodeIx::from_row(row), true);
        }
        self.field = Some(field);
    }

    /// Brings in rows that changed between two plans; whether that could be done. With
    /// `same_nodes`, only what runs there has changed.
    pub(super) fn catch_up(
        &mut self,
        ask: &Ask<'_>,
        same_nodes: bool,
        changed: impl Iterator<Item = NodeIx>,
    ) -> bool {
        let rows = ask.cycle.ledger.rows().len();
        let mut changed = changed.peekable();
        // Of no rows, an empty column is one that is asked for too.
        if self.rows == 0
            || self.reaches != reaches(ask)
            || self.cluster && changed.peek().is_some()
        {
            return false;
        }
        if self.salt != ask.salt {
            (self.salt, self.field) = (ask.salt, None);
        }
        // A row that is gone may have had the largest.
        let mut disturbed = self.rows != rows;
        if disturbed {
            self.resize(rows);
        }
        let changed: Vec<NodeIx> = changed.filter(|node| node.row() < rows).collect();
        for &node in &changed {
            disturbed |= self.refresh(ask, node, !same_nodes);
        }
        self.rescale(disturbed);
        self.follow(ask, &changed, same_nodes);
        true
    }

    /// Asks again about one row where pods changed or, if `whole`, anything; whether the largest
    /// raw scores have to be found anew.
    fn refresh(&mut self, ask: &Ask<'_>, node: NodeIx, whole: bool) -> bool {
        if self.fits.is_empty() && (!whole || self.passed.is_empty()) {
            return false;
        }
        let row = node.row();
        let rows = ask.cycle.ledger.row(node);
        let filters = ask.profile.filters.len();
        if whole && !self.passed.is_empty() {
            let mut fits = [true];
            for at in 0..filters {
                if fits[0] && self.reaches[at] == Reach::Fixed {
                    ask.filter(at, rows, &mut fits);
                }
            }
            self.passed[row] = fits[0];
        }
        let mut disturbed = false;
        if !self.fits.is_empty() {
            let mut fits = [self.passed.is_empty() || self.passed[row]];
            for at in 0..filters {
                if fits[0] && self.reaches[at] == Reach::Node {
                    ask.filter(at, rows, &mut fits);
                }
            }
            let before = std::mem::replace(&mut self.fits[row], fits[0]);
            // Scorers may have passed over a row that did not fit.
            let fixed_too = whole || fits[0] && !before;
            disturbed = self.score(ask, node, before, fixed_too);
        }
        disturbed
    }

    /// Asks the scorers beside the kernel again about one row.
    fn score(&mut self, ask: &Ask<'_>, node: NodeIx, fitted: bool, fixed_too: bool) -> bool {
        let row = node.row();
        let rows = ask.cycle.ledger.row(node);
        let reaches = &self.reaches[ask.profile.filters.len()..];
        let fits = [self.fits[row]];
        let stale = |reach: Reach| reach == Reach::Node || fixed_too && reach == Reach::Fixed;
        let mut out = [0];
        let mut disturbed = false;
        for scaled in &mut self.scaled {
            let before = if fitted { scaled.raw[row] } else { 0 };
            if stale(reaches[scaled.scorer]) {
                out[0] = 0;
                ask.score(scaled.scorer, rows, &fits, &mut out);
                scaled.raw[row] = out[0];
            }
            let now = if fits[0] { scaled.raw[row] } else { 0 };
            disturbed |= now > scaled.max || before == scaled.max && now < before;
        }
        if let Some(sum) = self.by_node.get_mut(row) {
            *sum = 0;
        }
        if let Some(sum) = self.fixed.get_mut(row).filter(|_| fixed_too) {
            *sum = 0;
        }
        for (at, (scorer, weight)) in ask.profile.scorers.iter().enumerate() {
            let alone = scorer.scale() == Scale::AsIs && scorer.kernel().is_none();
            if !alone || !stale(reaches[at]) {
                continue;
            }
            let sums = match reaches[at] {
                Reach::Node => &mut self.by_node,
                _ => &mut self.fixed,
            };
            if let Some(sum) = sums.get_mut(row) {
                out[0] = 0;
                ask.score(at, rows, &fits, &mut out);
                *sum += weighted(out[0].min(SCORE_MAX), *weight);
            }
        }
        disturbed
    }

    /// Finds the largest raw scores again if need be; all keys are void if one moved.
    fn rescale(&mut self, disturbed: bool) {
        if disturbed && !self.graded && self.find_maxima() {
            self.field = None;
        }
    }

    /// Makes room for another number of rows; new ones are yet to be asked about.
    fn resize(&mut self, rows: usize) {
        self.rows = rows;
        self.field = None;
        for column in [&mut self.passed, &mut self.fits] {
            if !column.is_empty() {
                column.resize(rows, false);
            }
        }
        for column in [&mut self.fixed, &mut self.by_node] {
            if !column.is_empty() {
                column.resize(rows, 0);
            }
        }
        for scaled in &mut self.scaled {
            scaled.raw.resize(rows, 0);
        }
    }

    /// Gives a row the key that it now has; `same_node` if it is the row of the same node.
    fn seat(&self, ask: &Ask<'_>, field: &mut Field, node: NodeIx, same_node: bool) {
        let row = node.row();
        if self.graded {
            for (nth, scaled) in self.scaled.iter().enumerate() {
                field.set_raw(row, nth, scaled.raw[row]);
            }
        }
        let sum = match field.is_barred(row) {
            true => None,
            false => self.sum(ask, node),
        };
        let hash = || ask.cycle.snapshot().name_hash(row);
        field.set(row, sum, same_node, |sum| key(sum, hash(), self.salt));
    }

    /// The weighted score of a row, as things are; `None` if it does not fit.
    fn sum(&self, ask: &Ask<'_>, node: NodeIx) -> Option<u64> {
        if !self.may(node.row()) {
            return None;
        }
        let sum = self.kernel.score(&ask.cycle.ledger.row(node), 0)?;
        Some(sum + self.rest(ask, node.row()))
    }

    /// Calls `each` with every row that fits, and its weighted score.
    fn scan(&self, ask: &Ask<'_>, mut each: impl FnMut(usize, u64)) {
        let rows = ask.cycle.ledger.rows();
        if self.passed.is_empty() && self.fits.is_empty() {
            self.kernel.scan(&rows, each);
            return;
        }
        self.kernel.scan(&rows, |row, sum| {
            if self.may(row) {
                each(row, sum + self.rest(ask, row));
            }
        });
    }

    /// What the filters beside the kernel say.
    fn may(&self, row: usize) -> bool {
        let column = if self.fits.is_empty() {
            &self.passed
        } else {
            &self.fits
        };
        column.is_empty() || column[row]
    }

    /// The weighted scores beside the kernel's, without those that are left to the field.
    fn rest(&self, ask: &Ask<'_>, row: usize) -> u64 {
        let of = |column: &[u64]| column.get(row).copied().unwrap_or(0);
        let mut sum = of(&self.fixed) + of(&self.by_node);
        for scaled in self.scaled.iter().filter(|_| !self.graded) {
            let (scorer, weight) = &ask.profile.scorers[scaled.scorer];
            sum += weighted(scorer.scale().apply(scaled.raw[row], scaled.max), *weight);
        }
        sum
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

/// What is a row's own: its key without what domains say.
struct OwnKeys<'s, 'a> {
    sweep: &'s Sweep,
    ask: &'s Ask<'a>,
}

impl Own for OwnKeys<'_, '_> {
    fn key(&self, row: usize) -> u64 {
        let (sweep, ask) = (self.sweep, self.ask);
        let sum = sweep.sum(ask, NodeIx::from_row(row));
        sum.map_or(OUT, |sum| {
            let hash = ask.cycle.snapshot().name_hash(row);
            key(sum, hash, sweep.salt)
        })
    }

    fn keys(&self) -> Vec<u64> {
        let (sweep, ask) = (self.sweep, self.ask);
        let hashes = ask.cycle.snapshot().name_hashes();
        let mut keys = vec![OUT; sweep.rows];
        sweep.scan(ask, |row, sum| {
            keys[row] = key(sum, hashes[row], sweep.salt)
        });
        keys
    }
}

/// How far each filter and then each scorer looks for the pod.
pub(super) fn reaches(ask: &Ask<'_>) -> Vec<Reach> {
    let filters = (0..ask.profile.filters.len()).map(|at| ask.filter_reach(at));
    let scorers = (0..ask.profile.scorers.len()).map(|at| ask.scorer_reach(at));
    filters.chain(scorers).collect()
}

fn weighted(score: Score, weight: u32) -> u64 {
    u64::from(score) * u64::from(weight)
}
