//! What a search for room leaves to the search of a later plan.

use std::sync::Arc;

use super::here::Everywhere;
use super::search::Memo;
use crate::budget::Budget;
use crate::snapshot::{Mark, NodeIx, Snapshot};

/// Where more rows are to be asked again, and more than a quarter of them, asking all is as quick.
const BEHIND_MAX: usize = 16;

/// How many rows there may be in all that is kept, each shape's counted anew.
const ROWS_KEPT_MAX: usize = 1 << 18;

/// With more pods than this, who is where is looked at anew. Each takes some 64 bytes.
const PODS_KEPT_MAX: usize = 1 << 18;

/// Answers as of some snapshot, to be brought up to date when they are wanted again. Whether they are
/// recalled or found anew changes no plan.
#[derive(Debug)]
pub(in crate::place) struct Kept {
    mark: Mark,
    budgets: Arc<Vec<Budget>>,
    everywhere: Everywhere,
    memos: Vec<Memo>,
    once: Vec<(u64, i32)>,
}

/// What may still serve: who is where, the answers by shape, the shapes asked about once, and the rows
/// that changed since.
type Followed = (Everywhere, Vec<Memo>, Vec<(u64, i32)>, Vec<NodeIx>);

impl Kept {
    /// `own` are the rows that the plan itself changed.
    pub(super) fn new(
        snapshot: &Snapshot,
        mut everywhere: Everywhere,
        mut memos: Vec<Memo>,
        once: Vec<(u64, i32)>,
        own: &[NodeIx],
    ) -> Self {
        own.iter().for_each(|&node| everywhere.forget(node));
        if everywhere.known() > PODS_KEPT_MAX {
            everywhere = Everywhere::new(snapshot.len());
        }
        memos.retain_mut(|memo| memo.tidy() <= BEHIND_MAX + snapshot.len() / 4);
        let many = ROWS_KEPT_MAX / snapshot.len().max(1);
        memos.drain(..memos.len().saturating_sub(many.max(1)));
        Self {
            mark: snapshot.history().mark(),
            budgets: Arc::clone(snapshot.shared_budgets()),
            everywhere,
            memos,
            once,
        }
    }

    /// What is still known of a later snapshot, and the rows that changed since; `None` if nothing
    /// is.
    pub(super) fn follow(mut self, snapshot: &Snapshot) -> Option<Followed> {
        let history = snapshot.history();
        let few = |count: usize| count <= BEHIND_MAX + snapshot.len() / 4;
        if !history.same_nodes(&self.mark) || !history.count_since(&self.mark).is_some_and(few) {
            return None;
        }
        let mut changed: Vec<NodeIx> = history.since(&self.mark)?.collect();
        changed.sort_unstable();
        changed.dedup();
        let budgets = snapshot.shared_budgets();
        if !Arc::ptr_eq(budgets, &self.budgets) && *budgets != self.budgets {
            self.memos.clear();
        }
        self.everywhere.begin();
        changed
            .iter()
            .for_each(|&node| self.everywhere.forget(node));
        Some((self.everywhere, self.memos, self.once, changed))
    }
}
