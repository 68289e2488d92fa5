//! Probing by a command in the container.

use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::port::driver::{DriverErrorKind, WorkloadDriver};
use orchestra_core::port::probe::{
    ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict,
};
use tokio::time::Instant;

/// How much of a failed command's output its reason repeats, in characters.
const OUTPUT_CHARS_MAX: usize = 256;

/// Passes if a command, run by the driver of the container, exits with 0. Under the task driver
/// the command names a check function of the application.
#[derive(Clone, Debug)]
pub struct ExecProber {
    driver: Arc<dyn WorkloadDriver>,
}

impl ExecProber {
    /// Runs commands through `driver`.
    pub fn new(driver: Arc<dyn WorkloadDriver>) -> Self {
        Self { driver }
    }
}

#[async_trait]
impl Prober for ExecProber {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        const OP: &str = "probe by command";
        let ProbeSpec::Exec { command } = spec else {
            return Err(ProbeError::new(ProbeErrorKind::Unsupported, OP));
        };
        let fail = |kind, why: &'static str| {
            Err(ProbeError::new(kind, OP)
                .about(target.workload.to_string())
                .because(why))
        };
        if command.is_empty() {
            return fail(
                ProbeErrorKind::Invalid,
                "the command is empty; name a program",
            );
        }
        let Some(source) = self.driver.exec() else {
            return fail(
                ProbeErrorKind::Unsupported,
                "the driver runs no commands in workloads",
            );
        };
        let began = Instant::now();
        match source.exec(&target.workload, command).await {
            Ok(output) if output.code == 0 => Ok(Verdict::Pass {
                took: began.elapsed(),
            }),
            Ok(output) => {
                let said: String = output
                    .output
                    .trim()
                    .chars()
                    .take(OUTPUT_CHARS_MAX)
                    .collect();
                let reason = format!("{} exited with {}: {said}", command[0], output.code);
                Ok(Verdict::Fail { reason })
            }
            Err(error) => match error.kind() {
                DriverErrorKind::Exhausted | DriverErrorKind::Unavailable => {
                    Err(ProbeError::new(ProbeErrorKind::Exhausted, OP)
                        .about(target.workload.to_string())
                        .because(error))
                }
                // It does not run, or has no such command: the target's fault.
                _ => Ok(Verdict::Fail {
                    reason: orchestra_core::error::report(&error).to_string(),
                }),
            },
        }
    }
}
