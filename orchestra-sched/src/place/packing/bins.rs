//! What a share of a device is worth, by the linear programme of bin packing.

use orchestra_core::kind::accelerator::WHOLE_MILLI;

/// Thousandths of a device.
const WHOLE: usize = WHOLE_MILLI as usize;
/// Parts of a thousandth of a device in which worth is counted.
pub(super) const PARTS: i64 = 16;
/// Steps of the simplex method for each size of share; where it takes more, what it has is near
/// enough.
const STEPS_PER_SIZE_MAX: usize = 64;

/// What the free part of a device is worth, for each number of free thousandths from 0 to 1000, in
/// [`PARTS`] of a thousandth: the most that shares which fit into it are worth together. A whole
/// device is worth 1000 thousandths.
///
/// `shares` are sizes in thousandths and how many pods ask for each. What a share is worth is its
/// dual value in the linear programme that packs all of them into as few devices as possible (Gilmore
/// and Gomory, "A linear programming approach to the cutting-stock problem", 1961): a share of 810
/// that nothing goes well beside is worth a whole device, one that always finds a gap is worth
/// nothing.
pub(super) fn worth(shares: &[(u16, u64)]) -> Vec<i64> {
    let mut sizes: Vec<(usize, i128)> = shares
        .iter()
        .filter(|(milli, pods)| (1..WHOLE_MILLI).contains(milli) && *pods > 0)
        .map(|&(milli, pods)| (usize::from(milli), i128::from(pods)))
        .collect();
    sizes.sort_unstable();
    let prices = Simplex::new(&sizes).prices();
    let whole = 1_000 * i128::from(PARTS);
    let mut worth = vec![0; WHOLE + 1];
    let mut best = vec![0i128; WHOLE + 1];
    for free in 1..=WHOLE {
        best[free] = best[free - 1];
        for (&(size, _), &price) in sizes.iter().zip(&prices.each) {
            if size <= free {
                best[free] = best[free].max(best[free - size] + price);
            }
        }
        worth[free] = (best[free] * whole / prices.device).min(whole) as i64;
    }
    worth[WHOLE] = whole as i64;
    worth
}

/// What each size is worth where a device is worth `device`.
struct Prices {
    each: Vec<i128>,
    device: i128,
}

/// The revised simplex method in whole numbers (Edmonds' integer pivoting): the inverse of the basis
/// times its determinant, which every division below leaves whole.
struct Simplex<'a> {
    sizes: &'a [(usize, i128)],
    determinant: i128,
    /// One row a pattern in the basis, one column a size.
    inverse: Vec<Vec<i128>>,
    /// How often each pattern is used, times the determinant.
    used: Vec<i128>,
}

impl<'a> Simplex<'a> {
    /// Begins with a device for each share.
    fn new(sizes: &'a [(usize, i128)]) -> Self {
        let unit = |row: usize| (0..sizes.len()).map(|at| i128::from(at == row)).collect();
        Self {
            sizes,
            determinant: 1,
            inverse: (0..sizes.len()).map(unit).collect(),
            used: sizes.iter().map(|&(_, pods)| pods).collect(),
        }
    }

    /// The dual values at the optimum, or those of the last step within bounds, scaled so that no
    /// pattern is worth more than a device.
    fn prices(mut self) -> Prices {
        for _ in 0..STEPS_PER_SIZE_MAX * self.sizes.len() {
            let prices = self.duals();
            let (best, pattern) = self.best_pattern(&prices);
            if best <= self.determinant || self.enter(&pattern).is_none() {
                break;
            }
        }
        let each = self.duals();
        let (best, _) = self.best_pattern(&each);
        Prices {
            each,
            device: best.max(self.determinant).max(1),
        }
    }

    fn duals(&self) -> Vec<i128> {
        let column = |at: usize| self.inverse.iter().map(|row| row[at]).sum::<i128>().max(0);
        (0..self.sizes.len()).map(column).collect()
    }

    /// The pattern that is worth most, and how much: a knapsack.
    fn best_pattern(&self, prices: &[i128]) -> (i128, Vec<i128>) {
        let mut best = vec![(0i128, usize::MAX); WHOLE + 1];
        for free in 1..=WHOLE {
            best[free] = (best[free - 1].0, usize::MAX);
            for (at, (&(size, _), &price)) in self.sizes.iter().zip(prices).enumerate() {
                if size <= free && best[free - size].0 + price > best[free].0 {
                    best[free] = (best[free - size].0 + price, at);
                }
            }
        }
        let mut pattern = vec![0; self.sizes.len()];
        let mut free = WHOLE;
        while free > 0 {
            match best[free].1 {
                usize::MAX => free -= 1,
                at => {
                    pattern[at] += 1;
                    free -= self.sizes[at].0;
                }
            }
        }
        (best[WHOLE].0, pattern)
    }

    /// Brings a pattern into the basis. `None` if the numbers grow too large.
    fn enter(&mut self, pattern: &[i128]) -> Option<()> {
        let products: Option<Vec<i128>> =
            self.inverse.iter().map(|row| dot(row, pattern)).collect();
        let column = products?;
        // The first pattern to run out leaves; the lowest row among equals.
        let mut leaves: Option<usize> = None;
        for row in (0..column.len()).filter(|&row| column[row] > 0) {
            let sooner = match leaves {
                None => true,
                Some(other) => {
                    let (here, there) = (
                        self.used[row].checked_mul(column[other])?,
                        self.used[other].checked_mul(column[row])?,
                    );
                    here < there
                }
            };
            if sooner {
                leaves = Some(row);
            }
        }
        let leaves = leaves?;
        let pivot = column[leaves];
        let (leaving, leaving_used) = (self.inverse[leaves].clone(), self.used[leaves]);
        let mut inverse = self.inverse.clone();
        let mut used = self.used.clone();
        for row in (0..column.len()).filter(|&row| row != leaves) {
            let change = |was: i128, leaving: i128| {
                let new = was
                    .checked_mul(pivot)?
                    .checked_sub(column[row].checked_mul(leaving)?)?;
                Some(new / self.determinant)
            };
            for (cell, &leaving) in inverse[row].iter_mut().zip(&leaving) {
                *cell = change(*cell, leaving)?;
            }
            used[row] = change(used[row], leaving_used)?;
        }
        (self.inverse, self.used, self.determinant) = (inverse, used, pivot);
        Some(())
    }
}

fn dot(one: &[i128], other: &[i128]) -> Option<i128> {
    one.iter()
        .zip(other)
        .try_fold(0i128, |sum, (&a, &b)| sum.checked_add(a.checked_mul(b)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn thousandths(worth: &[i64], at: usize) -> i64 {
        worth[at] / PARTS
    }

    #[test]
    fn a_share_is_worth_what_it_keeps_from_others() {
        // Halves pair up; nothing goes beside 810 but 160, of which there are too few to matter.
        let prices = worth(&[(810, 100), (470, 100), (160, 10)]);
        assert_eq!(thousandths(&prices, 159), 0);
        assert_eq!(thousandths(&prices, 190), 0);
        assert_eq!(thousandths(&prices, 469), 0);
        assert_eq!(thousandths(&prices, 470), 500);
        assert_eq!(thousandths(&prices, 530), 500);
        assert_eq!(thousandths(&prices, 810), 1_000);
        assert_eq!(thousandths(&prices, 1_000), 1_000);
        assert_eq!(worth(&[])[999], 0);
    }

    proptest! {
        /// Duality: what all shares are worth is how many devices they need at least, so no packing
        /// needs less; and no pattern is worth more than a device.
        #[test]
        fn prices_are_dual_and_tight(
            shares in prop::collection::btree_map(20u16..1000, 1u64..500, 1..12),
        ) {
            let shares: Vec<(u16, u64)> = shares.into_iter().collect();
            let worth = worth(&shares);
            prop_assert!(worth.windows(2).all(|pair| pair[0] <= pair[1]));
            for a in 1..=WHOLE {
                for b in [1, 50, 333, 500] {
                    if a + b <= WHOLE {
                        prop_assert!(worth[a] + worth[b] <= worth[a + b] + 2);
                    }
                }
            }
            // First fit decreasing cannot beat the bound.
            let mut bins: Vec<usize> = Vec::new();
            for &(size, pods) in shares.iter().rev() {
                for _ in 0..pods {
                    match bins.iter_mut().find(|free| **free >= usize::from(size)) {
                        Some(free) => *free -= usize::from(size),
                        None => bins.push(WHOLE - usize::from(size)),
                    }
                }
            }
            let total: i64 = shares.iter().map(|&(size, pods)| worth[usize::from(size)] * pods as i64).sum();
            let needed = bins.len() as i64 * 1_000 * PARTS;
            prop_assert!(total <= needed, "{total} {needed}");
            // And it is near: the programme's optimum is at least half of any sensible packing.
            prop_assert!(2 * total + 2_000 * PARTS >= needed, "{total} {needed}");
        }
    }
}
