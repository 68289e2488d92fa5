//! What is known ahead about the probes of one machine.

use std::sync::Arc;

use orchestra_core::chaos::Faults;
use orchestra_core::port::probe::ProbeTarget;
use orchestra_core::time::Timestamp;
use tokio::sync::watch;

use crate::driver::sim::{SimDriver, SimProber};
use crate::probe::Foresight;

/// What the script of a machine's workloads says, as long as no call goes wrong by chance.
#[derive(Debug)]
pub(super) struct CalmForesight {
    script: SimProber,
    faults: Faults,
}

impl CalmForesight {
    /// Of the workloads of `driver`, whose probes `faults` may disturb. Who changes those
    /// [shakes](SimDriver::shaken) the driver.
    pub(super) fn new(driver: Arc<SimDriver>, faults: Faults) -> Self {
        let script = SimProber::new(driver);
        Self { script, faults }
    }
}

impl Foresight for CalmForesight {
    fn passes_until(&self, target: &ProbeTarget) -> Option<Timestamp> {
        let calm = self.faults.is_calm();
        calm.then(|| self.script.passes_until(target)).flatten()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.script.changes()
    }
}
