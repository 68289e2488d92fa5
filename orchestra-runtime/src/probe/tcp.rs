//! Probing by opening a connection.

use std::io;

use async_trait::async_trait;
use orchestra_core::port::probe::{
    ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict,
};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Passes if a TCP connection opens.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpProber;

#[async_trait]
impl Prober for TcpProber {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let ProbeSpec::Tcp { host, port } = spec else {
            return Err(ProbeError::new(ProbeErrorKind::Unsupported, "probe by TCP"));
        };
        let host = host_of(target, host.as_deref(), "probe by TCP")?;
        let began = Instant::now();
        Ok(match connect(&host, *port, "probe by TCP").await? {
            Ok(_) => Verdict::Pass {
                took: began.elapsed(),
            },
            Err(reason) => Verdict::Fail { reason },
        })
    }
}

/// The host that the probe names, or the pod's address.
pub(super) fn host_of(
    target: &ProbeTarget,
    named: Option<&str>,
    op: &'static str,
) -> Result<String, ProbeError> {
    match (named.filter(|host| !host.is_empty()), target.address) {
        (Some(host), _) => Ok(host.to_owned()),
        (None, Some(address)) => Ok(address.to_string()),
        (None, None) => Err(ProbeError::new(ProbeErrorKind::Invalid, op)
            .about(target.workload.to_string())
            .because("the pod has no address yet and the probe names no host; set `host`")),
    }
}

/// Connects. The inner error is the target's failure, the outer one that of this host.
pub(super) async fn connect(
    host: &str,
    port: u16,
    op: &'static str,
) -> Result<Result<TcpStream, String>, ProbeError> {
    match TcpStream::connect((host, port)).await {
        Ok(stream) => Ok(Ok(stream)),
        Err(error) if is_ours(&error) => Err(ProbeError::new(ProbeErrorKind::Exhausted, op)
            .about(format!("{host}:{port}"))
            .because(error)),
        Err(error) => Ok(Err(format!(
            "{host}:{port} cannot be connected to: {error}"
        ))),
    }
}

/// Whether it says something about this host, not about the target.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    Errno::from_io_error(error).is_some_and(|errno| ours.contains(&errno))
}
