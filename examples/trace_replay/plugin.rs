//! A policy of one's own: any scorer, under any name.

use orchestra_sched::place::plugin::{EachRow, PodFields, Reach, SCORE_MAX, Scale};
use orchestra_sched::snapshot::percent;
use orchestra_sched::trace::{Policy, Trace};

/// Prefers nodes of whose CPU most is in use. A closure over one row is enough; what it learns from
/// the trace's nodes and workload it may keep.
pub(crate) fn most_cpu(_: &Trace) -> Policy {
    let scorer = EachRow::new(
        "MostCpu",
        PodFields::REQUESTS,
        Reach::Node,
        Scale::AsIs,
        |cycle, rows, i| {
            let left = rows.cpu_free[i] - cycle.pod.demand.requests.cpu_milli;
            SCORE_MAX - percent(left, rows.cpu_total[i], rows.cpu_inverse[i])
        },
    );
    Policy::scored("most-cpu", scorer)
}
