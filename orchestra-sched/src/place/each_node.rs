//! A filter from a function of one node.

use std::fmt;

use super::plugin::{Cycle, Filter, PodFields, Reach};
use crate::fits::Obstacle;
use crate::snapshot::{NodeIx, Rows};

/// Lifts a function that says what is in the way on one node to a [`Filter`].
///
/// ```
/// use orchestra_sched::fits::Obstacle;
/// use orchestra_sched::place::Changes;
/// use orchestra_sched::place::plugin::{Cycle, EachNode, PodFields, Reach};
/// use orchestra_sched::snapshot::NodeIx;
///
/// // Keeps pods off nodes that are labelled `quarantine`, whatever the pod.
/// let quarantine = EachNode::new(
///     "Quarantine",
///     PodFields::NONE,
///     Reach::Fixed,
///     |cycle: &Cycle<'_>, node: NodeIx| {
///         let why = cycle.snapshot().node(node).facts().labels.get("quarantine")?;
///         Some(Obstacle::Other {
///             rule: "Quarantine",
///             note: why.clone(),
///             curable: false,
///             helped_by: Changes::NODE_LABELS,
///         })
///     },
/// );
/// # let _: &dyn orchestra_sched::place::plugin::Filter = &quarantine;
/// ```
#[derive(Clone)]
pub struct EachNode<F> {
    name: &'static str,
    depends: PodFields,
    reach: Reach,
    f: F,
}

impl<F> EachNode<F>
where
    F: Fn(&Cycle<'_>, NodeIx) -> Option<Obstacle> + Send + Sync,
{
    /// A filter that calls `f` for each node. `reach` must not be [`Cluster`](Reach::Cluster)
    /// unless `f` looks beyond its node.
    pub fn new(name: &'static str, depends: PodFields, reach: Reach, f: F) -> Self {
        Self {
            name,
            depends,
            reach,
            f,
        }
    }
}

impl<F> fmt::Debug for EachNode<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachNode")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<F> Filter for EachNode<F>
where
    F: Fn(&Cycle<'_>, NodeIx) -> Option<Obstacle> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn depends(&self) -> PodFields {
        self.depends
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        self.reach
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        for (node, fits) in rows.nodes().zip(fits) {
            *fits = *fits && (self.f)(cycle, node).is_none();
        }
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        Vec::from_iter((self.f)(cycle, node))
    }
}
