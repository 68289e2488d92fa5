//! Machines that are too full for a while, at a price that rises until they no longer are.

use super::Model;
use super::schedule::{PROGRESS_DONE, halved};

/// All that is used over 2^this may be too much at first.
const BUDGET_SHIFT: u32 = 6;
/// How often that is halved on the way to [`BUDGET_UNTIL`].
const BUDGET_OCTAVES: u32 = 9;
/// From when on, in millionths, nothing may be too much.
const BUDGET_UNTIL: u32 = PROGRESS_DONE / 10 * 7;

/// After how many changes the price is looked at.
const TICKS: u32 = 1_024;
/// The price rises or falls by one part in 2^this then.
const PRICE_SHIFT: u32 = 6;
const PRICE_FIRST: i64 = 1 << 10;
const PRICE_MIN: i64 = 1 << 8;
const PRICE_MAX: i64 = 1 << 40;

/// Prices and amounts are in 2^-this.
const BITS: u32 = 8;

/// What a change may be dearer by for excess; added to a cost it stays a 64-bit number.
const CHANGE_MAX: i128 = 1 << 61;

/// By how much machines are too full.
///
/// Where large processes fill machines tightly, hardly any move fits, and a search that keeps to capacities sees
/// little of what there is. Infeasibility at a price that adapts is strategic oscillation (Glover 1977;
/// Gendreau, Hertz and Laporte 1994 let the price follow what the search meets). Here the price rises
/// while the excess is above a budget and falls while it is below, and the budget falls to nothing.
#[derive(Clone, Debug)]
pub(super) struct Excess {
    /// By resource: what a unit counts, so that all that is used counts the same of each.
    worth: Vec<i128>,
    /// By machine.
    of: Vec<i64>,
    all: i64,
    price: i64,
    budget_first: i64,
    budget: i64,
    ticks: u32,
}

impl Excess {
    /// None yet.
    pub(super) fn new(model: &Model) -> Self {
        let total = |r: usize| {
            (0..model.processes)
                .map(|p| i128::from(model.needs(p)[r]))
                .sum()
        };
        let totals: Vec<i128> = (0..model.resources).map(total).collect();
        let all: i128 = (totals.iter().zip(&model.load_weight))
            .map(|(total, &weight)| total * i128::from(weight))
            .sum();
        let parts = model.resources.max(1) as i128;
        Self {
            worth: (totals.iter())
                .map(|total| (all << BITS) / (parts * total.max(&1)))
                .collect(),
            of: vec![0; model.machines],
            all: 0,
            price: PRICE_FIRST,
            // The model bounds what all that is used costs by 2^61.
            budget_first: (all >> BUDGET_SHIFT) as i64,
            budget: 0,
            ticks: 0,
        }
    }

    pub(super) fn set_progress(&mut self, progress: u32) {
        self.budget = match progress < BUDGET_UNTIL {
            true => halved(self.budget_first, BUDGET_OCTAVES, progress, BUDGET_UNTIL),
            false => 0,
        };
    }

    /// Whether it is over: nothing may be too much any more, and nothing is.
    pub(super) fn is_over(&self, progress: u32) -> bool {
        progress >= BUDGET_UNTIL && self.is_none()
    }

    /// Whether no machine is too full.
    pub(super) fn is_none(&self) -> bool {
        self.all == 0
    }

    /// A change was tried.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks < TICKS {
            return;
        }
        self.ticks = 0;
        let by = (self.price >> PRICE_SHIFT) + 1;
        self.price = match self.all > self.budget {
            true => (self.price + by).min(PRICE_MAX),
            false => (self.price - by).max(PRICE_MIN),
        };
    }

    /// What it costs for now that two machines have so much free, instead of what they have.
    pub(super) fn change(
        &self,
        a: (u32, impl Fn(usize) -> i64),
        b: (u32, impl Fn(usize) -> i64),
    ) -> i64 {
        let now = self.of[a.0 as usize] + self.of[b.0 as usize];
        let by = self.amount(a.1) + self.amount(b.1) - now;
        let price = (i128::from(by) * i128::from(self.price)) >> BITS;
        price.clamp(-CHANGE_MAX, CHANGE_MAX) as i64
    }

    /// A machine has so much free now.
    pub(super) fn set(&mut self, machine: usize, free: &[i64]) {
        let amount = self.amount(|r| free[r]);
        self.all += amount - self.of[machine];
        self.of[machine] = amount;
    }

    /// 0 only if nothing is below 0.
    fn amount(&self, free: impl Fn(usize) -> i64) -> i64 {
        let mut amount = 0;
        for (r, worth) in self.worth.iter().enumerate() {
            let missing = -free(r);
            if missing > 0 {
                amount += 1 + ((worth * i128::from(missing)) >> BITS) as i64;
            }
        }
        amount
    }
}
