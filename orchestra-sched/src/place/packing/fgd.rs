//! Fragmentation gradient descent.

use std::sync::Arc;

use orchestra_core::kind::accelerator::DeviceSet;

use super::choices;
use super::fragment::Target;
use crate::place::plugin::{Cycle, DeviceChoice, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{NodeIx, Rows};

/// Prefers the node, and on it the device, whose [fragment](Target::fragment) grows least.
///
/// As published by Weng et al. (USENIX ATC 2023): the score is 100 times the logistic function of the
/// growth in whole devices with its sign turned, rounded down, so that 50 means no growth.
#[derive(Clone, Debug)]
pub struct Fgd {
    target: Arc<Target>,
}

impl Fgd {
    /// For that target workload.
    pub fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
        }
    }

    /// The best score on row `i`, and the devices that give it: the lowest numbers among equals.
    fn best(&self, cycle: &Cycle<'_>, rows: &Rows<'_>, i: usize) -> (Score, DeviceSet) {
        let demand = &cycle.pod.demand;
        let model = &cycle.snapshot().node(rows.node(i)).facts().model;
        let (cpu, devices) = (rows.cpu_free[i], &rows.devices[i]);
        let before = self.target.fragment(cpu, devices, model);
        let left = cpu - demand.requests.cpu_milli;
        let score = |after: i64| descent(after - before, self.target.pods());
        let Some(ask) = &demand.accelerators else {
            let after = self.target.fragment(left, devices, model);
            return (score(after), DeviceSet::NONE);
        };
        let mut best = None;
        for set in choices(devices, ask) {
            let mut with = *devices;
            with.charge(set, ask.milli);
            let score = score(self.target.fragment(left, &with, model));
            if best.is_none_or(|(other, _)| score > other) {
                best = Some((score, set));
            }
        }
        best.unwrap_or_default()
    }
}

impl Scorer for Fgd {
    fn name(&self) -> &'static str {
        "FragmentationGradientDescent"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS.with(PodFields::ACCELERATORS)
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        for (i, score) in out.iter_mut().enumerate().filter(|(i, _)| fits[*i]) {
            *score = self.best(cycle, &rows, i).0;
        }
    }
}

impl DeviceChoice for Fgd {
    fn choose(&self, cycle: &Cycle<'_>, node: NodeIx) -> Option<DeviceSet> {
        cycle.pod.demand.accelerators.as_ref()?;
        Some(self.best(cycle, &cycle.ledger.row(node), 0).1)
    }
}

/// `100 / (1 + exp(growth / (1000 * pods)))`, rounded down.
fn descent(growth: i64, pods: i64) -> Score {
    // The score is at least k where -growth / (1000 * pods) >= ln(k / (100 - k)).
    let shrinks = -i128::from(growth) * 1_000_000;
    LOGITS.partition_point(|&logit| shrinks >= i128::from(logit) * i128::from(pods)) as Score
}

/// `ln(k / (100 - k))` for k from 1 to 99, in billionths, rounded up.
const LOGITS: [i64; 99] = [
    -4_595_119_850,
    -3_891_820_298,
    -3_476_098_689,
    -3_178_053_830,
    -2_944_438_979,
    -2_751_535_313,
    -2_586_689_344,
    -2_442_347_035,
    -2_313_634_929,
    -2_197_224_577,
    -2_090_741_096,
    -1_992_430_164,
    -1_900_958_761,
    -1_815_289_966,
    -1_734_601_055,
    -1_658_228_076,
    -1_585_627_263,
    -1_516_347_489,
    -1_450_010_175,
    -1_386_294_361,
    -1_324_925_414,
    -1_265_666_373,
    -1_208_311_205,
    -1_152_679_509,
    -1_098_612_288,
    -1_045_968_555,
    -994_622_575,
    -944_461_608,
    -895_384_047,
    -847_297_860,
    -800_119_300,
    -753_771_802,
    -708_185_057,
    -663_294_217,
    -619_039_208,
    -575_364_144,
    -532_216_813,
    -489_548_225,
    -447_312_218,
    -405_465_108,
    -363_965_377,
    -322_773_392,
    -281_851_152,
    -241_162_056,
    -200_670_695,
    -160_342_650,
    -120_144_311,
    -80_042_707,
    -40_005_334,
    0,
    40_005_335,
    80_042_708,
    120_144_312,
    160_342_651,
    200_670_696,
    241_162_057,
    281_851_153,
    322_773_393,
    363_965_378,
    405_465_109,
    447_312_219,
    489_548_226,
    532_216_814,
    575_364_145,
    619_039_209,
    663_294_218,
    708_185_058,
    753_771_803,
    800_119_301,
    847_297_861,
    895_384_048,
    944_461_609,
    994_622_576,
    1_045_968_556,
    1_098_612_289,
    1_152_679_510,
    1_208_311_206,
    1_265_666_374,
    1_324_925_415,
    1_386_294_362,
    1_450_010_176,
    1_516_347_490,
    1_585_627_264,
    1_658_228_077,
    1_734_601_056,
    1_815_289_967,
    1_900_958_762,
    1_992_430_165,
    2_090_741_097,
    2_197_224_578,
    2_313_634_930,
    2_442_347_036,
    2_586_689_345,
    2_751_535_314,
    2_944_438_980,
    3_178_053_831,
    3_476_098_690,
    3_891_820_299,
    4_595_119_851,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_logistic_function() {
        for growth in -6_000..6_000 {
            let plain = 100.0 / (1.0 + (f64::from(growth) / 1_000.0).exp());
            let exact = (plain - plain.round()).abs() < 1e-9;
            let score = f64::from(descent(i64::from(growth) * 7, 7));
            assert!(score == plain.floor() || exact, "{growth}: {score} {plain}");
        }
        assert_eq!(descent(0, 1), 50);
        assert_eq!(
            (descent(i64::MAX / 8, 9), descent(i64::MIN / 8, 9)),
            (0, 99)
        );
    }
}
