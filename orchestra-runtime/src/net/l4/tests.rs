#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

use orchestra_core::port::registry::{Applied, Endpoint, Endpoints, SetGeneration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::net::registry::MemoryRegistry;

const PATIENCE: Duration = Duration::from_secs(60);

/// Greets each connection with its number, then echoes.
struct Backend {
    number: u8,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    async fn start(number: u8) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = socket.accept().await.unwrap();
                connections.spawn(async move {
                    let (mut from, mut to) = client.split();
                    to.write_all(&[number]).await?;
                    tokio::io::copy(&mut from, &mut to).await?;
                    to.shutdown().await
                });
            }
        });
        Self {
            number,
            address,
            task,
        }
    }

    /// As a kill does: the port is refused and what was open is cut, when this returns.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

struct Bed {
    registry: Arc<MemoryRegistry>,
    proxy: L4Proxy,
    handle: L4Handle,
    route: L4Route,
    generation: u64,
}

impl Bed {
    /// A proxy with one listener on a free port, and no endpoints.
    async fn new(limits: L4Limits) -> Self {
        let registry = Arc::new(MemoryRegistry::new());
        let mut proxy = L4Proxy::new(Arc::clone(&registry) as _, limits);
        let route = route("web", free_address());
        proxy.ensure(route.clone()).await.unwrap();
        Self {
            registry,
            handle: proxy.handle(),
            proxy,
            route,
            generation: 0,
        }
    }

    /// Publishes, and waits until the proxy knows.
    async fn publish(&mut self, backends: &[(u8, SocketAddr)]) {
        self.generation += 1;
        publish(
            &self.registry,
            &self.route.service,
            self.generation,
            backends,
        )
        .await;
        for (number, _) in backends {
            while !self.handle.0.pods.accepts(Uid((*number).into())) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Publishes, and waits until the proxy has nothing for `gone` any more.
    async fn publish_without(&mut self, gone: u8, backends: &[(u8, SocketAddr)]) {
        self.publish(backends).await;
        self.handle
            .drained(Uid(gone.into()), PATIENCE)
            .await
            .unwrap();
    }

    async fn connect(&self) -> io::Result<(TcpStream, u8)> {
        connect(self.route.listen).await
    }
}

async fn connect(to: SocketAddr) -> io::Result<(TcpStream, u8)> {
    let mut stream = TcpStream::connect(to).await?;
    let number = stream.read_u8().await?;
    Ok((stream, number))
}

fn free_address() -> SocketAddr {
    let ip = Ipv4Addr::new(127, 64, 0, 1).into();
    SocketAddr::new(ip, crate::net::address::free_port(ip).unwrap())
}

fn route(service: &str, listen: SocketAddr) -> L4Route {
    L4Route {
        listen,
        service: ServiceName::new("default", service),
        port: "http".into(),
    }
}

async fn publish(
    registry: &MemoryRegistry,
    service: &ServiceName,
    generation: u64,
    backends: &[(u8, SocketAddr)],
) {
    let all = backends
        .iter()
        .map(|(number, address)| Endpoint {
            pod: Uid((*number).into()),
            pod_name: format!("web-{number}").into(),
            address: address.ip(),
            ports: Arc::new([("http".into(), address.port())]),
            ready: true,
            terminating: false,
            node: "node-0".into(),
            zone: "a".into(),
        })
        .collect();
    let set = Endpoints {
        generation: SetGeneration(generation),
        all,
    };
    assert_eq!(
        registry.apply(service, set).await.unwrap(),
        Applied::Published
    );
}

async fn echoes(stream: &mut TcpStream, text: &str) -> bool {
    let mut back = vec![0; text.len()];
    stream.write_all(text.as_bytes()).await.is_ok()
        && stream.read_exact(&mut back).await.is_ok()
        && back == text.as_bytes()
}

#[tokio::test]
async fn connections_go_round_and_come_back_whole() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let backends = [
        Backend::start(1).await,
        Backend::start(2).await,
        Backend::start(3).await,
    ];
    bed.publish(&backends.each_ref().map(|b| (b.number, b.address)))
        .await;
    let mut seen = BTreeMap::new();
    for _ in 0..30 {
        let (mut stream, number) = bed.connect().await.unwrap();
        assert!(echoes(&mut stream, "hello").await);
        *seen.entry(number).or_insert(0) += 1;
    }
    assert_eq!(seen, BTreeMap::from([(1, 10), (2, 10), (3, 10)]));
    bed.proxy.shutdown(PATIENCE).await;
    let stats = bed.handle.stats();
    assert_eq!((stats.accepted, stats.open, stats.broken), (30, 0, 0));
    assert_eq!((stats.bytes_up, stats.bytes_down), (150, 180));
    assert!(
        TcpStream::connect(bed.route.listen).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_half_closed_connection_still_answers() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let backend = Backend::start(7).await;
    bed.publish(&[(7, backend.address)]).await;
    let (mut stream, _) = bed.connect().await.unwrap();
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "last words");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_backend_costs_no_client_its_connect() {
    let limits = L4Limits {
        target_wait_max: PATIENCE,
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let (stays, dies) = (Backend::start(1).await, Backend::start(2).await);
    let gone = dies.address;
    bed.publish(&[(1, stays.address), (2, dies.address)]).await;
    for _ in 0..10 {
        bed.connect().await.unwrap();
    }
    dies.kill().await;
    // Nobody has told the registry yet.
    for _ in 0..100 {
        let (mut stream, number) = bed.connect().await.unwrap();
        assert_eq!(number, 1);
        assert!(echoes(&mut stream, "still here").await);
    }
    let stats = bed.handle.stats();
    assert!(stats.connect_failures >= 1);
    assert_eq!(stats.no_target, 0);
    assert_eq!(
        bed.handle.in_flight(Uid(2)),
        0,
        "failed attempts do not count as connections"
    );
    bed.publish(&[(1, stays.address), (2, gone)]).await;
}

#[tokio::test]
async fn every_endpoint_is_tried_once_and_then_the_client_is_reset() {
    let limits = L4Limits {
        connect_attempts_max: 3,
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let dead: Vec<_> = (1..=5).map(|n| (n, free_address())).collect();
    bed.publish(&dead).await;
    let error = bed.connect().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(bed.handle.stats().connect_failures, 3);
    bed.publish_without(3, &dead[..2]).await;
    assert!(bed.connect().await.is_err());
    let stats = bed.handle.stats();
    assert_eq!((stats.connect_failures, stats.no_target), (5, 2));
}

#[tokio::test]
async fn without_endpoints_a_connection_waits_as_long_as_it_is_told_to() {
    let limits = L4Limits {
        target_wait_max: PATIENCE,
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let waiting = tokio::spawn(connect(bed.route.listen));
    while bed.handle.stats().accepted == 0 {
        tokio::task::yield_now().await;
    }
    let backend = Backend::start(4).await;
    bed.publish(&[(4, backend.address)]).await;
    assert_eq!(waiting.await.unwrap().unwrap().1, 4);
}

#[tokio::test]
async fn a_pod_drains_in_order() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let (old, new) = (Backend::start(1).await, Backend::start(2).await);
    bed.publish(&[(1, old.address)]).await;
    let (mut running, number) = bed.connect().await.unwrap();
    assert_eq!((number, bed.handle.in_flight(Uid(1))), (1, 1));
    bed.publish(&[(2, new.address)]).await;
    let error = bed
        .handle
        .drained(Uid(1), Duration::from_millis(1))
        .await
        .unwrap_err();
    assert_eq!(error.left, 1);
    // The proxy may hear of the new set after us, but not after the new pod's first connection.
    while bed.connect().await.unwrap().1 != 2 {}
    for _ in 0..20 {
        assert_eq!(
            bed.connect().await.unwrap().1,
            2,
            "a drained pod gets nothing new"
        );
    }
    assert!(echoes(&mut running, "what runs may finish").await);
    let handle = bed.handle.clone();
    let drained = tokio::spawn(async move { handle.drained(Uid(1), PATIENCE).await });
    running.shutdown().await.unwrap();
    drained.await.unwrap().unwrap();
    assert_eq!(bed.handle.in_flight(Uid(1)), 0);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_leaves_the_others_alone() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let backend = Backend::start(1).await;
    bed.publish(&[(1, backend.address)]).await;
    let taken = TcpListener::bind(free_address()).await.unwrap();
    let (address, other) = (taken.local_addr().unwrap(), free_address());
    let wanted = [
        bed.route.clone(),
        route("taken", address),
        route("web", other),
    ];
    let failed = bed.proxy.sync(&wanted).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1.kind(), ListenErrorKind::InUse);
    let text = failed[0].1.to_string();
    assert!(
        text.starts_with(&format!("listen on {address}: the port is in use; stop")),
        "{text}"
    );
    assert_eq!(connect(other).await.unwrap().1, 1);
    drop(taken);
    assert_eq!(
        bed.proxy.sync(&wanted).await.len(),
        0,
        "tried again with the next call"
    );
    assert_eq!(bed.proxy.routes().count(), 3);
}

#[tokio::test]
async fn who_listens_first_keeps_the_address_whatever_the_order() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let (mine, other) = (bed.route.clone(), route("another", bed.route.listen));
    for wanted in [[mine.clone(), other.clone()], [other.clone(), mine.clone()]] {
        let failed = bed.proxy.sync(&wanted).await;
        assert_eq!(failed.len(), 1);
        assert_eq!(*failed[0].0, other);
        assert_eq!(failed[0].1.kind(), ListenErrorKind::Served);
        assert_eq!(bed.proxy.routes().collect::<Vec<_>>(), [&mine]);
    }
    // It keeps it under another port name as well.
    let renamed = L4Route {
        port: "renamed".into(),
        ..mine.clone()
    };
    let wanted = [other.clone(), renamed.clone()];
    let failed = bed.proxy.sync(&wanted).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1.kind(), ListenErrorKind::Served);
    assert_eq!(bed.proxy.routes().collect::<Vec<_>>(), [&renamed]);
    // Once it is gone the other has it.
    let alone = [other.clone()];
    assert!(bed.proxy.sync(&alone).await.is_empty());
    assert_eq!(bed.proxy.routes().collect::<Vec<_>>(), [&other]);
}

#[tokio::test]
async fn a_removed_listener_frees_its_port_and_lets_connections_finish() {
    let limits = L4Limits {
        removed_grace: Duration::from_millis(200),
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let backend = Backend::start(1).await;
    bed.publish(&[(1, backend.address)]).await;
    let (mut running, _) = bed.connect().await.unwrap();
    assert!(bed.proxy.remove(bed.route.listen).await);
    assert!(!bed.proxy.remove(bed.route.listen).await);
    TcpListener::bind(bed.route.listen)
        .await
        .expect("the port is free");
    assert!(echoes(&mut running, "still open").await);
    let cut = running.read_u8().await.unwrap_err();
    assert_eq!(
        cut.kind(),
        io::ErrorKind::ConnectionReset,
        "cut after the grace, not closed"
    );
    assert_eq!(bed.handle.drained(Uid(1), PATIENCE).await, Ok(()));
}

#[tokio::test]
async fn a_listener_goes_over_to_another_service_without_refusing_anyone() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let (old, new) = (Backend::start(1).await, Backend::start(2).await);
    bed.publish(&[(1, old.address)]).await;
    let (mut running, _) = bed.connect().await.unwrap();
    let green = route("green", bed.route.listen);
    publish(&bed.registry, &green.service, 1, &[(2, new.address)]).await;
    bed.proxy.ensure(green).await.unwrap();
    assert_eq!(bed.connect().await.unwrap().1, 2);
    assert!(echoes(&mut running, "from before").await);
}

#[tokio::test]
async fn no_connection_outlives_a_shutdown() {
    let mut bed = Bed::new(L4Limits::default()).await;
    let backend = Backend::start(1).await;
    bed.publish(&[(1, backend.address)]).await;
    let second = route("web", free_address());
    bed.proxy.ensure(second.clone()).await.unwrap();
    let (mut one, _) = bed.connect().await.unwrap();
    let (mut two, _) = connect(second.listen).await.unwrap();
    bed.proxy.remove(second.listen).await;
    bed.proxy.shutdown(Duration::from_millis(50)).await;
    assert_eq!(
        (bed.handle.in_flight(Uid(1)), bed.handle.stats().open),
        (0, 0)
    );
    for stream in [&mut one, &mut two] {
        assert_eq!(
            stream.read_u8().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
}

#[tokio::test]
async fn a_full_proxy_makes_clients_wait_not_fail() {
    let limits = L4Limits {
        connections_max: 2,
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let backend = Backend::start(1).await;
    bed.publish(&[(1, backend.address)]).await;
    let (first, _second) = (bed.connect().await.unwrap(), bed.connect().await.unwrap());
    assert_eq!(bed.handle.stats().open, 2);
    let third = tokio::spawn(connect(bed.route.listen));
    assert_eq!(bed.handle.in_flight(Uid(1)), 2);
    drop(first);
    assert_eq!(third.await.unwrap().unwrap().1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_come_and_go_under_load_and_no_client_fails() {
    let limits = L4Limits {
        target_wait_max: PATIENCE,
        ..L4Limits::default()
    };
    let mut bed = Bed::new(limits).await;
    let anchor = Backend::start(1).await;
    bed.publish(&[(1, anchor.address)]).await;
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (to, stop) = (bed.route.listen, stop.clone());
        clients.spawn(async move {
            let mut done = 0u32;
            while !stop.is_cancelled() {
                let (mut stream, _) = connect(to).await?;
                if !echoes(&mut stream, "under load").await {
                    return Err(io::Error::other("cut in the middle"));
                }
                done += 1;
            }
            Ok(done)
        });
    }
    for number in 2..40 {
        let comes = Backend::start(number).await;
        bed.publish(&[(1, anchor.address), (number, comes.address)])
            .await;
        for _ in 0..20 {
            bed.connect().await.unwrap();
        }
        bed.publish_without(number, &[(1, anchor.address)]).await;
        comes.kill().await;
    }
    stop.cancel();
    let mut served = 0;
    while let Some(client) = clients.join_next().await {
        served += client.unwrap().expect("no client sees a failure");
    }
    assert!(served > 0);
    bed.proxy.shutdown(PATIENCE).await;
    assert_eq!(bed.handle.stats().no_target, 0);
}
