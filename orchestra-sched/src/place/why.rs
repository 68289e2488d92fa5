//! Why a pod finds no node.

use smol_str::SmolStr;

use super::Profile;
use super::ask::{contain, filter_contained, obstacles_contained};
use super::kernel::{Kernel, Rule};
use super::plugin::{Cycle, Filter, Reach};
use crate::explain::{Account, Explanation, Lacking};
use crate::fits::Obstacle;
use crate::snapshot::NodeIx;

/// A filter that has something to say of the pod, which rows it lets pass, and its panic if it panicked.
type Said<'a> = (&'a dyn Filter, Vec<bool>, Option<SmolStr>);

/// Why a pod finds no node, and the nodes that filters say will never take it, but for those that merely
/// have less than it asks.
pub(super) struct Looked {
    pub(super) why: Explanation,
    pub(super) closed: Vec<NodeIx>,
}

/// What each node has against the pod. `refusals` are what keepers of accounts said.
pub(super) fn explain(
    profile: &Profile,
    cycle: &Cycle<'_>,
    refusals: &[(NodeIx, Obstacle)],
) -> Explanation {
    look(profile, cycle, refusals).why
}

/// [`explain`], and which nodes are no use.
pub(super) fn look(
    profile: &Profile,
    cycle: &Cycle<'_>,
    refusals: &[(NodeIx, Obstacle)],
) -> Looked {
    let mut closed = Vec::new();
    let rows = cycle.ledger.rows();
    let said: Vec<Said<'_>> = profile
        .filters
        .iter()
        .filter(|filter| !matches!(contain(|| filter.reach(cycle)), Ok(Reach::Nothing)))
        .map(|filter| {
            let mut fits = vec![true; rows.len()];
            let panic = filter_contained(&**filter, cycle, rows, &mut fits).err();
            (&**filter, fits, panic)
        })
        .collect();
    let mut closely = |account: &mut Account, row: usize| {
        let node = NodeIx::from_row(row);
        let against = said.iter().filter(|(_, fits, _)| !fits[row]);
        let mut found: Vec<Vec<Obstacle>> = against
            .map(|(filter, _, panic)| obstacles_contained(*filter, cycle, node, panic.as_ref()))
            .collect();
        if found.iter().flatten().any(Obstacle::lasts) {
            closed.push(node);
        }
        let refused = refusals.iter().filter(|(refused, _)| *refused == node);
        found.extend(refused.map(|(_, obstacle)| vec![obstacle.clone()]));
        account.node(cycle, node, &found);
    };
    let mut account = Account::new();
    // Mostly nodes have too little, and nothing else is wrong with them.
    let amounts = said.iter().position(|(filter, _, panic)| {
        panic.is_none() && contain(|| filter.kernel(cycle)) == Ok(Some(Kernel(Rule::Fit)))
    });
    match amounts.filter(|_| refusals.is_empty()) {
        None => (0..rows.len()).for_each(|row| closely(&mut account, row)),
        Some(amounts) => {
            let mut passed = vec![true; rows.len()];
            let others = said.iter().enumerate().filter(|(at, _)| *at != amounts);
            for (_, (_, fits, _)) in others {
                let both = passed.iter_mut().zip(fits);
                both.for_each(|(passed, fits)| *passed &= *fits);
            }
            let demand = &cycle.pod.demand;
            let lacking = Lacking::of(demand, cycle.snapshot(), rows, passed.into_iter());
            lacking.account(&mut account, closely);
        }
    }
    Looked {
        why: account.close(),
        closed,
    }
}
