//! What kinds of pod are worth where some of them name models.

use super::bins::PARTS;
use super::strand::decay;

/// One, in the fixed point that prices and shares are kept in.
pub(super) const ONE: i128 = 1 << 20;
/// How much is asked for of what there is, in percent, counted by what shares are worth.
const LOAD_PERCENT: i128 = 110;
/// By how much cheaper a kind of node draws `e` times as many pods, in [`ONE`]ths of a device.
const TASTE: i128 = ONE * 3 / 100;
/// By how much a pod is worth more than it pays where `e` times as many stay as leave.
const LEAVING: i128 = ONE / 5;
/// Prices begin at half a device and move so often, by at most [`STEP`].
const ROUNDS: usize = 600;
const STEP: i128 = TASTE * 3 / 10;

/// A kind of pod, as the market sees it.
pub(super) struct Buyer {
    pub(super) cpu: i64,
    /// What its devices are worth, in [`PARTS`] of a thousandth.
    pub(super) worth: i64,
    /// How many there are.
    pub(super) pods: u64,
    /// Which kinds of node will do.
    pub(super) takes: Vec<bool>,
}

/// A kind of node: all of its CPU and all of its devices.
pub(super) struct Seller {
    pub(super) cpu: i64,
    pub(super) devices: i64,
}

/// What each buyer pays, in [`PARTS`] of a thousandth of a device, scaled so that all of them together pay
/// what their devices are worth.
///
/// Each kind of node has a price for its devices and one for its CPU. Pods spread over the kinds of node that
/// will do, the more on one the cheaper it is and the more of it there is (a logit with scale [`TASTE`]); the
/// dearer all of them are, the more pods stay away. Prices rise where more is asked for than there is and
/// fall where less, until neither. (This solves the dual of a linear programme of kinds of pod and node with
/// an entropy term, as in Cuturi, "Sinkhorn distances", NIPS 2013; without that term it has many optima, and prices
/// that jump.) A pod pays the soft minimum over the nodes that will do: those that name a scarce model,
/// or one with little CPU that they need much of, pay more.
pub(super) fn payments(buyers: &[Buyer], sellers: &[Seller]) -> Vec<i64> {
    let whole = 1_000 * i128::from(PARTS);
    let devices: i128 = sellers
        .iter()
        .map(|seller| i128::from(seller.devices))
        .sum();
    let worth = |buyer: &Buyer| i128::from(buyer.worth) * i128::from(buyer.pods);
    let asked: i128 = buyers.iter().map(worth).sum();
    if asked == 0 || devices == 0 {
        return buyers.iter().map(|buyer| buyer.worth).collect();
    }
    // By kind of node: of a device, and of the CPU that there is for each.
    let mut prices = vec![(ONE / 2, 0); sellers.len()];
    for _ in 0..ROUNDS {
        let mut used = vec![(0i128, 0i128); sellers.len()];
        for buyer in buyers {
            let visit = visit(buyer, sellers, &prices, devices);
            for (at, share) in visit.shares {
                let pods = i128::from(buyer.pods) * share;
                used[at].0 += pods * i128::from(buyer.worth);
                used[at].1 += pods * i128::from(buyer.cpu);
            }
        }
        // How many devices there are, and should be asked for, for each that the sample asks for.
        let scaled = |used: i128, there: i64| {
            let there = asked * 100 * i128::from(there.max(1));
            let full = used * LOAD_PERCENT * devices * whole / there;
            (full - ONE).clamp(-ONE, ONE) * STEP / ONE
        };
        for ((price, used), seller) in prices.iter_mut().zip(used).zip(sellers) {
            price.0 = (price.0 + scaled(used.0 / whole, seller.devices)).max(0);
            price.1 = (price.1 + scaled(used.1, seller.cpu)).max(0);
        }
    }
    let paid: Vec<i128> = buyers
        .iter()
        .map(|buyer| visit(buyer, sellers, &prices, devices).pays.max(0))
        .collect();
    let pays_for_devices = buyers
        .iter()
        .zip(&paid)
        .filter(|(buyer, _)| buyer.worth > 0);
    let all: i128 = pays_for_devices
        .map(|(buyer, paid)| paid * i128::from(buyer.pods))
        .sum();
    paid.into_iter()
        .map(|paid| (paid * asked / all.max(1)) as i64)
        .collect()
}

/// Where pods of a kind go.
struct Visit {
    /// What part of them, in [`ONE`]ths, goes to which kind of node.
    shares: Vec<(usize, i128)>,
    /// What they pay, in [`ONE`]ths of a device.
    pays: i128,
}

fn visit(buyer: &Buyer, sellers: &[Seller], prices: &[(i128, i128)], devices: i128) -> Visit {
    let whole = 1_000 * i128::from(PARTS);
    let worth = ONE * i128::from(buyer.worth) / whole;
    let costs: Vec<(usize, i128)> = (0..sellers.len())
        .filter(|at| buyer.takes[*at] && sellers[*at].devices > 0)
        .map(|at| {
            let seller = &sellers[at];
            let each = i128::from((seller.cpu / seller.devices).max(1));
            let (device, cpu) = prices[at];
            let cost =
                device * i128::from(buyer.worth) / whole + cpu * i128::from(buyer.cpu) / each;
            (at, cost)
        })
        .collect();
    let Some(least) = costs.iter().map(|(_, cost)| *cost).min() else {
        return Visit {
            shares: Vec::new(),
            pays: worth,
        };
    };
    let weights: Vec<(usize, i128)> = costs
        .into_iter()
        .map(|(at, cost)| {
            let taste = decay((cost - least) as u64, TASTE as u64);
            (at, i128::from(taste) * i128::from(sellers[at].devices))
        })
        .collect();
    let all: i128 = weights.iter().map(|(_, weight)| weight).sum();
    let pays = least + TASTE * log(devices * ONE, all) / ONE;
    // A pod without devices stays as one that is worth a device would.
    let gains = if worth > 0 { worth } else { ONE } - pays;
    let fewer = i128::from(decay(gains.unsigned_abs() as u64, LEAVING as u64));
    let stay = if gains >= 0 { ONE } else { fewer } * ONE / (ONE + fewer);
    let shares = weights
        .into_iter()
        .map(|(at, weight)| (at, stay * weight / all.max(1)));
    Visit {
        shares: shares.collect(),
        pays,
    }
}

/// The natural logarithm of `of / by`, at least 0, in [`ONE`]ths: bit by bit.
pub(super) fn log(of: i128, by: i128) -> i128 {
    /// Of 2, in millionths.
    const LN_2: i128 = 693_147;
    let mut rest = of * ONE / by.max(1);
    let mut bits = 0;
    while rest >= 2 * ONE {
        rest /= 2;
        bits += ONE;
    }
    let mut digit = ONE / 2;
    while digit > 0 {
        rest = rest * rest / ONE;
        if rest >= 2 * ONE {
            rest /= 2;
            bits += digit;
        }
        digit /= 2;
    }
    bits * LN_2 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many thousandths of a device.
    const fn milli(milli: i64) -> i64 {
        milli * PARTS
    }

    fn buyer(cpu: i64, pods: u64, takes: &[bool]) -> Buyer {
        Buyer {
            cpu,
            worth: milli(1_000),
            pods,
            takes: takes.to_vec(),
        }
    }

    fn seller(cpu: i64, devices: i64) -> Seller {
        Seller { cpu, devices }
    }

    #[test]
    fn the_logarithm_is_the_natural_one() {
        for (of, by) in [(1, 1), (3, 2), (2, 1), (10, 1), (6_212, 2)] {
            let plain = (of as f64 / by as f64).ln();
            let whole = log(of, by) as f64 / ONE as f64;
            assert!((plain - whole).abs() < 1e-4, "{of}/{by}: {whole}");
        }
    }

    #[test]
    fn alike_pods_pay_alike_and_together_what_their_devices_are_worth() {
        let buyers = [
            buyer(4_000, 70, &[true, true]),
            buyer(4_000, 30, &[true, true]),
        ];
        let paid = payments(&buyers, &[seller(800_000, 50), seller(800_000, 50)]);
        assert_eq!(paid, [milli(1_000); 2]);
    }

    #[test]
    fn who_names_a_scarce_model_pays_more() {
        // Half of the devices are of a model that one pod in ten names, or six in ten.
        let sellers = [seller(800_000, 50), seller(800_000, 50)];
        let premium = |naming: u64| {
            let naming = buyer(4_000, naming, &[true, false]);
            let others = buyer(4_000, 100 - naming.pods, &[true, true]);
            let paid = payments(&[naming, others], &sellers);
            paid[0] - paid[1]
        };
        assert!(premium(10) > 0);
        assert!(
            premium(60) > 2 * premium(10),
            "{} {}",
            premium(60),
            premium(10)
        );
    }

    #[test]
    fn who_needs_much_of_what_is_short_pays_more() {
        // The first kind of node has little CPU for each device, and both kinds of pod must go there.
        let sellers = [seller(400_000, 50), seller(4_000_000, 50)];
        let buyers = [
            buyer(4_000, 20, &[true, false]),
            buyer(12_000, 20, &[true, false]),
            buyer(8_000, 60, &[true, true]),
        ];
        let paid = payments(&buyers, &sellers);
        assert!(paid[2] < paid[0] && paid[0] < paid[1], "{paid:?}");
    }

    #[test]
    fn nobody_and_nothing_are_no_trouble() {
        assert!(payments(&[], &[seller(1, 1)]).is_empty());
        assert_eq!(payments(&[buyer(1, 1, &[])], &[]), [milli(1_000)]);
        let nowhere = buyer(1_000, 5, &[false]);
        let others = buyer(1_000, 5, &[true]);
        let paid = payments(&[nowhere, others], &[seller(100_000, 10)]);
        assert_eq!(paid.iter().sum::<i64>(), 2 * milli(1_000));
    }

    #[test]
    fn large_numbers_do_not_overflow() {
        let buyers = [Buyer {
            cpu: 1_600_000,
            worth: 16 * milli(1_000),
            pods: 1_000_000_000,
            takes: vec![true],
        }];
        let paid = payments(&buyers, &[seller(1_000_000_000_000, 10_000_000)]);
        assert_eq!(paid, [16 * milli(1_000)]);
    }
}
