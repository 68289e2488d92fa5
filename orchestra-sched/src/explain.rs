//! Why here, why not there, what would help.
//!
//! Explanations are data; `Display` renders them for people.

mod gang;
mod lacking;
mod remedy;
mod report;
mod scores;

use std::fmt;

use smol_str::SmolStr;

pub use gang::{GangShort, MoreNodes, NeverFits};
pub(crate) use lacking::Lacking;
pub use remedy::{REMEDIES_MAX, Remedy};
pub use report::Report;
pub use scores::{NodeScores, Part, RUNNERS_UP_MAX, Ranking, placement};

use crate::fits::{Obstacle, write_amount, write_share, write_taint};
use crate::place::Changes;
use crate::place::plugin::Cycle;
use crate::snapshot::NodeIx;
use lacking::Places;
use remedy::Remedies;

/// How many reasons an explanation tells apart; nodes with others are counted together.
pub const REASONS_MAX: usize = 16;
/// How many nodes a reason names.
pub const NEAREST_MAX: usize = 3;

/// Why a pod found no node.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them would take the pod: none, unless something outside the rules refused, or there is
    /// too little for its gang.
    pub fit: usize,
    /// Why nodes turned the pod down, the commonest reason first, equals by their text. A node
    /// counts under the first rule that turned it down, once for each thing that rule found
    /// missing.
    pub reasons: Vec<Reason>,
    /// Nodes that turned the pod down for still other reasons.
    pub others: usize,
    /// What each rule that turned nodes down said: who turned down most first, equals by name.
    pub rules: Vec<RuleVerdict>,
    /// The smallest changes that would let the pod run, the smallest first: at most
    /// [`REMEDIES_MAX`].
    pub remedies: Vec<Remedy>,
    /// The gang that is short of places, if it is for its gang that the pod has none. What stands beside it
    /// is said of the pod by itself, with none of its gang placed.
    pub gang: Option<GangShort>,
    /// Whether waiting is enough.
    pub outlook: Outlook,
    /// Which kinds of change could help. Another plan before one of them finds the same.
    pub helped_by: Changes,
}

/// Whether a pod could be placed on the nodes there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outlook {
    /// On some node only pods are in the way: those there, or one that has yet to come.
    NotNow,
    /// On none, whichever pods came or left: a node or the pod itself has to change. Of a gang: not all that
    /// have to be placed together.
    Never,
}

/// How many nodes a rule turned down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: &'static str,
    /// How many nodes it turned down, by itself or with others.
    pub nodes: usize,
    /// How many no other rule turned down.
    pub alone: usize,
    /// How many it would turn down whichever pods left them.
    pub lasting: usize,
}

/// One reason, and the nodes that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    /// What is in the way; on the nearest node, if there are several.
    pub obstacle: Obstacle,
    /// On how many nodes.
    pub nodes: usize,
    /// Where something is lacking: the nodes that miss least, least first, then by name. At most
    /// [`NEAREST_MAX`].
    pub nearest: Vec<NearMiss>,
}

/// A node that almost took a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NearMiss {
    /// The node.
    pub node: SmolStr,
    /// How much it misses, in the unit of the obstacle.
    pub missing: i64,
}

impl Explanation {
    /// Whether a change of these kinds is worth another plan.
    pub fn is_helped_by(&self, changes: Changes) -> bool {
        self.helped_by.meet(changes)
    }

    /// All of it, line by line.
    pub fn report(&self) -> Report<'_> {
        Report(self)
    }
}

/// Puts an [`Explanation`] together, node by node.
#[derive(Debug)]
pub(crate) struct Account {
    explanation: Explanation,
    remedies: Remedies,
    /// By what nodes lack: where the rule and the reasons stand under which they count, once known.
    places: [Option<Places>; 16],
}

impl Account {
    pub(crate) fn new() -> Self {
        let helped_by = Changes::NODE_ADDED.with(Changes::POD_ITSELF);
        Self {
            explanation: Explanation {
                nodes: 0,
                fit: 0,
                reasons: Vec::new(),
                others: 0,
                rules: Vec::new(),
                remedies: Vec::new(),
                gang: None,
                outlook: Outlook::Never,
                helped_by,
            },
            remedies: Remedies::default(),
            places: [None; 16],
        }
    }

    /// Takes in a node: what each rule found there, of the rules that found something.
    pub(crate) fn node(&mut self, cycle: &Cycle<'_>, node: NodeIx, found: &[Vec<Obstacle>]) {
        let name = cycle.snapshot().node(node).name();
        let whole = &mut self.explanation;
        whole.nodes += 1;
        let whole_by_one = found.len() == 1;
        let Some(first) = found.first() else {
            whole.fit += 1;
            whole.outlook = Outlook::NotNow;
            return;
        };
        if !found.iter().flatten().any(Obstacle::lasts) {
            whole.outlook = Outlook::NotNow;
        }
        for found in found {
            self.verdict(found, whole_by_one);
        }
        let demand = &cycle.pod.demand;
        self.remedies.node(name, found, cycle.ledger, node, demand);
        let mut counted = false;
        for obstacle in first {
            let helped_by = &mut self.explanation.helped_by;
            *helped_by = helped_by.with(obstacle.helped_by());
            counted |= self.count(name, obstacle);
        }
        if !counted {
            self.explanation.others += 1;
        }
    }

    fn verdict(&mut self, found: &[Obstacle], alone: bool) {
        let Some(rule) = found.first().map(Obstacle::rule) else {
            return;
        };
        let rules = &mut self.explanation.rules;
        let at = rules.iter().position(|known| known.rule == rule);
        let at = at.unwrap_or_else(|| {
            rules.push(RuleVerdict {
                rule,
                nodes: 0,
                alone: 0,
                lasting: 0,
            });
            rules.len() - 1
        });
        rules[at].nodes += 1;
        rules[at].alone += usize::from(alone);
        rules[at].lasting += usize::from(found.iter().any(Obstacle::lasts));
    }

    fn count(&mut self, name: &SmolStr, obstacle: &Obstacle) -> bool {
        let reasons = &mut self.explanation.reasons;
        let at = match reasons
            .iter()
            .position(|reason| alike(&reason.obstacle, obstacle))
        {
            Some(at) => at,
            None if reasons.len() == REASONS_MAX => return false,
            None => {
                let obstacle = obstacle.clone();
                reasons.push(Reason {
                    obstacle,
                    nodes: 0,
                    nearest: Vec::new(),
                });
                reasons.len() - 1
            }
        };
        let reason = &mut reasons[at];
        reason.nodes += 1;
        if let Some(missing) = obstacle.missing() {
            let place = reason
                .nearest
                .partition_point(|near| (near.missing, &near.node) < (missing, name));
            if place < NEAREST_MAX {
                reason.nearest.truncate(NEAREST_MAX - 1);
                reason.nearest.insert(
                    place,
                    NearMiss {
                        node: name.clone(),
                        missing,
                    },
                );
            }
            if place == 0 {
                reason.obstacle = obstacle.clone();
            }
        }
        true
    }

    pub(crate) fn close(mut self) -> Explanation {
        // Equals by what they say, so that the order of the nodes does not show.
        self.explanation
            .reasons
            .sort_by_cached_key(|reason| (std::cmp::Reverse(reason.nodes), reason.to_string()));
        self.explanation
            .rules
            .sort_by_key(|rule| (std::cmp::Reverse(rule.nodes), rule.rule));
        self.explanation.remedies = self.remedies.close();
        self.explanation
    }
}

/// Whether two obstacles are one reason.
fn alike(one: &Obstacle, other: &Obstacle) -> bool {
    match (one, other) {
        (
            Obstacle::Lacks { resource: one, .. },
            Obstacle::Lacks {
                resource: other, ..
            },
        ) => one == other,
        (
            Obstacle::Accelerators { milli: one, .. },
            Obstacle::Accelerators { milli: other, .. },
        ) => one == other,
        (
            Obstacle::Skew {
                key: one,
                max_skew: bound,
                ..
            },
            Obstacle::Skew {
                key: other,
                max_skew,
                ..
            },
        ) => (one, bound) == (other, max_skew),
        (Obstacle::Taint(one), Obstacle::Taint(other)) => {
            (&one.key, &one.value, one.effect) == (&other.key, &other.value, other.effect)
        }
        (one, other) => one == other,
    }
}

impl fmt::Display for Explanation {
    /// One line, such as `0/5 nodes fit: 3 lack cpu (nearest node-2 misses 500m), 2 have untolerated
    /// taint dedicated=gpu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gang) = &self.gang {
            gang.fmt(f)?;
            // That there are nodes for it by itself says nothing then.
            if gang.next.is_some() || self.fit > 0 {
                return Ok(());
            }
            f.write_str("; ")?;
        }
        if self.nodes == 0 {
            return f.write_str("there are no nodes; add one");
        }
        write!(f, "{}/{} nodes fit", self.fit, self.nodes)?;
        let mut separator = ": ";
        for reason in &self.reasons {
            write!(f, "{separator}{reason}")?;
            separator = ", ";
        }
        if self.others > 0 {
            write!(f, "{separator}{} for other reasons", self.others)?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.nodes;
        let one = n == 1;
        let are = if one { "is" } else { "are" };
        let have = if one { "has" } else { "have" };
        match &self.obstacle {
            Obstacle::OtherNode { wanted } => write!(f, "{n} {are} not {wanted}"),
            Obstacle::Closed => write!(f, "{n} {are} closed to new pods"),
            Obstacle::Taint(taint) => {
                write!(f, "{n} {have} untolerated taint ")?;
                write_taint(f, taint)
            }
            Obstacle::NodeSelector { key, value } => {
                write!(f, "{n} lack{} label {key}={value}", s(one))
            }
            Obstacle::NodeAffinity => write!(
                f,
                "{n} do{} not meet the node affinity",
                if one { "es" } else { "" }
            ),
            Obstacle::Lacks { resource, .. } => {
                if resource == "pods" {
                    write!(
                        f,
                        "{n} run{} as many pods as {} may",
                        s(one),
                        if one { "it" } else { "they" }
                    )?;
                    return Ok(());
                }
                write!(f, "{n} lack{} {resource}", s(one))?;
                if let Some(nearest) = self.nearest.first() {
                    write!(f, " (nearest {} misses ", nearest.node)?;
                    write_amount(f, resource, nearest.missing)?;
                    f.write_str(")")?;
                }
                Ok(())
            }
            Obstacle::Port(port) => write!(f, "{n} {have} host port {port} taken"),
            Obstacle::AcceleratorModel { model } if model.is_empty() => {
                write!(f, "{n} {have} accelerators of no known model, or none")
            }
            Obstacle::AcceleratorModel { model } => write!(f, "{n} {have} accelerators {model}"),
            Obstacle::Accelerators { milli, .. } => {
                write!(f, "{n} lack{} ", s(one))?;
                write_share(f, *milli)?;
                if let Some(nearest) = self.nearest.first() {
                    write!(f, " (nearest {} misses {})", nearest.node, nearest.missing)?;
                }
                Ok(())
            }
            Obstacle::Volume { claim } => write!(f, "{n} {are} out of reach of claim {claim}"),
            Obstacle::Data { name } => write!(f, "{n} lack{} data {name}", s(one)),
            Obstacle::NoDomain { key } => {
                write!(f, "{n} lack{} label {key} to spread over", s(one))
            }
            Obstacle::Skew { key, .. } => {
                write!(f, "{n} would be too uneven over {key} (")?;
                if let Some(nearest) = self.nearest.first() {
                    write!(f, "nearest {}: ", nearest.node)?;
                }
                write!(f, "{})", self.obstacle)
            }
            Obstacle::NoCompany {
                key, domain: None, ..
            } => write!(f, "{n} lack{} label {key} to be near pods by", s(one)),
            Obstacle::NoCompany {
                key,
                domain: Some(domain),
                pods,
            } => write!(
                f,
                "{n} {have} no {pods} in {key} {domain}, which it must be near"
            ),
            Obstacle::Company { key, domain, pods } => write!(
                f,
                "{n} {have} {pods} in {key} {domain}, which it must not be near"
            ),
            Obstacle::Unwelcome { key, domain, pods } => {
                write!(
                    f,
                    "{n} {have} a pod in {key} {domain} that wants no {pods} near"
                )
            }
            Obstacle::Other { rule, note, .. } => write!(f, "{n} refused by {rule}: {note}"),
        }
    }
}

/// The ending of a verb in the third person.
fn s(one: bool) -> &'static str {
    if one { "s" } else { "" }
}
