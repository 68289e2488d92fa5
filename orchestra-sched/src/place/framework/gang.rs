//! Gangs: pods that are placed together or not at all.
//!
//! A gang's members are considered one after the other, where its first one stands in the order. If, with
//! those that run already, fewer than its minimum find nodes, room is made for the rest if that makes
//! it whole; else all that it took is given back before anybody else is considered. So no gang ever
//! waits for another with half of its nodes taken: one that has been passed too often may hold what it
//! got, but only one at a time does, the first in the order, and its timeout ends that.

use std::collections::BTreeMap;
use std::sync::Arc;

use smol_str::SmolStr;

use super::room::Room;
use super::{Choice, Lost, Run};
use crate::explain::GangShort;
use crate::place::plugin::Cycle;
use crate::place::why::explain;
use crate::place::{Held, Pending, Plan};
use crate::snapshot::{NodeIx, Snapshot};

/// The members of a gang that are planned for.
#[derive(Debug)]
pub(super) struct Span {
    /// Its first member's place in the order.
    pub(super) from: usize,
    /// The place after its last one.
    pub(super) to: usize,
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
            from: gathered.len(),
            to: gathered.len() + members.len(),
            name: gang.1.clone(),
            min: mins.map(|gang| gang.min as usize).max().unwrap_or(1),
            running: snapshot.gang_size(gang.0, gang.1),
        });
        gathered.extend(members);
    }
    *order = gathered;
    spans
}

/// What a gang of the plan took so far.
pub(super) struct Taken<'a> {
    pub(super) chosen: &'a mut Vec<(usize, Choice)>,
    pub(super) lost: &'a mut Vec<Lost>,
    /// How many there were of each before the gang.
    pub(super) before: (usize, usize),
}

impl Run<'_> {
    /// Settles what becomes of a gang whose members have all been tried.
    pub(super) fn close_gang(
        &mut self,
        span: &Span,
        pending: &[Pending],
        taken: Taken<'_>,
        plan: &mut Plan,
        notes: &mut Vec<GangShort>,
    ) {
        let Taken {
            chosen,
            lost,
            before: (chosen_before, lost_before),
        } = taken;
        self.settle();
        let placed = chosen.len() - chosen_before;
        let have = span.running + placed;
        if have >= span.min {
            for lost in &mut lost[lost_before..] {
                let made = self.make_room(lost.pending, &pending[lost.pending], lost.group);
                lost.has_room = made.is_some();
                self.note_room(made, lost.pending, pending, plan);
            }
            return;
        }
        let short = span.min - have;
        // Before the others give back what they have.
        let next = lost.get(lost_before).and_then(|lost| {
            let cycle = Cycle::new(&self.ledger, &pending[lost.pending], self.now);
            let why = explain(self.profile, &cycle, &lost.refusals);
            (why.fit == 0).then(|| Arc::new(why))
        });
        let undone: Vec<(usize, Choice)> = chosen.drain(chosen_before..).collect();
        let rooms = self.room_for_gang(&lost[lost_before..], short, pending);
        let members = span.running + (span.to - span.from);
        let rooms = match rooms {
            // Who has yet to come is not waited for on nodes.
            None if members >= span.min => self.hold_for_gang(&lost[lost_before..], pending),
            rooms => rooms,
        };
        self.settle_room();
        let keeps = rooms.is_some();
        for (at, made) in rooms.into_iter().flatten() {
            if let Some(lost) = lost.iter_mut().find(|lost| lost.pending == at) {
                lost.has_room = true;
            }
            self.note_room(Some(made), at, pending, plan);
        }
        let note = notes.len();
        notes.push(GangShort {
            name: span.name.clone(),
            min: span.min,
            running: span.running,
            members,
            places: have,
            next,
            never: None,
        });
        for lost in &mut lost[lost_before..] {
            lost.gang = Some(note);
        }
        for (at, choice) in undone.into_iter().rev() {
            let pod = &pending[at];
            self.books.release(self.faults, pod, choice.node);
            if keeps {
                // Nobody gets it, but it is not placed either.
                let bare = self.bare.get_or_insert_with(|| self.ledger.clone());
                bare.refund(choice.node, &pod.demand);
                self.note_room(Some(Room::Kept(choice.node)), at, pending, plan);
            } else {
                self.give_back(choice.node, pod);
            }
            lost.push(Lost {
                pending: at,
                group: choice.group as usize,
                refusals: Vec::new(),
                has_room: keeps,
                gang: Some(note),
            });
        }
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

    fn give_back(&mut self, node: NodeIx, pod: &Pending) {
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
    pub(super) fn note_room(
        &self,
        room: Option<Room>,
        at: usize,
        pending: &[Pending],
        plan: &mut Plan,
    ) {
        match room {
            None => {}
            Some(Room::Made(preemption)) => plan.preemptions.push(*preemption),
            Some(Room::Kept(node)) => plan.held.push(Held {
                pending: at,
                pod: pending[at].id.clone(),
                node: self.ledger.snapshot().node(node).name().clone(),
            }),
        }
    }
}
