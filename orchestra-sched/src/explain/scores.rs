//! Why here: what each scorer makes of a pod's node, and of the next best.

use std::cmp::Reverse;
use std::fmt;

use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use crate::place::plugin::{Cycle, Reach};
use crate::place::{Pending, Profile, contain, scores_among, verdicts};
use crate::snapshot::{Ledger, NodeIx, Snapshot};

/// How many nodes a [`Ranking`] names beside the chosen one.
pub const RUNNERS_UP_MAX: usize = 3;

/// How the scorers of a profile rank the nodes that fit a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ranking {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them fit.
    pub fit: usize,
    /// The pod's node, or the best one for a pod without; `None` if it has none and none fits.
    pub chosen: Option<NodeScores>,
    /// The best of the others, best first, equals by name; at most [`RUNNERS_UP_MAX`].
    pub runners_up: Vec<NodeScores>,
}

/// What scorers make of one node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeScores {
    /// The node.
    pub node: SmolStr,
    /// The sum of the parts.
    pub total: u32,
    /// Each scorer that has something to say, in the order of the profile.
    pub parts: Vec<Part>,
}

/// What one scorer makes of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The scorer.
    pub rule: &'static str,
    /// Its score, 0 to 100.
    pub score: u32,
    /// How much it counts.
    pub weight: u32,
}

/// How the nodes compare for `pod` in the cluster that `snapshot` shows. A pod that runs there is
/// asked about as if it did not, and its node is the chosen one, fit or not.
///
/// Asks every plugin about every node: for questions, not for plans. A filter that panics turns all nodes
/// down, a scorer that panics counts nothing.
pub fn placement(profile: &Profile, snapshot: &Snapshot, pod: &Pending, now: Timestamp) -> Ranking {
    let mut ledger = Ledger::open(snapshot);
    let mut home = None;
    for (at, node) in snapshot.nodes() {
        if let Some(running) = node.pods().iter().find(|running| running.id == pod.id) {
            ledger.evict(at, running);
            home = Some(at);
        }
    }
    // It names the node that it was given, and holds devices there.
    let mut elsewhere = pod.clone();
    if let Some(home) = home {
        elsewhere.demand = pod.demand.leaving(snapshot.node(home).name());
    }
    let cycle = Cycle::new(&ledger, &elsewhere, now);
    let mut fits = vec![true; snapshot.len()];
    for filter in profile.filters() {
        match contain(|| verdicts(filter, &cycle)) {
            Ok(verdicts) => verdicts
                .into_iter()
                .for_each(|(node, _, obstacles)| fits[node.row()] &= obstacles.is_empty()),
            Err(_) => fits.fill(false),
        }
    }
    let fit = fits.iter().filter(|fits| **fits).count();
    if let Some(home) = home {
        fits[home.row()] = true;
    }
    let mut found: Vec<(NodeIx, NodeScores)> = snapshot
        .nodes()
        .filter(|(at, _)| fits[at.row()])
        .map(|(at, node)| {
            let (node, parts) = (node.name().clone(), Vec::new());
            let total = 0;
            (at, NodeScores { node, total, parts })
        })
        .collect();
    for (scorer, weight) in profile.scorers() {
        let scores = contain(|| {
            let counts = weight > 0 && scorer.reach(&cycle) != Reach::Nothing;
            counts.then(|| scores_among(scorer, &cycle, |node| fits[node.row()]))
        });
        let Ok(Some(scores)) = scores else { continue };
        for ((_, node), (_, score)) in found.iter_mut().zip(scores) {
            let rule = scorer.name();
            node.total += score * weight;
            node.parts.push(Part {
                rule,
                score,
                weight,
            });
        }
    }
    found.sort_by(|(at, one), (other_at, other)| {
        let key = |at: &NodeIx, node: &NodeScores| (Some(*at) != home, Reverse(node.total));
        let (this, that) = (key(at, one), key(other_at, other));
        this.cmp(&that).then_with(|| one.node.cmp(&other.node))
    });
    let mut found = found.into_iter().map(|(_, node)| node);
    Ranking {
        nodes: snapshot.len(),
        fit,
        chosen: found.next(),
        runners_up: found.take(RUNNERS_UP_MAX).collect(),
    }
}

impl fmt::Display for Ranking {
    /// A line for the chosen node and one for each of the next.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} nodes fit", self.fit, self.nodes)?;
        if let Some(chosen) = &self.chosen {
            write!(f, "\n{chosen}")?;
        }
        for node in &self.runners_up {
            write!(f, "\nbefore {node}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NodeScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {}", self.node, self.total)?;
        let mut separator = ": ";
        for Part {
            rule,
            score,
            weight,
        } in &self.parts
        {
            write!(f, "{separator}{rule} {score}")?;
            if *weight != 1 {
                write!(f, " x {weight}")?;
            }
            separator = ", ";
        }
        Ok(())
    }
}
