//! Images that need not be fetched.

use smol_str::SmolStr;

use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{Rows, size_of};

/// Bytes of images, weighted by spread, below which a node scores 0.
const LEAST: i64 = 23 << 20;
/// Bytes of images a container, weighted by spread, from which a node scores 100.
const MOST_PER_CONTAINER: i64 = 1_000 << 20;

/// Prefers nodes that have the pod's images.
///
/// An image that is there counts by its size times the share of nodes that have it, so that one
/// node with a rare image does not draw all pods. The sum becomes 0 to 100 between 23 MiB and
/// 1000 MiB for each container, init containers included.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageLocality;

impl Scorer for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn depends(&self) -> PodFields {
        // How many nodes there are, and have the image, counts too.
        PodFields::IMAGES.with(PodFields::NODES)
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let snapshot = cycle.snapshot();
        let mut images = cycle.pod.demand.images.iter();
        if images.any(|image| snapshot.nodes_with_image(image) > 0) {
            Reach::Fixed
        } else {
            Reach::Nothing
        }
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let snapshot = cycle.snapshot();
        let images = &cycle.pod.demand.images;
        let most = MOST_PER_CONTAINER.saturating_mul(images.len() as i64);
        if most == 0 {
            return;
        }
        // In the doubles that Kubernetes computes it in, so that both round alike.
        let share =
            |image: &SmolStr| f64::from(snapshot.nodes_with_image(image)) / snapshot.len() as f64;
        let wanted: Vec<(&SmolStr, f64)> =
            images.iter().map(|image| (image, share(image))).collect();
        let candidates = out.iter_mut().zip(fits).zip(rows.nodes());
        for ((score, _), node) in candidates.filter(|((_, fits), _)| **fits) {
            let held = &snapshot.node(node).facts().images;
            let there = wanted.iter().filter_map(|(image, share)| {
                let size = size_of(held, image)?;
                Some((size as f64 * share) as i64)
            });
            let sum = there.fold(0, i64::saturating_add).clamp(LEAST, most);
            let part = i128::from(SCORE_MAX) * i128::from(sum - LEAST);
            *score = (part / i128::from(most - LEAST)) as Score;
        }
    }
}
