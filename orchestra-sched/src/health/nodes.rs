//! Whether a node is there, its taints, and when pods must leave it.

use std::time::Duration;

use orchestra_core::kind::{Taint, TaintEffect, Toleration};
use orchestra_core::meta::ConditionStatus;
use orchestra_core::time::Timestamp;

/// How a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeState {
    /// It said of late that it is well.
    Ready,
    /// It said of late that it is not, or has not said anything yet.
    NotReady,
    /// It has been silent for too long: gone, or cut off.
    Unknown,
}

/// When a node was last heard of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heartbeat {
    /// Its lease is held now: the store would have ended it otherwise.
    Held,
    /// Its lease has run out.
    Lost,
    /// At that instant.
    At(Timestamp),
    /// Never yet, since it was created at that instant.
    Never(Timestamp),
}

/// How long silence is borne.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodePolicy {
    /// How often a node says that it is there.
    pub heartbeat_interval: Duration,
    /// How long its lease lasts without being renewed.
    pub lease: Duration,
    /// How often nodes are looked at, where nothing tells of a change.
    pub monitor_interval: Duration,
    /// How long a node may be silent.
    pub grace: Duration,
    /// How long a new node may take to say something.
    pub startup_grace: Duration,
}

impl Default for NodePolicy {
    /// Every 10 s, a lease of 40 s, looked at every 5 s; 50 s of silence, 60 s at first.
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(10),
            lease: Duration::from_secs(40),
            monitor_interval: Duration::from_secs(5),
            grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
        }
    }
}

impl NodePolicy {
    /// How a node is whose condition `Ready` has that status, if it has one; and when that
    /// changes if it stays silent.
    pub fn state(
        &self,
        heartbeat: Heartbeat,
        ready: Option<ConditionStatus>,
        now: Timestamp,
    ) -> (NodeState, Option<Timestamp>) {
        let end = match heartbeat {
            Heartbeat::Held => None,
            Heartbeat::Lost => return (NodeState::Unknown, None),
            Heartbeat::At(heard) => Some(heard + self.grace),
            Heartbeat::Never(created) => Some(created + self.startup_grace),
        };
        if end.is_some_and(|end| now > end) {
            return (NodeState::Unknown, None);
        }
        let state = match (heartbeat, ready) {
            (Heartbeat::Never(_), _) | (_, Some(ConditionStatus::False) | None) => {
                NodeState::NotReady
            }
            (_, Some(ConditionStatus::True)) => NodeState::Ready,
            (_, Some(ConditionStatus::Unknown)) => NodeState::Unknown,
        };
        (state, end.map(|end| end + Duration::from_micros(1)))
    }
}

/// The taints of a node in that state: the ones it has, without those that say otherwise, and
/// with those that are missing, dated `now`. Taints that others set stay, in their places.
///
/// New pods are kept away from a node that is not ready at once. Those that run are told to go
/// (`NoExecute`) only if `evict`: it is their zone's
/// [limiter](super::zones::EvictionLimiter) that lets one node after the other go. Where they were
/// told before, `evict` makes no difference: the taint follows the state.
pub fn taints(
    current: &[Taint],
    state: NodeState,
    unschedulable: bool,
    evict: bool,
    now: Timestamp,
) -> Vec<Taint> {
    let is_ours = |taint: &Taint| match taint.effect {
        TaintEffect::NoSchedule => {
            [Taint::NOT_READY, Taint::UNREACHABLE, Taint::UNSCHEDULABLE].contains(&&*taint.key)
        }
        TaintEffect::NoExecute => [Taint::NOT_READY, Taint::UNREACHABLE].contains(&&*taint.key),
        TaintEffect::PreferNoSchedule => false,
    };
    let told = current
        .iter()
        .any(|t| is_ours(t) && t.effect == TaintEffect::NoExecute);
    let key = match state {
        NodeState::Ready => None,
        NodeState::NotReady => Some(Taint::NOT_READY),
        NodeState::Unknown => Some(Taint::UNREACHABLE),
    };
    let mut due = Vec::new();
    due.extend(unschedulable.then_some((Taint::UNSCHEDULABLE, TaintEffect::NoSchedule)));
    due.extend(key.map(|key| (key, TaintEffect::NoSchedule)));
    due.extend(
        key.filter(|_| told || evict)
            .map(|key| (key, TaintEffect::NoExecute)),
    );
    let is_due = |taint: &Taint| due.contains(&(&*taint.key, taint.effect));
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || is_due(taint))
        .cloned()
        .collect();
    for (key, effect) in due {
        if !taints
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            taints.push(Taint {
                time_added: Some(now),
                ..Taint::new(key, effect)
            });
        }
    }
    taints
}

/// How long a pod that says nothing about it stays on a node that is not ready or unreachable,
/// in seconds.
pub const DEFAULT_TOLERATION_SECONDS: i64 = 300;

/// Adds what a pod tolerates if it says nothing about it: a node that is not ready or
/// unreachable, for [`DEFAULT_TOLERATION_SECONDS`]. Idempotent.
pub fn add_default_tolerations(tolerations: &mut Vec<Toleration>) {
    for key in [Taint::NOT_READY, Taint::UNREACHABLE] {
        let taint = Taint::new(key, TaintEffect::NoExecute);
        if !tolerations
            .iter()
            .any(|toleration| toleration.tolerates(&taint))
        {
            tolerations.push(
                Toleration::exists(key)
                    .effect(TaintEffect::NoExecute)
                    .seconds(DEFAULT_TOLERATION_SECONDS),
            );
        }
    }
}

/// When a pod must leave a node with these taints: an instant that may lie in the past, or `None`
/// if it may stay. Each `NoExecute` taint counts from when it was added, or from `seen` if it does
/// not say; the first toleration that matches it says for how long it is borne.
pub fn evict_at(
    tolerations: &[Toleration],
    taints: &[Taint],
    seen: Timestamp,
) -> Option<Timestamp> {
    taints
        .iter()
        .filter(|taint| taint.effect == TaintEffect::NoExecute)
        .filter_map(|taint| {
            let since = taint.time_added.unwrap_or(seen);
            match tolerations
                .iter()
                .find(|toleration| toleration.tolerates(taint))
            {
                None => Some(since),
                Some(toleration) => toleration
                    .toleration_seconds
                    .map(|seconds| since + Duration::from_secs(seconds.try_into().unwrap_or(0))),
            }
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn silence_is_borne_for_its_grace() {
        let policy = NodePolicy::default();
        let ready = Some(ConditionStatus::True);
        let silent = Heartbeat::At(at(0));
        let changes = at(50) + Duration::from_micros(1);
        assert_eq!(
            policy.state(silent, ready, at(50)),
            (NodeState::Ready, Some(changes))
        );
        assert_eq!(
            policy.state(silent, ready, changes),
            (NodeState::Unknown, None)
        );
        let new = Heartbeat::Never(at(0));
        assert_eq!(policy.state(new, None, at(60)).0, NodeState::NotReady);
        assert_eq!(policy.state(new, None, at(61)).0, NodeState::Unknown);
        assert_eq!(
            policy.state(Heartbeat::Held, ready, at(9999)),
            (NodeState::Ready, None)
        );
        assert_eq!(
            policy.state(Heartbeat::Lost, ready, at(0)).0,
            NodeState::Unknown
        );
        let not = Some(ConditionStatus::False);
        assert_eq!(
            policy.state(Heartbeat::Held, not, at(0)).0,
            NodeState::NotReady
        );
    }

    #[test]
    fn taints_follow_the_state_and_keep_their_dates() {
        let own = Taint::new("dedicated", TaintEffect::NoExecute);
        let describe = |taints: &[Taint]| -> Vec<String> {
            let at = |t: &Taint| t.time_added.map_or(0, |at| at.as_micros() / 1_000_000);
            taints
                .iter()
                .map(|t| format!("{}:{:?}@{}", t.key, t.effect, at(t)))
                .collect()
        };
        let mut node = taints(
            std::slice::from_ref(&own),
            NodeState::Unknown,
            false,
            false,
            at(1),
        );
        assert_eq!(
            describe(&node),
            [
                "dedicated:NoExecute@0",
                "node.kubernetes.io/unreachable:NoSchedule@1"
            ]
        );
        node = taints(&node, NodeState::Unknown, true, true, at(2));
        assert_eq!(
            describe(&node),
            [
                "dedicated:NoExecute@0",
                "node.kubernetes.io/unreachable:NoSchedule@1",
                "node.kubernetes.io/unschedulable:NoSchedule@2",
                "node.kubernetes.io/unreachable:NoExecute@2",
            ]
        );
        assert_eq!(taints(&node, NodeState::Unknown, true, false, at(3)), node);
        node = taints(&node, NodeState::NotReady, false, false, at(4));
        assert_eq!(
            describe(&node),
            [
                "dedicated:NoExecute@0",
                "node.kubernetes.io/not-ready:NoSchedule@4",
                "node.kubernetes.io/not-ready:NoExecute@4",
            ]
        );
        assert_eq!(taints(&node, NodeState::Ready, false, true, at(5)), [own]);
    }

    #[test]
    fn the_least_patience_counts() {
        let taint = |key: &str, added: i64| Taint {
            time_added: Some(at(added)),
            ..Taint::new(key, TaintEffect::NoExecute)
        };
        let both = [taint(Taint::NOT_READY, 10), taint("disk", 20)];
        let mut pod = Vec::new();
        assert_eq!(evict_at(&pod, &both, at(99)), Some(at(10)));
        add_default_tolerations(&mut pod);
        assert_eq!(
            evict_at(&pod, &both, at(99)),
            Some(at(20)),
            "nobody bears the disk"
        );
        pod.push(Toleration::exists("disk"));
        assert_eq!(evict_at(&pod, &both, at(99)), Some(at(310)));
        assert_eq!(evict_at(&pod, &both[1..], at(99)), None);
        let undated = [Taint::new(Taint::UNREACHABLE, TaintEffect::NoExecute)];
        assert_eq!(evict_at(&pod, &undated, at(99)), Some(at(399)));
        let not_at_all = [Toleration::exists("disk").seconds(-5)];
        assert_eq!(evict_at(&not_at_all, &both[1..], at(99)), Some(at(20)));
        let elsewhere = [Taint::new("x", TaintEffect::NoSchedule)];
        assert_eq!(evict_at(&[], &elsewhere, at(0)), None);
    }

    #[test]
    fn defaults_do_not_touch_what_a_pod_says_itself() {
        let mut pod = vec![Toleration::exists(Taint::NOT_READY).seconds(7)];
        add_default_tolerations(&mut pod);
        let after = pod.clone();
        add_default_tolerations(&mut pod);
        assert_eq!(pod, after);
        assert_eq!(pod.len(), 2);
        assert_eq!(pod[1].key, Taint::UNREACHABLE);
    }
}
