//! Suites for schedulers and for plugins, written from the contracts on their traits.
//!
//! A suite asks its questions on many small clusters drawn from a seed, and gives the same kind of
//! [`Report`] as the suites of `orchestra-core`. In a test of yours it is three lines:
//!
//! ```
//! use std::sync::Arc;
//! use orchestra_sched::conformance;
//! use orchestra_sched::place::{Framework, filter, score};
//!
//! conformance::scheduler::run(|| Arc::new(Framework::default()), 1).assert_passed();
//! conformance::plugin::filter(&filter::NodeResourcesFit, 1).assert_passed();
//! conformance::plugin::scorer(&score::BalancedAllocation, 1).assert_passed();
//! ```

mod cases;
mod fields;
pub mod plugin;
mod reserve;
pub mod scheduler;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use orchestra_core::conformance::{Checked, Finding, Outcome, Report, Stop, fail};
use orchestra_core::time::Timestamp;

use crate::place::PlanInputs;
use crate::rng::PlanRng;

pub use world::World;

/// When the suites plan.
const NOW: Timestamp = Timestamp::from_secs(3_600);

fn inputs(seed: u64) -> PlanInputs {
    PlanInputs {
        now: NOW,
        rng: PlanRng::new(seed),
    }
}

/// Runs a check and notes what came of it.
fn check(
    report: &mut Report,
    name: &'static str,
    sentence: &'static str,
    body: impl FnOnce() -> Finding,
) {
    let outcome = match contained(body) {
        Ok(()) => Outcome::Passed,
        Err(Stop::Failed { expected, seen }) => Outcome::Failed { expected, seen },
        Err(Stop::Skipped { why }) => Outcome::Skipped { why },
    };
    report.checks.push(Checked {
        name,
        sentence,
        outcome,
    });
}

/// What `body` finds; a panic is a failure.
fn contained(body: impl FnOnce() -> Finding) -> Finding {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let seen = format!("panicked: {}", text_of(&*panic));
        fail("no panic", seen)
    })
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "(no text)".to_owned())
}
