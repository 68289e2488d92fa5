//! Accelerators of nodes, by the thousandth, and which of them a pod gets.

use orchestra_core::kind::accelerator::{AcceleratorAsk, DEVICES_MAX, DeviceSet, WHOLE_MILLI};

use super::Running;

/// What is free of one node's devices, in thousandths; below zero where pods hold more than there
/// is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Devices {
    count: u8,
    free: [i32; DEVICES_MAX],
}

impl Devices {
    /// That many devices, all free; at most [`DEVICES_MAX`].
    pub fn new(count: usize) -> Self {
        let count = count.min(DEVICES_MAX);
        let mut free = [0; DEVICES_MAX];
        free[..count].fill(WHOLE_MILLI.into());
        Self {
            count: count as u8,
            free,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.into()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is free of each.
    pub fn free(&self) -> &[i32] {
        &self.free[..self.len()]
    }

    /// All that is free, in thousandths.
    pub fn free_milli(&self) -> i64 {
        self.free().iter().map(|&free| i64::from(free.max(0))).sum()
    }

    /// How many have `milli` thousandths or more free.
    pub fn with_free(&self, milli: u16) -> usize {
        let milli = i32::from(milli);
        self.free().iter().filter(|&&free| free >= milli).count()
    }

    /// Whether what is asked can be had, whatever the model.
    pub fn can(&self, ask: &AcceleratorAsk) -> bool {
        self.with_free(ask.milli) >= ask.count as usize
    }

    /// Whether exactly these devices give what is asked.
    pub fn can_on(&self, ask: &AcceleratorAsk, set: DeviceSet) -> bool {
        let free = |device: usize| self.free().get(device).copied().unwrap_or(0);
        set.len() == ask.count as usize && set.iter().all(|device| free(device) >= ask.milli.into())
    }

    /// The devices that a pod gets where nobody says otherwise: of those with enough free the ones
    /// with the least free, the lowest number among equals. `None` if there are too few.
    ///
    /// A pod that wants whole devices gets the lowest numbers that are wholly free, which is the
    /// same rule.
    pub fn tightest(&self, ask: &AcceleratorAsk) -> Option<DeviceSet> {
        let milli = i32::from(ask.milli);
        let mut order = [(0, 0); DEVICES_MAX];
        let mut fitting = 0;
        for (device, &free) in self.free().iter().enumerate() {
            if free >= milli {
                order[fitting] = (free, device);
                fitting += 1;
            }
        }
        let wanted = ask.count as usize;
        if fitting < wanted {
            return None;
        }
        let order = &mut order[..fitting];
        order.sort_unstable();
        Some(order[..wanted].iter().map(|&(_, device)| device).collect())
    }

    /// Takes `milli` thousandths of each device of `set`. Checks nothing.
    pub fn charge(&mut self, set: DeviceSet, milli: u16) {
        for device in set.iter() {
            self.free[device] = self.free[device].wrapping_sub(milli.into());
        }
    }

    /// Gives back what an equal [`charge`](Self::charge) took.
    pub fn refund(&mut self, set: DeviceSet, milli: u16) {
        for device in set.iter() {
            self.free[device] = self.free[device].wrapping_add(milli.into());
        }
    }
}

/// Which devices each pod of a node holds: what it says it holds, and for those that do not say the
/// [tightest](Devices::tightest) of what is then left, pods by their id. Pods for which there is
/// nothing left hold nothing.
pub(super) fn held<'a>(
    mut devices: Devices,
    pods: impl Iterator<Item = &'a Running>,
) -> (Devices, Vec<(&'a Running, DeviceSet)>) {
    let mut held = Vec::new();
    let mut unsaid = Vec::new();
    for running in pods {
        let Some(ask) = &running.demand.accelerators else {
            continue;
        };
        if ask.held.is_empty() {
            unsaid.push((running, ask));
        } else {
            devices.charge(ask.held, ask.milli);
            held.push((running, ask.held));
        }
    }
    unsaid.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
    for (running, ask) in unsaid {
        let set = devices.tightest(ask).unwrap_or_default();
        devices.charge(set, ask.milli);
        held.push((running, set));
    }
    (devices, held)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use orchestra_core::meta::Uid;
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{Demand, PodId};

    fn ask(count: u32, milli: u16) -> AcceleratorAsk {
        AcceleratorAsk {
            count,
            milli,
            ..AcceleratorAsk::default()
        }
    }

    /// Every set of devices that would do, and of those the one with the least free in all, then the
    /// lowest numbers.
    fn plain(devices: &Devices, ask: &AcceleratorAsk) -> Option<DeviceSet> {
        let sets = (0..1u32 << devices.len()).map(|bits| {
            (0..devices.len())
                .filter(|at| bits & (1 << at) != 0)
                .collect::<DeviceSet>()
        });
        let free = |device: usize| devices.free()[device];
        sets.filter(|set| set.len() == ask.count as usize)
            .filter(|set| set.iter().all(|device| free(device) >= ask.milli.into()))
            .min_by_key(|set| {
                let mut held: Vec<(i32, usize)> = set.iter().map(|at| (free(at), at)).collect();
                held.sort_unstable();
                held
            })
    }

    proptest! {
        #[test]
        fn the_tightest_devices_are_those_a_look_at_all_sets_finds(
            count in 0usize..7,
            asks in prop::collection::vec((1u32..4, prop_oneof![1u16..=1000, Just(1000), Just(500)]), 0..12),
        ) {
            let mut devices = Devices::new(count);
            let mut taken = Vec::new();
            for (count, milli) in asks {
                let ask = ask(count, milli);
                let set = devices.tightest(&ask);
                prop_assert_eq!(set, plain(&devices, &ask));
                prop_assert_eq!(set.is_some(), devices.can(&ask));
                if let Some(set) = set {
                    devices.charge(set, milli);
                    taken.push((set, milli));
                }
                prop_assert!(devices.free().iter().all(|free| (0..=1000).contains(free)));
            }
            for (set, milli) in taken {
                devices.refund(set, milli);
            }
            prop_assert_eq!(devices, Devices::new(count));
        }
    }

    #[test]
    fn what_pods_say_they_hold_counts_first() {
        let running = |uid: u64, held: &[usize]| Running {
            id: PodId {
                uid: Uid(uid.into()),
                ..PodId::default()
            },
            demand: Arc::new(Demand {
                accelerators: Some(AcceleratorAsk {
                    held: held.iter().copied().collect(),
                    ..ask(1, 600)
                }),
                ..Demand::default()
            }),
            priority: 0,
            started: None,
            terminating: false,
        };
        let pods = [
            running(2, &[]),
            running(3, &[0]),
            running(1, &[]),
            running(4, &[]),
        ];
        let (devices, held) = held(Devices::new(3), pods.iter());
        let held: Vec<(u128, String)> = held
            .iter()
            .map(|(pod, set)| (pod.id.uid.0, set.to_string()))
            .collect();
        let expected = [(3, "0"), (1, "1"), (2, "2"), (4, "")];
        assert_eq!(held, expected.map(|(uid, set)| (uid, set.to_string())));
        assert_eq!(devices.free(), [400, 400, 400]);
    }
}
