//! Accelerators (GPUs and their like): how a node says which it has, and a pod which it wants.
//!
//! Kubernetes counts devices as an extended resource and knows nothing else of them. Here the count
//! is the resource [`RESOURCE`], and what Kubernetes has no word for stands in a label of the node
//! and in annotations of the pod. Extended resources of other names, `nvidia.com/gpu` among them,
//! stay plain counts.
//!
//! ```
//! use orchestra_core::kind::accelerator::{self, AcceleratorAsk};
//! use orchestra_core::kind::{Container, Node, Pod};
//! use orchestra_core::quantity::Quantity;
//!
//! let node = Node::new("gpu-1")
//!     .label(accelerator::MODEL_LABEL, "T4")
//!     .resource(accelerator::RESOURCE, Quantity::from_int(2));
//! assert_eq!(node.metadata.labels[accelerator::MODEL_LABEL], "T4");
//!
//! // A third of one device, of one of two models.
//! let pod = Pod::builder("infer")
//!     .container(Container::new("infer", "infer:1").request(accelerator::RESOURCE, Quantity::from_int(1)))
//!     .annotation(accelerator::MILLI_ANNOTATION, "330")
//!     .annotation(accelerator::MODELS_ANNOTATION, "T4|P100");
//! let ask = AcceleratorAsk::of(&pod).unwrap();
//! assert_eq!((ask.count, ask.milli), (1, 330));
//! assert_eq!(ask.models, ["P100", "T4"]);
//! ```

use std::fmt;

use smol_str::SmolStr;

use super::Pod;
use super::rules::Path;
use super::{Invalid, pod::PodSpec};

/// The resource that counts a node's devices, and the different devices a pod wants of one node.
pub const RESOURCE: &str = "orchestra.dev/accelerator";
/// The label of a node that names the model of its devices.
pub const MODEL_LABEL: &str = "orchestra.dev/accelerator-model";
/// The annotation of a pod that says how many thousandths it wants of each device, 1 to 1000.
/// Without it, whole devices.
pub const MILLI_ANNOTATION: &str = "orchestra.dev/accelerator-milli";
/// The annotation of a pod that names the models it can use, separated by `|`. Without it, any.
pub const MODELS_ANNOTATION: &str = "orchestra.dev/accelerator-models";
/// The annotation of a placed pod that names the devices it holds, by number from 0, separated by
/// `-`. Written by whoever places the pod.
pub const DEVICES_ANNOTATION: &str = "orchestra.dev/accelerator-devices";

/// Thousandths of a whole device.
pub const WHOLE_MILLI: u16 = 1_000;
/// The most devices of one node that are told apart; a node that says more is taken to have these.
pub const DEVICES_MAX: usize = 16;

/// What a pod wants of a node's accelerators.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AcceleratorAsk {
    /// How many different devices, from 1. More than [`DEVICES_MAX`] fit nowhere.
    pub count: u32,
    /// Thousandths of each, 1 to [`WHOLE_MILLI`].
    pub milli: u16,
    /// The models that will do, sorted where a pod says them; empty if any will.
    pub models: Vec<SmolStr>,
    /// The devices it holds already, if it says.
    pub held: DeviceSet,
}

impl AcceleratorAsk {
    /// What a pod asks; `None` if it asks for no device. Annotations that say nothing valid (see
    /// [`Pod`]'s rules) count as not there.
    pub fn of(pod: &Pod) -> Option<Self> {
        let said = |name| pod.metadata.annotations.get(name).map(SmolStr::as_str);
        let count = asked(&pod.spec)?;
        let held = said(DEVICES_ANNOTATION).and_then(|text| DeviceSet::parse(text).ok());
        Some(Self {
            count,
            milli: said(MILLI_ANNOTATION)
                .and_then(parse_milli)
                .unwrap_or(WHOLE_MILLI),
            models: said(MODELS_ANNOTATION).map_or_else(Vec::new, parse_models),
            held: held
                .filter(|held| held.len() == count as usize)
                .unwrap_or_default(),
        })
    }

    /// Whether devices of that model will do.
    pub fn takes(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|wanted| wanted == model)
    }
}

/// Some of a node's devices, by number.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DeviceSet(u16);

impl DeviceSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// With one more. Numbers from [`DEVICES_MAX`] on are not told apart, and left out.
    #[must_use]
    pub fn with(self, device: usize) -> Self {
        if device < DEVICES_MAX {
            Self(self.0 | 1 << device)
        } else {
            self
        }
    }

    /// Whether that one is among them.
    pub fn has(self, device: usize) -> bool {
        device < DEVICES_MAX && self.0 & (1 << device) != 0
    }

    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..DEVICES_MAX).filter(move |&device| self.has(device))
    }

    /// What [`Display`](fmt::Display) wrote: `0-3-5`; nothing for no device.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        text.split('-').try_fold(Self::NONE, |set, part| {
            let device: usize = part
                .parse()
                .map_err(|_| format!("{part:?} is no number of a device"))?;
            if device >= DEVICES_MAX {
                return Err(format!("device {device} is beyond {}", DEVICES_MAX - 1));
            }
            if set.has(device) {
                return Err(format!("device {device} is there twice"));
            }
            Ok(set.with(device))
        })
    }
}

impl FromIterator<usize> for DeviceSet {
    fn from_iter<I: IntoIterator<Item = usize>>(devices: I) -> Self {
        devices.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for DeviceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for device in self.iter() {
            write!(f, "{separator}{device}")?;
            separator = "-";
        }
        Ok(())
    }
}

/// How many devices a pod's containers request.
fn asked(spec: &PodSpec) -> Option<u32> {
    let count = spec.requests().get(RESOURCE)?.as_int();
    (count > 0).then(|| u32::try_from(count).unwrap_or(u32::MAX))
}

fn parse_milli(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|milli| (1..=WHOLE_MILLI).contains(milli))
}

fn parse_models(text: &str) -> Vec<SmolStr> {
    let mut models: Vec<SmolStr> = text
        .split('|')
        .map(str::trim)
        .filter(|model| !model.is_empty())
        .map(SmolStr::new)
        .collect();
    models.sort();
    models.dedup();
    models
}

/// Refuses annotations of a pod that say nothing valid about accelerators.
pub(super) fn check(invalid: &mut Invalid, pod: &Pod) {
    let metadata = Path::root("metadata");
    let annotations = metadata.field("annotations");
    let said = |name| pod.metadata.annotations.get(name).map(SmolStr::as_str);
    if let Some(text) = said(MILLI_ANNOTATION)
        && parse_milli(text).is_none()
    {
        let at = annotations.key(MILLI_ANNOTATION);
        let remedy = "write whole thousandths of a device, 1 to 1000";
        invalid.refuse(at, text, "is no share of a device", remedy);
    }
    if let Some(text) = said(DEVICES_ANNOTATION)
        && let Err(problem) = DeviceSet::parse(text)
    {
        let at = annotations.key(DEVICES_ANNOTATION);
        invalid.refuse(at, text, problem, "write numbers from 0, such as 0-3");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::kind::{Container, Resource as _};
    use crate::quantity::Quantity;

    fn pod(count: i64) -> Pod {
        let container = Container::new("c", "i").request(RESOURCE, Quantity::from_int(count));
        Pod::builder("p").container(container)
    }

    #[test]
    fn what_is_not_said_is_a_whole_device_of_any_model() {
        let ask = AcceleratorAsk::of(&pod(2)).unwrap();
        assert_eq!((ask.count, ask.milli), (2, WHOLE_MILLI));
        assert!(ask.takes("T4") && ask.takes("") && ask.held.is_empty());
        assert_eq!(AcceleratorAsk::of(&pod(0)), None);
    }

    #[test]
    fn sets_are_written_and_read() {
        let set: DeviceSet = [5, 0, 3, 99].into_iter().collect();
        assert_eq!(set.to_string(), "0-3-5");
        assert_eq!(DeviceSet::parse("0-3-5"), Ok(set));
        assert_eq!(DeviceSet::parse(""), Ok(DeviceSet::NONE));
        for bad in ["x", "0-0", "16", "-", "1--2"] {
            assert!(DeviceSet::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn held_devices_count_only_if_they_are_as_many_as_asked() {
        let held = |text: &str| {
            let pod = pod(2).annotation(DEVICES_ANNOTATION, text);
            AcceleratorAsk::of(&pod).unwrap().held.to_string()
        };
        assert_eq!(held("1-2"), "1-2");
        assert_eq!(held("1"), "");
    }

    #[test]
    fn bad_annotations_are_refused_and_then_do_not_count() {
        for milli in ["0", "1001", "half", "-1"] {
            let mut pod = pod(1).annotation(MILLI_ANNOTATION, milli);
            pod.set_defaults();
            let refusal = pod.validate().unwrap_err().to_string();
            assert!(refusal.contains(MILLI_ANNOTATION), "{refusal}");
            assert_eq!(AcceleratorAsk::of(&pod).unwrap().milli, WHOLE_MILLI);
        }
        let mut bad = pod(1).annotation(DEVICES_ANNOTATION, "first");
        bad.set_defaults();
        assert!(bad.validate().is_err());
    }
}
