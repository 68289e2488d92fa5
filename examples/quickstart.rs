//! Three workers inside this very process, behind one address. `cargo run --example quickstart`.

use orchestra_runtime::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), BoxError> {
    orchestra_examples::no_arguments();
    let orchestra = Orchestra::builder().task("hello", hello).start().await?;

    let container = Container::new("hello", "hello").port(8080);
    orchestra
        .apply(Deployment::new("hello").replicas(3).container(container))
        .await?;
    orchestra
        .apply(
            Service::new("hello")
                .selector("app", "hello")
                .port(8080, 8080),
        )
        .await?;
    orchestra.ready::<Deployment>("hello").await?;

    let address = orchestra.address("hello").await?;
    for _ in 0..3 {
        let mut greeting = String::new();
        TcpStream::connect(address)
            .await?
            .read_to_string(&mut greeting)
            .await?;
        print!("{address} says: {greeting}");
    }
    orchestra.stop().await;
    Ok(())
}

/// Greets whoever connects, until it is asked to stop.
async fn hello(task: TaskContext) -> Result<(), TaskError> {
    let ip = task.pod_ip().ok_or("a pod has an address")?;
    let listener = TcpListener::bind((ip, 8080)).await?;
    loop {
        tokio::select! {
            biased;
            () = task.stopping() => return Ok(()),
            accepted = listener.accept() => {
                let greeting = format!("hello from {}\n", task.pod_name());
                accepted?.0.write_all(greeting.as_bytes()).await?;
            }
        }
    }
}
