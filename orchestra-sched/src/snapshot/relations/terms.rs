//! Where the pods are that affinity terms mean, and where those are whose terms mean a pod.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use super::{Domains, HARD_POD_AFFINITY_WEIGHT, PodTerm, Population, Relations, Tally};
use crate::place::Words;
use crate::snapshot::{Demand, NodeIx, Snapshot};

/// How many pods meet all of some terms, by the domains of each term.
#[derive(Clone, Debug)]
pub(crate) struct Company {
    terms: Vec<PodTerm>,
    /// By which it is found again.
    pub(crate) number: u64,
    columns: Vec<(Arc<Domains>, Tally)>,
    /// In how many domains there is such a pod, over all columns.
    peopled: usize,
}

impl Company {
    pub(super) fn new(
        snapshot: &Snapshot,
        population: &Population,
        terms: &[PodTerm],
        number: u64,
    ) -> Self {
        let column = |term: &PodTerm| {
            let domains = snapshot.domains(&term.topology_key);
            let pods = Tally::new(domains.len());
            (domains, pods)
        };
        let mut company = Self {
            terms: terms.to_vec(),
            number,
            columns: terms.iter().map(column).collect(),
            peopled: 0,
        };
        for kind in population.kinds() {
            if company.is_met(snapshot, &kind.demand) {
                let nodes = kind.pods.iter();
                nodes.for_each(|(node, _)| company.shift(*node, 1));
            }
        }
        company
    }

    pub(crate) fn serves(&self, terms: &[PodTerm]) -> bool {
        self.terms == terms
    }

    /// Whether a pod is meant.
    pub(crate) fn is_met(&self, snapshot: &Snapshot, pod: &Demand) -> bool {
        meets_all(snapshot, &self.terms, pod)
    }

    /// A pod comes to a node (`by` 1) or leaves it (−1), if it is meant.
    pub(crate) fn shift_if_met(
        &mut self,
        snapshot: &Snapshot,
        node: NodeIx,
        pod: &Demand,
        by: i64,
    ) {
        if self.is_met(snapshot, pod) {
            self.shift(node, by);
        }
    }

    /// A pod that is meant comes to a node (`by` 1) or leaves it (−1).
    pub(crate) fn shift(&mut self, node: NodeIx, by: i64) {
        for (domains, pods) in &mut self.columns {
            if let Some(domain) = domains.of(node) {
                let before = pods.add(domain, by);
                self.peopled += usize::from(before + by > 0);
                self.peopled -= usize::from(before > 0);
            }
        }
    }

    /// The `nth` term's domains, and how many of the pods are in each.
    pub(crate) fn column(&self, nth: usize) -> (&Domains, &Tally) {
        let (domains, pods) = &self.columns[nth];
        (domains, pods)
    }

    /// The `nth` term's domains.
    pub(crate) fn domains(&self, nth: usize) -> Option<&Arc<Domains>> {
        self.columns.get(nth).map(|(domains, _)| domains)
    }

    /// Whether no such pod is in any domain.
    pub(crate) fn is_empty(&self) -> bool {
        self.peopled == 0
    }
}

/// Whether a pod meets all of `terms`.
pub(crate) fn meets_all(snapshot: &Snapshot, terms: &[PodTerm], pod: &Demand) -> bool {
    let of_namespace = snapshot.namespace_labels(&pod.namespace);
    let mut terms = terms.iter();
    terms.all(|term| term.matches(&pod.namespace, of_namespace, &pod.labels))
}

/// The terms of the pods that run, and of those that may come, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others {
    terms: Vec<OthersTerm>,
    by_hash: BTreeMap<u64, Vec<usize>>,
    /// How many terms came to be known, to keep pods away, or to count in scores.
    stage: usize,
    /// The pod that last came or left, and its terms.
    last: Option<(Arc<Demand>, Terms)>,
}

/// A pod's terms, by their place among all.
#[derive(Clone, Debug)]
struct Terms {
    /// Its required anti-affinity.
    repels: Vec<usize>,
    /// The others, and what each counts in scores.
    attracts: Vec<(usize, i64)>,
}

/// A term, and where the pods are that have it.
#[derive(Clone, Debug)]
pub(crate) struct OthersTerm {
    pub(crate) term: PodTerm,
    pub(crate) domains: Arc<Domains>,
    /// By domain: how many pods have it as required anti-affinity. Empty if none ever had.
    pub(crate) repels: Tally,
    /// By domain: how much it counts in scores. Empty if it never did.
    pub(crate) attracts: Tally,
}

impl Others {
    pub(super) fn new(snapshot: &Snapshot, population: impl FnOnce() -> Arc<Population>) -> Self {
        let mut others = Self::default();
        if snapshot.reaching() == 0 {
            return others;
        }
        for kind in population().kinds() {
            if let Some(relations) = kind.demand.relations.as_deref() {
                let terms = others.terms_of(relations, snapshot);
                let nodes = kind.pods.iter();
                nodes.for_each(|(node, _)| others.add(*node, 1, &terms));
            }
        }
        others
    }

    /// A pod comes to a node (`by` 1) or leaves it (−1); without a node it may come.
    pub(crate) fn shift(
        &mut self,
        relations: &Relations,
        node: Option<NodeIx>,
        by: i64,
        snapshot: &Snapshot,
    ) {
        let terms = self.terms_of(relations, snapshot);
        if let Some(node) = node {
            self.add(node, by, &terms);
        }
    }

    /// As [`shift`](Self::shift), for one of many pods alike.
    pub(crate) fn shift_pod(
        &mut self,
        pod: &Arc<Demand>,
        relations: &Relations,
        node: NodeIx,
        by: i64,
        snapshot: &Snapshot,
    ) {
        let known = self.last.take().filter(|last| Arc::ptr_eq(&last.0, pod));
        let (_, terms) =
            known.unwrap_or_else(|| (Arc::clone(pod), self.terms_of(relations, snapshot)));
        self.add(node, by, &terms);
        self.last = Some((Arc::clone(pod), terms));
    }

    fn add(&mut self, node: NodeIx, by: i64, terms: &Terms) {
        for &at in &terms.repels {
            let term = &mut self.terms[at];
            if let Some(domain) = term.domains.of(node) {
                term.repels.add(domain, by);
            }
        }
        for &(at, weight) in &terms.attracts {
            let term = &mut self.terms[at];
            if let Some(domain) = term.domains.of(node) {
                term.attracts.add(domain, weight * by);
            }
        }
    }

    /// The terms of a pod, each known from now on.
    fn terms_of(&mut self, relations: &Relations, snapshot: &Snapshot) -> Terms {
        let mut repels = Vec::new();
        for term in &relations.anti_affinity {
            let at = self.find(term, snapshot);
            let term = &mut self.terms[at];
            if term.repels.len() != term.domains.len() {
                term.repels = Tally::new(term.domains.len());
                self.stage += 1;
            }
            repels.push(at);
        }
        let required = relations
            .affinity
            .iter()
            .map(|term| (HARD_POD_AFFINITY_WEIGHT, term));
        let preferred = relations
            .preferred
            .iter()
            .map(|(weight, term)| (*weight, term));
        let mut attracts = Vec::new();
        for (weight, term) in required.chain(preferred) {
            let at = self.find(term, snapshot);
            let term = &mut self.terms[at];
            if term.attracts.len() != term.domains.len() {
                term.attracts = Tally::new(term.domains.len());
                self.stage += 1;
            }
            attracts.push((at, weight));
        }
        Terms { repels, attracts }
    }

    /// How many terms there are.
    pub(crate) fn len(&self) -> usize {
        self.terms.len()
    }

    /// Grows whenever there may be another term that means a pod, or one that means it otherwise.
    pub(crate) fn stage(&self) -> usize {
        self.stage
    }

    fn find(&mut self, term: &PodTerm, snapshot: &Snapshot) -> usize {
        let mut hash = Words::default();
        term.hash(&mut hash);
        let alike = self.by_hash.entry(hash.finish()).or_default();
        let known = alike
            .iter()
            .copied()
            .find(|&at| self.terms[at].term == *term);
        known.unwrap_or_else(|| {
            self.stage += 1;
            alike.push(self.terms.len());
            self.terms.push(OthersTerm {
                term: term.clone(),
                domains: snapshot.domains(&term.topology_key),
                repels: Tally::default(),
                attracts: Tally::default(),
            });
            self.terms.len() - 1
        })
    }

    /// The `nth` term's domains, if it is known to keep pods away.
    pub(crate) fn repelling_domains(&self, nth: usize) -> Option<&Arc<Domains>> {
        let term = self.terms.get(nth)?;
        (term.repels.len() == term.domains.len()).then_some(&term.domains)
    }

    /// The `nth` term's domains, if it is known to count in scores.
    pub(crate) fn attracting_domains(&self, nth: usize) -> Option<&Arc<Domains>> {
        let term = self.terms.get(nth)?;
        (term.attracts.len() == term.domains.len()).then_some(&term.domains)
    }

    /// By domain: how much the `nth` term counts in scores.
    pub(crate) fn attracts(&self, nth: usize) -> &Tally {
        &self.terms[nth].attracts
    }

    /// By domain: how many pods have the `nth` term as required anti-affinity.
    pub(crate) fn repels(&self, nth: usize) -> &Tally {
        &self.terms[nth].repels
    }

    /// The `nth` term.
    pub(crate) fn term(&self, nth: usize) -> &PodTerm {
        &self.terms[nth].term
    }

    /// The `nth` term's domains, and how many pods in each have it as required anti-affinity.
    pub(crate) fn column(&self, nth: usize) -> (&Domains, &Tally) {
        let term = &self.terms[nth];
        (&term.domains, &term.repels)
    }

    /// The terms that mean `pod` and keep it away, by their number.
    pub(crate) fn repelling(
        &self,
        snapshot: &Snapshot,
        pod: &Demand,
    ) -> impl Iterator<Item = (usize, &OthersTerm)> {
        let of_namespace = snapshot.namespace_labels(&pod.namespace);
        self.terms.iter().enumerate().filter(move |(_, other)| {
            !other.repels.is_empty()
                && (other.term).matches(&pod.namespace, of_namespace, &pod.labels)
        })
    }

    /// The terms that mean `pod` and count in scores, by their number.
    pub(crate) fn attracting(
        &self,
        snapshot: &Snapshot,
        pod: &Demand,
    ) -> impl Iterator<Item = (usize, &OthersTerm)> {
        let of_namespace = snapshot.namespace_labels(&pod.namespace);
        self.terms.iter().enumerate().filter(move |(_, other)| {
            !other.attracts.is_empty()
                && (other.term).matches(&pod.namespace, of_namespace, &pod.labels)
        })
    }

    /// The terms that mean `pod`.
    pub(crate) fn meaning<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        pod: &'a Demand,
    ) -> impl Iterator<Item = &'a OthersTerm> {
        let of_namespace = snapshot.namespace_labels(&pod.namespace);
        let means =
            |other: &&OthersTerm| (other.term).matches(&pod.namespace, of_namespace, &pod.labels);
        self.terms.iter().filter(means)
    }
}
