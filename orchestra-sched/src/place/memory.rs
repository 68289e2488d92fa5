//! What plans learned of shapes of pods, kept for the plans to come.

use std::sync::Arc;

use orchestra_core::time::Timestamp;

use super::Pending;
use super::ask::Ask;
use super::framework::SWEEPS_KEPT_MAX;
use super::plugin::{PodFields, Reach};
use super::preempt;
use super::share::alike;
use super::sketch::Sketch;
use super::sweep::{Sweep, reaches};
use crate::snapshot::relations::Counts;
use crate::snapshot::{Ledger, Mark, NodeIx, NodeRow, Pages, Snapshot};

/// How many fingerprints of shapes are remembered.
const SEEN: usize = 1_024;

/// Answers by shape of pod, each as of some snapshot, to be brought up to date when they are
/// wanted again.
///
/// Whether an answer is recalled or found anew changes no plan.
#[derive(Debug)]
pub(super) struct Memory {
    /// Least recently used first.
    kept: Vec<Kept>,
    /// What was counted of the company of pods.
    counted: Option<Counted>,
    /// For shapes that are new, and whether it is as of the snapshot of the plan in the making.
    sketch: Option<Sketch>,
    sketched: bool,
    /// Where room can be made.
    room: Option<preempt::Kept>,
    /// When a shape was last asked about, by its fingerprint, counted in questions.
    seen: Vec<(u64, u64)>,
    questions: u64,
    /// The fields by which shapes differ, for the plan in the making.
    fields: PodFields,
    meant: bool,
}

/// Counts, and what they are as of.
#[derive(Debug)]
struct Counted {
    mark: Mark,
    rows: Pages<Arc<NodeRow>>,
    counts: Counts,
}

#[derive(Debug)]
struct Kept {
    fingerprint: u64,
    pod: Pending,
    now: Timestamp,
    /// The snapshot it is as of,
    mark: Mark,
    /// but for these rows, which hold placements of the plan that it was made for.
    but: Vec<NodeIx>,
    sweep: Box<Sweep>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            counted: None,
            sketch: None,
            sketched: false,
            room: None,
            seen: vec![(0, 0); SEEN],
            questions: 0,
            fields: PodFields::ALL,
            meant: true,
        }
    }
}

impl Memory {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A plan begins. Pods differ by `fields`, and by labels if others may mean them by those.
    pub(super) fn begin(&mut self, fields: PodFields, meant: bool) {
        (self.fields, self.meant) = (fields, meant);
        self.sketched = false;
    }

    /// Hands what was counted before to `ledger`, which is new, brought up to date.
    pub(super) fn hand_over(&mut self, ledger: &mut Ledger) {
        let Some(Counted { mark, rows, counts }) = self.counted.take() else {
            return;
        };
        let snapshot = ledger.snapshot().clone();
        let history = snapshot.history();
        let few = |count: usize| count <= 16 + snapshot.len() / 8;
        if !history.count_since(&mark).is_some_and(few) || !history.same_nodes(&mark) {
            return;
        }
        let mut changed: Vec<NodeIx> = history.since(&mark).into_iter().flatten().collect();
        changed.sort_unstable();
        changed.dedup();
        let mut moved = Vec::new();
        for node in changed {
            let before = rows.get(node.row()).map_or(&[][..], |row| row.pods());
            let now = snapshot.node(node).pods();
            for at in 0..before.len().max(now.len()) {
                let (old, new) = (before.get(at), now.get(at));
                if let (Some(old), Some(new)) = (old, new)
                    && Arc::ptr_eq(old, new)
                {
                    continue;
                }
                moved.extend(old.map(|old| (node, Arc::clone(old), -1)));
                moved.extend(new.map(|new| (node, Arc::clone(new), 1)));
            }
        }
        ledger.take_over(counts, moved.into_iter());
    }

    /// Keeps what a plan's ledger counted.
    pub(super) fn keep_counts(&mut self, ledger: Ledger) {
        let (mark, rows) = (
            ledger.snapshot().history().mark(),
            ledger.snapshot().node_rows().clone(),
        );
        let counts = ledger.into_counts();
        self.counted = counts.map(|counts| Counted { mark, rows, counts });
    }

    /// What was learned of where room can be made.
    pub(super) fn take_room(&mut self) -> Option<preempt::Kept> {
        self.room.take()
    }

    /// Keeps what a plan learned of where room can be made.
    pub(super) fn keep_room(&mut self, room: preempt::Kept) {
        self.room = Some(room);
    }

    /// Rough columns of the cluster with what the plan placed so far.
    pub(super) fn sketch(&mut self, ledger: &Ledger, log: &[NodeIx]) -> &mut Sketch {
        let snapshot = ledger.snapshot();
        let sketch = self.sketch.get_or_insert_with(|| Sketch::new(snapshot));
        if !std::mem::replace(&mut self.sketched, true) {
            sketch.follow(snapshot);
        }
        sketch.sync(ledger, log);
        sketch
    }

    /// Notes a question about a shape; whether there was one so lately that another is likely.
    pub(super) fn is_back(&mut self, fingerprint: u64) -> bool {
        self.questions += 1;
        let seen = &mut self.seen[fingerprint as usize % SEEN];
        let (last, at) = std::mem::replace(seen, (fingerprint, self.questions));
        let ago = self.questions - at;
        at > 0 && last == fingerprint && ago <= SWEEPS_KEPT_MAX as u64
    }

    /// What is known of pods like the one asked about, as of the snapshot beneath.
    pub(super) fn take(&mut self, ask: &Ask<'_>, fingerprint: u64) -> Option<Box<Sweep>> {
        let (pod, fields) = (ask.cycle.pod, self.fields);
        let known = |kept: &Kept| {
            kept.fingerprint == fingerprint && alike(&kept.pod, pod, fields, self.meant)
        };
        let at = self.kept.iter().rposition(known)?;
        let mut kept = self.kept.remove(at);
        if fields.has(PodFields::NOW) && kept.now != ask.cycle.now {
            return None;
        }
        let history = ask.cycle.snapshot().history();
        let changes = history.count_since(&kept.mark)? + kept.but.len();
        let same_nodes = history.same_nodes(&kept.mark);
        if fields.has(PodFields::NODES) && !same_nodes && looks_at_other_nodes(ask) {
            return None;
        }
        // Asking about all rows is quicker a row.
        if changes > 16 + ask.cycle.ledger.rows().len() / 8 {
            return None;
        }
        let changed = history.since(&kept.mark)?.chain(kept.but.iter().copied());
        kept.sweep
            .catch_up(ask, same_nodes, changed)
            .then_some(kept.sweep)
    }

    /// Keeps what a plan learned. `log` are the rows that its placements changed.
    pub(super) fn keep(
        &mut self,
        pod: &Pending,
        fingerprint: u64,
        now: Timestamp,
        snapshot: &Snapshot,
        log: &[NodeIx],
        sweep: Box<Sweep>,
    ) {
        let but = &log[..sweep.synced];
        if but.len() > snapshot.len() / 8 {
            return;
        }
        if self.kept.len() == SWEEPS_KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push(Kept {
            fingerprint,
            pod: pod.clone(),
            now,
            mark: snapshot.history().mark(),
            but: but.to_vec(),
            sweep,
        });
    }
}

/// Whether a plugin that looks at other nodes than the one it is asked about has anything to say of the
/// pod.
fn looks_at_other_nodes(ask: &Ask<'_>) -> bool {
    let filters = ask.profile.filters.iter().map(|filter| filter.depends());
    let scorers = ask
        .profile
        .scorers
        .iter()
        .map(|(scorer, _)| scorer.depends());
    let all = filters.chain(scorers).zip(reaches(ask));
    { all }.any(|(depends, reach)| depends.has(PodFields::NODES) && reach != Reach::Nothing)
}
