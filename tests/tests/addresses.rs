//! Addresses on real sockets: pods that share one address, and two orchestras on one host.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use orchestra_runtime::net::address::{AddressPlan, LoopbackSpan, free_port};
use orchestra_runtime::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A task that tells its name to whoever connects, on the port it was told to listen on.
async fn hello(task: TaskContext) -> Result<(), BoxError> {
    let ip = task.pod_ip().ok_or("a pod has an address")?;
    let port: u16 = task.env("PORT").ok_or("a port was assigned")?.parse()?;
    let listener = tokio::net::TcpListener::bind((ip, port)).await?;
    loop {
        let (mut client, _) = tokio::select! {
            client = listener.accept() => client?,
            () = task.stopping() => return Ok(()),
        };
        client.write_all(task.pod_name().as_bytes()).await?;
    }
}

async fn start(plan: AddressPlan) -> Orchestra {
    let builder = Orchestra::builder().addresses(plan).task("hello", hello);
    builder.start().await.unwrap()
}

/// Three pods behind a service on `port`; where it listens.
async fn serve(orchestra: &Orchestra, name: &str, port: u16) -> SocketAddr {
    let container = Container::new("hello", "hello").port(8080);
    let deployment = Deployment::new(name).replicas(3).container(container);
    orchestra.apply(deployment).await.unwrap();
    let service = Service::new(name).selector("app", name).port(port, 8080);
    orchestra.apply(service).await.unwrap();
    orchestra.ready::<Deployment>(name).await.unwrap();
    orchestra.address(name).await.unwrap()
}

async fn who_answers(at: SocketAddr) -> String {
    let mut socket = tokio::net::TcpStream::connect(at).await.unwrap();
    let mut name = String::new();
    socket.read_to_string(&mut name).await.unwrap();
    name
}

#[tokio::test]
async fn where_there_is_one_address_pods_get_ports_and_services_share_it() {
    let orchestra = start(AddressPlan::default().on(LoopbackSpan::Single)).await;
    let port = free_port([127, 0, 0, 1].into()).unwrap();
    let at = serve(&orchestra, "hello", port).await;
    assert_eq!(at, SocketAddr::from(([127, 0, 0, 1], port)));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        seen.insert(who_answers(at).await);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");

    // A second service on the same port is told which port is taken.
    let second = Service::new("second")
        .selector("app", "hello")
        .port(port, 8080);
    orchestra.apply(second).await.unwrap();
    let error = orchestra.address("second").await.unwrap_err().to_string();
    assert!(
        error.contains("it is the address of default/hello"),
        "{error}"
    );
    assert!(who_answers(at).await.starts_with("default/hello-"));
    orchestra.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn two_orchestras_on_one_host_have_shares_of_their_own() {
    let one = start(AddressPlan::share(14).unwrap()).await;
    let other = start(AddressPlan::share(15).unwrap()).await;
    let (a, b) = (
        serve(&one, "a", 9_000).await,
        serve(&other, "b", 9_000).await,
    );
    assert_eq!(a.to_string(), "127.120.0.1:9000");
    assert_eq!(b.to_string(), "127.124.0.1:9000");
    assert!(who_answers(a).await.starts_with("default/a-"));
    assert!(who_answers(b).await.starts_with("default/b-"));
    one.stop().await;
    other.stop().await;
}
