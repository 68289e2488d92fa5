//! A prober of one's own: `PING` must be answered with `PONG`. First its suite, then at work: a
//! task that falls sick is restarted. `cargo run --example custom_prober`, about five seconds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use orchestra_core::conformance::probe::{self, Case, Cases};
use orchestra_core::port::driver::WorkloadId;
use orchestra_core::port::probe::*;
use orchestra_runtime::orchestra::TASK;
use orchestra_runtime::prelude::*;
use orchestra_runtime::probe::Probers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Takes the place of the prober that is content when a connection opens.
#[derive(Debug)]
struct PongProber;

#[async_trait]
impl Prober for PongProber {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        // That it cannot look is an error, and discards the sample …
        let ProbeSpec::Tcp { host: None, port } = spec else {
            return Err(ProbeError::new(ProbeErrorKind::Unsupported, "ping"));
        };
        let Some(address) = target.address else {
            return Err(ProbeError::new(ProbeErrorKind::Invalid, "ping")
                .about(target.workload.to_string())
                .because("the pod has no address yet"));
        };
        // … that the target is sick is an answer. The caller owns the time-out, and drops this.
        let began = Instant::now();
        let reason = match ping(address, *port).await {
            Ok(answer) if &answer == b"PONG\n" => {
                let took = began.elapsed();
                return Ok(Verdict::Pass { took });
            }
            Ok(answer) => format!("said {:?}, not PONG", String::from_utf8_lossy(&answer)),
            Err(error) => format!("no answer: {error}"),
        };
        Ok(Verdict::Fail { reason })
    }
}

/// Exactly five bytes: however much a sick server says, no more is read.
async fn ping(address: IpAddr, port: u16) -> std::io::Result<[u8; 5]> {
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(b"PING\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Answers every ping with what `answer` says of its number; `None` is silence.
async fn serve(
    listener: TcpListener,
    answer: impl Fn(u32) -> Option<&'static str>,
) -> std::io::Result<()> {
    let mut unanswered = Vec::new();
    for number in 0.. {
        let (mut client, _) = listener.accept().await?;
        match answer(number) {
            Some(line) => client.write_all(line.as_bytes()).await?,
            None => unanswered.push(client),
        }
    }
    Ok(())
}

/// Is well for three pings. The first start then falls sick; the next one does not.
async fn moody(task: TaskContext) -> Result<(), TaskError> {
    let ip = task.pod_ip().ok_or("a pod has an address")?;
    let sick_after = if task.attempt() == 0 { 3 } else { u32::MAX };
    let mood = |ping| {
        Some(if ping < sick_after {
            "PONG\n"
        } else {
            "BUSY\n"
        })
    };
    tokio::select! {
        biased;
        () = task.stopping() => Ok(()),
        ended = serve(TcpListener::bind((ip, 7000)).await?, mood) => Ok(ended?),
    }
}

/// A target on this host's loopback, kept running until this program ends.
async fn target(answer: Option<&'static str>) -> std::io::Result<Case> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (host, port) = (None, listener.local_addr()?.port());
    let address = Some(listener.local_addr()?.ip());
    tokio::spawn(serve(listener, move |_| answer));
    let workload = WorkloadId::default();
    Ok((
        ProbeTarget { workload, address },
        ProbeSpec::Tcp { host, port },
    ))
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), BoxError> {
    orchestra_examples::no_arguments();
    let well = target(Some("PONG\n")).await?;
    let sick = vec![target(Some("BUSY\n")).await?, target(Some("P")).await?];
    let (silent, command) = (target(None).await?, vec!["true".into()]);
    let unknown = (well.0.clone(), ProbeSpec::Exec { command });
    let (silent, unknown) = (Some(silent), Some(unknown));
    let cases = Cases {
        well,
        sick,
        silent,
        unknown,
    };
    let report = probe::run(Arc::new(PongProber), cases, tokio::time::sleep).await;
    println!("{report}\n");
    report.assert_passed();

    let builder = Orchestra::builder().task("moody", moody);
    let prober = |_: &str, driver| Probers::standard(driver).tcp(Arc::new(PongProber));
    let builder = builder.prober(TASK, move |node, driver| Arc::new(prober(node, driver)));
    let orchestra = builder.start().await?;
    let every_second = Probe::tcp(7000).period(1).failures(1);
    let container = Container::new("moody", "moody").liveness(every_second);
    let pod = Pod::builder("moody").container(container);
    orchestra.apply(pod).await?;
    let began = Instant::now();
    let key = ObjectKey::namespaced("default", "moody");
    let mut count = 0;
    for hoped in 0..2 {
        let is_so = |pod: Option<&Pod>| pod.is_some_and(|p| p.is_ready() && restarts(p) >= hoped);
        let pod = orchestra.wait_for::<Pod>(&key, is_so);
        let pod = tokio::time::timeout(Duration::from_secs(30), pod).await?;
        count = pod.map_or(0, |pod| restarts(&pod));
        let passed = began.elapsed();
        println!("{passed:.1?}: moody is ready, restarted {count} times");
    }
    orchestra.stop().await;
    assert_eq!(count, 1, "restarted once, and well since");
    Ok(())
}

fn restarts(pod: &Pod) -> u32 {
    let statuses = pod.status.container_statuses.iter();
    statuses.map(|status| status.restart_count).sum()
}
