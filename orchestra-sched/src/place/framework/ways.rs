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
use crate::snapshot::{Demand, Ledger, NodeIx};

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
        let mut ways = Ways::new(members, enough, pending, self.counts_amounts());
        if !ways.are_any() {
            return tried;
        }
        let mut tried = tried;
        let (mut best, mut best_way) = (tried.found.len(), ways.way.clone());
        loop {
            let seen = Seen::of(&tried, &ways.way);
            self.undo(&mut tried, pending);
            if !ways.next(&seen, best, &self.ledger) {
                return self.try_way(&best_way, pending);
            }
            tried = self.try_way(&ways.way, pending);
            if tried.found.len() >= enough {
                return tried;
            }
            if tried.found.len() > best {
                (best, best_way) = (tried.found.len(), ways.way.clone());
            }
        }
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

/// What the next way goes by: the groups that are short of places, and where the first member was.
struct Seen {
    short: BTreeSet<usize>,
    first: Option<NodeIx>,
}

impl Seen {
    fn of(tried: &Tried, way: &Way) -> Self {
        let first = way.order.first().map(|member| member.pending);
        let mut found = tried.found.iter();
        Self {
            short: tried.missing.iter().map(|lost| lost.group).collect(),
            first: found
                .find(|(at, _)| Some(*at) == first)
                .map(|(_, choice)| choice.node),
        }
    }
}

/// The ways that are left.
struct Ways<'p> {
    /// The last one.
    way: Way,
    enough: usize,
    /// What members ask, as far as it is counted.
    least: Option<Least>,
    /// Whether members ask for different things.
    mixed: bool,
    /// The groups that go first.
    first: BTreeSet<usize>,
    /// The topology key in which the first of them that must be near others must be.
    near: Option<&'p SmolStr>,
    domains: Option<Domains>,
    /// Where the first was, or should not go as there is too little.
    avoided: BTreeSet<usize>,
    tries_left: usize,
}

impl<'p> Ways<'p> {
    /// After the order of the plan.
    fn new(
        members: &[Member],
        enough: usize,
        pending: &'p [Pending],
        counts_amounts: bool,
    ) -> Self {
        let pods = || members.iter().map(|member| &pending[member.pending]);
        Self {
            way: Way {
                order: members.to_vec(),
                avoid: Vec::new(),
            },
            enough,
            least: counts_amounts.then(|| Least::of(pods().map(|pod| &*pod.demand))),
            mixed: are_mixed(members),
            first: BTreeSet::new(),
            near: pods().find_map(near),
            domains: None,
            avoided: BTreeSet::new(),
            tries_left: GANG_DOMAINS_MAX,
        }
    }

    /// Whether there may be another.
    fn are_any(&self) -> bool {
        self.mixed || self.near.is_some()
    }

    /// Makes `way` the next one, after what was seen of the last one; false if there is none. In `ledger` no member
    /// has a node, and `best` is how many had one at the most.
    fn next(&mut self, seen: &Seen, best: usize, ledger: &Ledger) -> bool {
        let groups = self.first.len();
        if self.mixed {
            self.first.extend(&seen.short);
        }
        if self.first.len() > groups {
            let first = &self.first;
            self.way
                .order
                .sort_by_key(|member| !first.contains(&member.group));
            return true;
        }
        self.elsewhere(seen, best, ledger).is_some()
    }

    /// The first member goes to another domain: of those that have room for enough, if they have, to the one
    /// that it likes best; else to the one that has most, if that would be more than it had.
    fn elsewhere(&mut self, seen: &Seen, best: usize, ledger: &Ledger) -> Option<()> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        let node = seen.first?;
        let domains = match &mut self.domains {
            Some(domains) => domains,
            empty => {
                let domains = empty.insert(Domains::new(ledger.snapshot(), self.near?));
                if let Some(least) = &self.least {
                    let room = least.room(domains, ledger);
                    let most = *room.iter().max()?;
                    let wanted = if most < self.enough {
                        most
                    } else {
                        self.enough
                    };
                    let hopeless = |room: usize| room < wanted || room <= best;
                    let domains = room.iter().enumerate();
                    let hopeless = domains.filter(|(_, room)| hopeless(**room));
                    self.avoided.extend(hopeless.map(|(domain, _)| domain));
                }
                domains
            }
        };
        let is_new = self.avoided.insert(domains.of(node)?);
        if self.avoided.len() == domains.len() || (!is_new && !self.way.avoid.is_empty()) {
            return None;
        }
        let rows = domains.of_rows().iter().enumerate();
        let there = rows.filter(|(_, domain)| self.avoided.contains(&(**domain as usize)));
        self.way.avoid = there.map(|(row, _)| NodeIx::from_row(row)).collect();
        Some(())
    }
}

/// No more than any of a gang asks, of what has columns, and of accelerators in thousandths of one.
struct Least {
    asked: [i64; 4],
    devices: i64,
}

impl Least {
    fn of<'d>(demands: impl Iterator<Item = &'d Demand>) -> Self {
        let mut least = Self {
            asked: [i64::MAX; 4],
            devices: i64::MAX,
        };
        for demand in demands {
            let asked = &demand.requests;
            let columns = [asked.cpu_milli, asked.memory, asked.storage, 1];
            for (least, asked) in least.asked.iter_mut().zip(columns) {
                *least = asked.min(*least);
            }
            let devices = demand.accelerators.as_ref();
            let milli = devices.map_or(0, |ask| i64::from(ask.count) * i64::from(ask.milli));
            least.devices = milli.min(least.devices);
        }
        least
    }

    /// By domain: for how many there are places at the most.
    fn room(&self, domains: &Domains, ledger: &Ledger) -> Vec<usize> {
        let mut room = vec![0usize; domains.len()];
        let rows = ledger.rows();
        for (row, &domain) in domains.of_rows().iter().enumerate() {
            let Some(room) = room.get_mut(domain as usize) else {
                continue; // nowhere
            };
            let free = ledger.free(NodeIx::from_row(row));
            let mut places = usize::MAX;
            for (free, asked) in free.into_iter().zip(self.asked) {
                places = places.min(times(free, asked));
            }
            if self.devices > 0 {
                places = places.min(times(rows.devices[row].free_milli(), self.devices));
            }
            *room = room.saturating_add(places);
        }
        room
    }
}

/// How often `asked` is in `free`.
pub(super) fn times(free: i64, asked: i64) -> usize {
    match asked > 0 {
        true => usize::try_from(free / asked).unwrap_or(0),
        false => usize::MAX,
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
