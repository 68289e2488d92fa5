//! Where plugins are asked: in clusters of whoever tests, then in those that a seed draws.

use orchestra_core::conformance::Finding;

use super::fields::others;
use super::world::World;
use super::{NOW, contained};
use crate::fixture::Cluster;
use crate::place::Pending;
use crate::place::plugin::Cycle;
use crate::snapshot::{Ledger, Snapshot};

/// How many clusters each check looks at.
const WORLDS: u64 = 60;

#[derive(Clone, Copy)]
pub(super) struct Cases<'a> {
    pub(super) seed: u64,
    /// Clusters of whoever tests; those drawn come after them.
    pub(super) own: &'a [Cluster],
}

impl Cases<'_> {
    /// Asks about every pod of every cluster.
    pub(super) fn each(&self, mut body: impl FnMut(&Snapshot, &Cycle<'_>) -> Finding) -> Finding {
        self.each_beside(|snapshot, cycle, _| body(snapshot, cycle))
    }

    /// The same, with pods that differ from it, [others] of its cluster among them.
    pub(super) fn each_beside(
        &self,
        mut body: impl FnMut(&Snapshot, &Cycle<'_>, &[Pending]) -> Finding,
    ) -> Finding {
        let mut ask = |name: String, snapshot: &Snapshot, pods: Vec<Pending>| -> Finding {
            let others = others(snapshot, &pods);
            for pod in pods {
                let ledger = Ledger::open(snapshot);
                let cycle = Cycle::new(&ledger, &pod, NOW);
                contained(|| body(snapshot, &cycle, &others))
                    .map_err(|stop| stop.at(format_args!("{name}, pod {}", pod.id)))?;
            }
            Ok(())
        };
        for (n, own) in self.own.iter().enumerate() {
            ask(format!("your cluster {n}"), &own.snapshot(), own.pending())?;
        }
        for n in 0..WORLDS {
            let world = World::draw(self.seed, n);
            ask(format!("cluster {n}"), &world.snapshot(), world.pending())?;
        }
        Ok(())
    }
}
