//! Gangs: pods that are placed together or not at all.
//!
//! A gang's members are considered one after the other, where its first one stands in the order. If, with
//! those that run already, fewer than its minimum find nodes, room is made for the rest if that makes
//! it whole; else all that it took is given back before anybody else is considered. So no gang ever
//! waits for another with half of its nodes taken: one that has been passed too often may hold what it
//! got, but only one at a time does, the first in the order, and its timeout ends that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use smol_str::SmolStr;

use super::room::Room;
use super::ways::{Member, Tried, are_mixed};
use super::{Asked, Draft, Lost, Run};
use crate::explain::GangShort;
use crate::place::plugin::Cycle;
use crate::place::why::explain;
use crate::place::{Changes, Held, Pending, Plan};
use crate::snapshot::{NodeIx, Snapshot};

/// The members of a gang that are planned for.
#[derive(Debug)]
pub(super) struct Span {
    /// Its members' places in the order.
    pub(super) places: Range<usize>,
    name: SmolStr,
    /// How many have to have a node.
    min: usize,
    /// How many have one already.
    running: usize,
}

type Name<'a> = (&'a SmolStr, &'a SmolStr);

fn name(pod: &Pending) -> Option<Name<'_>> {
    let gang = pod.gang.as_ref()?;
    Some((&pod.id.key.namespace, &gang.name))
}

/// Brings the members of each gang together behind the first of them.
pub(super) fn gather(
    order: &mut Vec<usize>,
    pending: &[Pending],
    snapshot: &Snapshot,
) -> Vec<Span> {
    let mut members: BTreeMap<Name<'_>, Vec<usize>> = BTreeMap::new();
    for &at in order.iter() {
        if let Some(name) = name(&pending[at]) {
            members.entry(name).or_default().push(at);
        }
    }
    let mut spans = Vec::new();
    if members.is_empty() {
        return spans;
    }
    let mut gathered = Vec::with_capacity(order.len());
    for &at in order.iter() {
        let Some(gang) = name(&pending[at]) else {
            gathered.push(at);
            continue;
        };
        let Some(members) = members.remove(&gang) else {
            continue; // came with the first
        };
        let mins = members.iter().filter_map(|&at| pending[at].gang.as_ref());
        spans.push(Span {
            places: gathered.len()..gathered.len() + members.len(),
            name: gang.1.clone(),
            min: mins.map(|gang| gang.min as usize).max().unwrap_or(1),
            running: snapshot.gang_size(gang.0, gang.1),
        });
        gathered.extend(members);
    }
    *order = gathered;
    spans
}

/// A gang of the plan that is short of places.
pub(super) struct Short {
    pub(super) note: GangShort,
    /// Which changes could help one of those that it takes, beside those that would have a node.
    pub(super) helped_by: Changes,
    /// Its members' places in the order.
    places: Range<usize>,
    /// How many pods had a node when it was looked at last, if more of them could help it.
    seen: Option<usize>,
}

impl<'a> Run<'a> {
    /// Settles what becomes of a gang whose members have all been tried. `before` is how many had a node, and
    /// how many had none, before it.
    pub(super) fn close_gang(
        &mut self,
        span: Span,
        asked: &Asked<'a>,
        before: (usize, usize),
        draft: &mut Draft,
    ) {
        self.settle();
        let pending = asked.pending;
        let mut tried = Tried {
            missing: draft.lost.split_off(before.1),
            found: draft.chosen.split_off(before.0),
        };
        let mut note = GangShort {
            name: span.name,
            min: span.min,
            running: span.running,
            members: span.running + span.places.len(),
            places: span.running + tried.found.len(),
            next: None,
            never: None,
        };
        if !tried.found.is_empty() {
            self.again(pending, &mut tried.missing, &mut tried.found, |_| true);
        }
        let members = asked.members(&span.places);
        self.look_for_a_way(&mut note, &mut tried, &members, pending);
        if note.places >= note.min {
            self.admit(tried, pending, draft);
            return;
        }
        let helped_by = self.look_beside(&mut note, &tried.missing, pending);
        let rooms = match self.room_for_gang(&tried.missing, note.min - note.places, pending) {
            // Who has yet to come is not waited for on nodes.
            None if note.to_come() == 0 => self.hold_for_gang(&tried.missing, pending),
            rooms => rooms,
        };
        self.settle_room();
        let keeps = rooms.is_some();
        for (at, made) in rooms.into_iter().flatten() {
            if let Some(lost) = tried.missing.iter_mut().find(|lost| lost.pending == at) {
                lost.has_room = true;
            }
            self.note_room(made, at, pending, &mut draft.plan);
        }
        let waits = |member: &Member| self.waits_for_others(&pending[member.pending]);
        let hopes = !keeps
            && note.to_come() == 0
            && (are_mixed(&members) || members.first().is_some_and(waits));
        let gang = draft.short.len();
        draft.short.push(Short {
            note,
            helped_by,
            places: span.places,
            seen: hopes.then_some(draft.chosen.len()),
        });
        if keeps {
            self.keep_places(&mut tried, pending, draft);
        }
        self.call_off(gang, tried, pending, draft);
    }

    /// Tries a gang again that was short of places, if pods that were placed since could help it. Whether it is
    /// whole now.
    pub(super) fn retry_gang(&mut self, gang: usize, asked: &Asked<'a>, draft: &mut Draft) -> bool {
        let short = &mut draft.short[gang];
        if short.seen.is_none_or(|seen| seen == draft.chosen.len()) {
            return false;
        }
        let (pending, members) = (asked.pending, asked.members(&short.places));
        let mut tried = self.try_in_order(&members, pending);
        self.look_for_a_way(&mut short.note, &mut tried, &members, pending);
        draft.lost.retain(|lost| lost.gang != Some(gang));
        if short.note.places >= short.note.min {
            short.seen = None;
            self.admit(tried, pending, draft);
            return true;
        }
        short.seen = Some(draft.chosen.len());
        short.helped_by = self.look_beside(&mut short.note, &tried.missing, pending);
        self.call_off(gang, tried, pending, draft);
        false
    }

    /// Tries the gang in other ways if it is short of places in this one, but all are there.
    fn look_for_a_way(
        &mut self,
        note: &mut GangShort,
        tried: &mut Tried,
        members: &[Member],
        pending: &'a [Pending],
    ) {
        let enough = note.min.saturating_sub(note.running);
        if tried.found.len() < enough && note.to_come() == 0 {
            let this = std::mem::take(tried);
            *tried = self.try_otherwise(this, members, enough, pending);
        }
        note.places = note.running + tried.found.len();
    }

    /// The gang is whole; who is missing is more than it needs.
    fn admit(&mut self, mut tried: Tried, pending: &[Pending], draft: &mut Draft) {
        for lost in &mut tried.missing {
            self.make_room_for(lost, pending, &mut draft.plan);
        }
        draft.chosen.append(&mut tried.found);
        draft.lost.append(&mut tried.missing);
    }

    /// Nobody gets what the members found, but they are not placed either.
    fn keep_places(&mut self, tried: &mut Tried, pending: &[Pending], draft: &mut Draft) {
        for (at, choice) in tried.found.drain(..).rev() {
            self.books.release(self.faults, &pending[at], choice.node);
            let bare = self.bare.get_or_insert_with(|| self.ledger.clone());
            bare.refund(choice.node, &pending[at].demand);
            self.note_room(Room::Kept(choice.node), at, pending, &mut draft.plan);
            let mut lost = Lost::new(at, choice.group as usize, Vec::new());
            lost.has_room = true;
            tried.missing.push(lost);
        }
    }

    /// The gang leaves what it found to others.
    fn call_off(&mut self, gang: usize, mut tried: Tried, pending: &[Pending], draft: &mut Draft) {
        self.undo(&mut tried, pending);
        let mut lost = tried.missing;
        lost.iter_mut().for_each(|lost| lost.gang = Some(gang));
        draft.lost.append(&mut lost);
    }

    /// Notes why the first of the missing has no node beside those of its gang that would have one. Which
    /// changes could help one that it takes: of so many who are missing, some can stay so.
    fn look_beside(&self, note: &mut GangShort, missing: &[Lost], pending: &[Pending]) -> Changes {
        let spare = missing.len().saturating_sub(note.min - note.places);
        let mut groups = BTreeSet::new();
        let mut helped_by = Changes::NONE;
        note.next = None;
        for (nth, lost) in missing[..missing.len().min(spare + 1)].iter().enumerate() {
            if groups.insert(lost.group) {
                let cycle = Cycle::new(&self.ledger, &pending[lost.pending], self.now);
                let why = explain(self.profile, &cycle, &lost.refusals);
                helped_by = helped_by.with(why.helped_by);
                if nth == 0 {
                    note.next = Some(Arc::new(why));
                }
            }
        }
        helped_by
    }

    /// Room for so many of the lost that the gang is whole; `None`, and nothing changes, if there is
    /// not enough.
    fn room_for_gang(
        &mut self,
        lost: &[Lost],
        short: usize,
        pending: &[Pending],
    ) -> Option<Vec<(usize, Room)>> {
        if lost.len() < short {
            return None;
        }
        self.settle_room();
        let (room, bare) = (self.room.clone(), self.bare.clone());
        let mut made = Vec::new();
        for lost in lost {
            let pod = &pending[lost.pending];
            if let Some((node, room)) = self.room_by_eviction(lost.pending, pod, lost.group) {
                made.push((lost.pending, node, room));
            }
            if made.len() == short {
                return Some(made.into_iter().map(|(at, _, room)| (at, room)).collect());
            }
        }
        self.settle_room();
        (self.room, self.bare) = (room, bare);
        for (at, node, _) in made.into_iter().rev() {
            self.books.release(self.faults, &pending[at], node);
            self.ledger.refund(node, &pending[at].demand);
            self.log.push(node);
        }
        None
    }

    /// If the gang has been passed too often and no other holds room: what it got, and room for the
    /// rest where least is missing.
    fn hold_for_gang(&mut self, lost: &[Lost], pending: &[Pending]) -> Option<Vec<(usize, Room)>> {
        let overdue = lost.iter().any(|lost| pending[lost.pending].overdue);
        if !overdue || self.gang_holds {
            return None;
        }
        self.gang_holds = true;
        let held = lost.iter().filter_map(|lost| {
            let node = self.hold(&pending[lost.pending])?;
            Some((lost.pending, Room::Kept(node)))
        });
        Some(held.collect())
    }

    pub(super) fn give_back(&mut self, node: NodeIx, pod: &Pending) {
        self.ledger.refund(node, &pod.demand);
        if let Some(bare) = &mut self.bare {
            bare.refund(node, &pod.demand);
        }
        if let Some(room) = &mut self.room {
            room.unplaced(node, &pod.demand);
        }
        self.log.push(node);
    }

    /// Tells the plan what was had for a pod that is not placed.
    pub(super) fn note_room(&self, room: Room, at: usize, pending: &[Pending], plan: &mut Plan) {
        match room {
            Room::Made(preemption) => plan.preemptions.push(*preemption),
            Room::Kept(node) => plan.held.push(Held {
                pending: at,
                pod: pending[at].id.clone(),
                node: self.ledger.snapshot().node(node).name().clone(),
            }),
        }
    }
}
