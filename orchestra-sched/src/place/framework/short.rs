//! What the members of a gang are told that is short of places, and for how many of them there could be
//! places at most.

use std::cmp::Reverse;
use std::sync::Arc;

use super::gang::Short;
use super::ways::times;
use super::{ByGroup, Lost, Run};
use crate::explain::{Explanation, GangShort, MoreNodes, NeverFits, Outlook};
use crate::place::ask::contain;
use crate::place::kernel::{Kernel, Rule};
use crate::place::plugin::Cycle;
use crate::place::why::{Looked, look};
use crate::place::{Changes, Pending};
use crate::snapshot::{Demand, Ledger, NodeIx};

/// What has a column.
const COLUMNS: usize = 4;

/// The members of a gang that share their answers.
struct Kind<'a> {
    group: usize,
    first: &'a Lost,
    count: usize,
}

impl Run<'_> {
    /// What the members of each gang are told, by group.
    ///
    /// Costs an explanation for each group, as without gangs, and until there is enough room a look at what
    /// each node has, at all of them only if there is not.
    pub(super) fn tell_gangs(
        &self,
        short: Vec<Short>,
        lost: &[Lost],
        pending: &[Pending],
    ) -> Vec<Vec<ByGroup>> {
        let mut gangs: Vec<Vec<Kind<'_>>> = short.iter().map(|_| Vec::new()).collect();
        for lost in lost {
            let Some(gang) = lost.gang else { continue };
            let kinds = &mut gangs[gang];
            match kinds.iter_mut().find(|kind| kind.group == lost.group) {
                Some(kind) => kind.count += 1,
                None => kinds.push(Kind {
                    group: lost.group,
                    first: lost,
                    count: 1,
                }),
            }
        }
        let told = short.into_iter().zip(gangs);
        told.map(|(short, kinds)| self.tell(short, &kinds, pending))
            .collect()
    }

    fn tell(&self, short: Short, kinds: &[Kind<'_>], pending: &[Pending]) -> Vec<ByGroup> {
        if kinds.is_empty() {
            return Vec::new(); // whole by now
        }
        let mut note = short.note;
        let looked: Vec<Looked> = kinds
            .iter()
            .map(|kind| {
                let ledger = self.ledger_for(kind.first);
                let cycle = Cycle::new(ledger, &pending[kind.first.pending], self.now);
                look(self.profile, &cycle, &kind.first.refusals)
            })
            .collect();
        if note.to_come() == 0 && self.counts_amounts() {
            let kinds = kinds.iter().zip(&looked).map(|(kind, looked)| Asked {
                count: kind.count,
                demand: &pending[kind.first.pending].demand,
                closed: &looked.closed,
            });
            let kinds: Vec<Asked<'_>> = kinds.collect();
            note.never = never_fits(&self.ledger, &kinds, &note);
        }
        let helped_by = |why: &Explanation| {
            let gang = Changes::GANG_GREW.with(Changes::POD_ITSELF);
            if note.to_come() > 0 {
                return gang;
            }
            // Where each of them fits there is too little for all, and it is that which counts.
            let room = Changes::NODE_GREW.with(Changes::POD_REMOVED);
            let any = why.helped_by.with(short.helped_by).with(gang).with(room);
            match note.never.is_some() {
                true => any.without(Changes::POD_REMOVED.with(Changes::POD_ADDED)),
                false => any,
            }
        };
        let whys = kinds.iter().zip(looked).map(|(kind, looked)| {
            let mut why = looked.why;
            why.helped_by = helped_by(&why);
            if note.never.is_some() {
                why.outlook = Outlook::Never;
            }
            why.gang = Some(note.clone());
            (kind.group, Arc::new(why))
        });
        whys.collect()
    }

    /// Whether nodes have no more than they have, to the profile.
    pub(super) fn counts_amounts(&self) -> bool {
        let plain = Pending::default();
        let cycle = Cycle::new(&self.ledger, &plain, self.now);
        let mut filters = self.profile.filters.iter();
        filters.any(|filter| contain(|| filter.kernel(&cycle)) == Ok(Some(Kernel(Rule::Fit))))
    }

    /// With what a lost pod is explained: who has room held is not in its own way.
    pub(super) fn ledger_for(&self, lost: &Lost) -> &Ledger {
        match lost.has_room {
            true => self.bare.as_ref().unwrap_or(&self.ledger),
            false => &self.ledger,
        }
    }
}

/// So many pods that ask the same, and the nodes that never take them.
struct Asked<'a> {
    count: usize,
    demand: &'a Demand,
    closed: &'a [NodeIx],
}

impl Asked<'_> {
    fn columns(&self) -> [i64; COLUMNS] {
        let asked = &self.demand.requests;
        [1, asked.cpu_milli, asked.memory, asked.storage]
    }
}

/// How far the nodes are from having places for enough pods, if they could never have.
fn never_fits(ledger: &Ledger, kinds: &[Asked<'_>], note: &GangShort) -> Option<NeverFits> {
    let enough = note.min - note.running;
    let shares = Shares::of(ledger, kinds);
    let mut room = Room::of(kinds);
    let ranks = ledger.snapshot().name_ranks();
    let mut share = Share::default();
    let mut best = None;
    for (row, &rank) in ranks.iter().enumerate() {
        shares.read(row, &mut share);
        room.add(&share);
        best = best.max(Some((share.takes, Reverse(rank), row)));
        // Mostly a few nodes are enough. Asked ever more seldom, as the answer looks at every pod.
        if (row + 1).is_power_of_two() && room.most() >= enough {
            return None;
        }
    }
    let most = room.most();
    (most < enough).then(|| NeverFits {
        most: note.running + most,
        more_nodes: best.and_then(|(_, _, row)| {
            shares.read(row, &mut share);
            let count = room.more_like(&share, enough)?;
            let like = ledger.snapshot().node(NodeIx::from_row(row)).name().clone();
            Some(MoreNodes { count, like })
        }),
    })
}

/// What nodes have for pods if nobody is there.
struct Room {
    /// By kind of pod: how many there are, and how many there are places for.
    kinds: Vec<(usize, usize)>,
    /// How many the nodes would take if all asked no more than the least of each thing.
    least: usize,
    /// What all nodes together have.
    total: [i128; COLUMNS],
    /// What pods ask of each, ascending.
    asked: [Vec<i64>; COLUMNS],
}

impl Room {
    fn of(kinds: &[Asked<'_>]) -> Self {
        let mut asked: [Vec<i64>; COLUMNS] = Default::default();
        for kind in kinds {
            for (all, one) in asked.iter_mut().zip(kind.columns()) {
                all.extend(std::iter::repeat_n(one, kind.count));
            }
        }
        asked.iter_mut().for_each(|asked| asked.sort_unstable());
        Self {
            kinds: kinds.iter().map(|kind| (kind.count, 0)).collect(),
            least: 0,
            total: [0; COLUMNS],
            asked,
        }
    }

    fn add(&mut self, share: &Share) {
        for ((_, places), more) in self.kinds.iter_mut().zip(&share.kinds) {
            *places = places.saturating_add(*more);
        }
        self.least = self.least.saturating_add(share.least);
        for (total, more) in self.total.iter_mut().zip(share.total) {
            *total += i128::from(more);
        }
    }

    /// For how many there are places at most, with so many more nodes that have `share`: no more than of
    /// each kind, no more than if all were as small as the smallest, and no more than together ask what all
    /// nodes together have.
    fn most_with(&self, nodes: usize, share: &Share) -> usize {
        let places = |(&(count, places), more): (&(usize, usize), usize)| {
            count.min(places.saturating_add(more.saturating_mul(nodes)))
        };
        let more = share.kinds.iter().copied().chain(std::iter::repeat(0));
        let by_kind = self.kinds.iter().zip(more).map(places).sum::<usize>();
        let least = share.least.saturating_mul(nodes);
        let least = self.least.saturating_add(least);
        let total = self.total.iter().zip(share.total);
        let total = total.map(|(total, more)| total + i128::from(more) * nodes as i128);
        let by_sum = self.asked.iter().zip(total).map(|(asked, mut left)| {
            let fits = |asked: &&i64| {
                left -= i128::from(**asked);
                **asked == 0 || left >= 0
            };
            asked.iter().take_while(fits).count()
        });
        by_sum.fold(by_kind.min(least), usize::min)
    }

    fn most(&self) -> usize {
        self.most_with(0, &Share::default())
    }

    /// How many more nodes that have `share` it takes until there are places for `enough`; `None` if they do
    /// not help.
    fn more_like(&self, share: &Share, enough: usize) -> Option<usize> {
        // Each has a place for one, or they are of no use.
        let (mut few, mut many) = (0, enough);
        if self.most_with(many, share) < enough {
            return None;
        }
        while many - few > 1 {
            let half = few + (many - few) / 2;
            match self.most_with(half, share) < enough {
                true => few = half,
                false => many = half,
            }
        }
        Some(many)
    }
}

/// What one node has for pods if nobody is there.
#[derive(Default)]
struct Share {
    /// By kind: how many of it there are places for, if no other is there.
    kinds: Vec<usize>,
    /// As many as there are places for if all of those that it takes asked no more than the least.
    least: usize,
    /// How many of those that there are it takes at most.
    takes: usize,
    /// What counts of what it has: nothing if it takes none.
    total: [i64; COLUMNS],
    /// What it has, and whom it never takes: where that is the same, so is all else.
    of: Option<([i64; COLUMNS], usize)>,
}

/// What each node has for pods if nobody is there.
struct Shares<'a> {
    ledger: &'a Ledger,
    kinds: &'a [Asked<'a>],
    /// Whether any asks for what has no column.
    extended: bool,
    total: [&'a [i64]; COLUMNS],
    /// By kind, by row.
    closed: Vec<Vec<bool>>,
}

impl<'a> Shares<'a> {
    fn of(ledger: &'a Ledger, kinds: &'a [Asked<'a>]) -> Self {
        let rows = ledger.rows();
        let (pods, storage) = ledger.snapshot().uncolumned();
        let closed = kinds.iter().map(|kind| {
            let mut closed = vec![false; rows.len()];
            kind.closed
                .iter()
                .for_each(|node| closed[node.row()] = true);
            closed
        });
        Self {
            ledger,
            kinds,
            extended: kinds
                .iter()
                .any(|kind| !kind.demand.requests.extended.is_empty()),
            total: [pods, rows.cpu_total, rows.memory_total, storage],
            closed: closed.collect(),
        }
    }

    /// Makes `share` what that row has.
    fn read(&self, row: usize, share: &mut Share) {
        let total = self.total.map(|total| total[row]);
        // Mostly the next node has as much.
        let alike = share.of.is_some_and(|(of, before)| {
            of == total
                && self
                    .closed
                    .iter()
                    .all(|closed| closed[row] == closed[before])
        });
        if alike && !self.extended {
            return;
        }
        let mut least = [i64::MAX; COLUMNS];
        share.of = Some((total, row));
        share.takes = 0;
        share.kinds.clear();
        let mut any = false;
        for (kind, closed) in self.kinds.iter().zip(&self.closed) {
            if closed[row] {
                share.kinds.push(0);
                continue;
            }
            any = true;
            let asked = kind.columns();
            for (least, asked) in least.iter_mut().zip(asked) {
                *least = asked.min(*least);
            }
            let places = self.beside(row, kind.demand, places(total, asked));
            share.takes += places.min(kind.count);
            share.kinds.push(places);
        }
        (share.least, share.total) = match any {
            true => (places(total, least), total),
            false => (0, [0; COLUMNS]),
        };
        share.takes = share.takes.min(share.least);
    }

    /// Of `places`, those for which there is also enough of what has no column.
    fn beside(&self, row: usize, demand: &Demand, mut places: usize) -> usize {
        let node = self.ledger.snapshot().node(NodeIx::from_row(row));
        for (name, &asked) in &demand.requests.extended {
            let total = node.facts().allocatable.extended.get(name).copied();
            places = places.min(times(total.unwrap_or(0), asked));
        }
        places
    }
}

/// For how many that ask so much there are places.
fn places(total: [i64; COLUMNS], asked: [i64; COLUMNS]) -> usize {
    let each = total.into_iter().zip(asked);
    let each = each.map(|(total, asked)| times(total, asked));
    each.min().unwrap_or(0)
}
