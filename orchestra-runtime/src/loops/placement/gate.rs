//! Which members of a gang wait on their nodes for the others.
//!
//! Who joins those that run depends on them as they were seen: however late what ends is heard of, nobody joins a
//! gang that is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::{Pod, gang};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::Guard;
use orchestra_sched::place::Placement;
use orchestra_sched::place::gate::Standing;
use orchestra_sched::snapshot::PodId;
use smol_str::ToSmolStr;

use super::{COMMIT_GUARDS_MAX, PlacementLoop};
use crate::api::store_key;
use crate::loops::caches::{BY_GANG, gang_of};

/// What one commit of a gang's members is.
pub(super) struct Gate {
    gang: ObjectKey,
    /// What they are told for whom they wait, if they wait.
    pub(super) told: Option<String>,
    /// What it depends on that others of the gang run, if it does.
    pub(super) joins: Vec<Guard>,
}

/// The gangs of one pass, as they stand once what landed is counted.
#[derive(Default)]
pub(super) struct Gates(BTreeMap<ObjectKey, Known>);

/// A gang as it stands.
struct Known {
    standing: Standing,
    /// Those that run or start, as they were seen before the pass.
    free: Vec<Guard>,
}

impl Gates {
    /// Notes that so many more were bound.
    pub(super) fn bound(&mut self, gate: Option<Gate>, more: usize) {
        let Some(gate) = gate else { return };
        if let Some(Known { standing, .. }) = self.0.get_mut(&gate.gang) {
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
        let Known { standing, free } = gates.0.entry(gang.clone()).or_insert_with(|| {
            let pods = self.caches.pods.by_index(BY_GANG, &gang.to_smolstr());
            Known {
                free: pods.iter().filter_map(free).collect(),
                // A node that was lost is found out by who lets them start.
                standing: Standing::of(gang.clone(), &pods, |_| true),
            }
        });
        // What this pass has let start is there; of the others as many as it takes have to be still.
        let since = standing.free.saturating_sub(free.len());
        let joins = match placed.len() < standing.min {
            true => standing.min.saturating_sub(since).min(free.len()),
            false => 0,
        };
        // A commit takes so many guards: one a pod, two a node.
        let fits = joins + 3 * placed.len() <= COMMIT_GUARDS_MAX;
        let starts = standing.lets_start(placed.len()) && (joins == 0 || fits);
        Some(Gate {
            gang,
            told: (!starts).then(|| standing.told(placed.len())),
            joins: match starts {
                true => free[..joins].to_vec(),
                false => Vec::new(),
            },
        })
    }
}

/// What depends on a member that has a node and waits for nobody.
fn free(pod: &Arc<Pod>) -> Option<Guard> {
    let is_free = pod.node_name().is_some()
        && gang::gate(pod).is_none()
        && !pod.is_terminal()
        && !pod.is_terminating();
    let key = || store_key::<Pod>(&PodId::of(pod).key);
    is_free.then(|| Guard::At(key(), pod.metadata.resource_version))
}
