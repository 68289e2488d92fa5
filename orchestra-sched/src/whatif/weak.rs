//! Which single node or zone cannot be lost.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::{LINES_MAX, Leaving, Question, QuestionError, zones};
use crate::explain::Explanation;
use crate::place::{Framework, Pending, PlanInputs, Scheduler};
use crate::snapshot::{PodId, Snapshot};

/// How many nodes are taken out for trial, where a look is not enough to see that they can be
/// lost.
pub const NODES_TRIED_MAX: usize = 1_000;

/// What cannot be lost without a pod that finds no other node.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// The node's or the zone's name.
    pub name: SmolStr,
    /// How many pods run there that would have to move.
    pub pods: usize,
    /// How many of them would find no node.
    pub stranded: usize,
    /// The first of those.
    pub first: PodId,
    /// Why it finds none.
    pub why: Arc<Explanation>,
}

/// What cannot be lost. `Display` tells it to people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeakSpots {
    /// Zones, by name.
    pub zones: Vec<Loss>,
    /// Nodes, by name.
    pub nodes: Vec<Loss>,
    /// How many more nodes would have had to be tried: of those nothing is known.
    pub untried: usize,
}

/// Which single node or zone cannot be lost: some pod that runs there would find no other node.
///
/// A node is passed at a look if each of its pods fits on more nodes now than the node has pods;
/// then whichever way the others are placed, one is left for it. The rest are tried, at most
/// [`NODES_TRIED_MAX`].
///
/// Nobody is evicted to make room, as whoever is would be stranded instead. [`Question::ask`] lets those evict
/// who may: it finds these nodes and zones weak too, but may count more pods stranded, since room is then held
/// for who evicts. It may also find one weak that is not: a pod has room made for it as soon as it is refused, though
/// others of the same plan might bring what it waits for.
pub fn weak_spots(snapshot: &Snapshot, framework: &Framework, inputs: PlanInputs) -> WeakSpots {
    let mut weak = WeakSpots::default();
    for zone in zones(snapshot).into_keys() {
        let lost = lose(
            snapshot,
            framework,
            inputs,
            &zone,
            Question::new().lose_zone(zone.clone()),
        );
        weak.zones.extend(lost);
    }
    let mut tried = 0;
    for name in suspects(snapshot, framework, inputs) {
        if tried == NODES_TRIED_MAX {
            weak.untried += 1;
            continue;
        }
        tried += 1;
        let question = Question::new().drain([name.clone()]);
        weak.nodes
            .extend(lose(snapshot, framework, inputs, &name, question));
    }
    weak
}

fn lose(
    snapshot: &Snapshot,
    framework: &Framework,
    inputs: PlanInputs,
    name: &SmolStr,
    question: Question,
) -> Option<Loss> {
    let mut leaving = Leaving::of(snapshot);
    let changes: Result<(), QuestionError> =
        (question.changes.iter()).try_for_each(|change| leaving.change(change));
    changes.ok()?;
    leaving.line_up();
    for pod in &mut leaving.pending {
        // Whether others could be evicted instead is another question.
        pod.preempts = false;
    }
    let plan = framework.plan(&leaving.future.snapshot(), &leaving.pending, inputs);
    let stranded = plan.unplaced.len();
    let first = plan.unplaced.into_iter().next()?;
    Some(Loss {
        name: name.clone(),
        pods: leaving.pending.len(),
        stranded,
        first: first.pod,
        why: first.why,
    })
}

/// The nodes of which a look does not say that they can be lost, by name.
fn suspects(snapshot: &Snapshot, framework: &Framework, inputs: PlanInputs) -> Vec<SmolStr> {
    let mut leaving = Leaving::of(snapshot);
    let mut ends = Vec::with_capacity(snapshot.len());
    for (_, row) in snapshot.nodes() {
        for running in row.pods() {
            let demand = running.demand.leaving(row.name());
            leaving.leave(running, row.name(), demand);
        }
        ends.push(leaving.pending.len());
    }
    leaving.line_up();
    let fits = framework.fit_counts(snapshot, &leaving.pending, inputs.now);
    let mut names = Vec::new();
    let mut start = 0;
    for ((_, row), end) in snapshot.nodes().zip(ends) {
        let all: &[Pending] = &leaving.pending[start..end];
        // One of the nodes it fits on may be this one.
        let safe = fits[start..end]
            .iter()
            .all(|fits| fits.is_some_and(|fits| fits > all.len()));
        if !safe {
            names.push(row.name().clone());
        }
        start = end;
    }
    names.sort_unstable();
    names
}

impl fmt::Display for WeakSpots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sorts = [("zone", &self.zones), ("node", &self.nodes)];
        let mut separator = "";
        for (sort, losses) in sorts {
            f.write_str(separator)?;
            separator = "\n";
            match losses.len() {
                0 => write!(f, "every single {sort} can be lost")?,
                1 => write!(f, "1 {sort} cannot be lost")?,
                n => write!(f, "{n} {sort}s cannot be lost")?,
            }
            for loss in losses.iter().take(LINES_MAX) {
                let (of, first) = (loss.pods, &loss.first);
                match loss.stranded {
                    1 => write!(
                        f,
                        "\n  {}: 1 of {of} pods finds no node, {first}: ",
                        loss.name
                    )?,
                    n => write!(
                        f,
                        "\n  {}: {n} of {of} pods find no node, first {first}: ",
                        loss.name
                    )?,
                }
                write!(f, "{}", loss.why)?;
            }
            if let Some(more @ 1..) = losses.len().checked_sub(LINES_MAX) {
                write!(f, "\n  and {more} more")?;
            }
        }
        if self.untried > 0 {
            write!(f, "\n{} more nodes were not looked into", self.untried)?;
        }
        Ok(())
    }
}
