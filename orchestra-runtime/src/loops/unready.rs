//! Why a pod is not ready, in words for those who wait for it.

use orchestra_core::kind::pod::{ContainerStatus, PodPhase};
use orchestra_core::kind::{Pod, gang};
use orchestra_core::meta::{ConditionStatus, condition};

use crate::api::gates;

/// How little hope there is without help, least first. Pods are compared by it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Grade {
    /// It came to a bad end.
    Failed,
    /// No node takes it.
    Unplaced,
    /// A container does not come up, or not for long.
    Waiting,
    /// It runs, and says or is said not to be ready.
    Unready,
    /// It is on its way.
    Starting,
}

/// How badly the pod does; `None` if it is ready, or did what it was to do.
pub(crate) fn grade(pod: &Pod) -> Option<Grade> {
    judge(pod).map(|(grade, _)| grade)
}

/// As [`why`], with the pod's name before it.
pub(crate) fn told(pod: &Pod) -> Option<String> {
    Some(format!("pod {} {}", pod.metadata.name, why(pod)?))
}

/// Why the pod is not ready; `None` if it is.
pub(crate) fn why(pod: &Pod) -> Option<String> {
    judge(pod).map(|(_, why)| why)
}

fn judge(pod: &Pod) -> Option<(Grade, String)> {
    let status = &pod.status;
    if pod.is_ready() || status.phase == PodPhase::Succeeded {
        return None;
    }
    if status.phase == PodPhase::Failed {
        let why = format!("failed: {} {}", status.reason, status.message);
        return Some((Grade::Failed, why.trim_end().to_owned()));
    }
    if let Some(placed) = condition(&status.conditions, Pod::SCHEDULED)
        && placed.status == ConditionStatus::False
    {
        return Some((Grade::Unplaced, format!("has no node: {}", placed.message)));
    }
    if pod.node_name().is_none() {
        if let Some(why) = gates::told(pod) {
            return Some((Grade::Unplaced, format!("has no node: {why}")));
        }
        let scheduler = &pod.spec.scheduler_name;
        let why = match scheduler.is_empty() || scheduler == Pod::DEFAULT_SCHEDULER {
            true => "waits for a node".to_owned(),
            false => format!("waits until scheduler {scheduler:?} gives it a node; is there one?"),
        };
        return Some((Grade::Starting, why));
    }
    if let Some(gate) = gang::gate(pod) {
        return Some((Grade::Unplaced, gate.message.clone()));
    }
    let all = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    if let Some(why) = all.clone().find_map(held_up) {
        return Some((Grade::Waiting, why));
    }
    match condition(&status.conditions, Pod::READY) {
        Some(ready) if all.clone().all(|one| one.state.waiting().is_none()) => {
            let why = format!("runs but is not ready: {}", ready.message);
            Some((Grade::Unready, why))
        }
        _ => Some((Grade::Starting, "is starting".to_owned())),
    }
}

/// What holds a container up, unless it is just being started.
fn held_up(status: &ContainerStatus) -> Option<String> {
    let waiting = status.state.waiting()?;
    if matches!(
        waiting.reason.as_str(),
        "" | "PodInitializing" | "ContainerCreating"
    ) {
        return None;
    }
    // Without when it starts again, which changes with each start.
    let why = match status.last_state.terminated() {
        Some(ended) if waiting.reason == "CrashLoopBackOff" => {
            let text = ended.message.trim();
            let separator = if text.is_empty() { "" } else { ": " };
            match ended.exit_code {
                0 => {
                    "it ends well, but its pod's restartPolicy is Always: it is to run until it is \
                      told to stop"
                        .to_owned()
                }
                code => format!("it ended with code {code}{separator}{text}"),
            }
        }
        _ => waiting.message.clone(),
    };
    Some(format!(
        "container {} is held up ({}): {why}",
        status.name, waiting.reason
    ))
}

#[cfg(test)]
mod tests {
    use orchestra_core::kind::pod::{
        ContainerState, ContainerStateTerminated, ContainerStateWaiting,
    };
    use orchestra_core::meta::Condition;

    use super::*;

    fn pod(name: &str) -> Pod {
        Pod::builder(name)
    }

    /// Why the one with the least hope is not ready, the first by name among equals.
    fn worst(pods: &[Pod]) -> Option<String> {
        let graded = pods.iter().filter_map(|pod| Some((grade(pod)?, pod)));
        let (_, pod) = graded.min_by_key(|(grade, pod)| (*grade, &pod.metadata.name))?;
        told(pod)
    }

    fn placed(name: &str, status: ConditionStatus, message: &str) -> Pod {
        let mut pod = pod(name);
        pod.status.conditions.push(Condition {
            kind: Pod::SCHEDULED.into(),
            status,
            message: message.into(),
            ..Condition::default()
        });
        pod
    }

    #[test]
    fn the_one_with_least_hope_is_quoted_and_says_what_holds_it_up() {
        let waits = pod("a");
        let unplaced = placed("c", ConditionStatus::False, "0/1 nodes fit");
        let mut crashes = placed("b", ConditionStatus::True, "");
        crashes.spec.node_name = "n".into();
        crashes.status.container_statuses.push(ContainerStatus {
            name: "main".into(),
            state: ContainerState::Waiting(ContainerStateWaiting {
                reason: "CrashLoopBackOff".into(),
                message: "it starts again at noon".into(),
            }),
            last_state: ContainerState::Terminated(ContainerStateTerminated {
                exit_code: 3,
                ..Default::default()
            }),
            ..ContainerStatus::default()
        });
        let all = [waits, crashes, unplaced];
        assert_eq!(worst(&all).unwrap(), "pod c has no node: 0/1 nodes fit");
        assert_eq!(
            worst(&all[..2]).unwrap(),
            "pod b container main is held up (CrashLoopBackOff): it ended with code 3"
        );
        assert_eq!(worst(&all[..1]).unwrap(), "pod a waits for a node");
        let mut elsewhere = pod("a");
        elsewhere.spec.scheduler_name = "nosuch".into();
        assert_eq!(
            worst(&[elsewhere]).unwrap(),
            "pod a waits until scheduler \"nosuch\" gives it a node; is there one?"
        );
    }

    #[test]
    fn who_is_ready_or_has_ended_well_is_not_quoted() {
        let mut done = pod("done");
        done.status.phase = PodPhase::Succeeded;
        let mut ready = pod("ready");
        ready.status.conditions.push(Condition {
            kind: Pod::READY.into(),
            status: ConditionStatus::True,
            ..Condition::default()
        });
        assert_eq!(worst(&[done, ready]), None);
    }
}
