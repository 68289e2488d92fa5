//! Where a pod listens for the ports of its manifest, where they are not the same: on hosts on which
//! all pods share one address. Its status says so, in a condition.

use orchestra_core::kind::Pod;
use orchestra_core::meta::{Condition, ConditionStatus, condition};

/// The condition that holds the ports assigned to a pod, as `8080=41234 9090=41235`: for each port
/// of its manifest the one it was told to listen on.
pub const PORTS_ASSIGNED: &str = "orchestra.dev/PortsAssigned";

/// What the status of a pod with those ports has to say; nothing where each is what its manifest
/// says.
pub(crate) fn told(ports: &[(u16, u16)]) -> Option<Condition> {
    if ports.iter().all(|(named, real)| named == real) {
        return None;
    }
    let pairs = ports.iter().map(|(named, real)| format!("{named}={real}"));
    Some(Condition {
        kind: PORTS_ASSIGNED.into(),
        status: ConditionStatus::True,
        reason: "SharedAddress".into(),
        message: pairs.collect::<Vec<_>>().join(" "),
        ..Condition::default()
    })
}

/// The ports that the status says were assigned, in the manifest's order; none where each is what
/// the manifest says.
pub(crate) fn assigned(pod: &Pod) -> Vec<(u16, u16)> {
    let told = condition(&pod.status.conditions, PORTS_ASSIGNED);
    let pairs = told.into_iter().flat_map(|told| told.message.split(' '));
    pairs
        .filter_map(|pair| {
            let (named, real) = pair.split_once('=')?;
            Some((named.parse().ok()?, real.parse().ok()?))
        })
        .collect()
}

/// Where the pod listens for port `named` of its manifest.
pub(crate) fn listens(pod: &Pod, named: u16) -> u16 {
    let assigned = assigned(pod);
    let found = assigned.iter().find(|(wanted, _)| *wanted == named);
    found.map_or(named, |(_, real)| *real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again() {
        let mut pod = Pod::builder("p");
        assert_eq!(told(&[(80, 80), (443, 443)]), None);
        assert_eq!((assigned(&pod), listens(&pod, 80)), (Vec::new(), 80));
        let ports = [(80, 41_000), (443, 443)];
        pod.status.conditions.extend(told(&ports));
        assert_eq!(assigned(&pod), ports);
        assert_eq!((listens(&pod, 80), listens(&pod, 9)), (41_000, 9));
    }
}
