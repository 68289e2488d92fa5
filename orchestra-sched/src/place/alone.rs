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
    let rows = cycle.ledger.rows();
    let mut raw = vec![0; rows.len()];
    if scorer.reach(cycle) != Reach::Nothing {
        scorer.score(cycle, rows, &vec![true; rows.len()], &mut raw);
    }
    let scale: Scale = scorer.scale();
    let max = raw.iter().copied().max().unwrap_or(0);
    rows.nodes()
        .zip(raw.into_iter().map(|raw| scale.apply(raw, max)))
        .collect()
}
