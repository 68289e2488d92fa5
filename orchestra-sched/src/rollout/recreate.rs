//! Stopping everything old before anything new starts.

use super::arithmetic::Pace;
use super::outcome::Decision;
use super::rolling::{kept_sizes, scale, scale_changed};
use super::sets::Sets;
use super::{RolloutStep, RolloutStrategy, RolloutView, Scaled};

/// Stops all old pods, waits until the last of them is gone, and then starts the new ones: never
/// two revisions at once, at the price of a break in service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Recreate;

impl RolloutStrategy for Recreate {
    fn step(&self, view: RolloutView<'_>) -> RolloutStep {
        let sets = Sets::of(view);
        let old_pods = view
            .replicas
            .iter()
            .filter(|replica| replica.generation != view.target && !replica.ended)
            .count();
        let mut sizes = if view.paused {
            kept_sizes(view, &sets)
        } else {
            sets.sizes()
        };
        if view.paused {
            if scale_changed(view) {
                sizes = scale(Pace::Recreate, view, &sets, sizes);
            }
        } else {
            for (generation, size) in &mut sizes {
                *size = if *generation == view.target {
                    view.wanted.min(*size)
                } else {
                    0
                };
            }
            if old_pods == 0 {
                sizes.insert(view.target, view.wanted);
            }
        }
        let waits = match old_pods {
            _ if view.paused => "being resumed: it is paused".to_owned(),
            0 => format!("the pods of revision {} to become available", view.target),
            n => format!("{n} old pods to be gone"),
        };
        let scaled = Scaled {
            wanted: view.wanted,
            max: view.wanted,
        };
        Decision {
            sizes,
            scaled,
            waits: Some(waits),
        }
        .into_step(view, &sets)
    }
}
