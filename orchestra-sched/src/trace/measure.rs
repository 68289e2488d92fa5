//! What came of a game.

use orchestra_core::kind::accelerator::WHOLE_MILLI;
use smol_str::SmolStr;

use super::Place;
use crate::place::Fault;
use crate::snapshot::Demand;

/// How it stood after one arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Thousandths of devices asked for by all that came so far.
    pub arrived_milli: i64,
    /// Thousandths of devices in use.
    pub used_milli: i64,
    /// Thousandths of devices that a pod drawn from the workload could not use.
    pub fragment: f64,
}

/// Pods that found no node, by what they asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unplaced {
    /// No device.
    pub cpu: usize,
    /// A share of one.
    pub share: usize,
    /// One.
    pub one: usize,
    /// Several.
    pub several: usize,
}

impl Unplaced {
    /// All together.
    pub fn total(&self) -> usize {
        self.cpu + self.share + self.one + self.several
    }

    pub(super) fn count(&mut self, demand: &Demand) {
        let kind = match &demand.accelerators {
            None => &mut self.cpu,
            Some(ask) if ask.count > 1 => &mut self.several,
            Some(ask) if ask.milli < WHOLE_MILLI => &mut self.share,
            Some(_) => &mut self.one,
        };
        *kind += 1;
    }
}

/// What came of a game.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The policy's name.
    pub policy: SmolStr,
    /// Thousandths of devices there are.
    pub capacity_milli: i64,
    /// Where each pod went, in the order of the trace; `None` if it fitted nowhere.
    pub places: Vec<Option<Place>>,
    /// How it stood after each arrival.
    pub points: Vec<Point>,
    /// How many pods found no node.
    pub unplaced: Unplaced,
    /// How many found none although one fitted: none, unless the game is broken.
    pub spurned: usize,
    /// Panics of the policy, each once, with the first pod that met it.
    pub faults: Vec<Fault>,
}

impl Outcome {
    /// The devices in use at the end, in percent of all.
    pub fn allocated_percent(&self) -> f64 {
        let last = self.points.last().map_or(0, |point| point.used_milli);
        self.percent(last as f64)
    }

    /// The devices in use when the load that had come was that percent of all devices: the mean over
    /// the arrivals at which it rounds to it (halves to even), each to 0.01. `None` if it never was.
    pub fn allocated_at(&self, load_percent: u32) -> Option<f64> {
        self.mean_at(load_percent, |point| {
            (self.percent(point.used_milli as f64) * 100.0).round_ties_even() / 100.0
        })
    }

    /// What lay in fragments when the load that had come was that percent, in percent of all
    /// devices; as [`allocated_at`](Self::allocated_at).
    pub fn fragmented_at(&self, load_percent: u32) -> Option<f64> {
        self.mean_at(load_percent, |point| self.fragment_percent(point))
    }

    /// The load that had come at a point, in percent of all devices.
    pub fn load_percent(&self, point: &Point) -> f64 {
        self.percent(point.arrived_milli as f64)
    }

    /// The devices in use at a point, in percent of all.
    pub fn used_percent(&self, point: &Point) -> f64 {
        self.percent(point.used_milli as f64)
    }

    /// What lay in fragments at a point, in percent of all devices.
    pub fn fragment_percent(&self, point: &Point) -> f64 {
        self.percent(point.fragment)
    }

    fn percent(&self, milli: f64) -> f64 {
        milli * 100.0 / self.capacity_milli.max(1) as f64
    }

    fn mean_at(&self, load_percent: u32, of: impl Fn(&Point) -> f64) -> Option<f64> {
        let load = i128::from(load_percent);
        let capacity = i128::from(self.capacity_milli);
        // Twice the load in percent lies between 2x - 1 and 2x + 1, at either end if x is even.
        let (low, high) = ((2 * load - 1) * capacity, (2 * load + 1) * capacity);
        let there = |point: &&Point| {
            let twice = 200 * i128::from(point.arrived_milli);
            (low < twice && twice < high) || (load % 2 == 0 && (twice == low || twice == high))
        };
        let (sum, points) = self
            .points
            .iter()
            .filter(there)
            .fold((0.0, 0u32), |(sum, points), point| {
                (sum + of(point), points + 1)
            });
        (points > 0).then(|| sum / f64::from(points))
    }
}
