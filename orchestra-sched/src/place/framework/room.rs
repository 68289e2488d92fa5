//! Room for pods that found no node: held in the plan's ledger against whoever comes later.

use std::sync::Arc;

use super::retry::looks_around;
use super::{Lost, Run};
use crate::fits::Obstacle;
use crate::place::ask::obstacles_contained;
use crate::place::memory::Memory;
use crate::place::plugin::Cycle;
use crate::place::preempt::{Accepts, Preemption, Search};
use crate::place::{Pending, Plan, hold};
use crate::snapshot::NodeIx;

/// What can be had for a pod that found no node.
pub(super) enum Room {
    /// Others have to leave.
    Made(Box<Preemption>),
    /// A node that nobody who comes later gets until it has room: others are leaving it already, or
    /// the pod was passed too often.
    Kept(NodeIx),
}

impl Run<'_> {
    /// Holds room for a pod that found no node: where room is being made for it, or where others can
    /// be evicted, or else, if it was passed too often, where least is missing.
    pub(super) fn make_room(&mut self, at: usize, pod: &Pending, group: usize) -> Option<Room> {
        if let Some((_, room)) = self.room_by_eviction(at, pod, group) {
            return Some(room);
        }
        let most = hold::holds_max(self.ledger.snapshot().len());
        if !pod.overdue || self.holds == most {
            return None;
        }
        let node = self.hold(pod)?;
        self.holds += 1;
        Some(Room::Kept(node))
    }

    /// [`make_room`](Self::make_room), and tells the plan.
    pub(super) fn make_room_for(&mut self, lost: &mut Lost, pending: &[Pending], plan: &mut Plan) {
        let at = lost.pending;
        if let Some(room) = self.make_room(at, &pending[at], lost.group) {
            lost.has_room = true;
            self.note_room(room, at, pending, plan);
        }
    }

    /// Keeps the room of the node where least is missing.
    pub(super) fn hold(&mut self, pod: &Pending) -> Option<NodeIx> {
        self.settle_room();
        let cycle = Cycle::new(&self.ledger, pod, self.now);
        let node = hold::node(self.profile, &cycle)?;
        self.books.reserve(self.faults, &cycle, node).ok()?;
        if let Some(room) = &mut self.room {
            room.put(node, &pod.demand);
        }
        self.keep_room(node, pod);
        Some(node)
    }

    /// Where others leave for the pod, or can be evicted for it.
    pub(super) fn room_by_eviction(
        &mut self,
        at: usize,
        pod: &Pending,
        group: usize,
    ) -> Option<(NodeIx, Room)> {
        let (node, made) = self.evict_for(at, pod, group)?;
        self.keep_room(node, pod);
        let made = made.map(|made| Room::Made(Box::new(made)));
        Some((node, made.unwrap_or(Room::Kept(node))))
    }

    /// Here victims still count: nobody who comes later gets room that is not there yet.
    pub(super) fn keep_room(&mut self, node: NodeIx, pod: &Pending) {
        self.settle_room();
        self.owed_room = Some((node, Arc::clone(&pod.demand)));
    }

    /// Holds the last room in the ledger.
    pub(super) fn settle_room(&mut self) {
        if let Some((node, demand)) = self.owed_room.take() {
            self.bare.get_or_insert_with(|| self.ledger.clone());
            self.ledger.charge(node, &demand);
            self.log.push(node);
        }
    }

    /// Whether the pod can be on `node` without the company of those for whom room is held: they are
    /// not there yet.
    pub(super) fn stands_alone(&self, pod: &Pending, node: NodeIx) -> Result<(), Obstacle> {
        let Some(bare) = &self.bare else {
            return Ok(());
        };
        let cycle = Cycle::new(bare, pod, self.now);
        let mut filters = self.profile.filters.iter().map(|filter| &**filter);
        let found = filters.find_map(|filter| {
            let found = match looks_around(filter, &cycle) {
                true => obstacles_contained(filter, &cycle, node, None),
                false => Vec::new(),
            };
            found.into_iter().next()
        });
        found.map_or(Ok(()), Err)
    }

    /// Where others leave for the pod, or can be evicted for it.
    pub(super) fn evict_for(
        &mut self,
        at: usize,
        pod: &Pending,
        group: usize,
    ) -> Option<(NodeIx, Option<Preemption>)> {
        self.settle_room();
        let snapshot = self.ledger.snapshot();
        let nominated = pod.nominated.as_deref();
        let nominated = nominated.and_then(|name| snapshot.find(name));
        let lowest = snapshot.lowest_priority();
        let evicts = pod.preempts && lowest.is_some_and(|lowest| lowest < pod.priority);
        if !self.profile.preempts || !(evicts || nominated.is_some()) {
            return None;
        }
        let (_, fingerprint) = self.groups.first(group);
        let room = self.room.get_or_insert_with(|| {
            let kept = self.memory.as_deref_mut().and_then(Memory::take_room);
            let likeness = self.groups.likeness();
            Search::open(&self.ledger, &self.log, self.now, likeness, kept)
        });
        // Room is of no use to a pod that keepers of accounts turn down.
        let (books, faults) = (&mut self.books, self.faults);
        let keeps_books = !books.is_empty();
        let own = Cycle::new(&self.ledger, pod, self.now);
        let held = nominated.filter(|&node| {
            let claimed = !keeps_books || books.reserve(faults, &own, node).is_ok();
            let holds = claimed && room.holds(self.profile, pod, node);
            if claimed && !holds {
                books.release(faults, pod, node);
            }
            holds
        });
        match held {
            Some(node) => Some((node, None)),
            None if evicts => {
                let mut accepts =
                    |cycle: &Cycle<'_>, node| books.reserve(faults, cycle, node).is_ok();
                let accepts: Option<Accepts<'_>> = match keeps_books {
                    true => Some(&mut accepts),
                    false => None,
                };
                let (node, found) = room.find(self.profile, at, pod, fingerprint, accepts)?;
                Some((node, Some(found)))
            }
            None => None,
        }
    }
}
