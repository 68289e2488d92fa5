//! Asking plugins, which may panic.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use smol_str::{SmolStr, format_smolstr};

use super::plugin::{Cycle, Filter, Reach, Score, Scorer};
use super::profile::Profile;
use super::{Changes, Fault};
use crate::fits::Obstacle;
use crate::snapshot::{NodeIx, Rows};

/// How many panics a plan tells apart.
pub(super) const FAULTS_MAX: usize = 64;

/// The plugins of a profile, asked on behalf of one pod.
///
/// A panic goes no further than here. A filter that panics turns down the rows it was asked about,
/// a scorer that panics scores them 0, and both are reported.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) profile: &'a Profile,
    pub(super) cycle: Cycle<'a>,
    /// What settles ties.
    pub(super) salt: u64,
    pub(super) faults: &'a Faults,
    /// Whether answers may be pieced together; otherwise every plugin is asked about everything.
    pub(super) cleverly: bool,
}

impl Ask<'_> {
    pub(super) fn filter_reach(&self, at: usize) -> Reach {
        let filter = &*self.profile.filters[at];
        let reach = || filter.reach(&self.cycle);
        // Unknown is the widest; it will be asked, and turn everything down if it panics again.
        contain(reach).unwrap_or_else(|panic| {
            self.fault(filter.name(), panic);
            Reach::Cluster
        })
    }

    pub(super) fn scorer_reach(&self, at: usize) -> Reach {
        let scorer = &*self.profile.scorers[at].0;
        contain(|| scorer.reach(&self.cycle)).unwrap_or_else(|panic| {
            self.fault(scorer.name(), panic);
            Reach::Nothing
        })
    }

    pub(super) fn filter(&self, at: usize, rows: Rows<'_>, fits: &mut [bool]) {
        let filter = &*self.profile.filters[at];
        if let Err(panic) = filter_contained(filter, &self.cycle, rows, fits) {
            self.fault(filter.name(), panic);
        }
    }

    pub(super) fn score(&self, at: usize, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let scorer: &dyn Scorer = &*self.profile.scorers[at].0;
        if let Err(panic) = contain(|| scorer.score(&self.cycle, rows, fits, out)) {
            out.fill(0);
            self.fault(scorer.name(), panic);
        }
    }

    fn fault(&self, plugin: &'static str, note: SmolStr) {
        self.faults.add(plugin, self.cycle.pod, note);
    }
}

/// Panics of plugins during one plan.
#[derive(Debug, Default)]
pub(crate) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, plugin: &'static str, pod: &super::Pending, note: SmolStr) {
        let mut faults = self.0.borrow_mut();
        let known = |fault: &Fault| fault.plugin == plugin && fault.note == note;
        if faults.len() < FAULTS_MAX && !faults.iter().any(known) {
            faults.push(Fault {
                plugin,
                pod: pod.id.clone(),
                note,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(crate) fn take(&self) -> Vec<Fault> {
        self.0.take()
    }
}

/// What `f` returns, or what it said when it panicked.
pub(crate) fn contain<T>(f: impl FnOnce() -> T) -> Result<T, SmolStr> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format_smolstr!("it panicked: {}", said.unwrap_or("without a word"))
    })
}

/// Asks one filter; none of the rows fits if it panics.
pub(super) fn filter_contained(
    filter: &dyn Filter,
    cycle: &Cycle<'_>,
    rows: Rows<'_>,
    fits: &mut [bool],
) -> Result<(), SmolStr> {
    contain(|| filter.filter(cycle, rows, fits)).inspect_err(|_| fits.fill(false))
}

/// What one filter finds in the way on a node; its panic if it panics.
pub(super) fn obstacles_contained(
    filter: &dyn Filter,
    cycle: &Cycle<'_>,
    node: NodeIx,
    earlier: Option<&SmolStr>,
) -> Vec<Obstacle> {
    let answer = match earlier {
        Some(panic) => Err(panic.clone()),
        None => contain(|| filter.obstacles(cycle, node)),
    };
    answer.unwrap_or_else(|note| vec![panicked(filter.name(), note)])
}

pub(super) fn panicked(rule: &'static str, note: SmolStr) -> Obstacle {
    Obstacle::Other {
        rule,
        note,
        curable: true,
        helped_by: Changes::ANY,
    }
}
