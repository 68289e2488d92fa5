//! Which members of a gang wait on their nodes for the others.

use std::collections::BTreeMap;

use orchestra_core::meta::ObjectKey;
use orchestra_sched::place::Placement;
use orchestra_sched::place::gate::Standing;
use smol_str::ToSmolStr;

use super::PlacementLoop;
use crate::loops::caches::{BY_GANG, gang_of};

/// What one commit of a gang's members is.
pub(super) struct Gate {
    gang: ObjectKey,
    /// What they are told for whom they wait, if they wait.
    pub(super) told: Option<String>,
}

/// The gangs of one pass, as they stand once what landed is counted.
#[derive(Default)]
pub(super) struct Gates(BTreeMap<ObjectKey, Standing>);

impl Gates {
    /// Notes that so many more were bound.
    pub(super) fn bound(&mut self, gate: Option<Gate>, more: usize) {
        let Some(gate) = gate else { return };
        if let Some(standing) = self.0.get_mut(&gate.gang) {
            standing.bound += more;
            if gate.told.is_none() {
                standing.free += more;
            }
        }
    }
}

impl PlacementLoop {
    /// Whether the members of a gang wait that are bound in one commit. `None` for pods without one.
    pub(super) fn gate(&self, placed: &[Placement], gates: &mut Gates) -> Option<Gate> {
        let gang = {
            let state = self.state();
            let mut known = placed.iter().filter_map(|one| state.pods.get(&one.pod));
            gang_of(known.next()?)?
        };
        let standing = gates.0.entry(gang.clone()).or_insert_with(|| {
            let pods = self.caches.pods.by_index(BY_GANG, &gang.to_smolstr());
            // A node that was lost is found out by who lets them start.
            Standing::of(gang.clone(), &pods, |_| true)
        });
        let starts = standing.lets_start(placed.len());
        let told = (!starts).then(|| standing.told(placed.len()));
        Some(Gate { gang, told })
    }
}
