//! How many pods a disruption budget can spare.

use std::collections::BTreeSet;

use orchestra_core::int_or::{IntOrPercent, Rounding};
use orchestra_core::kind::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, UnhealthyPodEvictionPolicy,
};
use orchestra_core::meta::ObjectKey;
use orchestra_core::selector::LabelSelector;
use smol_str::SmolStr;

use crate::snapshot::{Demand, Running};

/// A disruption budget as a plan sees it: whom it covers, and how many of them may go now.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// The pods of its namespace that it covers; none if there is no selector.
    pub selector: Option<LabelSelector>,
    /// How many more may go.
    pub disruptions_allowed: u32,
    /// Names of pods whose going is counted already.
    pub disrupted: BTreeSet<SmolStr>,
}

impl Budget {
    /// What a budget's status says.
    pub fn of(budget: &PodDisruptionBudget) -> Self {
        Self {
            key: budget.metadata.key(),
            selector: budget.spec.selector.clone(),
            disruptions_allowed: budget.status.disruptions_allowed,
            disrupted: budget.status.disrupted_pods.keys().cloned().collect(),
        }
    }

    /// Whether it covers pods like these.
    pub fn covers(&self, demand: &Demand) -> bool {
        let selector = self.selector.as_ref();
        demand.namespace == self.key.namespace
            && selector.is_some_and(|selector| selector.matches(&demand.labels))
    }

    /// Whether the going of `running` has to be counted against it.
    pub fn counts(&self, running: &Running) -> bool {
        self.covers(&running.demand) && !self.disrupted.contains(&running.id.key.name)
    }
}

/// What a budget comes to now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BudgetState {
    /// How many pods must stay healthy.
    pub desired_healthy: u32,
    /// How many are healthy.
    pub current_healthy: u32,
    /// How many healthy pods may be taken away now.
    pub disruptions_allowed: u32,
}

/// What a budget comes to for a group that should have `expected` pods, of which
/// `current_healthy` are healthy. Percentages are of `expected` and round up, also that of
/// `maxUnavailable`, which counts if both are set. A group that should have none spares none.
pub fn state(budget: &PodDisruptionBudgetSpec, expected: u32, current_healthy: u32) -> BudgetState {
    let of = |limit: IntOrPercent| limit.resolve(expected, Rounding::Up);
    let desired_healthy = match (budget.max_unavailable, budget.min_available) {
        (Some(max_unavailable), _) => expected.saturating_sub(of(max_unavailable)),
        (None, Some(min_available)) => of(min_available),
        (None, None) => 0,
    };
    let spare = current_healthy.saturating_sub(desired_healthy);
    let disruptions_allowed = if expected == 0 { 0 } else { spare };
    BudgetState {
        desired_healthy,
        current_healthy,
        disruptions_allowed,
    }
}

/// Whether a pod may be evicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Eviction {
    /// Yes; it is not healthy, so that the budget does not shrink.
    Free,
    /// Yes; one disruption fewer is allowed then.
    Spends,
    /// Not now.
    Refused,
}

impl BudgetState {
    /// Whether a pod of the group may be evicted now, whose health is given.
    ///
    /// A pod that is not healthy always may under `AlwaysAllow`; else it may while enough others
    /// are healthy, or while a disruption is allowed.
    pub fn eviction(&self, healthy: bool, policy: UnhealthyPodEvictionPolicy) -> Eviction {
        let enough = self.desired_healthy > 0 && self.current_healthy >= self.desired_healthy;
        if !healthy && (policy == UnhealthyPodEvictionPolicy::AlwaysAllow || enough) {
            Eviction::Free
        } else if self.disruptions_allowed > 0 {
            Eviction::Spends
        } else {
            Eviction::Refused
        }
    }

    /// What is left after an eviction that [spends](Eviction::Spends).
    #[must_use]
    pub fn spent(mut self) -> Self {
        self.disruptions_allowed = self.disruptions_allowed.saturating_sub(1);
        self.current_healthy = self.current_healthy.saturating_sub(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn min(limit: IntOrPercent) -> PodDisruptionBudgetSpec {
        PodDisruptionBudgetSpec {
            min_available: Some(limit),
            ..Default::default()
        }
    }

    fn max(limit: IntOrPercent) -> PodDisruptionBudgetSpec {
        PodDisruptionBudgetSpec {
            max_unavailable: Some(limit),
            ..Default::default()
        }
    }

    #[test]
    fn percentages_round_up_both_ways() {
        use IntOrPercent::{Int, Percent};
        for (budget, expected, healthy, desired, allowed) in [
            (min(Percent(50)), 7, 7, 4, 3),
            (max(Percent(50)), 7, 7, 3, 4),
            (min(Int(5)), 3, 3, 5, 0),
            (max(Int(5)), 3, 3, 0, 3),
            (min(Percent(0)), 10, 10, 0, 10),
            (min(Int(0)), 0, 2, 0, 0),
            (max(Int(1)), 3, 2, 2, 0),
            (max(Int(1)), 3, 1, 2, 0),
        ] {
            let state = state(&budget, expected, healthy);
            assert_eq!(
                (state.desired_healthy, state.disruptions_allowed),
                (desired, allowed)
            );
        }
    }

    #[test]
    fn an_unhealthy_pod_costs_nothing_where_it_may_go() {
        use UnhealthyPodEvictionPolicy::{AlwaysAllow, IfHealthyBudget};
        let exact = state(&max(IntOrPercent::Int(1)), 3, 2);
        assert_eq!(exact.eviction(true, IfHealthyBudget), Eviction::Refused);
        assert_eq!(exact.eviction(false, IfHealthyBudget), Eviction::Free);
        let short = state(&max(IntOrPercent::Int(1)), 3, 1);
        assert_eq!(short.eviction(false, IfHealthyBudget), Eviction::Refused);
        assert_eq!(short.eviction(false, AlwaysAllow), Eviction::Free);
    }

    proptest! {
        #[test]
        fn spending_all_that_is_allowed_leaves_what_must_stay(
            percent in 0_u32..=100, expected in 0_u32..50, healthy in 0_u32..50, least: bool,
        ) {
            let percent = IntOrPercent::Percent(percent);
            let mut state = state(&if least { min(percent) } else { max(percent) }, expected, healthy);
            let policy = UnhealthyPodEvictionPolicy::default();
            while state.eviction(true, policy) == Eviction::Spends {
                state = state.spent();
            }
            prop_assert!(state.current_healthy >= state.desired_healthy.min(healthy));
        }
    }
}
