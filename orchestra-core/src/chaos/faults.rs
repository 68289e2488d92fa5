//! What goes wrong, when, and how often it did.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::conformance::{SplitMix64, Timer};

/// One fault of one call.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// The call goes through.
    None,
    /// The call is refused before it reaches the port.
    Unavailable,
    /// The request never arrives; the caller cannot know, and where the port has a word for that
    /// the outcome is unknown.
    Lost,
    /// The call lands, and its answer is lost.
    Ambiguous,
    /// The request arrives twice, as a network that repeats does it.
    Duplicated,
    /// The call goes through, late.
    Delayed,
    /// A watch breaks: the reader must start over. A call that is not a watch goes through.
    Broken,
}

/// How likely each fault is per call, from 0 to 1. Their sum, where it exceeds 1, leaves the
/// later ones out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of [`Fault::Unavailable`].
    pub unavailable: f64,
    /// Of [`Fault::Lost`].
    pub lost: f64,
    /// Of [`Fault::Ambiguous`].
    pub ambiguous: f64,
    /// Of [`Fault::Duplicated`].
    pub duplicated: f64,
    /// Of [`Fault::Delayed`].
    pub delayed: f64,
    /// Of [`Fault::Broken`].
    pub broken: f64,
    /// The longest delay; each is drawn evenly from nothing to this.
    pub delay_max: Duration,
}

impl Rates {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        unavailable: 0.0,
        lost: 0.0,
        ambiguous: 0.0,
        duplicated: 0.0,
        delayed: 0.0,
        broken: 0.0,
        delay_max: Duration::from_millis(100),
    };

    /// Every fault at the same rate.
    pub fn each(rate: f64) -> Self {
        Self {
            unavailable: rate,
            lost: rate,
            ambiguous: rate,
            duplicated: rate,
            delayed: rate,
            broken: rate,
            ..Self::NONE
        }
    }
}

/// How many of each fault were injected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Injected {
    /// [`Fault::Unavailable`].
    pub unavailable: u64,
    /// [`Fault::Lost`].
    pub lost: u64,
    /// [`Fault::Ambiguous`].
    pub ambiguous: u64,
    /// [`Fault::Duplicated`].
    pub duplicated: u64,
    /// [`Fault::Delayed`].
    pub delayed: u64,
    /// [`Fault::Broken`].
    pub broken: u64,
}

impl Injected {
    /// All together.
    pub fn total(&self) -> u64 {
        self.unavailable + self.lost + self.ambiguous + self.duplicated + self.delayed + self.broken
    }
}

/// Decides what goes wrong: by rates and a seed, or by a script. Cloning shares the decisions,
/// and the same seed with the same calls in the same order decides the same.
///
/// Chance comes from [`SplitMix64`]: two numbers a call, one for the fault and one for a delay,
/// whether they are used or not, so that changing one rate does not shift the rest.
#[derive(Clone)]
pub struct Faults {
    timer: Timer,
    shared: Arc<Mutex<Plan>>,
}

struct Plan {
    rng: SplitMix64,
    rates: Rates,
    script: VecDeque<Fault>,
    injected: Injected,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan();
        f.debug_struct("Faults")
            .field("rates", &plan.rates)
            .field("injected", &plan.injected)
            .finish_non_exhaustive()
    }
}

impl Faults {
    /// Faults at `rates`, determined by `seed`. Delays pass by `sleep`, for instance
    /// `tokio::time::sleep`.
    pub fn seeded<S, F>(seed: u64, rates: Rates, sleep: S) -> Self
    where
        S: Fn(Duration) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let plan = Plan {
            rng: SplitMix64::new(seed),
            rates,
            script: VecDeque::new(),
            injected: Injected::default(),
        };
        Self {
            timer: Timer::new(sleep),
            shared: Arc::new(Mutex::new(plan)),
        }
    }

    /// The faults of `script`, one a call in their order, and none after it. A scripted delay
    /// takes [`Rates::delay_max`] of [`Rates::NONE`], unless [`set_rates`](Self::set_rates) says
    /// otherwise.
    pub fn scripted<S, F>(script: impl IntoIterator<Item = Fault>, sleep: S) -> Self
    where
        S: Fn(Duration) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let faults = Self::seeded(0, Rates::NONE, sleep);
        faults.plan().script.extend(script);
        faults
    }

    /// From now on these rates.
    pub fn set_rates(&self, rates: Rates) {
        self.plan().rates = rates;
    }

    /// From now on nothing goes wrong: all rates are zero and what is left of a script is
    /// dropped. Calls that are under way may still be late.
    pub fn heal(&self) {
        let mut plan = self.plan();
        let delay_max = plan.rates.delay_max;
        plan.rates = Rates {
            delay_max,
            ..Rates::NONE
        };
        plan.script.clear();
    }

    /// Whether no call goes wrong as things stand: all rates are zero, and no script is left.
    pub fn is_calm(&self) -> bool {
        let plan = self.plan();
        plan.script.is_empty() && plan.rates.at(0.0) == Fault::None
    }

    /// What was injected so far.
    pub fn injected(&self) -> Injected {
        self.plan().injected
    }

    /// Decides one call's fault among `possible`, sits out its delay if that is what it is, and
    /// tells. An impossible one becomes none and is not counted.
    pub(super) async fn strike(&self, possible: &[Fault]) -> Fault {
        let (fault, delay) = self.plan().draw(possible);
        if fault == Fault::Delayed {
            self.timer.sleep(delay).await;
        }
        fault
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A plan is whole between any two statements.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn draw(&mut self, possible: &[Fault]) -> (Fault, Duration) {
        let (choice, late) = (self.rng.unit(), self.rng.unit());
        let delay_max = self.rates.delay_max;
        let (fault, delay) = match self.script.pop_front() {
            Some(scripted) => (scripted, delay_max),
            None => (self.rates.at(choice), delay_max.mul_f64(late)),
        };
        if !possible.contains(&fault) {
            return (Fault::None, Duration::ZERO);
        }
        match fault {
            Fault::None => {}
            Fault::Unavailable => self.injected.unavailable += 1,
            Fault::Lost => self.injected.lost += 1,
            Fault::Ambiguous => self.injected.ambiguous += 1,
            Fault::Duplicated => self.injected.duplicated += 1,
            Fault::Delayed => self.injected.delayed += 1,
            Fault::Broken => self.injected.broken += 1,
        }
        (fault, delay)
    }
}

impl Rates {
    /// The fault at `choice`, with the faults laid side by side from 0 on.
    fn at(&self, mut choice: f64) -> Fault {
        for (fault, rate) in [
            (Fault::Unavailable, self.unavailable),
            (Fault::Lost, self.lost),
            (Fault::Ambiguous, self.ambiguous),
            (Fault::Duplicated, self.duplicated),
            (Fault::Delayed, self.delayed),
            (Fault::Broken, self.broken),
        ] {
            if choice < rate {
                return fault;
            }
            choice -= rate.max(0.0);
        }
        Fault::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, rates: Rates) -> Faults {
        Faults::seeded(seed, rates, |_| std::future::ready(()))
    }

    const ALL: [Fault; 6] = [
        Fault::Unavailable,
        Fault::Lost,
        Fault::Ambiguous,
        Fault::Duplicated,
        Fault::Delayed,
        Fault::Broken,
    ];

    fn draw(faults: &Faults, count: usize) -> Vec<Fault> {
        (0..count).map(|_| faults.plan().draw(&ALL).0).collect()
    }

    #[test]
    fn the_same_seed_decides_the_same_and_rates_are_kept() {
        let rates = Rates::each(0.1);
        let (one, two) = (faults(5, rates), faults(5, rates));
        assert_eq!(draw(&one, 10_000), draw(&two, 10_000));
        assert_ne!(draw(&faults(6, rates), 100), draw(&faults(5, rates), 100));
        for count in [
            one.injected().lost,
            one.injected().broken,
            one.injected().unavailable,
        ] {
            assert!((900..1_100).contains(&count), "{count} of 10,000 at 0.1");
        }
    }

    #[test]
    fn a_script_runs_in_order_and_healing_ends_everything() {
        let faults = Faults::scripted([Fault::Lost, Fault::None, Fault::Broken], |_| {
            std::future::ready(())
        });
        assert_eq!(
            draw(&faults, 4),
            [Fault::Lost, Fault::None, Fault::Broken, Fault::None]
        );
        faults.set_rates(Rates {
            lost: 1.0,
            ..Rates::NONE
        });
        assert_eq!(draw(&faults, 1), [Fault::Lost]);
        assert!(!faults.is_calm());
        faults.heal();
        assert!(faults.is_calm());
        assert_eq!(draw(&faults, 1), [Fault::None]);
        assert_eq!(faults.injected().total(), 3);
        assert_eq!(faults.plan().draw(&[]).0, Fault::None);
    }
}
