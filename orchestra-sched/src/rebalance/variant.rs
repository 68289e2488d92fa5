//! Other ways to search, and when to try them.

use super::Model;

/// Where machines hold so many processes on average, or more, there is always some that fits.
const FEW_PROCESSES: usize = 32;

/// A way to search.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Variant {
    /// Moves of one process and swaps of two, every constraint kept. What holds room on two machines has a price.
    #[default]
    Plain,
    /// The same, and mostly up to two processes of one machine against up to three of another.
    Exchanges,
    /// Machines may be too full while it is hot, at a price, and holding room on two has none.
    Overfull,
}

impl Variant {
    /// What the `nth` search of a problem, counted from 0, had best be.
    ///
    /// Plain where machines hold many processes each. Where they hold few, hardly any single move fits, and which way
    /// gets furthest differs: all take turns.
    pub fn nth(model: &Model, nth: u64) -> Self {
        let few = model.processes / model.machines.max(1) < FEW_PROCESSES;
        match nth % 3 {
            1 if few => Self::Exchanges,
            2 if few => Self::Overfull,
            _ => Self::Plain,
        }
    }
}
