//! Scheduling gates: who is behind one says so, and nobody gets behind one later.

use async_trait::async_trait;
use orchestra_core::kind::{Pod, Resource};
use orchestra_core::meta::{Condition, ConditionStatus, condition, set_condition};
use orchestra_core::time::Timestamp;

use super::{Admission, AdmissionRequest};

/// Why a pod has no node that has gates, in a word.
const GATED: &str = "SchedulingGated";

/// Tells each pod with scheduling gates that they hold it back, in its condition `PodScheduled`, until
/// the last is gone. Gates are given when a pod is created, and only taken away later, as in Kubernetes.
#[derive(Clone, Copy, Debug, Default)]
pub struct GateAdmission;

#[async_trait]
impl Admission for GateAdmission {
    fn name(&self) -> &'static str {
        "scheduling gates"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        if request.kind() != Pod::KIND {
            return Ok(());
        }
        let added = request.old::<Pod>().zip(request.object::<Pod>());
        if let Some((old, new)) = added
            && let Some((at, gate)) = { new.spec.scheduling_gates.iter().enumerate() }
                .find(|(_, gate)| !old.spec.scheduling_gates.contains(gate))
        {
            return Err(format!(
                "spec.schedulingGates[{at}].name: {:?} is new, and a pod gets no gates once it is \
                 there; give them when it is created",
                gate.name
            ));
        }
        let Some(pod) = request.object_mut::<Pod>() else {
            return Ok(());
        };
        match told(pod) {
            Some(message) => {
                let gated = Condition {
                    kind: Pod::SCHEDULED.into(),
                    status: ConditionStatus::False,
                    reason: GATED.into(),
                    message,
                    ..Condition::default()
                };
                // Since it was created, as none is given later.
                let since = pod.metadata.creation_timestamp.unwrap_or(Timestamp::EPOCH);
                set_condition(&mut pod.status.conditions, gated, since);
            }
            None => {
                let conditions = &mut pod.status.conditions;
                if condition(conditions, Pod::SCHEDULED).is_some_and(|told| told.reason == GATED) {
                    conditions.retain(|condition| condition.kind != Pod::SCHEDULED);
                }
            }
        }
        Ok(())
    }
}

/// What holds back a pod without a node that has gates.
pub(crate) fn told(pod: &Pod) -> Option<String> {
    let gates = &pod.spec.scheduling_gates;
    if gates.is_empty() || pod.node_name().is_some() {
        return None;
    }
    let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
    let (gates, they) = match names.len() {
        1 => ("gate", "it is"),
        _ => ("gates", "they are"),
    };
    Some(format!(
        "it is behind the scheduling {gates} {}, and waits until {they} taken away",
        names.join(", ")
    ))
}
