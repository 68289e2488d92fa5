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
    /// From the rows in `emptied` the plan itself took pods.
    pub(super) fn new(
        snapshot: &Snapshot,
        mut everywhere: Everywhere,
        mut memos: Vec<Memo>,
        once: Vec<(u64, i32)>,
        emptied: &[NodeIx],
    ) -> Self {
        emptied.iter().for_each(|&node| everywhere.forget(node));
        if everywhere.known() > PODS_KEPT_MAX {
            everywhere = Everywhere::new(snapshot.len());
            if !snapshot.budgets().is_empty() {
                // Without it nobody can say which answers budgets change.
                memos.clear();
            }
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
        let mut again = Vec::new();
        let (before, now) = (&self.budgets, snapshot.shared_budgets());
        if !Arc::ptr_eq(before, now) {
            if !cover_the_same(before, now) {
                self.memos.clear();
                self.everywhere.count(now);
            }
            for (at, (before, now)) in before.iter().zip(&**now).enumerate() {
                let (one, other) = (before.disruptions_allowed, now.disruptions_allowed);
                if one != other {
                    again.extend(self.everywhere.strained(at, one.min(other)));
                }
            }
        }
        self.everywhere.begin();
        changed
            .iter()
            .for_each(|&node| self.everywhere.forget(node));
        changed.extend(again);
        Some((self.everywhere, self.memos, self.once, changed))
    }
}

/// Whether two lists of budgets differ in nothing but how many pods may go.
fn cover_the_same(one: &[Budget], other: &[Budget]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            (&one.key, &one.selector, &one.disrupted)
                == (&other.key, &other.selector, &other.disrupted)
        })
}
