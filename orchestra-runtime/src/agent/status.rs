//! From what containers do to what the pod's status says. Pure.

use std::net::IpAddr;

use orchestra_core::kind::Pod;
use orchestra_core::kind::pod::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, IpEntry, PodPhase, PodStatus, RestartPolicy,
};
use orchestra_core::meta::{Condition, condition, set_condition};
use orchestra_core::port::driver::Exit;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use crate::net::ports;

/// Why a pod is not ready whose node is lost. Others write it; the agent takes it back.
pub(crate) const NODE_NOT_READY: &str = "NodeNotReady";

/// Whether somebody else took the pod out of its services because its node was lost.
pub(crate) fn is_closed(pod: &Pod) -> bool {
    condition(&pod.status.conditions, Pod::READY)
        .is_some_and(|ready| ready.reason == NODE_NOT_READY)
}

/// What the agent knows of one container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) state: SeenState,
    /// How the start before this one ended, and when it had begun.
    pub(crate) last: Option<(Exit, Option<Timestamp>)>,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Its startup probe passed, or it has none.
    pub(crate) started: bool,
    /// Its readiness probe passes, or it has none and runs.
    pub(crate) ready: bool,
    /// What a probe last said against it.
    pub(crate) against: String,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SeenState {
    Waiting {
        reason: &'static str,
        message: String,
    },
    Running {
        since: Timestamp,
    },
    Ended {
        exit: Exit,
        since: Option<Timestamp>,
    },
}

impl Default for Seen {
    fn default() -> Self {
        let state = SeenState::Waiting {
            reason: "PodInitializing",
            message: String::new(),
        };
        Self {
            state,
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            against: String::new(),
        }
    }
}

impl Seen {
    /// What is known of a container from its status, before anybody has looked: how often it was
    /// started, how it ended. `runs` is since when its driver has it running, which keeps it as
    /// ready as it was.
    pub(crate) fn remembered(status: Option<&ContainerStatus>, runs: Option<Timestamp>) -> Self {
        let Some(status) = status else {
            return Self::default();
        };
        let mut seen = Self {
            last: ended(&status.last_state),
            restarts: status.restart_count,
            ..Self::default()
        };
        if let Some(since) = runs {
            seen.state = SeenState::Running { since };
            (seen.started, seen.ready) = (status.started == Some(true), status.ready);
        } else if let Some((exit, since)) = ended(&status.state) {
            seen.state = SeenState::Ended { exit, since };
        }
        seen
    }

    fn running(&self) -> bool {
        matches!(self.state, SeenState::Running { .. })
    }

    fn ended(&self) -> Option<&Exit> {
        match &self.state {
            SeenState::Ended { exit, .. } => Some(exit),
            _ => None,
        }
    }
}

/// How a container ended, if that is its state, and since when it had run.
pub(crate) fn ended(state: &ContainerState) -> Option<(Exit, Option<Timestamp>)> {
    let ended = state.terminated()?;
    let exit = Exit {
        code: ended.exit_code,
        signal: Some(ended.signal).filter(|signal| *signal != 0),
        reason: ended.reason.clone(),
        message: ended.message.clone(),
        at: ended.finished_at.unwrap_or(Timestamp::EPOCH),
    };
    Some((exit, ended.started_at))
}

/// What the agent knows of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodSeen {
    /// In the order of the manifest.
    pub(crate) init: Vec<Seen>,
    pub(crate) containers: Vec<Seen>,
    pub(crate) pod_ip: Option<IpAddr>,
    /// Where it was told to listen, for each port of the manifest.
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) start_time: Option<Timestamp>,
    /// Set once the agent has given up on the pod: phase Failed, with reason and message.
    pub(crate) failed: Option<(&'static str, String)>,
    /// Set once the pod is to end: it is not ready any more, whatever its probes say.
    pub(crate) ending: bool,
    /// Set once every container has been stopped for good.
    pub(crate) stopped: bool,
}

/// The status of `pod`, given what is `seen` at `now`. Conditions keep their transition times;
/// conditions that others set stay.
pub(crate) fn status(pod: &Pod, seen: &PodSeen, now: Timestamp) -> PodStatus {
    let mut status = pod.status.clone();
    status.observed_generation = pod.metadata.generation;
    status.host_ip = seen.host_ip;
    status.pod_ip = seen.pod_ip;
    status.pod_ips = seen
        .pod_ip
        .map(|ip| IpEntry { ip: Some(ip) })
        .into_iter()
        .collect();
    status.start_time = seen.start_time;
    let tell = |containers: &[orchestra_core::kind::Container], seen: &[Seen]| {
        containers
            .iter()
            .zip(seen)
            .map(|(container, seen)| container_status(&container.name, &container.image, seen))
            .collect()
    };
    status.init_container_statuses = tell(&pod.spec.init_containers, &seen.init);
    status.container_statuses = tell(&pod.spec.containers, &seen.containers);

    status.phase = phase(pod, seen);
    let over = matches!(status.phase, PodPhase::Succeeded | PodPhase::Failed);
    (status.reason, status.message) = match &seen.failed {
        Some((reason, message)) => (SmolStr::new_static(reason), message.clone()),
        None => Default::default(),
    };

    let initialized = initialized(pod, seen);
    let unready: Vec<String> = pod
        .spec
        .containers
        .iter()
        .zip(&seen.containers)
        .filter(|(_, seen)| !(seen.ready && seen.running()))
        .map(|(container, seen)| match seen.against.as_str() {
            "" => container.name.to_string(),
            against => format!("{} ({against})", container.name),
        })
        .collect();
    let contained = initialized && !over && unready.is_empty() && !seen.stopped;
    let ready = contained && pod.has_open_gates() && !seen.ending;
    let why = |holds: bool, gates: bool| -> (&str, String) {
        match () {
            () if holds => ("", String::new()),
            () if over => ("PodCompleted", String::new()),
            () if !initialized => (
                "ContainersNotInitialized",
                "its init containers have not all done their part".to_owned(),
            ),
            () if !unready.is_empty() => (
                "ContainersNotReady",
                format!("containers with unready status: {}", unready.join(", ")),
            ),
            () if seen.ending => ("PodEnding", "it is being stopped".to_owned()),
            () if gates => (
                "ReadinessGatesNotReady",
                "a readiness gate is not open".to_owned(),
            ),
            () => ("PodEnding", "it was stopped".to_owned()),
        }
    };
    let mut set = |kind: &str, holds: bool, (reason, message): (&str, String)| {
        let condition = Condition {
            kind: kind.into(),
            status: holds.into(),
            reason: reason.into(),
            message,
            ..Condition::default()
        };
        set_condition(&mut status.conditions, condition, now);
    };
    set(Pod::INITIALIZED, initialized, why(initialized, false));
    set(Pod::CONTAINERS_READY, contained, why(contained, false));
    set(Pod::READY, ready, why(ready, true));
    if let Some(told) = ports::told(&seen.ports) {
        set_condition(&mut status.conditions, told, now);
    }
    status
}

fn initialized(pod: &Pod, seen: &PodSeen) -> bool {
    pod.spec
        .init_containers
        .iter()
        .zip(&seen.init)
        .all(|(container, seen)| {
            if container.is_sidecar() {
                seen.started
            } else {
                seen.ended().is_some_and(|exit| exit.code == 0)
            }
        })
        && seen.init.len() == pod.spec.init_containers.len()
}

fn phase(pod: &Pod, seen: &PodSeen) -> PodPhase {
    if seen.failed.is_some() {
        return PodPhase::Failed;
    }
    let never = pod.spec.restart_policy == RestartPolicy::Never;
    let failed_init = pod
        .spec
        .init_containers
        .iter()
        .zip(&seen.init)
        .any(|(container, seen)| {
            !container.is_sidecar() && seen.ended().is_some_and(|exit| exit.code != 0)
        });
    if failed_init && (never || seen.stopped) {
        return PodPhase::Failed;
    }
    if !initialized(pod, seen) {
        return if seen.stopped {
            PodPhase::Failed
        } else {
            PodPhase::Pending
        };
    }
    let exits: Vec<&Exit> = seen.containers.iter().filter_map(Seen::ended).collect();
    let all_ended = exits.len() == seen.containers.len();
    let all_well = exits.iter().all(|exit| exit.code == 0);
    let final_now = seen.stopped
        || match pod.spec.restart_policy {
            RestartPolicy::Always => false,
            RestartPolicy::OnFailure => all_well,
            RestartPolicy::Never => true,
        };
    if all_ended && final_now {
        return if all_well {
            PodPhase::Succeeded
        } else {
            PodPhase::Failed
        };
    }
    if seen.stopped {
        return PodPhase::Failed; // stopped before it ever ran
    }
    let begun = seen.containers.iter().any(|seen| {
        seen.running() || seen.ended().is_some() || seen.last.is_some() || seen.restarts > 0
    });
    if begun {
        PodPhase::Running
    } else {
        PodPhase::Pending
    }
}

fn container_status(name: &SmolStr, image: &SmolStr, seen: &Seen) -> ContainerStatus {
    let terminated = |exit: &Exit, since: Option<Timestamp>| {
        ContainerState::Terminated(ContainerStateTerminated {
            exit_code: exit.code,
            signal: exit.signal.unwrap_or(0),
            reason: exit.reason.clone(),
            message: exit.message.clone(),
            started_at: since,
            finished_at: Some(exit.at),
            ..Default::default()
        })
    };
    let state = match &seen.state {
        SeenState::Waiting { reason, message } => ContainerState::Waiting(ContainerStateWaiting {
            reason: SmolStr::new_static(reason),
            message: message.clone(),
        }),
        SeenState::Running { since } => ContainerState::Running(ContainerStateRunning {
            started_at: Some(*since),
        }),
        SeenState::Ended { exit, since } => terminated(exit, *since),
    };
    ContainerStatus {
        name: name.clone(),
        image: image.clone(),
        state,
        last_state: match &seen.last {
            Some((exit, since)) => terminated(exit, *since),
            None => ContainerState::Unset,
        },
        ready: seen.ready && seen.running(),
        started: Some(seen.started && seen.running()),
        restart_count: seen.restarts,
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchestra_core::kind::Container;

    fn exit(code: i32) -> SeenState {
        let exit = Exit {
            code,
            signal: None,
            reason: "Error".into(),
            message: String::new(),
            at: Timestamp::from_secs(5),
        };
        SeenState::Ended { exit, since: None }
    }

    fn running() -> Seen {
        let state = SeenState::Running {
            since: Timestamp::from_secs(1),
        };
        Seen {
            state,
            started: true,
            ready: true,
            ..Seen::default()
        }
    }

    fn pod(policy: RestartPolicy) -> Pod {
        Pod::builder("p")
            .container(Container::new("a", "a"))
            .restart_policy(policy)
    }

    fn at(pod: &Pod, container: Seen, stopped: bool) -> PodStatus {
        let seen = PodSeen {
            containers: vec![container],
            stopped,
            ..PodSeen::default()
        };
        status(pod, &seen, Timestamp::from_secs(9))
    }

    #[test]
    fn a_running_container_that_is_ready_makes_the_pod_ready() {
        let mut pod = pod(RestartPolicy::Always);
        pod.status = at(&pod, running(), false);
        assert_eq!(pod.status.phase, PodPhase::Running);
        assert!(pod.is_ready());
        let unready = at(
            &pod,
            Seen {
                ready: false,
                ..running()
            },
            false,
        );
        assert!(!orchestra_core::meta::condition_holds(
            &unready.conditions,
            Pod::READY
        ));
        assert_eq!(unready.phase, PodPhase::Running);
    }

    #[test]
    fn phases_follow_the_restart_policy() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (policy, code, stopped, expected) in [
            (Always, 0, false, PodPhase::Running),
            (Always, 1, false, PodPhase::Running),
            (OnFailure, 0, false, PodPhase::Succeeded),
            (OnFailure, 1, false, PodPhase::Running),
            (Never, 0, false, PodPhase::Succeeded),
            (Never, 1, false, PodPhase::Failed),
            (Always, 0, true, PodPhase::Succeeded),
            (Always, 143, true, PodPhase::Failed),
        ] {
            let seen = Seen {
                state: exit(code),
                ..Seen::default()
            };
            let found = at(&pod(policy), seen, stopped).phase;
            assert_eq!(found, expected, "{policy:?} {code} {stopped}");
        }
    }

    #[test]
    fn a_waiting_pod_is_pending_until_something_ran() {
        let pod = pod(RestartPolicy::Always);
        assert_eq!(at(&pod, Seen::default(), false).phase, PodPhase::Pending);
        let crashed = Seen {
            restarts: 1,
            ..Seen::default()
        };
        assert_eq!(at(&pod, crashed, false).phase, PodPhase::Running);
    }

    #[test]
    fn a_pod_waits_for_its_init_containers_but_only_for_the_start_of_sidecars() {
        let pod = pod(RestartPolicy::Always)
            .init_container(Container::new("first", "i"))
            .sidecar(Container::new("side", "s"));
        let seen = |first: Seen, side: Seen| {
            let seen = PodSeen {
                init: vec![first, side],
                containers: vec![running()],
                ..PodSeen::default()
            };
            status(&pod, &seen, Timestamp::from_secs(9)).phase
        };
        let done = Seen {
            state: exit(0),
            ..Seen::default()
        };
        assert_eq!(seen(Seen::default(), running()), PodPhase::Pending);
        assert_eq!(seen(done.clone(), running()), PodPhase::Running);
        assert_eq!(seen(done, Seen::default()), PodPhase::Pending);
    }
}
