//! Replacing pods little by little.

use std::collections::BTreeMap;

use orchestra_core::int_or::IntOrPercent;

use super::arithmetic::{self, Pace, ScaledSet, SetState};
use super::outcome::Decision;
use super::sets::Sets;
use super::{Generation, RolloutStep, RolloutStrategy, RolloutView, Scaled};

/// Replaces old pods by new ones within a surge and an unavailability.
///
/// Every step lets the new set grow as far as the surge allows and shrinks the old sets as far as
/// availability allows, pods that are unavailable anyway first. A change of the wanted number in
/// the middle is shared among the sets in proportion to their sizes. An old pod that vanishes
/// mid-way is replaced by a new one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RollingUpdate {
    /// How many pods there may be above the wanted number; percentages round up.
    pub max_surge: IntOrPercent,
    /// How many pods of the wanted number may be unavailable; percentages round down. If both
    /// come to 0, it is 1.
    pub max_unavailable: IntOrPercent,
    /// Stop once that many pods run the new revision; `None` is all.
    pub partition: Option<IntOrPercent>,
}

impl Default for RollingUpdate {
    /// 25 % and 25 %, all the way.
    fn default() -> Self {
        Self {
            max_surge: IntOrPercent::Percent(25),
            max_unavailable: IntOrPercent::Percent(25),
            partition: None,
        }
    }
}

impl RollingUpdate {
    /// Its numbers, for [`arithmetic`] and for the [budget](super::guard::Budget).
    pub const fn pace(&self) -> Pace {
        Pace::Rolling {
            max_surge: self.max_surge,
            max_unavailable: self.max_unavailable,
            partition: self.partition,
        }
    }
}

impl RolloutStrategy for RollingUpdate {
    fn step(&self, view: RolloutView<'_>) -> RolloutStep {
        let sets = Sets::of(view);
        let pace = self.pace();
        let sizes = if view.paused {
            let kept = kept_sizes(view, &sets);
            if scale_changed(view) {
                scale(pace, view, &sets, kept)
            } else {
                kept
            }
        } else if scale_changed(view) && !sets.sizes().is_empty() {
            scale(pace, view, &sets, sets.sizes())
        } else {
            roll(pace, view, &sets)
        };
        let scaled = Scaled {
            wanted: view.wanted,
            max: pace.max_total(view.wanted),
        };
        let waits = waits(pace, view, &sets);
        Decision {
            sizes,
            scaled,
            waits,
        }
        .into_step(view, &sets)
    }
}

/// Whether the wanted number is not the one that the sets were last scaled to.
pub(super) fn scale_changed(view: RolloutView<'_>) -> bool {
    view.memo
        .scaled
        .is_some_and(|scaled| scaled.wanted != view.wanted)
}

/// The sets as they should be while nothing may move between them: as the last step left them.
pub(super) fn kept_sizes(view: RolloutView<'_>, sets: &Sets<'_>) -> BTreeMap<Generation, u32> {
    let mut sizes = view.memo.sizes.clone();
    for (generation, size) in sets.sizes() {
        let kept = sizes.entry(generation).or_default();
        *kept = size.max(*kept);
    }
    sizes
}

/// The sizes `before`, changed in proportion to reach the wanted number.
pub(super) fn scale(
    pace: Pace,
    view: RolloutView<'_>,
    sets: &Sets<'_>,
    before: BTreeMap<Generation, u32>,
) -> BTreeMap<Generation, u32> {
    let newest_first: Vec<(Generation, ScaledSet)> = before
        .iter()
        .rev()
        .map(|(&generation, &size)| {
            let set = ScaledSet {
                state: SetState {
                    size,
                    available: sets.state(generation).available,
                },
                new: generation == view.target,
                recorded_wanted: view.memo.scaled.map(|scaled| scaled.wanted),
                recorded_max: view.memo.scaled.map(|scaled| scaled.max),
            };
            (generation, set)
        })
        .collect();
    let (generations, states): (Vec<Generation>, Vec<ScaledSet>) = newest_first.into_iter().unzip();
    let sizes = arithmetic::scaled_sizes(pace, view.wanted, &states);
    generations.into_iter().zip(sizes).collect()
}

fn roll(pace: Pace, view: RolloutView<'_>, sets: &Sets<'_>) -> BTreeMap<Generation, u32> {
    let generations: Vec<Generation> = sets.old().collect();
    if generations.is_empty() && pace.new_limit(view.wanted) < view.wanted {
        return only_new(pace, view, sets);
    }
    let old: Vec<SetState> = generations.iter().map(|old| sets.state(*old)).collect();
    let new = sets.state(view.target);
    let old_total = old.iter().map(|set| set.size).sum();
    let size = arithmetic::reconcile_new(pace, view.wanted, new.size, old_total);
    let old_sizes = if size < new.size {
        old.iter().map(|set| set.size).collect() // one thing shrinks at a time
    } else {
        // What starts now is not available yet.
        let new = SetState { size, ..new };
        arithmetic::reconcile_old(pace, view.wanted, new, &old)
    };
    let mut sizes: BTreeMap<Generation, u32> = generations.into_iter().zip(old_sizes).collect();
    sizes.insert(view.target, size);
    sizes
}

/// With a partition and no old pod left: the old revision is started again where it is known
/// which one that was; else there is nothing to stop short of.
fn only_new(pace: Pace, view: RolloutView<'_>, sets: &Sets<'_>) -> BTreeMap<Generation, u32> {
    let new = sets.state(view.target).size;
    let old = view
        .memo
        .sizes
        .keys()
        .rev()
        .find(|known| **known != view.target);
    let new_limit = old.map_or(view.wanted, |_| pace.new_limit(view.wanted).max(new));
    let new_limit = new_limit.min(view.wanted);
    let old = old.map(|old| (*old, view.wanted - new_limit));
    old.into_iter().chain([(view.target, new_limit)]).collect()
}

fn waits(pace: Pace, view: RolloutView<'_>, sets: &Sets<'_>) -> Option<String> {
    let new = sets.state(view.target);
    let unavailable = new.size.saturating_sub(new.available);
    let limit = pace.new_limit(view.wanted);
    if view.paused {
        Some("being resumed: it is paused".to_owned())
    } else if unavailable > 0 {
        Some(format!(
            "{unavailable} pods of revision {} to become available",
            view.target
        ))
    } else if new.size >= limit && limit < view.wanted {
        Some(format!("its partition of {limit} new pods to be raised"))
    } else {
        Some("old pods to become available or to go".to_owned())
    }
}
