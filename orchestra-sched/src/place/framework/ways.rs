//! The ways in which a gang is tried that is short of places in the order of the plan.
//!
//! Which node one of them takes may leave too little to the rest: the small one the only node that the large one
//! fits, or the first the rack in which there is no room for all of them. So those that found none go first the
//! next time, and where members must be near others, the first goes to another domain. Not every way is tried:
//! a gang that could be placed only by looking ahead further than that waits.

use std::collections::BTreeSet;

use smol_str::SmolStr;

use super::{Choice, Lost, Run};
use crate::place::Pending;
use crate::snapshot::relations::Domains;
use crate::snapshot::{NodeIx, Snapshot};

/// In how many domains a gang is tried whose members must be near others. Each costs a look at the members,
/// and the best way is tried once more.
pub const GANG_DOMAINS_MAX: usize = 64;

/// A member of a gang.
#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) pending: usize,
    pub(super) group: usize,
}

/// What came of a way: who holds a node, and who found none.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) found: Vec<(usize, Choice)>,
    pub(super) missing: Vec<Lost>,
}

/// A way in which a gang is tried.
#[derive(Clone, Default)]
struct Way {
    order: Vec<Member>,
    /// Where its first member does not go.
    avoid: Vec<NodeIx>,
}

impl<'a> Run<'a> {
    /// Tries a gang's members in the order of the plan.
    pub(super) fn try_in_order(&mut self, members: &[Member], pending: &'a [Pending]) -> Tried {
        let way = Way {
            order: members.to_vec(),
            avoid: Vec::new(),
        };
        self.try_way(&way, pending)
    }

    /// Tries a gang of whose members not `enough` found nodes in the order of the plan, which is `tried`, in other
    /// ways. What came of the first in which they do; if they never do, of that in which most did.
    pub(super) fn try_otherwise(
        &mut self,
        tried: Tried,
        members: &[Member],
        enough: usize,
        pending: &'a [Pending],
    ) -> Tried {
        let mut tried = tried;
        let mut ways = Ways::new(members, pending);
        let (mut best, mut best_way, mut is_best) = (tried.found.len(), ways.way.clone(), true);
        while ways.next(&tried, self.ledger.snapshot()) {
            self.undo(&mut tried, pending);
            tried = self.try_way(&ways.way, pending);
            is_best = tried.found.len() > best;
            if tried.found.len() >= enough {
                return tried;
            }
            if is_best {
                (best, best_way) = (tried.found.len(), ways.way.clone());
            }
        }
        if !is_best {
            self.undo(&mut tried, pending);
            tried = self.try_way(&best_way, pending);
        }
        tried
    }

    fn try_way(&mut self, way: &Way, pending: &'a [Pending]) -> Tried {
        let mut tried = Tried::default();
        // The last group that was refused, and how long the log was: it is again until it grows.
        let mut refused = None;
        self.avoid.clone_from(&way.avoid);
        for &Member { pending: at, group } in &way.order {
            self.settle();
            if refused == Some((group, self.log.len())) {
                tried.missing.push(Lost::new(at, group, Vec::new()));
                continue;
            }
            let is_free = self.avoid.is_empty();
            match self.place(&pending[at], &pending[at].demand, group, 1) {
                Ok(choice) => tried.found.push((at, choice)),
                Err(refusals) => {
                    // What is refused beside the filters is said of this pod alone.
                    let by_all = is_free && refusals.is_empty();
                    refused = by_all.then_some((group, self.log.len()));
                    tried.missing.push(Lost::new(at, group, refusals));
                }
            }
        }
        self.settle();
        self.again(pending, &mut tried.missing, &mut tried.found, |_| true);
        tried
    }

    /// Gives back what members of a gang found.
    pub(super) fn undo(&mut self, tried: &mut Tried, pending: &[Pending]) {
        for (at, choice) in tried.found.drain(..).rev() {
            self.books.release(self.faults, &pending[at], choice.node);
            self.give_back(choice.node, &pending[at]);
            let lost = Lost::new(at, choice.group as usize, Vec::new());
            tried.missing.push(lost);
        }
    }
}

/// The ways that are left.
struct Ways<'p> {
    pending: &'p [Pending],
    /// The last one.
    way: Way,
    /// The groups that go first.
    first: BTreeSet<usize>,
    /// Whether members ask for different things.
    mixed: bool,
    /// The domains that the first should not go to, once that is asked.
    domains: Option<Domains>,
    avoided: BTreeSet<usize>,
}

impl<'p> Ways<'p> {
    /// After the order of the plan.
    fn new(members: &[Member], pending: &'p [Pending]) -> Self {
        Self {
            pending,
            way: Way {
                order: members.to_vec(),
                avoid: Vec::new(),
            },
            first: BTreeSet::new(),
            mixed: are_mixed(members),
            domains: None,
            avoided: BTreeSet::new(),
        }
    }

    /// Makes `way` the next one, after what came of the last one; false if there is none.
    fn next(&mut self, tried: &Tried, snapshot: &Snapshot) -> bool {
        let groups = self.first.len();
        if self.mixed {
            self.first
                .extend(tried.missing.iter().map(|lost| lost.group));
        }
        if self.first.len() > groups {
            self.way
                .order
                .sort_by_key(|member| !self.first.contains(&member.group));
            return true;
        }
        self.elsewhere(tried, snapshot).is_some()
    }

    /// The first member goes to another domain of the first key in which any must be near others.
    fn elsewhere(&mut self, tried: &Tried, snapshot: &Snapshot) -> Option<()> {
        if self.avoided.len() == GANG_DOMAINS_MAX {
            return None;
        }
        let first = self.way.order.first()?.pending;
        let (_, choice) = tried.found.iter().find(|(at, _)| *at == first)?;
        if self.domains.is_none() {
            let mut members = self.way.order.iter();
            let key = members.find_map(|member| near(&self.pending[member.pending]))?;
            self.domains = Some(Domains::new(snapshot, key));
        }
        let domains = self.domains.as_ref()?;
        let domain = domains.of(choice.node)?;
        let is_new = self.avoided.insert(domain);
        let rows = domains.of_rows().iter().enumerate();
        let there = rows.filter(|(_, of)| **of as usize == domain);
        self.way
            .avoid
            .extend(there.map(|(row, _)| NodeIx::from_row(row)));
        is_new.then_some(())
    }
}

/// Whether members of a gang ask for different things.
pub(super) fn are_mixed(members: &[Member]) -> bool {
    members.windows(2).any(|two| two[0].group != two[1].group)
}

/// The topology key in which the pod must be near others.
fn near(pod: &Pending) -> Option<&SmolStr> {
    let relations = pod.demand.relations.as_ref()?;
    Some(&relations.affinity.first()?.topology_key)
}
