//! Which pods are alike, as far as the plugins in use can tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pending;
use super::plugin::PodFields;
use crate::snapshot::Demand;

/// By what pods are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Likeness {
    fields: PodFields,
    /// Whether there are pods whose terms may mean others, so that labels matter to pods that ask
    /// nothing of others themselves.
    meant: bool,
}

impl Likeness {
    pub(super) const fn new(fields: PodFields, meant: bool) -> Self {
        Self { fields, meant }
    }

    /// Whether two pods share their answers.
    pub(super) fn same(&self, one: &Pending, other: &Pending) -> bool {
        alike(one, other, self.fields, self.meant)
    }

    /// Whether answers hang on when they were given.
    pub(super) fn knows_time(&self) -> bool {
        self.fields.has(PodFields::NOW)
    }
}

/// Sorts pods into groups that share their answers.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    likeness: Likeness,
    /// One pod of each group, and its fingerprint.
    first: Vec<(&'a Pending, u64)>,
    by_fingerprint: BTreeMap<u64, Vec<usize>>,
    /// The last pod, its group, and whether it asks what the group's first does.
    last: Option<(&'a Pending, usize, bool)>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(fields: PodFields, meant: bool) -> Self {
        Self {
            likeness: Likeness::new(fields, meant),
            first: Vec::new(),
            by_fingerprint: BTreeMap::new(),
            last: None,
        }
    }

    pub(super) fn likeness(&self) -> Likeness {
        self.likeness
    }

    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// The first pod of a group, and the fingerprint of them all.
    pub(super) fn first(&self, group: usize) -> (&'a Pending, u64) {
        self.first[group]
    }

    /// The group of a pod; the next number if it is the first of its kind.
    pub(super) fn find(&mut self, pod: &'a Pending) -> usize {
        self.find_twin(pod).0
    }

    /// As [`find`](Self::find), and whether the pod's demand is that of the group's first in all: then
    /// one serves for both.
    pub(super) fn find_twin(&mut self, pod: &'a Pending) -> (usize, bool) {
        // Pods of one owner come in a row.
        if let Some((last, group, is_twin)) = self.last
            && alike_beside(last, pod, self.likeness.fields)
        {
            if last.demand == pod.demand {
                return (group, is_twin);
            }
            if self.likeness.same(last, pod) {
                return (group, false);
            }
        }
        let fingerprint = fingerprint(pod, self.likeness.fields, self.likeness.meant);
        let candidates = self.by_fingerprint.entry(fingerprint).or_default();
        let known = candidates
            .iter()
            .find(|&&group| self.likeness.same(self.first[group].0, pod));
        let group = known.copied().unwrap_or_else(|| {
            candidates.push(self.first.len());
            self.first.push((pod, fingerprint));
            self.first.len() - 1
        });
        let is_twin = self.first[group].0.demand == pod.demand;
        self.last = Some((pod, group, is_twin));
        (group, is_twin)
    }
}

/// Whether two pods agree on those of `fields` that are not in their demands.
fn alike_beside(one: &Pending, other: &Pending, fields: PodFields) -> bool {
    (!fields.has(PodFields::IDENTITY) || one.id == other.id)
        && (!fields.has(PodFields::PRIORITY) || one.priority == other.priority)
}

/// Whether two pods agree on `fields`.
pub(super) fn alike(one: &Pending, other: &Pending, fields: PodFields, meant: bool) -> bool {
    if !alike_beside(one, other, fields) {
        return false;
    }
    let (a, b) = (&one.demand, &other.demand);
    let fields = widened(fields, a, meant);
    let differ = |field: PodFields, equal: bool| fields.has(field) && !equal;
    Arc::ptr_eq(a, b)
        || !(fields.has(PodFields::REQUESTS) && (a.requests != b.requests || a.scored != b.scored)
            || differ(PodFields::NODE_NAME, a.node_name == b.node_name)
            || fields.has(PodFields::NODE_AFFINITY)
                && (a.node_selector != b.node_selector
                    || a.node_affinity != b.node_affinity
                    || a.preferred_nodes != b.preferred_nodes)
            || differ(PodFields::TOLERATIONS, a.tolerations == b.tolerations)
            || differ(PodFields::HOST_PORTS, a.host_ports == b.host_ports)
            || differ(PodFields::NAMESPACE, a.namespace == b.namespace)
            || differ(PodFields::LABELS, a.labels == b.labels)
            || differ(PodFields::ACCELERATORS, a.accelerators == b.accelerators)
            || differ(PodFields::IMAGES, a.images == b.images)
            || differ(PodFields::DATA, a.reads == b.reads)
            || differ(PodFields::FORECAST, a.forecast == b.forecast)
            || looks_around(fields) && a.relations != b.relations)
}

/// Equal for pods that are alike, and mostly not for others.
fn fingerprint(pod: &Pending, fields: PodFields, meant: bool) -> u64 {
    use std::hash::{Hash, Hasher};

    let mut hash = Words::default();
    let demand = &pod.demand;
    let fields = widened(fields, demand, meant);
    if fields.has(PodFields::IDENTITY) {
        pod.id.hash(&mut hash);
    }
    if fields.has(PodFields::PRIORITY) {
        pod.priority.hash(&mut hash);
    }
    if fields.has(PodFields::REQUESTS) {
        demand.requests.hash(&mut hash);
        demand.scored.hash(&mut hash);
    }
    if fields.has(PodFields::NODE_NAME) {
        demand.node_name.hash(&mut hash);
    }
    if fields.has(PodFields::NODE_AFFINITY) {
        demand.node_selector.hash(&mut hash);
        let required = demand
            .node_affinity
            .iter()
            .flat_map(|all| &all.node_selector_terms);
        let preferred = demand.preferred_nodes.iter().map(|term| &term.preference);
        for term in required.chain(preferred) {
            for requirement in term.match_expressions.iter().chain(&term.match_fields) {
                (&requirement.key, &requirement.values).hash(&mut hash);
            }
        }
    }
    if fields.has(PodFields::TOLERATIONS) {
        for toleration in &demand.tolerations {
            (&toleration.key, &toleration.value).hash(&mut hash);
        }
    }
    if fields.has(PodFields::HOST_PORTS) {
        demand.host_ports.hash(&mut hash);
    }
    if fields.has(PodFields::NAMESPACE) {
        demand.namespace.hash(&mut hash);
    }
    if fields.has(PodFields::LABELS) {
        demand.labels.hash(&mut hash);
    }
    if fields.has(PodFields::ACCELERATORS) {
        demand.accelerators.hash(&mut hash);
    }
    if fields.has(PodFields::IMAGES) {
        demand.images.hash(&mut hash);
    }
    if fields.has(PodFields::DATA) {
        demand.reads.hash(&mut hash);
    }
    if fields.has(PodFields::FORECAST) {
        demand.forecast.hash(&mut hash);
    }
    if looks_around(fields) {
        demand.relations.hash(&mut hash);
    }
    hash.finish()
}

fn looks_around(fields: PodFields) -> bool {
    fields.has(PodFields::SPREAD) || fields.has(PodFields::POD_AFFINITY)
}

/// The fields that are looked at where it depends: who spreads is told apart by what its rules
/// look at, and labels matter to who may be meant by others.
fn widened(fields: PodFields, demand: &Demand, meant: bool) -> PodFields {
    let mut wide = fields;
    if let Some(relations) = demand.relations.as_deref() {
        if looks_around(fields) {
            wide = wide.with(PodFields::NAMESPACE).with(PodFields::LABELS);
        }
        let mut rules = relations.spread.iter().chain(&relations.prefer_spread);
        if fields.has(PodFields::SPREAD) && rules.next().is_some() {
            wide = wide
                .with(PodFields::NODE_AFFINITY)
                .with(PodFields::TOLERATIONS);
        }
    }
    if fields.has(PodFields::POD_AFFINITY) && meant {
        wide = wide.with(PodFields::NAMESPACE).with(PodFields::LABELS);
    }
    wide
}

/// Word by word, as in Firefox's hasher: the same in every process, as std's hashers are not.
#[derive(Debug, Default)]
pub(crate) struct Words(u64);

impl Words {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl std::hash::Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let tail = rest
            .iter()
            .fold(0, |tail, &byte| tail << 8 | u64::from(byte));
        self.word(tail);
    }

    fn write_u8(&mut self, byte: u8) {
        self.word(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_i64(&mut self, word: i64) {
        self.word(word as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
