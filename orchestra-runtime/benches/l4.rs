//! The L4 proxy against no proxy and against haproxy, all in one run.
//!
//! ```text
//! cargo bench -p orchestra-runtime --bench l4 [-- SECONDS ROUNDS]
//! ```
//!
//! Backend and load generator are built in and run in this process; each proxy is a process of
//! its own with two threads, whose CPU time is read from /proc. haproxy (`apt-get install
//! haproxy`) is skipped if it is not installed. In each round every target is measured for
//! SECONDS (1 by default) at each of these, and the median of ROUNDS (3 by default) is shown:
//!
//! * `alone`: one connection, one request of 64 bytes at a time, 256 bytes back: the latency that
//!   a proxy adds, with nothing waiting.
//! * `keep-alive`: 32 connections at once, the same requests.
//! * `connect`: 16 clients, a new connection for each request.
//! * `bulk`: one connection, as many bytes as go through.
//!
//! Linux only. On a machine that does other things as well compare within one run, not between
//! runs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestra_core::meta::Uid;
use orchestra_core::port::registry::{
    Endpoint, Endpoints, ServiceName, ServiceRegistry, SetGeneration,
};
use orchestra_runtime::net::address::free_port;
use orchestra_runtime::net::l4::{L4Limits, L4Proxy, L4Route};
use orchestra_runtime::net::registry::MemoryRegistry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const REQUEST: [u8; 64] = [b'q'; 64];
const BULK: [u8; 64] = [b'B'; 64];
const REPLY: [u8; 256] = [b'a'; 256];
const PROXY_THREADS: usize = 2;

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(PROXY_THREADS)
        .enable_all()
        .build()
        .unwrap();
    match args.first().map(String::as_str) {
        Some("proxy") => {
            runtime.block_on(proxy(args[1].parse().unwrap(), args[2].parse().unwrap()))
        }
        Some("--list") => {}
        _ => {
            let number =
                |n: usize, default| args.get(n).map_or(default, |arg| arg.parse().unwrap());
            let seconds = Duration::from_secs_f64(number(0, 1.0));
            runtime.block_on(measure(seconds, number(1, 3.0) as usize));
        }
    }
}

/// The process under test: our proxy with one listener, until its standard input ends.
async fn proxy(listen: SocketAddr, backend: SocketAddr) {
    let registry = Arc::new(MemoryRegistry::new());
    let service = ServiceName::new("bench", "echo");
    let endpoint = Endpoint {
        pod: Uid(1),
        pod_name: "echo-0".into(),
        address: backend.ip(),
        ports: Arc::new([("".into(), backend.port())]),
        ready: true,
        terminating: false,
        node: "".into(),
        zone: "".into(),
    };
    let set = Endpoints {
        generation: SetGeneration(1),
        all: Arc::new([endpoint]),
    };
    let _published = registry.apply(&service, set).await.unwrap();
    let mut proxy = L4Proxy::new(registry, L4Limits::default());
    proxy
        .ensure(L4Route {
            listen,
            service,
            port: "".into(),
        })
        .await
        .unwrap();
    println!("ready");
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    ended.await.unwrap();
    proxy.shutdown(Duration::ZERO).await;
}

/// Something to send requests to.
struct Target {
    name: &'static str,
    address: SocketAddr,
    process: Option<Child>,
}

impl Target {
    /// CPU seconds that its process has used.
    fn cpu_seconds(&self) -> f64 {
        let Some(process) = &self.process else {
            return 0.0;
        };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0 // Linux counts in hundredths for user space
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_address() -> SocketAddr {
    let ip = [127, 64, 0, 1].into();
    SocketAddr::new(ip, free_port(ip).unwrap())
}

fn start_ours(backend: SocketAddr) -> Target {
    let address = free_address();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["proxy", &address.to_string(), &backend.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert_eq!(ready, "ready\n");
    Target {
        name: "orchestra",
        address,
        process: Some(process),
    }
}

async fn start_haproxy(backend: SocketAddr) -> Option<Target> {
    let address = free_address();
    let mut config = tempfile::NamedTempFile::new().unwrap();
    write!(
        config,
        "global\n nbthread {PROXY_THREADS}\n maxconn 4096\n\
         defaults\n mode tcp\n timeout connect 1s\n timeout client 60s\n timeout server 60s\n\
         listen echo\n bind {address}\n server one {backend}\n"
    )
    .unwrap();
    let process = Command::new("haproxy")
        .args(["-db", "-q", "-f"])
        .arg(config.path())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let target = Target {
        name: "haproxy",
        address,
        process: Some(process),
    };
    for _ in 0..100 {
        if TcpStream::connect(address).await.is_ok() {
            return Some(target);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn serve(socket: TcpListener) {
    loop {
        let (mut client, _) = socket.accept().await.unwrap();
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            let mut request = REQUEST;
            loop {
                client.read_exact(&mut request).await?;
                if request == BULK {
                    let chunk = vec![b'x'; 256 * 1024];
                    loop {
                        client.write_all(&chunk).await?;
                    }
                }
                client.write_all(&REPLY).await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), std::io::Error>(())
        });
    }
}

/// What one measurement gave.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    per_cpu_second: f64,
    p50: Duration,
    p99: Duration,
}

async fn ask(stream: &mut TcpStream) {
    let mut reply = REPLY;
    stream.write_all(&REQUEST).await.unwrap();
    stream.read_exact(&mut reply).await.unwrap();
}

async fn load(target: &Target, clients: usize, reconnect: bool, span: Duration) -> Figures {
    let address = target.address;
    let (cpu, began) = (target.cpu_seconds(), Instant::now());
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let mut took = Vec::new();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            while began.elapsed() < span {
                let asked = Instant::now();
                if reconnect {
                    stream = TcpStream::connect(address).await.unwrap();
                }
                ask(&mut stream).await;
                took.push(asked.elapsed());
                if reconnect {
                    // Leaves no port waiting, so that a long run does not run out of them.
                    stream.set_zero_linger().unwrap();
                }
            }
            took
        });
    }
    let mut took: Vec<Duration> = all.join_all().await.into_iter().flatten().collect();
    took.sort_unstable();
    let requests = took.len() as f64;
    Figures {
        per_second: requests / began.elapsed().as_secs_f64(),
        per_cpu_second: requests / (target.cpu_seconds() - cpu),
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
    }
}

/// Bytes per second, and per CPU second of the proxy.
async fn bulk(target: &Target, span: Duration) -> Figures {
    let mut stream = TcpStream::connect(target.address).await.unwrap();
    stream.write_all(&BULK).await.unwrap();
    let (cpu, began) = (target.cpu_seconds(), Instant::now());
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0);
    while began.elapsed() < span {
        bytes += stream.read(&mut buffer).await.unwrap();
    }
    let bytes = bytes as f64;
    Figures {
        per_second: bytes / began.elapsed().as_secs_f64(),
        per_cpu_second: bytes / (target.cpu_seconds() - cpu),
        p50: Duration::ZERO,
        p99: Duration::ZERO,
    }
}

async fn measure(span: Duration, rounds: usize) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = socket.local_addr().unwrap();
    tokio::spawn(serve(socket));
    let mut targets = vec![Target {
        name: "direct",
        address: backend,
        process: None,
    }];
    targets.push(start_ours(backend));
    match start_haproxy(backend).await {
        Some(target) => targets.push(target),
        None => println!("haproxy: skipped, it is not installed or does not start"),
    }
    let cases = ["alone", "keep-alive", "connect", "bulk"];
    let mut seen = vec![vec![Vec::new(); targets.len()]; cases.len()];
    for _ in 0..rounds.max(1) {
        for (case, row) in cases.iter().zip(&mut seen) {
            for (target, figures) in targets.iter().zip(row) {
                figures.push(match *case {
                    "alone" => load(target, 1, false, span).await,
                    "keep-alive" => load(target, 32, false, span).await,
                    "connect" => load(target, 16, true, span).await,
                    _ => bulk(target, span).await,
                });
            }
        }
    }
    println!("median of {rounds} rounds of {span:?} each, proxies with {PROXY_THREADS} threads");
    for (case, row) in cases.iter().zip(&seen) {
        println!("\n{case}");
        let mut direct = None;
        for (target, figures) in targets.iter().zip(row) {
            let figures = median(figures);
            let base = *direct.get_or_insert(figures);
            let name = target.name;
            if *case == "bulk" {
                let (per, cpu) = (figures.per_second / 1e6, figures.per_cpu_second / 1e6);
                println!("  {name:<10} {per:>9.0} MB/s {cpu:>9.0} MB per proxy CPU s");
                continue;
            }
            let added =
                |now: Duration, base: Duration| (now.as_secs_f64() - base.as_secs_f64()) * 1e6;
            println!(
                "  {name:<10} {:>9.0} requests/s {:>9.0} per proxy CPU s   p50 {:>6.0} us \
                 ({:+.0})   p99 {:>6.0} us ({:+.0})",
                figures.per_second,
                figures.per_cpu_second,
                figures.p50.as_secs_f64() * 1e6,
                added(figures.p50, base.p50),
                figures.p99.as_secs_f64() * 1e6,
                added(figures.p99, base.p99),
            );
        }
    }
}

/// Each figure's median by itself.
fn median(all: &[Figures]) -> Figures {
    let middle = |figure: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let span = |figure: fn(&Figures) -> f64| Duration::from_secs_f64(middle(figure));
    Figures {
        per_second: middle(|f| f.per_second),
        per_cpu_second: middle(|f| f.per_cpu_second),
        p50: span(|f| f.p50.as_secs_f64()),
        p99: span(|f| f.p99.as_secs_f64()),
    }
}
