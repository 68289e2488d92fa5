//! What may go wrong.

use orchestra_core::chaos::Rates;
use orchestra_core::kind::Taint;
use smol_str::SmolStr;

/// Something that goes wrong, or right again. See [`Cluster::fault`](super::Cluster::fault).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// The machine loses its power: its agent and all that runs there are gone at once.
    LoseNode(SmolStr),
    /// A machine without power gets it back: its agent begins anew, and nothing runs.
    ReturnNode(SmolStr),
    /// The agent's process dies and begins anew at once. What runs goes on running.
    RestartAgent(SmolStr),
    /// The agent is cut off: its view freezes and its calls to the store fail. What runs goes on.
    Partition(SmolStr),
    /// The partition of the agent ends.
    Heal(SmolStr),
    /// The control plane's process dies and begins anew at once.
    RestartControl,
    /// The control plane dies with one of its next commits, `after` so many others, and begins
    /// anew.
    KillControlAtCommit {
        /// Commits of the control plane that still go through.
        after: u64,
        /// Whether the fatal commit lands before it dies, or never reaches the store.
        landed: bool,
    },
    /// The control plane is cut off from the store.
    CutControl,
    /// The control plane reaches the store again.
    HealControl,
    /// All watches of the agents' and the control plane's live copies break, and are made anew.
    BreakWatches,
    /// From now on single calls to the store and probes fail at these rates: refused, lost, late,
    /// doubled, of unknown outcome; watches break.
    Calls(Rates),
    /// The workloads of the pods whose `namespace/name` starts like this end with code 1.
    Crash(SmolStr),
    /// The workloads of those pods stop answering, until they are started anew.
    Hang(SmolStr),
    /// The workloads of those pods answer badly (`false`), or well again (`true`).
    Healthy(SmolStr, bool),
    /// The driver of a node does not answer (`false`), or does again (`true`).
    Driver(SmolStr, bool),
    /// Nobody may place pods on the node.
    Cordon(SmolStr),
    /// Pods may be placed there again.
    Uncordon(SmolStr),
    /// The node gets a taint; `NoExecute` drains it of all that does not tolerate it.
    Taint(SmolStr, Taint),
    /// The taint of that key goes.
    Untaint(SmolStr, SmolStr),
    /// All is well again: power, lines, rates, drivers. What people asked for (cordons, taints)
    /// stays.
    HealAll,
}
