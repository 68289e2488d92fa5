//! One plugin by itself: for tests of plugins, and for questions.

use super::plugin::{Cycle, Filter, Reach, Scale, Score, Scorer};
use crate::fits::{Obstacle, Verdict, verdict};
use crate::snapshot::NodeIx;

/// What `filter` alone says of each node, and why.
pub fn verdicts(filter: &dyn Filter, cycle: &Cycle<'_>) -> Vec<(NodeIx, Verdict, Vec<Obstacle>)> {
    let rows = cycle.ledger.rows();
    let mut fits = vec![true; rows.len()];
    if filter.reach(cycle) != Reach::Nothing {
        filter.filter(cycle, rows, &mut fits);
    }
    let answers = rows.nodes().zip(fits).map(|(node, fits)| {
        let obstacles = if fits {
            Vec::new()
        } else {
            filter.obstacles(cycle, node)
        };
        (node, verdict(&obstacles), obstacles)
    });
    answers.collect()
}

/// What `scorer` alone makes of each node, 0 to 100, with every node a candidate.
pub fn scores(scorer: &dyn Scorer, cycle: &Cycle<'_>) -> Vec<(NodeIx, Score)> {
    scores_among(scorer, cycle, |_| true)
}

/// What `scorer` alone makes of each node that fits, 0 to 100, with no other a candidate.
pub fn scores_among(
    scorer: &dyn Scorer,
    cycle: &Cycle<'_>,
    fits: impl Fn(NodeIx) -> bool,
) -> Vec<(NodeIx, Score)> {
    let rows = cycle.ledger.rows();
    let fits: Vec<bool> = rows.nodes().map(fits).collect();
    let mut raw = vec![0; rows.len()];
    if scorer.reach(cycle) != Reach::Nothing {
        scorer.score(cycle, rows, &fits, &mut raw);
    }
    let scale: Scale = scorer.scale();
    let candidates = || {
        raw.iter()
            .zip(&fits)
            .zip(rows.nodes())
            .filter(|((_, fits), _)| **fits)
    };
    let max = candidates().map(|((&raw, _), _)| raw).max().unwrap_or(0);
    candidates()
        .map(|((&raw, _), node)| (node, scale.apply(raw, max)))
        .collect()
}
