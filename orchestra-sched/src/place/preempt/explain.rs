//! What a preemption says to people.

use std::fmt;

use super::{Choice, Cost, Preemption, Victim};

impl fmt::Display for Preemption {
    /// One line, such as `default/db (priority 10) gets room on node-2 from default/web-1 (priority 0);
    /// room could be made on 2 of 5 nodes (2 would not be enough, on 1 no eviction helps); next was
    /// node-4, with 2 victims instead of 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pod, priority, node) = (&self.pod, self.priority, &self.node);
        write!(f, "{pod} (priority {priority}) gets room on {node} from ")?;
        if self.victims.is_empty() {
            f.write_str("pods that end already")?;
        }
        let mut separator = "";
        for victim in &self.victims {
            write!(f, "{separator}{victim}")?;
            separator = ", ";
        }
        write!(f, "; {}", self.why)
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (priority {}", self.pod, self.priority)?;
        if let Some(budget) = &self.violates {
            write!(f, ", against disruption budget {budget}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (candidates, nodes) = (self.candidates, self.nodes);
        write!(f, "room could be made on {candidates} of {nodes} nodes")?;
        match (self.too_little, self.no_help) {
            (0, 0) => {}
            (few, 0) => write!(f, " ({few} would not be enough)")?,
            (0, none) => write!(f, " (on {none} no eviction helps)")?,
            (few, none) => write!(
                f,
                " ({few} would not be enough, on {none} no eviction helps)"
            )?,
        }
        let Some((name, cost)) = &self.next else {
            return Ok(());
        };
        write!(f, "; next was {name}, ")?;
        self.cost.against(cost, f)
    }
}

impl Cost {
    /// What `other`, which is not less, has that this has not: the first thing in which they differ.
    fn against(&self, other: &Self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.violations != other.violations {
            let (more, budgets) = (other.violations, self.violations);
            return write!(
                f,
                "violating {more} disruption budgets instead of {budgets}"
            );
        }
        match (self.highest, other.highest) {
            (Some(this), Some(that)) if this != that => {
                return write!(f, "with a victim of priority {that} instead of {this}");
            }
            (None, Some(_)) => return f.write_str("with victims"),
            _ => {}
        }
        if self.victims != other.victims {
            let (this, that) = (self.victims, other.victims);
            return write!(f, "with {that} victims instead of {this}");
        }
        if self.sum != other.sum {
            return f.write_str("with more important victims");
        }
        if self.started != other.started {
            return f.write_str("with a victim that has run longer");
        }
        f.write_str("at the same cost")
    }
}
