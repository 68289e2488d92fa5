//! The sums of a rolling update: how far each set may grow or shrink now.
//!
//! Plain functions from counts to counts, the same to the digit as what Kubernetes computes for
//! its deployments (and OpenKruise where a partition is set), so that they can be checked against
//! published tables. The [strategies](super) add which pod it is.

use std::time::Duration;

use orchestra_core::int_or::{IntOrPercent, Rounding};
use orchestra_core::kind::{DeploymentStrategy, StrategyType};
use serde::{Deserialize, Serialize};

/// How fast a deployment may move.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pace {
    /// Replace pods little by little.
    Rolling {
        /// How many pods there may be above the wanted number; percentages round up.
        max_surge: IntOrPercent,
        /// How many pods of the wanted number may be unavailable; percentages round down.
        max_unavailable: IntOrPercent,
        /// How many pods of the new revision there should be in the end; percentages round up,
        /// and any but `100%` leaves at least one of two or more pods old. `None` is all.
        partition: Option<IntOrPercent>,
    },
    /// Stop all old pods, then start the new ones.
    Recreate,
}

impl Default for Pace {
    fn default() -> Self {
        Self::rolling(IntOrPercent::Percent(25), IntOrPercent::Percent(25))
    }
}

impl From<&DeploymentStrategy> for Pace {
    /// A limit that is not said is 25 % for a rolling update that says nothing at all, and else
    /// 0. (Objects from the API always say.)
    fn from(strategy: &DeploymentStrategy) -> Self {
        match (strategy.kind, &strategy.rolling_update) {
            (StrategyType::Recreate, _) => Self::Recreate,
            (_, None) => Self::default(),
            (_, Some(rolling)) => Self::rolling(
                rolling.max_surge.unwrap_or_default(),
                rolling.max_unavailable.unwrap_or_default(),
            ),
        }
    }
}

/// A surge and an unavailability, as counts of pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fenceposts {
    /// How many pods there may be above the wanted number.
    pub surge: u32,
    /// How many of the wanted number may be unavailable. At least 1 if `surge` is 0, and not
    /// yet held at the wanted number.
    pub unavailable: u32,
}

impl Pace {
    /// Rolling, all the way.
    pub const fn rolling(max_surge: IntOrPercent, max_unavailable: IntOrPercent) -> Self {
        Self::Rolling {
            max_surge,
            max_unavailable,
            partition: None,
        }
    }

    /// Its limits in pods, for a deployment of `wanted`. If both come to 0 nothing could move, so
    /// that one may then be unavailable. Recreate has no surge.
    pub fn fenceposts(self, wanted: u32) -> Fenceposts {
        let (surge, unavailable) = match self {
            Self::Rolling {
                max_surge,
                max_unavailable,
                ..
            } => (
                max_surge.resolve(wanted, Rounding::Up),
                max_unavailable.resolve(wanted, Rounding::Down),
            ),
            Self::Recreate => (0, wanted),
        };
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        };
        Fenceposts { surge, unavailable }
    }

    /// How many of `wanted` pods a rolling update may take away at once; never more than
    /// `wanted`. Recreate does not roll: 0.
    pub fn max_unavailable(self, wanted: u32) -> u32 {
        match self {
            Self::Rolling { .. } => self.fenceposts(wanted).unavailable.min(wanted),
            Self::Recreate => 0,
        }
    }

    /// The most pods there may be at once, for a deployment of `wanted`.
    pub fn max_total(self, wanted: u32) -> u32 {
        wanted.saturating_add(self.fenceposts(wanted).surge)
    }

    /// How many pods of the new revision there should be in the end.
    pub fn new_limit(self, wanted: u32) -> u32 {
        let Self::Rolling {
            partition: Some(partition),
            ..
        } = self
        else {
            return wanted;
        };
        let limit = partition.resolve(wanted, Rounding::Up).min(wanted);
        match partition {
            IntOrPercent::Percent(percent) if percent != 100 && wanted > 1 => limit.min(wanted - 1),
            _ => limit,
        }
    }

    fn stops_short(self) -> bool {
        matches!(
            self,
            Self::Rolling {
                partition: Some(_),
                ..
            }
        )
    }
}

/// The pods of one revision.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SetState {
    /// How many there are.
    pub size: u32,
    /// How many of them are available.
    pub available: u32,
}

impl SetState {
    fn unavailable(self) -> u32 {
        self.size.saturating_sub(self.available)
    }
}

/// How large the new set may be now: as far as the surge allows, given `total` pods in all sets
/// (the new one included), but not past the wanted number.
pub fn new_set_size(pace: Pace, wanted: u32, new: u32, total: u32) -> u32 {
    if pace == Pace::Recreate {
        return wanted;
    }
    let limit = pace.new_limit(wanted);
    if pace.stops_short() && new >= limit {
        return new;
    }
    let room = pace.max_total(wanted).saturating_sub(total);
    if room == 0 {
        new
    } else {
        new.saturating_add(room).min(limit)
    }
}

/// The next size of the new set: what is above the wanted number goes, else see
/// [`new_set_size`].
pub fn reconcile_new(pace: Pace, wanted: u32, new: u32, old_total: u32) -> u32 {
    if new >= wanted {
        wanted
    } else {
        new_set_size(pace, wanted, new, new.saturating_add(old_total))
    }
}

/// The next sizes of the old sets, which are given oldest first.
///
/// They shrink together by at most `total − (wanted − max unavailable) − the new set's
/// unavailable pods`, unavailable old pods first. With a partition they shrink no further than to
/// what the new set leaves over, and the largest grows if they are fewer.
pub fn reconcile_old(pace: Pace, wanted: u32, new: SetState, old: &[SetState]) -> Vec<u32> {
    let mut sizes: Vec<u32> = old.iter().map(|set| set.size).collect();
    let old_total = sum(&sizes);
    if old_total == 0 {
        return sizes;
    }
    let total = old_total + i64::from(new.size);
    let min_available = i64::from(wanted) - i64::from(pace.max_unavailable(wanted));
    let mut may_go = total - min_available - i64::from(new.unavailable());
    let mut surplus = i64::MAX;
    if pace.stops_short() {
        let keep = i64::from(wanted) - i64::from(pace.new_limit(wanted).max(new.size));
        surplus = old_total - keep;
        if surplus <= 0 {
            grow_largest(&mut sizes, held(-surplus));
            return sizes;
        }
        may_go = may_go.min(surplus);
    }
    if may_go <= 0 {
        return sizes;
    }
    let sizes = cleanup_unhealthy(old, held(may_go));
    let cleaned: Vec<SetState> = old
        .iter()
        .zip(&sizes)
        .map(|(set, &size)| SetState {
            size,
            available: set.available.min(size),
        })
        .collect();
    let available = old.iter().map(|set| set.available).chain([new.available]);
    let surplus = surplus.saturating_sub(old_total - sum(&sizes));
    shrink_available(
        pace,
        wanted,
        held(sum_of(available)),
        &cleaned,
        held(surplus),
    )
}

/// The sizes of the old sets (oldest first) without up to `max` of their unavailable pods.
pub fn cleanup_unhealthy(old: &[SetState], max: u32) -> Vec<u32> {
    let mut left = max;
    old.iter()
        .map(|set| {
            let cleaned = set.unavailable().min(left);
            left -= cleaned;
            set.size - cleaned
        })
        .collect()
}

/// The sizes of the old sets (oldest first) without as many pods as the budget can spare, when
/// `available` pods are available over all sets.
pub fn scale_down_old(pace: Pace, wanted: u32, available: u32, old: &[SetState]) -> Vec<u32> {
    shrink_available(pace, wanted, available, old, u32::MAX)
}

fn shrink_available(
    pace: Pace,
    wanted: u32,
    available: u32,
    old: &[SetState],
    max: u32,
) -> Vec<u32> {
    let min_available = wanted.saturating_sub(pace.max_unavailable(wanted));
    let mut left = available.saturating_sub(min_available).min(max);
    old.iter()
        .map(|set| {
            let gone = set.size.min(left);
            left -= gone;
            set.size - gone
        })
        .collect()
}

fn grow_largest(sizes: &mut [u32], by: u32) {
    // Of equal sets the oldest, which stands first; `max_by_key` would take the last.
    if let Some(largest) = sizes.iter().max().copied()
        && let Some(size) = sizes.iter_mut().find(|size| **size == largest)
    {
        *size = size.saturating_add(by);
    }
}

/// A set about to be scaled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ScaledSet {
    /// How many pods it has, and how many are available.
    pub state: SetState,
    /// It is the set of the target revision.
    pub new: bool,
    /// The wanted number at the last scale, if known.
    pub recorded_wanted: Option<u32>,
    /// The wanted number and the surge at the last scale, if known and not 0.
    pub recorded_max: Option<u32>,
}

/// The sizes of all sets, which are given newest first, after the wanted number has changed to
/// `wanted`.
///
/// A single active set takes all of it, and if none is active the newest does. If the new set has
/// reached `wanted`, the old ones go. Otherwise the change is shared in proportion to each set's
/// size, half away from zero, larger sets first; what is left over goes to the first. Of equal
/// sets the newer comes first going up, the older going down.
pub fn scaled_sizes(pace: Pace, wanted: u32, sets: &[ScaledSet]) -> Vec<u32> {
    let mut sizes: Vec<u32> = sets.iter().map(|set| set.state.size).collect();
    let mut active: Vec<usize> = (0..sets.len()).filter(|&at| sizes[at] > 0).collect();
    if active.len() <= 1 {
        let only = active
            .first()
            .copied()
            .or_else(|| sets.iter().position(|set| set.new));
        if let Some(size) = sizes.get_mut(only.unwrap_or(0)) {
            *size = wanted;
        }
        return sizes;
    }
    let saturated = |set: &ScaledSet| {
        set.new
            && set.state.size == wanted
            && set.state.available == wanted
            && set.recorded_wanted == Some(wanted)
    };
    if sets.iter().any(saturated) {
        return sets
            .iter()
            .map(|set| if set.new { set.state.size } else { 0 })
            .collect();
    }
    if pace == Pace::Recreate {
        return sizes;
    }
    let max_total = if wanted == 0 {
        0
    } else {
        pace.max_total(wanted)
    };
    let total = sum(&sizes);
    let change = i64::from(max_total) - total;
    let by_size = |at: &usize| std::cmp::Reverse(sizes[*at]);
    if change > 0 {
        active.sort_by_key(by_size); // stable: of equal sets the newer stays first
    } else {
        active.reverse();
        active.sort_by_key(by_size);
    }
    let mut shared = 0;
    for &at in &active {
        let left = change - shared;
        let fraction = fraction(&sets[at], wanted, max_total, total);
        let part = if change > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        };
        let part = if left == 0 { 0 } else { part };
        sizes[at] = held(i64::from(sizes[at]) + part);
        shared += part;
    }
    if let Some(&first) = active.first() {
        sizes[first] = held(i64::from(sizes[first]) + change - shared);
    }
    sizes
}

/// By how much a set would change if it kept its share of the most there may be.
fn fraction(set: &ScaledSet, wanted: u32, max_total: u32, total: i64) -> i64 {
    let size = i64::from(set.state.size);
    if wanted == 0 {
        return -size;
    }
    let before = set
        .recorded_max
        .filter(|max| *max > 0)
        .map_or(total, i64::from);
    // Half rounds away from zero; in i128 because sizes are not bounded here.
    let (size_, max, before) = (i128::from(size), i128::from(max_total), i128::from(before));
    let share = (2 * size_ * max + before) / (2 * before);
    i64::try_from(share)
        .unwrap_or(i64::MAX)
        .saturating_sub(size)
}

/// What a deployment's status counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Pods in all sets.
    pub current: u32,
    /// Pods of the target revision.
    pub updated: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Pods that are available.
    pub available: u32,
}

impl Counts {
    /// Whether all wanted pods are of the target revision and available, and there are no others.
    /// For a deployment as a whole, its generation must have been observed besides.
    pub fn complete(self, wanted: u32) -> bool {
        self.updated == wanted && self.current == wanted && self.available == wanted
    }

    /// Whether this is progress over what was `before`: more updated, ready or available, or
    /// fewer old.
    pub fn progress_since(self, before: Self) -> bool {
        self.updated > before.updated
            || self.ready > before.ready
            || self.available > before.available
            || i64::from(self.current) - i64::from(self.updated)
                < i64::from(before.current) - i64::from(before.updated)
    }
}

/// Whether a rollout has gone without progress for longer than it may. What was `complete` once
/// does not time out any more; without a deadline nothing does.
pub fn timed_out(deadline: Option<Duration>, since_progress: Duration, complete: bool) -> bool {
    !complete && deadline.is_some_and(|deadline| since_progress > deadline)
}

/// An old revision, as far as keeping it goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OldRevision {
    /// How many pods it should have.
    pub wanted: u32,
    /// How many pods it has, those that are ending included.
    pub current: u32,
    /// It is being deleted already.
    pub deleting: bool,
}

/// Which of the old revisions, given oldest first, to forget so that `limit` stay. Of the oldest
/// that are too many, those that still have pods are kept. `None` keeps all.
pub fn forgettable(old: &[OldRevision], limit: Option<u32>) -> Vec<usize> {
    let Some(limit) = limit else {
        return Vec::new();
    };
    let alive: Vec<usize> = (0..old.len()).filter(|&at| !old[at].deleting).collect();
    let surplus = alive
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    let mut surplus = alive[..surplus].to_vec();
    surplus.retain(|&at| old[at].wanted == 0 && old[at].current == 0);
    surplus
}

fn sum(sizes: &[u32]) -> i64 {
    sum_of(sizes.iter().copied())
}

fn sum_of(sizes: impl Iterator<Item = u32>) -> i64 {
    sizes.map(i64::from).sum()
}

/// Held within what a size can be.
fn held(size: i64) -> u32 {
    u32::try_from(size.max(0)).unwrap_or(u32::MAX)
}
