//! What the rest of a node will bring in, until nothing that comes fits any more.

use std::collections::BTreeMap;

use super::bins::PARTS;

/// How much less than the best a coming pod may bring in and still be rather likely to come, in
/// thousandths of a device.
const PATIENCE_MILLI: i64 = 200;
/// One over the chance that no further pod comes, at each step.
const ENDS_ONE_IN: u64 = 10_000;
/// The most that a pod is taken to pay, in [`PARTS`] of a thousandth of a device, so that what a node takes in
/// stays within 31 bits.
const PAYS_MAX: i64 = 256_000 * PARTS;
/// Binary digits of a weight.
const WEIGHT_BITS: u32 = 20;
/// A kind of coming pod: steps of CPU, memory and devices, what it pays in [`PARTS`] of a thousandth of a
/// device, and its weight.
pub(super) type Step = (usize, usize, usize, i64, u64);

/// What coming pods pay on average, for each amount of CPU, memory and devices left.
///
/// Amounts are in steps. Coming pods are drawn by their weights from those that still fit, each
/// passing the node by the sooner the more its coming would cost beyond what it pays; when none fits nothing
/// more is paid. Computed from the smallest rests up (a dynamic programme).
#[derive(Clone, Debug)]
pub(super) struct Takings {
    cpu: usize,
    memory: usize,
    devices: usize,
    /// By CPU, then memory, then devices; in [`PARTS`] of a thousandth of a device.
    paid: Vec<i32>,
}

impl Takings {
    /// For rests of at most that many steps.
    pub(super) fn new(
        (cpu, memory, devices): (usize, usize, usize),
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let mut kinds: BTreeMap<(usize, usize, usize, i32), u64> = BTreeMap::new();
        for (cpu, memory, devices, pays, weight) in steps {
            let pays = pays.clamp(0, PAYS_MAX) as i32;
            if cpu + memory + devices > 0 {
                *kinds.entry((cpu, memory, devices, pays)).or_default() += weight;
            }
        }
        let mut takings = Self {
            cpu: cpu + 1,
            memory: memory + 1,
            devices: devices + 1,
            paid: vec![0; (cpu + 1) * (memory + 1) * (devices + 1)],
        };
        let chances = Chances::new();
        let all: u64 = kinds.values().sum();
        let end = (all << WEIGHT_BITS) / ENDS_ONE_IN;
        let mut coming = Vec::with_capacity(kinds.len());
        for c in 0..=cpu {
            for m in 0..=memory {
                // Kinds come in order of CPU, so those that fit by it are the first ones.
                let fitting: Vec<(usize, usize, usize, i32, u64)> = kinds
                    .iter()
                    .take_while(|((cpu, ..), _)| *cpu <= c)
                    .filter(|((_, memory, ..), _)| *memory <= m)
                    .map(|(&(cpu, memory, devices, pays), &weight)| {
                        (cpu, memory, devices, pays, weight)
                    })
                    .collect();
                for d in 0..=devices {
                    coming.clear();
                    coming.extend(fitting.iter().filter(|kind| kind.2 <= d).map(|kind| {
                        let left = takings.at(c - kind.0, m - kind.1, d - kind.2);
                        (kind.4, kind.3 + takings.paid[left])
                    }));
                    let at = takings.at(c, m, d);
                    takings.paid[at] = chances.mean(&coming, end);
                }
            }
        }
        takings
    }

    /// What is paid on average with so many steps left; more than there are count as all.
    pub(super) fn of(&self, cpu: usize, memory: usize, devices: usize) -> i64 {
        let at = self.at(
            cpu.min(self.cpu - 1),
            memory.min(self.memory - 1),
            devices.min(self.devices - 1),
        );
        self.paid[at].into()
    }

    fn at(&self, cpu: usize, memory: usize, devices: usize) -> usize {
        (cpu * self.memory + memory) * self.devices + devices
    }
}

/// How likely a pod is to come to a node that could take in so much more.
struct Chances {
    /// By what is missing to the most, in [`PARTS`].
    weights: Vec<u64>,
}

impl Chances {
    fn new() -> Self {
        let patience = PATIENCE_MILLI * PARTS;
        let span = 14 * patience;
        Self {
            weights: (0..span)
                .map(|excess| decay(excess as u64, patience as u64))
                .collect(),
        }
    }

    /// The mean of what is paid over what may come, and with weight `end` nothing.
    fn mean(&self, coming: &[(u64, i32)], end: u64) -> i32 {
        let Some(most) = coming.iter().map(|(_, paid)| *paid).max() else {
            return 0;
        };
        let (mut sum, mut weights) = (0i128, end);
        for &(weight, paid) in coming {
            let missing = (most - paid) as usize;
            let Some(chance) = self.weights.get(missing) else {
                continue;
            };
            let weight = weight * chance;
            sum += i128::from(weight) * i128::from(paid);
            weights += weight;
        }
        (sum / i128::from(weights.max(1))) as i32
    }
}

/// `exp(-excess / patience)` in whole numbers of `2^-WEIGHT_BITS`, as `(1 - x / 1024)^1024`.
pub(super) fn decay(excess: u64, patience: u64) -> u64 {
    const DIGITS: u32 = 40;
    let one = 1u128 << DIGITS;
    let step = (u128::from(excess) << DIGITS) / (u128::from(patience) * 1024);
    let mut power = one.saturating_sub(step);
    for _ in 0..10 {
        power = (power * power) >> DIGITS;
    }
    (power >> (DIGITS - WEIGHT_BITS)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_is_the_exponential() {
        for excess in [0, 1, 100, 4_800, 20_000, 60_000] {
            let plain = (-(excess as f64) / 4_800.0).exp() * f64::from(1 << WEIGHT_BITS);
            let whole = decay(excess, 4_800) as f64;
            assert!(
                (plain - whole).abs() < 0.01 * f64::from(1 << WEIGHT_BITS),
                "{excess}"
            );
        }
    }

    #[test]
    fn nothing_more_is_paid_when_nothing_that_fits_is_left() {
        // One kind: 2 of CPU, 1 of memory, 1 device, for 100.
        let takings = Takings::new((6, 8, 4), [(2, 1, 1, 100, 1_000_000)]);
        assert_eq!(takings.of(6, 8, 0), 0);
        assert_eq!(takings.of(1, 8, 4), 0);
        // Room for two of them, and two devices that no CPU is left for; the end may come sooner.
        let paid = takings.of(4, 8, 4);
        assert!((195..=200).contains(&paid), "{paid}");
        assert_eq!(takings.of(99, 99, 99), takings.of(6, 8, 4));
    }

    #[test]
    fn a_pod_that_pays_little_passes_a_node_that_others_want() {
        let asks = |patient: u64| [(1, 1, 1, 16_000, 1_000u64), (2, 1, 0, 0, patient)];
        let some = Takings::new((2, 2, 2), asks(10)).of(2, 2, 2);
        let many = Takings::new((2, 2, 2), asks(1_000)).of(2, 2, 2);
        // Even as many pods of the second kind take little, as they had better go elsewhere.
        assert!(many <= some && many > 30_000, "{some} {many}");
    }
}
