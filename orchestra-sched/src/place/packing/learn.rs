//! Learning what is to be expected from what comes.

use super::blend::{Source, blend};
use super::differ::{Worth, worth_beside};
use super::workload::{Class, Workload};
use super::{Packing, orchestra};
use crate::snapshot::{Demand, NodeFacts};

/// How many pods have come when what came is first looked at.
const FIRST_LOOK: u64 = 32;
/// How many times as many have come at the next look.
const LOOK_FACTOR: u64 = 2;
/// How many pods that want what nodes have count beside those that came.
const SHAPED: u64 = 256;

/// [`orchestra`] for pods such as are expected, until others come.
///
/// It counts the kinds of the pods that come. When so many have come as it takes for the next look (32,
/// and twice as many each time), it compares them with those that are expected: where the two differ by
/// more than chance would have them, the rule is made anew for a mix of both, in which what is expected
/// counts the less the more the two differ; where they do not, it is the rule for what is expected. Where
/// nothing is expected the rule is that for what came, and until the first look any node is as good as
/// another.
///
/// What came is a small sample at first. If by chance nobody in it wants much CPU of a node that has little, its
/// CPU is given away. So 256 pods that want a device and what CPU and memory their node has for each count
/// beside those that came: nodes are bought for the pods that are to run there.
///
/// What it says depends on what is expected, on the nodes and on which pods have come, on nothing else.
///
/// ```
/// # #[cfg(feature = "trace")] {
/// use orchestra_sched::place::packing::{Learning, Workload};
/// use orchestra_sched::trace::Trace;
///
/// let trace = Trace::generated(7);
/// let mut learning = Learning::new(Workload::default(), &trace.nodes);
/// let mut packing = learning.packing();
/// for pod in &trace.pods[..32] {
///     if let Some(learned) = learning.arrive(&pod.demand) {
///         packing = learned; // for a profile that takes the place of the one before
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Learning {
    nodes: Vec<NodeFacts>,
    expected: Workload,
    came: Workload,
    next_look: u64,
    packing: Packing,
    /// Whether the rule is for what is expected alone.
    as_expected: bool,
}

impl Learning {
    /// Has seen nothing yet. `expected` is empty where nothing is known.
    pub fn new<'a>(expected: Workload, nodes: impl IntoIterator<Item = &'a NodeFacts>) -> Self {
        let nodes: Vec<NodeFacts> = nodes.into_iter().cloned().collect();
        Self {
            packing: orchestra(&expected, &nodes),
            nodes,
            expected,
            came: Workload::default(),
            next_look: FIRST_LOOK,
            as_expected: true,
        }
    }

    /// The rule as it is now.
    pub fn packing(&self) -> Packing {
        self.packing.clone()
    }

    /// Takes note of a pod that comes. Answers the rule for this pod and those after it, if it is another
    /// than before.
    pub fn arrive(&mut self, pod: &Demand) -> Option<Packing> {
        self.came.count(Class::of(pod), 1);
        if self.came.pods() < self.next_look {
            return None;
        }
        self.next_look = self.next_look.saturating_mul(LOOK_FACTOR);
        let nothing = Worth { kinds: 0, names: 0 };
        let worth = match self.expected.pods() {
            0 => Some(nothing),
            _ => worth_beside(&self.expected, &self.came),
        };
        let was_expected = std::mem::replace(&mut self.as_expected, worth.is_none());
        self.packing = match worth {
            None if was_expected => return None,
            None => orchestra(&self.expected, &self.nodes),
            Some(worth) => orchestra(&self.learned(worth), &self.nodes),
        };
        Some(self.packing())
    }

    /// What to expect where what was expected is worth so much.
    fn learned(&self, worth: Worth) -> Workload {
        let expected = Source {
            workload: &self.expected,
            kinds: worth.kinds,
            names: worth.names,
        };
        let shaped = Source {
            workload: &Workload::shaped(&self.nodes),
            kinds: SHAPED,
            names: 0,
        };
        blend(&[Source::all(&self.came), expected, shaped])
    }
}
