//! Looking at whether something is well.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::driver::WorkloadId;
use crate::error::{ErrorKind, PortError, Retry};

/// Whom to probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeTarget {
    /// The container.
    pub workload: WorkloadId,
    /// The pod's address, where network probes go unless they name a host.
    pub address: Option<IpAddr>,
}

/// How to look.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ProbeSpec {
    /// `GET` a path; 200 to 399 is success.
    Http {
        /// The host to connect to; `None` is the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
        /// The path with its query, starting with `/`.
        path: String,
        /// Further headers, in order.
        headers: Vec<(String, String)>,
    },
    /// Open a connection; success is that it opens.
    Tcp {
        /// The host to connect to; `None` is the pod's address.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// Run a command in the container; exit code 0 is success. Under the task driver the
    /// command's first word names a check function that the app registered.
    Exec {
        /// The command.
        command: Vec<String>,
    },
    /// Ask the gRPC health service.
    Grpc {
        /// The port.
        port: u16,
        /// The service to ask about; empty is the server as a whole.
        service: String,
    },
}

/// What the target did. A sick target is an answer, not an error.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// It answered as hoped.
    Pass {
        /// How long it took.
        took: Duration,
    },
    /// It answered badly.
    Fail {
        /// Why, for people.
        reason: String,
    },
}

/// Looks at one target once.
///
/// # Contract
///
/// * A target that answers badly, or not at all, is `Ok(Verdict::Fail)`. `Err` means that the
///   prober could not look; such a sample is discarded.
/// * The caller owns pacing, time-outs and thresholds, and cancels by dropping the future; a
///   dropped probe leaves nothing running.
/// * Probes of different targets do not wait for each other.
///
/// The suite `conformance::probe` tests an implementation against this.
#[async_trait]
pub trait Prober: fmt::Debug + Send + Sync + 'static {
    /// Probes once.
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError>;
}

const _: Option<&dyn Prober> = None;

/// The prober could not look.
pub type ProbeError = PortError<ProbeErrorKind>;

/// Why a prober could not look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeErrorKind {
    /// This prober does not know this kind of probe.
    #[error("this prober does not know this kind of probe")]
    Unsupported,
    /// The probe is not well formed: no address, a bad header.
    #[error("the probe is not well formed")]
    Invalid,
    /// The host lacks something to probe with.
    #[error("the host cannot probe now; try again with back-off")]
    Exhausted,
}

impl ErrorKind for ProbeErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::Exhausted => Retry::Backoff,
            Self::Unsupported | Self::Invalid => Retry::Never,
        }
    }
}
