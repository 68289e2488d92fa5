//! A snapshot that is changed for the sake of a question.

use std::sync::Arc;

use orchestra_core::kind::accelerator::DeviceSet;

use super::{Demand, NodeFacts, NodeIx, Running, Snapshot, SnapshotBuilder};

/// What a cluster would look like. Shares with the snapshot it began as whatever did not change.
#[derive(Debug)]
pub(crate) struct Future {
    builder: SnapshotBuilder,
    began: Snapshot,
}

impl Future {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            builder: SnapshotBuilder::onto(snapshot),
            began: snapshot.clone(),
        }
    }

    /// Takes a node out, and hands over what ran there.
    pub(crate) fn remove_node(&mut self, name: &str) -> Vec<Arc<Running>> {
        self.builder.remove_node(name);
        self.builder.forget(name)
    }

    /// Adds a node, or makes it what `facts` say.
    pub(crate) fn set_node(&mut self, facts: NodeFacts) {
        self.builder.set_node(facts);
    }

    /// Takes a pod off its node.
    pub(crate) fn remove_pod(&mut self, node: &str, running: &Running) {
        if let Some(at) = self.builder.current().find(node) {
            self.builder.discount(at, running);
        }
    }

    /// Makes a pod count against a node. Asks nobody whether it fits.
    pub(crate) fn add_pod(&mut self, node: NodeIx, running: Arc<Running>) {
        self.builder.count(node, running);
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            base: self.began.base,
            lowest_priority: self.began.lowest_priority,
            ..self.builder.current().clone()
        }
    }
}

impl Demand {
    /// What a pod that runs on `node` asks elsewhere: neither that node nor the accelerators it
    /// holds there.
    pub(crate) fn leaving(self: &Arc<Self>, node: &str) -> Arc<Self> {
        let named = self.node_name.as_deref() == Some(node);
        let holds = (self.accelerators.as_ref()).is_some_and(|ask| !ask.held.is_empty());
        if !named && !holds {
            return Arc::clone(self);
        }
        let mut demand = Self::clone(self);
        if named {
            demand.node_name = None;
        }
        if let Some(ask) = &mut demand.accelerators {
            ask.held = DeviceSet::NONE;
        }
        Arc::new(demand)
    }
}
