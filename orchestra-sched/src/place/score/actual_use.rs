//! What nodes were seen to use, not what was requested of them.

use crate::place::plugin::{Cycle, PodFields, Reach, Scale, Score, Scorer};
use crate::snapshot::{Rows, percent};

/// Prefers nodes of which most is free by what they were last
/// [seen to use](crate::snapshot::SnapshotBuilder::set_usage): the mean percentage of CPU and memory
/// that would be free with the pod on them.
///
/// What a node was seen to use is taken with what its pods are taken to use that started after
/// that, or are placed by this plan. A node that was never looked at counts by its requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActualUse;

impl Scorer for ActualUse {
    fn name(&self) -> &'static str {
        "ActualUse"
    }

    fn depends(&self) -> PodFields {
        PodFields::REQUESTS
    }

    fn reach(&self, _: &Cycle<'_>) -> Reach {
        Reach::Node
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let asked = cycle.pod.demand.scored;
        let before = cycle.snapshot().rows();
        for (i, node) in rows.nodes().enumerate().filter(|(i, _)| fits[*i]) {
            let row = cycle.snapshot().node(node);
            let (mut cpu, mut memory) = (rows.cpu_scored[i], rows.memory_scored[i]);
            if let Some(usage) = row.usage() {
                // What this plan added, or took away.
                cpu = cpu.saturating_sub(before.cpu_scored[node.row()]);
                memory = memory.saturating_sub(before.memory_scored[node.row()]);
                cpu = cpu.saturating_add(usage.cpu_milli.max(0));
                memory = memory.saturating_add(usage.memory.max(0));
                let unseen = |start: Option<_>| start.is_none_or(|start| start > usage.at);
                for running in row.pods().iter().filter(|pod| unseen(pod.started)) {
                    cpu = cpu.saturating_add(running.demand.scored.cpu_milli);
                    memory = memory.saturating_add(running.demand.scored.memory);
                }
            }
            let free = |total: i64, used: i64, asked: i64, inverse: u64| {
                let left = total.saturating_sub(used).saturating_sub(asked);
                percent(left, total, inverse)
            };
            let cpu = free(rows.cpu_total[i], cpu, asked.cpu_milli, rows.cpu_inverse[i]);
            let memory = free(
                rows.memory_total[i],
                memory,
                asked.memory,
                rows.memory_inverse[i],
            );
            out[i] = (cpu + memory) / 2;
        }
    }
}
