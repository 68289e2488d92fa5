//! How much of a node's devices is lost in the end, when what they need beside them runs out.

use std::collections::BTreeMap;

use super::bins::PARTS;

/// Losses up to which a coming pod is as likely as not to go elsewhere, in thousandths of a device.
const PATIENCE_MILLI: i64 = 200;
/// One over the chance that no further pod comes, at each step.
const ENDS_ONE_IN: u64 = 10_000;
/// Binary digits of a weight.
const WEIGHT_BITS: u32 = 20;
/// A kind of coming pod: steps of CPU, memory and devices, and its weight.
pub(super) type Step = (usize, usize, usize, u64);

/// What is lost on average of the devices' worth, for each amount of CPU, memory and devices left.
///
/// Amounts are in steps. Coming pods are drawn by their weights from those that still fit, each
/// passing the node by the sooner the more its coming would cost; when none fits what is left of the
/// devices is lost. Computed from the smallest rests up (a dynamic programme).
#[derive(Clone, Debug)]
pub(super) struct Losses {
    cpu: usize,
    memory: usize,
    devices: usize,
    /// By CPU, then memory, then devices; in [`PARTS`] of a thousandth of a device.
    lost: Vec<i32>,
}

impl Losses {
    /// For rests of at most that many steps, of which one of devices is worth `device_parts`.
    pub(super) fn new(
        (cpu, memory, devices): (usize, usize, usize),
        device_parts: i64,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let mut kinds: BTreeMap<(usize, usize, usize), u64> = BTreeMap::new();
        for (cpu, memory, devices, weight) in steps {
            if cpu + memory + devices > 0 {
                *kinds.entry((cpu, memory, devices)).or_default() += weight;
            }
        }
        let mut losses = Self {
            cpu: cpu + 1,
            memory: memory + 1,
            devices: devices + 1,
            lost: vec![0; (cpu + 1) * (memory + 1) * (devices + 1)],
        };
        let chances = Chances::new();
        let all: u64 = kinds.values().sum();
        let end = (all << WEIGHT_BITS) / ENDS_ONE_IN;
        let mut coming = Vec::with_capacity(kinds.len());
        for c in 0..=cpu {
            for m in 0..=memory {
                // Kinds come in order of CPU, so those that fit by it are the first ones.
                let fitting: Vec<Step> = kinds
                    .iter()
                    .take_while(|((cpu, ..), _)| *cpu <= c)
                    .filter(|((_, memory, _), _)| *memory <= m)
                    .map(|(&(cpu, memory, devices), &weight)| (cpu, memory, devices, weight))
                    .collect();
                for d in 1..=devices {
                    coming.clear();
                    coming.extend(fitting.iter().filter(|kind| kind.2 <= d).map(|kind| {
                        (
                            kind.3,
                            losses.lost[losses.at(c - kind.0, m - kind.1, d - kind.2)],
                        )
                    }));
                    let idle = d as i64 * device_parts;
                    let at = losses.at(c, m, d);
                    losses.lost[at] = chances.mean(&coming, idle, end);
                }
            }
        }
        losses
    }

    /// What is lost on average with so many steps left; more than there are count as all.
    pub(super) fn of(&self, cpu: usize, memory: usize, devices: usize) -> i64 {
        let at = self.at(
            cpu.min(self.cpu - 1),
            memory.min(self.memory - 1),
            devices.min(self.devices - 1),
        );
        self.lost[at].into()
    }

    fn at(&self, cpu: usize, memory: usize, devices: usize) -> usize {
        (cpu * self.memory + memory) * self.devices + devices
    }
}

/// How likely a pod is to come to a node that it costs so much.
struct Chances {
    /// By excess over the least cost, in [`PARTS`].
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

    /// The mean of what is lost over what may come, and with weight `end` all that is idle.
    fn mean(&self, coming: &[(u64, i32)], idle: i64, end: u64) -> i32 {
        let Some(least) = coming.iter().map(|(_, lost)| *lost).min() else {
            return idle as i32;
        };
        let (mut sum, mut weights) = (end as i64 * idle, end);
        for &(weight, lost) in coming {
            let excess = (lost - least) as usize;
            let Some(chance) = self.weights.get(excess) else {
                continue;
            };
            let weight = weight * chance;
            sum += weight as i64 * i64::from(lost);
            weights += weight;
        }
        (sum / weights.max(1) as i64) as i32
    }
}

/// `exp(-excess / patience)` in whole numbers of `2^-WEIGHT_BITS`, as `(1 - x / 1024)^1024`.
fn decay(excess: u64, patience: u64) -> u64 {
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
    fn devices_are_lost_when_nothing_that_fits_is_left() {
        // One kind: 2 of CPU, 1 of memory, 1 device.
        let losses = Losses::new((6, 8, 4), 100, [(2, 1, 1, 1_000_000)]);
        assert_eq!(losses.of(6, 8, 0), 0);
        assert_eq!(losses.of(1, 8, 4), 400);
        // Room for two of them, and two devices that no CPU is left for; the end may come sooner.
        let lost = losses.of(4, 8, 4);
        assert!((200..205).contains(&lost), "{lost}");
        assert_eq!(losses.of(99, 99, 99), losses.of(6, 8, 4));
    }

    #[test]
    fn a_pod_that_costs_much_passes_a_node_that_others_want() {
        let asks = |patient: u64| [(1, 1, 1, 1_000u64), (2, 1, 0, patient)];
        let some = Losses::new((2, 2, 2), 16_000, asks(10)).of(2, 2, 2);
        let many = Losses::new((2, 2, 2), 16_000, asks(1_000)).of(2, 2, 2);
        // Even as many pods of the second kind take little, as they had better go elsewhere.
        assert!(some <= many && many < 2_000, "{some} {many}");
    }
}
