//! A shape of one's own: how good which utilisation is.

use smol_str::SmolStr;

use super::Weights;
use super::allocated::each_resource;
use crate::place::plugin::{Cycle, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::Rows;

/// A point of a [`Shape`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    /// Percent of a resource that would be in use, 0 to 100.
    pub utilization: u32,
    /// How good that is, 0 to 10.
    pub score: u32,
}

/// A score for each utilisation: straight between its points, flat before the first and behind the
/// last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shape {
    points: Vec<Point>,
}

/// Why points make no shape.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// There is none.
    #[error("a shape needs a point; write for instance 0 → 0 and 100 → 10")]
    Empty,
    /// One is out of range.
    #[error("point {at} is out of range; write a utilization of 0 to 100 and a score of 0 to 10")]
    Range {
        /// Which, from 0.
        at: usize,
    },
    /// One does not come behind the one before it.
    #[error("point {at} has no higher utilization than the one before it; sort them, each once")]
    Order {
        /// Which, from 0.
        at: usize,
    },
}

impl Shape {
    /// The largest score of a point.
    pub const POINT_SCORE_MAX: u32 = 10;

    /// The shape through `points`, by rising utilisation.
    ///
    /// # Errors
    ///
    /// There are none, or one is out of range or out of order.
    pub fn new(points: impl IntoIterator<Item = Point>) -> Result<Self, ShapeError> {
        let points: Vec<Point> = points.into_iter().collect();
        if points.is_empty() {
            return Err(ShapeError::Empty);
        }
        for (at, point) in points.iter().enumerate() {
            if point.utilization > 100 || point.score > Self::POINT_SCORE_MAX {
                return Err(ShapeError::Range { at });
            }
            if at > 0 && points[at - 1].utilization >= point.utilization {
                return Err(ShapeError::Order { at });
            }
        }
        Ok(Self { points })
    }

    /// The score at that utilisation in percent, 0 to 100.
    pub fn at(&self, utilization: u32) -> Score {
        let scaled = |point: &Point| i64::from(point.score * SCORE_MAX / Self::POINT_SCORE_MAX);
        let next = (self.points.iter()).position(|point| utilization <= point.utilization);
        let score = match next {
            Some(0) => scaled(&self.points[0]),
            Some(next) => {
                let (before, after) = (&self.points[next - 1], &self.points[next]);
                let rise = scaled(after) - scaled(before);
                let run = i64::from(after.utilization - before.utilization);
                // Towards the point before: the division drops the fraction of a fall too.
                scaled(before) + rise * i64::from(utilization - before.utilization) / run
            }
            None => self.points.last().map_or(0, scaled),
        };
        score as Score
    }
}

/// Prefers nodes by a [`Shape`] of how much of them would be in use: the weighted mean over the
/// resources that score above 0, rounded to the nearest. A resource that would be in use beyond
/// what there is counts as used in full.
#[derive(Clone, Debug)]
pub struct RequestedToCapacityRatio {
    /// How good which utilisation is.
    pub shape: Shape,
    /// How much CPU and memory count.
    pub weights: Weights,
    /// How much extended resources count, by name, for pods that request them.
    pub extended: Vec<(SmolStr, u32)>,
}

impl RequestedToCapacityRatio {
    /// By that shape, CPU and memory alike.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            weights: Weights::default(),
            extended: Vec::new(),
        }
    }
}

impl Scorer for RequestedToCapacityRatio {
    fn name(&self) -> &'static str {
        "RequestedToCapacityRatio"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, _: &[bool], out: &mut [Score]) {
        let by_percent: Vec<Score> = (0..=100).map(|percent| self.shape.at(percent)).collect();
        for (i, score) in out.iter_mut().enumerate() {
            let (mut sum, mut weights) = (0u64, 0u64);
            let at = (cycle, &rows, i);
            each_resource(self.weights, &self.extended, at, |weight, used, total| {
                let percent = match used {
                    used if used > total => 100,
                    used => (i128::from(used.max(0)) * 100 / i128::from(total)) as usize,
                };
                let score = u64::from(by_percent[percent]);
                if score > 0 {
                    sum += score * weight;
                    weights += weight;
                }
            });
            *score = match weights {
                0 => 0,
                // A half goes up.
                weights => ((2 * sum + weights) / (2 * weights)) as Score,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(points: &[(u32, u32)]) -> Result<Shape, ShapeError> {
        Shape::new((points.iter()).map(|&(utilization, score)| Point { utilization, score }))
    }

    #[test]
    fn points_out_of_range_or_order_make_no_shape() {
        assert_eq!(shape(&[]), Err(ShapeError::Empty));
        assert_eq!(shape(&[(0, 11)]), Err(ShapeError::Range { at: 0 }));
        assert_eq!(shape(&[(0, 1), (101, 1)]), Err(ShapeError::Range { at: 1 }));
        assert_eq!(shape(&[(5, 1), (5, 2)]), Err(ShapeError::Order { at: 1 }));
        assert_eq!(shape(&[(5, 1), (4, 2)]), Err(ShapeError::Order { at: 1 }));
    }

    #[test]
    fn it_is_straight_between_points_and_flat_outside() {
        let rising = shape(&[(10, 1), (90, 9)]).unwrap();
        for (at, score) in [(0, 10), (10, 10), (15, 15), (89, 89), (90, 90), (100, 90)] {
            assert_eq!(rising.at(at), score, "{at}");
        }
        let hill = shape(&[(0, 2), (40, 10), (100, 0)]).unwrap();
        for (at, score) in [(0, 20), (20, 60), (40, 100), (70, 50), (41, 99), (100, 0)] {
            assert_eq!(hill.at(at), score, "{at}");
        }
    }
}
