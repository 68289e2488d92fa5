//! Why a gang is not placed.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::{Explanation, s};

/// A gang that found too few places, so that none of its pods was placed.
#[derive(Clone, Debug, PartialEq)]
pub struct GangShort {
    /// Its name.
    pub name: SmolStr,
    /// How many of its pods have to have a node.
    pub min: usize,
    /// How many run already.
    pub running: usize,
    /// How many there are, those included.
    pub members: usize,
    /// For how many there are places, those that run included.
    pub places: usize,
    /// Why the first of the others finds none, beside those that have one. `None` if all that there are
    /// would have one.
    pub next: Option<Arc<Explanation>>,
    /// If it has enough pods, but could never have places for enough of them on these nodes, whichever other
    /// pods leave.
    pub never: Option<NeverFits>,
}

/// How far nodes are from having places for a gang, if nobody else were there. Counted is what each node has,
/// as far as nothing keeps the pods from it for good: rules among the pods themselves may allow fewer still.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NeverFits {
    /// For how many of it there could be places at the most, those that run included.
    pub most: usize,
    /// Which nodes it takes besides, at the least; `None` if more of those that there are would not do.
    pub more_nodes: Option<MoreNodes>,
}

/// Nodes without which a gang has not enough places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MoreNodes {
    /// How many at least.
    pub count: usize,
    /// Like which node: one that takes as many of the gang as any.
    pub like: SmolStr,
}

impl GangShort {
    /// How many pods have yet to come before there are enough.
    pub fn to_come(&self) -> usize {
        self.min.saturating_sub(self.members)
    }
}

impl fmt::Display for GangShort {
    /// Such as `gang train has places for 8 of 9 pods; for the 9th 0/2 nodes fit: 2 lack cpu (nearest a
    /// misses 1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            min,
            members,
            places,
            ..
        } = self;
        match self.to_come() {
            0 => write!(f, "gang {name} has places for {places} of {min} pods")?,
            n => {
                let has = s(n == 1);
                let have = if has.is_empty() { "have" } else { "has" };
                write!(
                    f,
                    "gang {name} has {members} of {min} pods; {n} more {have} to come"
                )?;
            }
        }
        match &self.next {
            Some(next) => write!(f, "; for the {} {next}", Nth(places + 1)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for MoreNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = if self.count == 1 { "node" } else { "nodes" };
        write!(f, "{} more {nodes} like {}", self.count, self.like)
    }
}

/// A place in a row, as people write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nth(pub(super) usize);

impl fmt::Display for Nth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 100, self.0 % 10) {
            (11..=13, _) => "th",
            (_, 1) => "st",
            (_, 2) => "nd",
            (_, 3) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Nth;

    #[test]
    fn places_in_a_row_read_as_people_write_them() {
        let text = |n| Nth(n).to_string();
        let words = [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 100, 101, 111, 1_012].map(text);
        let expected = "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 100th 101st 111th 1012th";
        assert_eq!(words.join(" "), expected);
    }
}
