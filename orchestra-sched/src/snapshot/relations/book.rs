//! What has been counted so far for one ledger, and what has changed since the snapshot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::terms::Others;
use super::{Company, PodTerm, Population, Spreading};
use crate::snapshot::{Demand, NodeIx, Running, Snapshot};

/// How many counts of each kind are kept; the oldest is counted again.
const COUNTS_KEPT_MAX: usize = 64;

/// How far back a charge is looked for when it is given back.
const UNDO_MAX: usize = 64;

/// With more moves than this, counts are not handed on.
const MOVES_MAX: usize = 256;

/// With more terms than this, most of them perhaps of pods long gone, counts are not handed on.
const TERMS_MAX: usize = 4_096;

/// Counts of pods by domain, made when first asked for and kept right from then on.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Pods that came (1) or left (−1), less what cancels out, in no order that means anything.
    moves: Vec<Move>,
    /// How many of them left.
    gone: usize,
    /// Pods that may come.
    expected: Vec<Arc<Demand>>,
    kept: Mutex<Kept>,
}

/// A pod that came (`by` 1) or left (−1).
#[derive(Clone, Debug)]
struct Move {
    node: NodeIx,
    pod: Arc<Demand>,
    by: i8,
    /// Whether it counts for spread rules.
    spreads: bool,
}

impl Move {
    fn by(&self) -> i64 {
        self.by.into()
    }
}

#[derive(Clone, Debug, Default)]
struct Kept {
    /// Whose they are, once somebody asked: a number means something among the counts of one origin only.
    origin: Option<Arc<()>>,
    spreadings: Vec<Numbered<Spreading>>,
    companies: Vec<Numbered<Company>>,
    others: Option<Arc<Others>>,
    /// The pods of the snapshot, once they were counted.
    population: Option<Arc<Population>>,
    /// How many counts were ever made: the next one's number.
    made: u64,
    /// The pod that last came or left, and who counts it; void once another count is made.
    last: Option<Touched>,
}

/// What was counted for one ledger.
#[derive(Debug)]
pub(crate) struct Counts(Kept);

/// A count, and the number by which it is found again.
type Numbered<T> = (u64, Arc<T>);

/// Which counts a pod matters to, by their place among those kept.
#[derive(Clone, Debug)]
struct Touched {
    pod: Arc<Demand>,
    spreadings: Vec<usize>,
    companies: Vec<usize>,
}

impl Clone for Book {
    fn clone(&self) -> Self {
        Self {
            moves: self.moves.clone(),
            gone: self.gone,
            expected: self.expected.clone(),
            kept: Mutex::new(self.kept().clone()),
        }
    }
}

impl Book {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is whole at any instant: a panic elsewhere spoils nothing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod comes to a node (`by` 1) or leaves it (−1). Who is being ended does not count for
    /// spread rules.
    pub(crate) fn shift(
        &mut self,
        snapshot: &Snapshot,
        node: NodeIx,
        pod: &Arc<Demand>,
        by: i64,
        spreads: bool,
    ) {
        self.note(Move {
            node,
            pod: Arc::clone(pod),
            by: by.signum() as i8,
            spreads,
        });
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        kept.count(snapshot, node, pod, by, spreads);
    }

    /// Makes room for so many moves more.
    pub(crate) fn reserve(&mut self, moves: usize) {
        self.moves.reserve(moves);
    }

    /// What has been counted, for a later ledger, as of the snapshot beneath; `None` if so many pods
    /// came or left since that counting anew is as quick.
    pub(crate) fn into_counts(self, snapshot: &Snapshot) -> Option<Counts> {
        let mut kept = self
            .kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let terms = kept.others.as_ref().map_or(0, |others| others.len());
        let is_empty = kept.spreadings.is_empty() && kept.companies.is_empty() && terms == 0;
        if is_empty || self.moves.len() > MOVES_MAX || terms > TERMS_MAX {
            return None;
        }
        for one in &self.moves {
            kept.count(snapshot, one.node, &one.pod, -one.by(), one.spreads);
        }
        kept.population = None;
        Some(Counts(kept))
    }

    /// Takes over what was counted as of another snapshot of the same nodes, with the pods that
    /// changed since.
    pub(crate) fn take_over(
        &mut self,
        counts: Counts,
        snapshot: &Snapshot,
        changed: impl Iterator<Item = (NodeIx, Arc<Running>, i64)>,
    ) {
        let mut kept = counts.0;
        for (node, running, by) in changed {
            kept.count(snapshot, node, &running.demand, by, !running.terminating);
        }
        self.kept = Mutex::new(kept);
    }

    /// Adds a move, or strikes out the one that it takes back.
    fn note(&mut self, new: Move) {
        // Pods that come are many, and mostly nobody left before them.
        let within = if new.by > 0 && self.gone == 0 {
            0
        } else {
            UNDO_MAX
        };
        let recent = self.moves.iter().enumerate().rev().take(within);
        let undone = recent
            .filter(|(_, old)| (old.node, old.by, old.spreads) == (new.node, -new.by, new.spreads))
            .find(|(_, old)| Arc::ptr_eq(&old.pod, &new.pod) || old.pod == new.pod)
            .map(|(at, _)| at);
        match undone {
            Some(at) => {
                let old = self.moves.swap_remove(at);
                self.gone -= usize::from(old.by < 0);
            }
            None => {
                self.gone += usize::from(new.by < 0);
                self.moves.push(new);
            }
        }
    }

    /// Such a pod may come, so what it asks of others is looked at from now on.
    pub(crate) fn expect(&mut self, snapshot: &Snapshot, pod: &Arc<Demand>) {
        let Some(relations) = pod.relations.as_deref() else {
            return;
        };
        if !relations.reaches_others() {
            return;
        }
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = &mut kept.others {
            Arc::make_mut(others).shift(relations, None, 0, snapshot);
        }
        if self
            .expected
            .last()
            .is_none_or(|last| last.relations != pod.relations)
        {
            self.expected.push(Arc::clone(pod));
        }
    }

    /// Whether a pod with terms of its own came or may come.
    pub(crate) fn has_terms(&self) -> bool {
        !self.expected.is_empty() || self.moves.iter().any(|one| one.pod.reaches_others())
    }

    /// The counts for `demand`'s required spread rules, or for its preferred ones.
    pub(crate) fn spreading(
        &self,
        snapshot: &Snapshot,
        demand: &Demand,
        required: bool,
    ) -> Arc<Spreading> {
        let kept = &mut *self.kept();
        let serves = |one: &&Numbered<Spreading>| one.1.serves(demand, required);
        if let Some((_, known)) = kept.spreadings.iter().find(serves) {
            return Arc::clone(known);
        }
        let demand = Arc::new(demand.clone());
        let number = kept.number();
        let mut fresh = Spreading::new(
            snapshot,
            &kept.population(snapshot),
            demand,
            required,
            number,
        );
        for one in self.moves.iter().filter(|one| one.spreads) {
            fresh.shift(one.node, &one.pod, one.by());
        }
        keep_numbered(&mut kept.spreadings, number, fresh)
    }

    /// The counts of pods that meet all of `terms`.
    pub(crate) fn company(&self, snapshot: &Snapshot, terms: &[PodTerm]) -> Arc<Company> {
        let kept = &mut *self.kept();
        if let Some((_, known)) = kept.companies.iter().find(|one| one.1.serves(terms)) {
            return Arc::clone(known);
        }
        let number = kept.number();
        let mut fresh = Company::new(snapshot, &kept.population(snapshot), terms, number);
        for one in &self.moves {
            fresh.shift_if_met(snapshot, one.node, &one.pod, one.by());
        }
        keep_numbered(&mut kept.companies, number, fresh)
    }

    /// Whose counts they are: where that is another, numbers mean others.
    pub(crate) fn origin(&self) -> Arc<()> {
        Arc::clone(self.kept().origin.get_or_insert_default())
    }

    /// The spread counts of that number, if they are still kept.
    pub(crate) fn spreading_numbered(&self, number: u64) -> Option<Arc<Spreading>> {
        find_numbered(&self.kept().spreadings, number)
    }

    /// The company of that number, if it is still kept.
    pub(crate) fn company_numbered(&self, number: u64) -> Option<Arc<Company>> {
        find_numbered(&self.kept().companies, number)
    }

    /// The terms of the pods that run or may come.
    pub(crate) fn others(&self, snapshot: &Snapshot) -> Arc<Others> {
        let kept = &mut *self.kept();
        if let Some(known) = &kept.others {
            return Arc::clone(known);
        }
        let mut fresh = Others::new(snapshot, || kept.population(snapshot));
        let expected = self.expected.iter().map(|pod| (None, pod, 0));
        let moves = (self.moves.iter()).map(|one| (Some(one.node), &one.pod, one.by()));
        for (node, pod, by) in expected.chain(moves) {
            if let Some(relations) = pod.relations.as_deref() {
                fresh.shift(relations, node, by, snapshot);
            }
        }
        let fresh = Arc::new(fresh);
        kept.others = Some(Arc::clone(&fresh));
        fresh
    }
}

impl Kept {
    /// A pod comes to a node (`by` 1) or leaves it (−1).
    fn count(
        &mut self,
        snapshot: &Snapshot,
        node: NodeIx,
        pod: &Arc<Demand>,
        by: i64,
        spreads: bool,
    ) {
        if !self.spreadings.is_empty() || !self.companies.is_empty() {
            self.shift(snapshot, node, pod, by, spreads);
        }
        if let (Some(others), Some(relations)) = (&mut self.others, pod.relations.as_deref())
            && relations.reaches_others()
        {
            Arc::make_mut(others).shift_pod(pod, relations, node, by, snapshot);
        }
    }

    /// The pods of the snapshot.
    fn population(&mut self, snapshot: &Snapshot) -> Arc<Population> {
        let fresh = || Arc::new(Population::of(snapshot));
        Arc::clone(self.population.get_or_insert_with(fresh))
    }

    /// A number that no count had before.
    fn number(&mut self) -> u64 {
        self.last = None;
        self.made += 1;
        self.made
    }

    fn shift(
        &mut self,
        snapshot: &Snapshot,
        node: NodeIx,
        pod: &Arc<Demand>,
        by: i64,
        spreads: bool,
    ) {
        let touched = self.touched(snapshot, pod);
        for &at in touched.spreadings.iter().filter(|_| spreads) {
            Arc::make_mut(&mut self.spreadings[at].1).shift(node, pod, by);
        }
        for &at in &touched.companies {
            Arc::make_mut(&mut self.companies[at].1).shift(node, by);
        }
        self.last = Some(touched);
    }

    /// The counts that `pod` matters to.
    fn touched(&mut self, snapshot: &Snapshot, pod: &Arc<Demand>) -> Touched {
        if let Some(last) = self.last.take()
            && (Arc::ptr_eq(&last.pod, pod)
                || last.pod.namespace == pod.namespace && last.pod.labels == pod.labels)
        {
            return last;
        }
        let spreadings = self.spreadings.iter().enumerate();
        let companies = self.companies.iter().enumerate();
        Touched {
            pod: Arc::clone(pod),
            spreadings: spreadings
                .filter(|(_, (_, one))| one.counts_any(pod))
                .map(|(at, _)| at)
                .collect(),
            companies: companies
                .filter(|(_, (_, one))| one.is_met(snapshot, pod))
                .map(|(at, _)| at)
                .collect(),
        }
    }
}

fn find_numbered<T>(kept: &[Numbered<T>], number: u64) -> Option<Arc<T>> {
    let mut kept = kept.iter().rev();
    kept.find(|one| one.0 == number)
        .map(|(_, one)| Arc::clone(one))
}

fn keep_numbered<T>(kept: &mut Vec<Numbered<T>>, number: u64, fresh: T) -> Arc<T> {
    if kept.len() == COUNTS_KEPT_MAX {
        kept.remove(0);
    }
    let fresh = Arc::new(fresh);
    kept.push((number, Arc::clone(&fresh)));
    fresh
}
