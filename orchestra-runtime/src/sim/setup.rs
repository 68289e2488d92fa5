//! What a simulation is made of.

use std::fmt;
use std::sync::{Arc, Mutex};

use orchestra_core::chaos::Rates;
use orchestra_core::kind::Node;
use orchestra_core::port::store::StateStore;

use crate::agent::{AgentSettings, NodeView};
use crate::control_plane::ControlSettings;
use crate::driver::sim::SimScript;

pub(super) type StoreLayer = Arc<dyn Fn(Arc<dyn StateStore>) -> Arc<dyn StateStore> + Send + Sync>;
pub(super) type ViewLayer = Arc<dyn Fn(Arc<dyn NodeView>) -> Arc<dyn NodeView> + Send + Sync>;

/// The parts and settings of one run.
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) script: SimScript,
    pub(super) control: ControlSettings,
    pub(super) agent: AgentSettings,
    /// The rates of faults of single calls, now.
    pub(super) rates: Mutex<Rates>,
    /// Goes between the store and all who use it.
    pub(super) store_layer: StoreLayer,
    /// Goes between the live copies and each agent.
    pub(super) view_layer: ViewLayer,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("seed", &self.seed)
            .field("nodes", &self.nodes.len())
            .field("rates", &self.rates)
            .finish_non_exhaustive()
    }
}
