//! What would happen.

use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use super::totals::Shown;
use super::{Question, Totals};
use crate::explain::Explanation;
use crate::place::Preemption;
use crate::snapshot::{PodId, Snapshot};

/// How many pods, and how many reasons, are written out one by one.
pub const LINES_MAX: usize = 10;

/// A pod that would find a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Which.
    pub pod: PodId,
    /// Where it runs now, if it does.
    pub from: Option<SmolStr>,
    /// Where it would run.
    pub to: SmolStr,
}

/// A pod that would find none.
#[derive(Clone, Debug, PartialEq)]
pub struct Stranded {
    /// Which.
    pub pod: PodId,
    /// Where it runs now, if it does.
    pub from: Option<SmolStr>,
    /// Why. Like pods share it.
    pub why: Arc<Explanation>,
}

/// What would happen. `Display` tells it to people.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// How many nodes there are, and how many there would be.
    pub nodes: (usize, usize),
    /// Who would find a node, in the order in which they would be placed.
    pub placed: Vec<Placed>,
    /// Who would find none, in the order in which they would be considered.
    pub stranded: Vec<Stranded>,
    /// For some of the stranded: where room could be made for them, and who would have to leave.
    pub preemptions: Vec<Preemption>,
    /// What is free now.
    pub before: Totals,
    /// What would be free.
    pub after: Totals,
    /// The cluster as it would be then: to ask on.
    pub future: Snapshot,
}

impl Answer {
    /// Whether everybody would find a node.
    pub fn is_fine(&self) -> bool {
        self.stranded.is_empty()
    }

    /// The stranded by reason: the first of each, and how many. In the order in which they come up.
    fn by_reason(&self) -> Vec<(&Stranded, usize)> {
        let mut reasons: Vec<(&Stranded, usize)> = Vec::new();
        for stranded in &self.stranded {
            // Of one group of like pods they are mostly one after the other.
            let same = |one: &&mut (&Stranded, usize)| {
                Arc::ptr_eq(&one.0.why, &stranded.why) || one.0.why == stranded.why
            };
            match reasons.iter_mut().rev().find(same) {
                Some((_, count)) => *count += 1,
                None => reasons.push((stranded, 1)),
            }
        }
        reasons
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.nodes;
        write!(f, "{}: ", self.question)?;
        match before == after {
            true => writeln!(f, "{after} nodes")?,
            false => writeln!(f, "{before} nodes become {after}")?,
        }
        let moved = self.placed.len() + self.stranded.len();
        match (moved, self.stranded.len()) {
            (0, _) => writeln!(f, "no pod has to be placed")?,
            (1, 0) => writeln!(f, "1 pod has to be placed, and finds a node")?,
            (1, _) => writeln!(f, "1 pod has to be placed, and finds no node")?,
            (_, 0) => writeln!(f, "{moved} pods have to be placed, and all find a node")?,
            (_, 1) => writeln!(f, "{moved} pods have to be placed, 1 finds no node")?,
            (_, lost) => writeln!(f, "{moved} pods have to be placed, {lost} find no node")?,
        }
        for placed in self.placed.iter().take(LINES_MAX) {
            write!(f, "  {} ", placed.pod)?;
            write_from(f, placed.from.as_ref())?;
            writeln!(f, "-> {}", placed.to)?;
        }
        if let Some(more @ 1..) = self.placed.len().checked_sub(LINES_MAX) {
            writeln!(f, "  and {more} more")?;
        }
        let reasons = self.by_reason();
        for (stranded, count) in reasons.iter().take(LINES_MAX) {
            write!(f, "  {} ", stranded.pod)?;
            write_from(f, stranded.from.as_ref())?;
            match count {
                1 => write!(f, "finds no node: ")?,
                _ => write!(f, "and {} more find no node: ", count - 1)?,
            }
            writeln!(f, "{}", stranded.why)?;
        }
        if let Some(more @ 1..) = reasons.len().checked_sub(LINES_MAX) {
            writeln!(f, "  and others for {more} more reasons")?;
        }
        for preemption in self.preemptions.iter().take(LINES_MAX) {
            let victims = preemption.victims.len();
            let (pod, node) = (&preemption.pod, &preemption.node);
            writeln!(
                f,
                "  for {pod} room can be made on {node}: {victims} would leave"
            )?;
        }
        f.write_str("free")?;
        for (name, after) in &self.after.by_resource {
            let show = |amount| Shown(name, amount);
            let before = self.before.by_resource.get(name);
            write!(f, "\n  {name:<20}")?;
            if let Some(before) = before.filter(|before| *before != after) {
                write!(f, "{} of {}, then ", show(before.free), show(before.total))?;
            }
            write!(f, "{} of {}", show(after.free), show(after.total))?;
        }
        Ok(())
    }
}

fn write_from(f: &mut fmt::Formatter<'_>, from: Option<&SmolStr>) -> fmt::Result {
    match from {
        Some(from) => write!(f, "{from} "),
        None => Ok(()),
    }
}
