//! Gangs: pods that are placed together or not at all.
//!
//! ```
//! use orchestra_core::kind::gang::{self, Gang};
//! use orchestra_core::kind::Pod;
//!
//! let pod = Pod::builder("worker-0")
//!     .label(gang::LABEL, "train")
//!     .annotation(gang::MIN_ANNOTATION, "4");
//! let gang = Gang::of(&pod).unwrap();
//! assert_eq!((gang.name.as_str(), gang.min), ("train", 4));
//! ```

use std::time::Duration;

use smol_str::SmolStr;

use super::rules::Path;
use super::{Invalid, Pod};
use crate::meta::{Condition, ConditionStatus, condition};

/// The label of a pod that names the gang of its namespace that it belongs to.
pub const LABEL: &str = "orchestra.dev/pod-group";
/// The annotation that says how many members have to have a node together, from 1. Without it, 1.
/// Where members differ the largest counts.
pub const MIN_ANNOTATION: &str = "orchestra.dev/pod-group-min-available";
/// The annotation that says for how many seconds at most the gang may hold room that it does not
/// fill, from 1. Without it, 60. Where members differ the largest counts.
pub const TIMEOUT_ANNOTATION: &str = "orchestra.dev/pod-group-timeout-seconds";

/// The condition of a pod that was given its node before enough of its gang had theirs: `False` while
/// its containers wait for them, `True` once they may start. A pod without it waits for nobody.
pub const BOUND: &str = "orchestra.dev/GangBound";

const TIMEOUT_SECS: u64 = 60;

/// What a pod says of its gang.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Gang {
    /// Its name, within the pod's namespace.
    pub name: SmolStr,
    /// How many members have to have a node together.
    pub min: u32,
    /// For how long at most it may hold room that it does not fill, and nodes before enough of it have
    /// theirs.
    pub timeout: Duration,
}

impl Gang {
    /// The gang of a pod; `None` if it names none. What cannot be read counts as not said.
    pub fn of(pod: &Pod) -> Option<Self> {
        let name = pod.metadata.labels.get(LABEL)?;
        let said = |key: &str| pod.metadata.annotations.get(key);
        let min = said(MIN_ANNOTATION).and_then(|min| min.parse().ok());
        let timeout = said(TIMEOUT_ANNOTATION).and_then(|secs| secs.parse().ok());
        Some(Self {
            name: name.clone(),
            min: min.unwrap_or(1).max(1),
            timeout: Duration::from_secs(timeout.unwrap_or(TIMEOUT_SECS).max(1)),
        })
    }
}

/// What a pod that has a node waits for there before its containers may start: the others of its gang.
/// `None` if it does not wait, or has no node.
pub fn gate(pod: &Pod) -> Option<&Condition> {
    pod.node_name()?;
    let gate = condition(&pod.status.conditions, BOUND)?;
    (gate.status != ConditionStatus::True).then_some(gate)
}

/// Notes annotations that cannot be read.
pub(super) fn check(invalid: &mut Invalid, pod: &Pod) {
    let metadata = Path::root("metadata");
    let annotations = metadata.field("annotations");
    for key in [MIN_ANNOTATION, TIMEOUT_ANNOTATION] {
        if let Some(said) = pod.metadata.annotations.get(key)
            && said.parse::<u32>().map_or(true, |n| n == 0)
        {
            let at = annotations.key(key);
            invalid.refuse(
                at,
                said,
                "is no whole number from 1",
                "write 4, for instance",
            );
        }
    }
}
