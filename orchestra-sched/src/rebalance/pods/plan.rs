//! Moves, in order, and what each gains.

use std::fmt;

use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

use crate::snapshot::PodId;

/// How much of a node its pods request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Share {
    /// Of its cpu, rounded down.
    pub cpu_percent: u32,
    /// Of its memory, rounded down.
    pub memory_percent: u32,
}

/// A pod that had better run elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Move {
    /// Which.
    pub pod: PodId,
    /// Where it runs.
    pub from: SmolStr,
    /// Where it had better run.
    pub to: SmolStr,
    /// By how much everything costs less then; see [`Limits::gain_min`](super::Limits::gain_min).
    pub gain: i64,
    /// How much is used where it runs, before and after.
    pub from_share: (Share, Share),
    /// How much is used where it goes, before and after.
    pub to_share: (Share, Share),
}

/// Why a plan has no more moves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stop {
    /// No move gains enough.
    #[default]
    NothingGains,
    /// As many moves as are allowed.
    Moves,
    /// As many looks as are allowed; there may be more to gain.
    Looks,
}

/// Moves, to be made in this order.
#[must_use = "a plan nobody reads helps nobody"]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MovePlan {
    /// The revision it was computed from.
    pub base: Revision,
    /// The moves. Each is allowed with those before it made.
    pub moves: Vec<Move>,
    /// What the use of all nodes costs now.
    pub before: i64,
    /// What it costs with all moves made: `before` less their gains.
    pub after: i64,
    /// Why there are no more.
    pub stop: Stop,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} %", self.cpu_percent, self.memory_percent)
    }
}

impl fmt::Display for Move {
    /// Such as `default/web-1 from full, 75/75 % used, then 50/50 %, to empty, 0/0 %, then 25/25 %:
    /// gains 1250000`. Cpu stands before memory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from_now, from_then) = self.from_share;
        let (to_now, to_then) = self.to_share;
        let Self {
            pod,
            from,
            to,
            gain,
            ..
        } = self;
        write!(f, "{pod} from {from}, {from_now} used, then {from_then}, ")?;
        write!(f, "to {to}, {to_now}, then {to_then}: gains {gain}")
    }
}

impl fmt::Display for MovePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before, self.after);
        match self.moves.len() {
            0 => write!(f, "no moves; uneven use costs {before}")?,
            1 => write!(f, "1 move; uneven use costs {before}, then {after}")?,
            n => write!(f, "{n} moves; uneven use costs {before}, then {after}")?,
        }
        for one in &self.moves {
            write!(f, "\n  {one}")?;
        }
        match self.stop {
            Stop::NothingGains => f.write_str("\nnothing more gains enough"),
            Stop::Moves => f.write_str("\nno more moves are allowed"),
            Stop::Looks => f.write_str("\nno more looks are allowed; there may be more to gain"),
        }
    }
}
