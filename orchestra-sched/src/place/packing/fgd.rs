//! Fragmentation gradient descent.

use super::fragment::Target;
use super::{Packing, best};
use crate::place::plugin::Score;

/// Prefers the node, and on it the device, whose [fragment](Target::fragment) grows least for that
/// target workload.
///
/// As published by Weng et al. (USENIX ATC 2023): the score is 100 times the logistic function of the
/// growth in whole devices with its sign turned, rounded down, so that 50 means no growth.
pub fn fgd(target: Target) -> Packing {
    let rule = "FragmentationGradientDescent";
    Packing::new(rule, move |cycle, rows, i| {
        let model = &cycle.snapshot().node(rows.node(i)).facts().model;
        let cpu = rows.cpu_free[i];
        let before = target.fragment(cpu, &rows.devices[i], model);
        let left = cpu - cycle.pod.demand.requests.cpu_milli;
        best(cycle, rows, i, |devices| {
            descent(before - target.fragment(left, devices, model))
        })
    })
}

/// `100 / (1 + exp(-shrinks / 1000))` in floating point, rounded down.
///
/// The exponential is looked up, as machines round it differently.
fn descent(shrinks: f64) -> Score {
    let shrinks = shrinks / 1_000.0;
    let beyond = |amount: f64| LOGITS.partition_point(|&logit| logit < amount) as Score;
    if shrinks >= 0.0 {
        50 + beyond(shrinks)
    } else if shrinks > ROUNDED_TO_NOTHING {
        50
    } else {
        49 - beyond(-shrinks)
    }
}

/// `1 + exp(x)` is 2 in floating point where `x` is no more than this below 0. Fragments that are equal
/// but for rounding may differ by more, and 49 instead of 50 then decides in the published runs.
const ROUNDED_TO_NOTHING: f64 = -1.5 * f64::EPSILON;

/// `ln(k / (100 - k))` for k from 51 to 99.
const LOGITS: [f64; 49] = [
    0.040005334613699206,
    0.08004270767353636,
    0.12014431184206321,
    0.16034265007517948,
    0.20067069546215124,
    0.24116205681688804,
    0.28185115214098766,
    0.322773392263051,
    0.3639653772014116,
    0.4054651081081644,
    0.44731221804366483,
    0.4895482253187058,
    0.5322168137473082,
    0.5753641449035618,
    0.6190392084062235,
    0.6632942174102642,
    0.7081850579244858,
    0.7537718023763802,
    0.8001193001121131,
    0.8472978603872037,
    0.8953840470548413,
    0.9444616088408515,
    0.994622575144062,
    1.0459685551826878,
    1.0986122886681098,
    1.1526795099383853,
    1.2083112059245342,
    1.2656663733312759,
    1.3249254147435985,
    1.3862943611198906,
    1.4500101755059984,
    1.5163474893680884,
    1.5856272637403819,
    1.6582280766035324,
    1.7346010553881064,
    1.8152899666382492,
    1.900958761193047,
    1.992430164690206,
    2.0907410969337694,
    2.1972245773362196,
    2.3136349291806306,
    2.4423470353692043,
    2.586689344097943,
    2.751535313041949,
    2.9444389791664403,
    3.1780538303479458,
    3.4760986898352733,
    3.8918202981106265,
    4.59511985013459,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_logistic_function() {
        let plain = |shrinks: f64| (100.0 / (1.0 + (-shrinks / 1_000.0).exp())).floor();
        for tenth in -80_000..80_000 {
            let shrinks = f64::from(tenth) / 10.0;
            assert_eq!(f64::from(descent(shrinks)), plain(shrinks), "{shrinks}");
        }
        assert_eq!((descent(f64::MAX), descent(f64::MIN)), (99, 0));
    }

    #[test]
    fn rounding_counts_as_growth_where_it_does_in_the_published_runs() {
        for tenth in 0..100 {
            let shrinks = f64::from(tenth) * -1e-14;
            let published = (1.0 / (1.0 + (-shrinks / 1_000.0).exp()) * 100.0).floor();
            assert_eq!(f64::from(descent(shrinks)), published, "{shrinks}");
        }
        assert_eq!((descent(-0.0), descent(-1e-12)), (50, 49));
    }
}
