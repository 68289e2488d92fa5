//! How a search cools down: temperature and the price of room that is held twice, both falling
//! as time goes along.

use super::{Model, Variant};

/// The progress at which a search has cooled down.
pub const PROGRESS_DONE: u32 = 1_000_000;

/// How many entries [`negative_logs`] has: a power of two.
pub(super) const LOGS: usize = 4096;
const LOG_BITS: u32 = 16;

/// The temperature, and what it costs to hold room on two machines.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    logs: Vec<i64>,
    hottest: i64,
    octaves: u32,
    temperature: i64,
    /// By process: what the room is worth that it goes on holding where it came from.
    held: Vec<i64>,
    /// How much of that counts, in 2^-[`SHARE_BITS`].
    share: i64,
}

const SHARE_BITS: u32 = 20;

/// The temperature starts at the mean difference of a change over 2^this, where resources are
/// transient. Hotter, changes that gain little would take the room that others need.
const HOTTEST_SHIFT: u32 = 6;
/// How often the temperature is halved on the way from the mean difference.
const TEMPERATURE_OCTAVES: u32 = 14;
/// The same where machines may be too full.
const OVERFULL_OCTAVES: u32 = 11;
/// How often the price of held room is halved on the way.
const HELD_OCTAVES: u32 = 10;
/// When that price is dropped, in millionths.
const HELD_UNTIL: u32 = 800_000;

impl Schedule {
    /// `difference` is how much a change of the assignment changes the cost, on average.
    pub(super) fn new(model: &Model, difference: i64, variant: Variant) -> Self {
        let overfull = variant == Variant::Overfull;
        let shift = match model.transient.contains(&true) && !overfull {
            true => HOTTEST_SHIFT,
            false => 0,
        };
        let octaves = match overfull {
            true => OVERFULL_OCTAVES,
            false => TEMPERATURE_OCTAVES + shift / 4,
        };
        let mut schedule = Self {
            logs: negative_logs(),
            hottest: difference >> shift,
            octaves,
            temperature: 0,
            held: match overfull {
                true => vec![0; model.processes],
                false => held(model),
            },
            share: 0,
        };
        schedule.set_progress(0);
        schedule
    }

    /// `progress` is in millionths.
    pub(super) fn set_progress(&mut self, progress: u32) {
        self.temperature = match progress < PROGRESS_DONE {
            true => halved(self.hottest, self.octaves, progress, PROGRESS_DONE),
            false => 0,
        };
        self.share = match progress < HELD_UNTIL {
            true => halved(1 << SHARE_BITS, HELD_OCTAVES, progress, HELD_UNTIL),
            false => 0,
        };
    }

    /// The largest difference to accept this time; `chance` is a random number below [`LOGS`].
    pub(super) fn allowed(&self, chance: usize) -> i64 {
        ((i128::from(self.temperature) * i128::from(self.logs[chance])) >> LOG_BITS) as i64
    }

    /// What it costs for now that `process` holds room where it came from.
    pub(super) fn held(&self, process: usize) -> i64 {
        ((i128::from(self.held[process]) * i128::from(self.share)) >> SHARE_BITS) as i64
    }
}

/// `start`, halved `octaves` times on the way from 0 to `end`, and in a straight line between.
pub(super) fn halved(start: i64, octaves: u32, progress: u32, end: u32) -> i64 {
    let at = u64::from(progress) * u64::from(octaves);
    let (whole, part) = (at / u64::from(end), at % u64::from(end));
    let (part, end) = (i128::from(part), i128::from(end));
    (i128::from(start >> whole) * (2 * end - part) / (2 * end)) as i64
}

/// What a process goes on holding where it came from, as a share of what all processes together
/// use of that resource, times what everything used is worth.
fn held(model: &Model) -> Vec<i64> {
    let mut totals = vec![0i128; model.resources];
    for p in 0..model.processes {
        for (total, &need) in totals.iter_mut().zip(model.needs(p)) {
            *total += i128::from(need);
        }
    }
    let worth: i128 = (totals.iter().zip(&model.load_weight))
        .map(|(total, &weight)| total * i128::from(weight))
        .sum();
    let held = |p: usize| {
        let transient = (0..model.resources).filter(|&r| model.transient[r]);
        let shares = transient.map(|r| i128::from(model.needs(p)[r]) * worth / totals[r].max(1));
        shares.sum::<i128>().min(i128::from(i64::MAX) >> 4) as i64
    };
    (0..model.processes).map(held).collect()
}

/// -ln of the middles of [`LOGS`] equal parts of (0, 1), in 2^-[`LOG_BITS`].
///
/// Of additions, multiplications and divisions only, which give the same on every machine, as
/// the logarithms of C libraries do not.
fn negative_logs() -> Vec<i64> {
    const LN_2: f64 = std::f64::consts::LN_2;
    (0..LOGS)
        .map(|n| {
            let (mut x, mut halvings) = ((n as f64 + 0.5) / LOGS as f64, 0.0);
            while x < 0.75 {
                (x, halvings) = (x * 2.0, halvings + 1.0);
            }
            // ln x = 2 artanh((x - 1) / (x + 1))
            let z = (x - 1.0) / (x + 1.0);
            let (mut term, mut sum, mut odd) = (z, 0.0, 1.0);
            while odd < 30.0 {
                sum += term / odd;
                (term, odd) = (term * z * z, odd + 2.0);
            }
            ((halvings * LN_2 - 2.0 * sum) * f64::from(1 << LOG_BITS)) as i64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_library() {
        for (n, log) in negative_logs().into_iter().enumerate() {
            let x = (n as f64 + 0.5) / LOGS as f64;
            let library = -x.ln() * f64::from(1 << LOG_BITS);
            assert!((log as f64 - library).abs() < 2.0, "{x}: {log} {library}");
        }
    }

    #[test]
    fn halvings_fall_from_start_to_end() {
        let at = |progress| halved(1 << 20, 10, progress, 1_000);
        assert_eq!((at(0), at(100), at(150)), (1 << 20, 1 << 19, 3 << 17));
        assert!((0..999).all(|progress| at(progress) >= at(progress + 1)));
    }
}
