//! What this host has to give.

use orchestra_core::kind::Node;

/// Where memory is not known, so much is taken for granted.
const MEMORY_MIB_UNKNOWN: u32 = 1_024;

/// As many pods as a node of Kubernetes takes by default.
const PODS_MAX: u32 = 110;

/// A node with this host's cores and memory.
pub(super) fn node(name: &str) -> Node {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu_milli = u32::try_from(cores)
        .unwrap_or(u32::MAX)
        .saturating_mul(1_000);
    Node::new(name).capacity(
        cpu_milli,
        memory_mib().unwrap_or(MEMORY_MIB_UNKNOWN),
        PODS_MAX,
    )
}

fn memory_mib() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    u32::try_from(kib / 1_024).ok()
}
