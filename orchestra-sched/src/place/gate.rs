//! What becomes of a gang that has a part of its nodes.
//!
//! A gang is given its nodes in several commits where one cannot hold them. What was bound before enough
//! of it is bound [waits](gang::gate) on its node, and nothing of it starts. From there it goes one of two
//! ways: enough are bound at once, and all are let start; or they are not in time, and all that wait give
//! their nodes back. So no gang waits for another for ever, whoever crashed between two commits. Of several
//! gangs that wait, all but the first in the order give back early, unless they get on: the first
//! may be waiting for what they hold.
//!
//! Whatever waits since before the gang was let start goes on with those that started, however many are
//! left: nobody of a gang that started is taken away from it.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::Pod;
use orchestra_core::kind::gang::{self, Gang};
use orchestra_core::meta::{ConditionStatus, ObjectKey, condition};
use orchestra_core::time::Timestamp;

/// How long a gang that is not the first to wait may wait without being given another node: as long as
/// the longest rest of its placements.
pub const YIELDS_AFTER: Duration = Duration::from_secs(10);

/// How long nobody is given a node before those that wait are told anew how many are bound.
const TELLS_AFTER: Duration = Duration::from_secs(2);

/// The order of gangs: the highest priority of a member, the earliest of their creations, the key.
pub type Rank = (Reverse<i32>, Option<Timestamp>, ObjectKey);

/// How a gang stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its place among gangs, the first lowest.
    pub rank: Rank,
    /// How many have to have a node together: the most that one says who does not run yet.
    pub min: usize,
    /// For how long at most, likewise, some may wait for the others.
    pub timeout: Duration,
    /// How many have a node, those left out that end or wait on one that is lost.
    pub bound: usize,
    /// How many of these wait for nobody.
    pub free: usize,
    gated: Vec<Gated>,
    /// When it was let start, the last time that it was.
    opened: Option<Timestamp>,
}

/// A member that waits on its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Gated {
    /// Its place among the pods.
    pod: usize,
    since: Timestamp,
    /// Whether its node is there and well.
    well: bool,
}

/// What is to be done for a gang of which some wait. Pods are named by their place in what it was told of.
#[must_use = "a step nobody takes helps nobody"]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// Those whose containers may start.
    pub open: Vec<usize>,
    /// When the gang was let start that they go on with, if it was before; `None` if it is now, as enough are bound.
    /// Who is let start is marked with that time: a straggler that goes on with a gang that began long ago is no
    /// reason to let those start that were bound since.
    pub started: Option<Timestamp>,
    /// Those that give back their nodes, and why.
    pub give_back: Vec<(usize, GivesBack)>,
    /// Whether those that wait are to be told [how many](Standing::told) are bound, where that is news.
    pub tell: bool,
    /// When to look again if nothing happens before.
    pub next: Option<Timestamp>,
}

/// Why a pod gives back the node on which it waits for its gang.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GivesBack {
    /// The node is gone, or not ready.
    NodeLost,
    /// The gang was not whole in time.
    TooLate,
    /// A gang that comes before waits too.
    Yields,
}

impl fmt::Display for GivesBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeLost => "its node was lost before its gang was whole",
            Self::TooLate => "its gang was not whole in time; what it held was given back",
            Self::Yields => "another gang goes first; what its own held was given back",
        })
    }
}

impl Standing {
    /// How the gang `key` stands whose members are `pods`. `is_well` tells whether the node of that name
    /// is there and ready.
    pub fn of(key: ObjectKey, pods: &[Arc<Pod>], is_well: impl Fn(&str) -> bool) -> Self {
        let (mut priority, mut arrived) = (None, None::<Timestamp>);
        let mut standing = Self {
            rank: (Reverse(0), None, key),
            min: 1,
            timeout: Duration::ZERO,
            bound: 0,
            free: 0,
            gated: Vec::new(),
            opened: None,
        };
        for (at, pod) in pods.iter().enumerate() {
            let opened = condition(&pod.status.conditions, gang::BOUND)
                .filter(|bound| bound.status == ConditionStatus::True);
            let opened = opened.and_then(|bound| bound.last_transition_time);
            standing.opened = standing.opened.max(opened);
            if pod.is_terminal() || pod.is_terminating() {
                continue;
            }
            priority = priority.max(Some(pod.spec.priority.unwrap_or(0)));
            let created = pod.metadata.creation_timestamp;
            arrived = arrived.into_iter().chain(created).min();
            let gate = gang::gate(pod);
            if pod.node_name().is_some() && gate.is_none() {
                standing.free += 1;
                continue;
            }
            // As in plans, what those say counts for whom nodes are looked for.
            if let Some(said) = Gang::of(pod) {
                standing.min = standing.min.max(said.min as usize);
                standing.timeout = standing.timeout.max(said.timeout);
            }
            if let (Some(node), Some(gate)) = (pod.node_name(), gate) {
                standing.gated.push(Gated {
                    pod: at,
                    since: gate.last_transition_time.unwrap_or(Timestamp::EPOCH),
                    well: is_well(node),
                });
            }
        }
        let well = standing.gated.iter().filter(|gated| gated.well).count();
        standing.bound = standing.free + well;
        (standing.rank.0, standing.rank.1) = (Reverse(priority.unwrap_or(0)), arrived);
        standing
    }

    /// Whether some wait for the others.
    pub fn waits(&self) -> bool {
        !self.gated.is_empty()
    }

    /// Whether enough have a node.
    pub fn is_whole(&self) -> bool {
        self.bound >= self.min
    }

    /// Whether as many members as `more`, given nodes in one commit, may start at once: they are enough by
    /// themselves, or enough run already.
    pub fn lets_start(&self, more: usize) -> bool {
        more >= self.min || self.free >= self.min
    }

    /// What those that wait for it are told, once `more` have a node.
    pub fn told(&self, more: usize) -> String {
        let (bound, min) = (self.bound + more, self.min);
        format!("waits for its gang: {bound} of {min} bound")
    }

    /// What is to be done at `now`. `first` is whether no gang of a lower [`rank`](Self::rank) waits
    /// without being whole.
    pub fn step(&self, first: bool, now: Timestamp) -> Step {
        let mut step = Step {
            started: self.opened.filter(|_| !self.is_whole()),
            ..Step::default()
        };
        let mut left = Vec::new();
        for member in &self.gated {
            if !member.well {
                step.give_back.push((member.pod, GivesBack::NodeLost));
            } else if self.is_whole() || self.opened >= Some(member.since) {
                step.open.push(member.pod);
            } else {
                left.push(member);
            }
        }
        let since = left.iter().map(|member| member.since);
        let (Some(since), Some(latest)) = (since.clone().min(), since.max()) else {
            return step;
        };
        let (late, yields) = (since + self.timeout, latest + YIELDS_AFTER);
        let why = match () {
            () if now >= late => GivesBack::TooLate,
            () if !first && now >= yields => GivesBack::Yields,
            () => {
                let tells = latest + TELLS_AFTER;
                step.tell = now >= tells;
                let next = if first { late } else { late.min(yields) };
                step.next = Some(if step.tell { next } else { next.min(tells) });
                return step;
            }
        };
        let all = left.iter().map(|member| (member.pod, why));
        step.give_back.extend(all);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestra_core::meta::{Condition, set_condition};

    const KEY: ObjectKey = ObjectKey {
        namespace: smol_str::SmolStr::new_static("default"),
        name: smol_str::SmolStr::new_static("train"),
    };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn member(name: &str) -> Pod {
        Pod::builder(name)
            .label(gang::LABEL, "train")
            .annotation(gang::MIN_ANNOTATION, "3")
            .annotation(gang::TIMEOUT_ANNOTATION, "60")
    }

    fn marked(mut pod: Pod, status: ConditionStatus, secs: i64) -> Pod {
        let bound = Condition {
            kind: gang::BOUND.into(),
            status,
            ..Condition::default()
        };
        set_condition(&mut pod.status.conditions, bound, at(secs));
        pod
    }

    fn gated(name: &str, node: &str, secs: i64) -> Pod {
        marked(member(name).on_node(node), ConditionStatus::False, secs)
    }

    fn opened(name: &str, secs: i64) -> Pod {
        marked(member(name).on_node("a"), ConditionStatus::True, secs)
    }

    fn standing(pods: impl IntoIterator<Item = Pod>) -> Standing {
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        Standing::of(KEY, &pods, |node| node != "lost")
    }

    #[test]
    fn once_enough_are_bound_all_that_wait_may_start() {
        let two = standing([gated("x", "a", 10), member("y"), gated("z", "b", 12)]);
        assert_eq!((two.bound, two.free, two.min), (2, 0, 3));
        let waits = |tell, next| Step {
            tell,
            next: Some(at(next)),
            ..Step::default()
        };
        assert_eq!(two.step(true, at(12)), waits(false, 14));
        assert_eq!(two.step(true, at(14)), waits(true, 70));
        assert_eq!(two.told(0), "waits for its gang: 2 of 3 bound");
        let three = [
            gated("x", "a", 10),
            member("y").on_node("a"),
            gated("z", "b", 12),
        ];
        assert_eq!(standing(three).step(true, at(99)).open, [0, 2]);
    }

    #[test]
    fn what_is_not_whole_in_time_is_given_back() {
        let two = standing([gated("x", "a", 10), gated("z", "b", 50)]);
        assert!(two.step(true, at(69)).give_back.is_empty());
        let late = [(0, GivesBack::TooLate), (1, GivesBack::TooLate)];
        assert_eq!(two.step(true, at(70)).give_back, late);
    }

    #[test]
    fn who_is_not_first_yields_once_it_does_not_get_on() {
        let two = standing([gated("x", "a", 10), gated("z", "b", 15)]);
        assert_eq!(two.step(false, at(24)).next, Some(at(25)));
        let yields = [(0, GivesBack::Yields), (1, GivesBack::Yields)];
        assert_eq!(two.step(false, at(25)).give_back, yields);
        assert!(two.step(true, at(25)).give_back.is_empty());
    }

    #[test]
    fn nobody_waits_on_a_lost_node() {
        let three = standing([
            gated("x", "a", 10),
            gated("y", "lost", 10),
            gated("z", "b", 10),
        ]);
        let step = three.step(true, at(11));
        assert_eq!(step.give_back, [(1, GivesBack::NodeLost)]);
        assert_eq!((step.open, three.bound), (Vec::new(), 2));
    }

    #[test]
    fn a_gang_that_began_to_start_goes_on() {
        // One was let start, then a third was deleted.
        let step = standing([opened("x", 20), gated("y", "a", 10)]).step(false, at(500));
        assert_eq!((step.open, step.started), (vec![1], Some(at(20))));
        // Who came later waits for enough, whether those that started run or have ended.
        let mut ended = opened("x", 20);
        ended.status.phase = orchestra_core::kind::pod::PodPhase::Succeeded;
        for before in [opened("x", 20), ended] {
            let step = standing([before, gated("y", "a", 30)]).step(true, at(31));
            assert_eq!((step.open, step.next), (Vec::new(), Some(at(32))));
        }
        // A straggler that goes on with them much later takes nobody along that was bound in between.
        let mut ended = opened("x", 20);
        ended.status.phase = orchestra_core::kind::pod::PodPhase::Succeeded;
        let late = gated("z", "b", 400);
        let waits = [ended.clone(), gated("y", "a", 10), late.clone()];
        let step = standing(waits).step(true, at(450));
        assert_eq!((step.open, step.started), (vec![1], Some(at(20))));
        let went_on = [ended, opened("y", 20), late];
        assert!(standing(went_on).step(true, at(450)).open.is_empty());
        // Where enough are bound it is let start now.
        let whole = [opened("x", 20), gated("y", "a", 10), gated("z", "b", 400)];
        let step = standing(whole).step(true, at(450));
        assert_eq!((step.open, step.started), (vec![1, 2], None));
    }

    #[test]
    fn one_commit_that_is_enough_waits_for_nobody() {
        let none = standing([member("x"), member("y"), member("z")]);
        assert!(none.lets_start(3) && !none.lets_start(2));
        let two = standing([
            member("x").on_node("a"),
            member("y").on_node("a"),
            member("z"),
        ]);
        assert!(!two.lets_start(1), "one of the two may end meanwhile");
        let three = ["x", "y", "z"].map(|name| member(name).on_node("a"));
        assert!(standing(three.into_iter().chain([member("w")])).lets_start(1));
    }
}
