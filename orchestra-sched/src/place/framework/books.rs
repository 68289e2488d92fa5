//! The books of one plan: a [`Reserve`] of each kind, asked together.

use smol_str::SmolStr;

use super::super::ask::{Faults, contain, panicked};
use super::super::plugin::{Cycle, Reserve, ReserveFactory};
use super::super::{Changes, Pending};
use crate::fits::Obstacle;
use crate::snapshot::{NodeIx, Snapshot};

/// What books are called that could not even be opened, and so have no name yet.
const UNOPENED: &str = "ReserveFactory";

/// What a plan claims beside the columns.
#[derive(Debug, Default)]
pub(super) struct Books(Vec<Result<Box<dyn Reserve>, SmolStr>>);

impl Books {
    pub(super) fn open(factories: &[Box<dyn ReserveFactory>], snapshot: &Snapshot) -> Self {
        let opened = factories.iter();
        Self(opened.map(|one| contain(|| one.open(snapshot))).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Claims from all, or from none.
    pub(super) fn reserve(
        &mut self,
        faults: &Faults,
        cycle: &Cycle<'_>,
        node: NodeIx,
    ) -> Result<(), Obstacle> {
        for at in 0..self.0.len() {
            let (rule, claim) = match &mut self.0[at] {
                Ok(book) => (book.name(), contain(|| book.reserve(cycle, node))),
                Err(panic) => (UNOPENED, Err(panic.clone())),
            };
            let obstacle = match claim {
                Ok(Ok(())) => continue,
                Ok(Err(refusal)) => Obstacle::Other {
                    rule,
                    note: refusal.note,
                    curable: refusal.curable,
                    helped_by: Changes::ANY,
                },
                Err(panic) => {
                    faults.add(rule, cycle.pod, panic.clone());
                    panicked(rule, panic)
                }
            };
            release(&mut self.0[..at], faults, cycle.pod, node);
            return Err(obstacle);
        }
        Ok(())
    }

    /// Gives back what was claimed for the pod, in reverse order.
    pub(super) fn release(&mut self, faults: &Faults, pod: &Pending, node: NodeIx) {
        release(&mut self.0, faults, pod, node);
    }
}

fn release(
    books: &mut [Result<Box<dyn Reserve>, SmolStr>],
    faults: &Faults,
    pod: &Pending,
    node: NodeIx,
) {
    for book in books.iter_mut().rev().flatten() {
        if let Err(panic) = contain(|| book.release(pod, node)) {
            faults.add(book.name(), pod, panic);
        }
    }
}
