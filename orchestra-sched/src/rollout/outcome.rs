//! From the sizes a strategy decided on to a step: what to do, what to remember, when to look
//! again, and what to tell people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::arithmetic::timed_out;
use super::sets::{Sets, count};
use super::{Generation, Memo, Phase, RolloutAction, RolloutStep, RolloutView, Scaled};

/// What a strategy decided.
#[derive(Debug)]
pub(super) struct Decision {
    /// The next size of every set.
    pub(super) sizes: BTreeMap<Generation, u32>,
    /// The scale that is reached with them.
    pub(super) scaled: Scaled,
    /// What it waits for, if it does nothing now and is not at its end.
    pub(super) waits: Option<String>,
}

impl Decision {
    /// The step that carries it out.
    pub(super) fn into_step(self, view: RolloutView<'_>, sets: &Sets<'_>) -> RolloutStep {
        let counts = sets.counts();
        let actions = sets.resize(&self.sizes);
        let complete = counts.complete(view.wanted);
        let settled = if complete {
            Some(view.target)
        } else {
            view.memo.settled
        };
        let on_the_way = !complete && !view.paused;
        let moved = view.memo.target != Some(view.target)
            || view.memo.progressed.is_none()
            || counts.progress_since(view.memo.counts);
        let progressed = match view.memo.progressed {
            _ if !on_the_way => None,
            _ if moved => Some(view.now),
            before => before,
        };
        // Once a revision was complete, a pod that fails later does not stall its rollout.
        let was_complete = settled == Some(view.target) && counts.current == counts.updated;
        let stalled = progressed.is_some_and(|progressed| {
            timed_out(view.deadline, view.now.since(progressed), was_complete)
        });
        let phase = match () {
            () if complete && actions.is_empty() => Phase::Done,
            () if stalled => Phase::Stalled,
            () if actions.is_empty() => Phase::Holding,
            () => Phase::Progressing,
        };
        let deadline = match (progressed, view.deadline) {
            (Some(progressed), Some(deadline)) if !stalled && !was_complete => {
                Some(progressed + deadline + Duration::from_micros(1))
            }
            _ => None,
        };
        let available = view
            .replicas
            .iter()
            .filter(|replica| replica.counts())
            .filter_map(|replica| replica.available_at(view.min_ready))
            .filter(|at| *at > view.now);
        let wake_at = if phase == Phase::Done {
            None
        } else {
            available.chain(deadline).min()
        };
        let mut sizes = self.sizes;
        sizes.retain(|_, size| *size > 0);
        let memo = Memo {
            target: Some(view.target),
            scaled: Some(self.scaled),
            sizes,
            counts,
            progressed,
            settled,
            own: view.memo.own.clone(),
        };
        let note = note(&view, sets, &actions, phase, self.waits.as_deref());
        RolloutStep {
            phase,
            actions,
            memo,
            wake_at,
            note,
        }
    }
}

fn note(
    view: &RolloutView<'_>,
    sets: &Sets<'_>,
    actions: &[RolloutAction],
    phase: Phase,
    waits: Option<&str>,
) -> String {
    let counts = sets.counts();
    let mut note = format!(
        "revision {}: {} of {} updated, {} available, {} old",
        view.target,
        counts.updated,
        view.wanted,
        counts.available,
        counts.current.saturating_sub(counts.updated)
    );
    // Writing to a String cannot fail.
    for action in actions {
        if let RolloutAction::Start { generation, count } = action {
            let _ = write!(note, "; start {count} of revision {generation}");
        }
    }
    let stops = count(
        actions
            .iter()
            .filter(|a| matches!(a, RolloutAction::Stop(_)))
            .count(),
    );
    if stops > 0 {
        let _ = write!(note, "; stop {stops}");
    }
    match phase {
        Phase::Done => note.push_str("; done"),
        Phase::Stalled => note.push_str("; no progress within its deadline"),
        _ => {}
    }
    if let Some(waits) = waits.filter(|_| actions.is_empty() && phase != Phase::Done) {
        let _ = write!(note, "; waits for {waits}");
    }
    note
}
