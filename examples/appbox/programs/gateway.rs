//! The gateway: takes clients' requests, asks the workers' service, and asks it again where a
//! worker does not answer. Every request it passes on may be repeated without harm.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};

use super::http::{Answer, Ask, Caller, serve};
use super::{Fault, env};

/// How often a request is passed on before its client hears of trouble.
const TRIES_MAX: usize = 4;

/// How long a worker may take.
const WORKER_TIME_MAX: Duration = Duration::from_millis(2_500);

pub(crate) async fn run() -> Result<(), Fault> {
    let address = format!("{}:{}", env("POD_IP")?, env("PORT")?).parse()?;
    let workers = format!("http://{}", env("WORKERS")?);
    let caller = Caller::new(WORKER_TIME_MAX);
    let gateway = Arc::new((workers, caller));
    serve(address, move |ask| {
        let gateway = gateway.clone();
        async move { pass_on(&gateway.0, &gateway.1, ask).await }
    })
    .await
}

async fn pass_on(workers: &str, caller: &Caller, ask: Ask) -> Answer {
    if ask.path == "/healthz" {
        return Answer::ok();
    }
    if !matches!(ask.method, Method::GET | Method::PUT) {
        return Answer::new(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT");
    }
    let url = format!("{workers}{}", ask.path);
    let mut last = Answer::new(StatusCode::BAD_GATEWAY, "no worker answered");
    for _ in 0..TRIES_MAX {
        match caller
            .ask(ask.method.clone(), &url, ask.body.clone(), ask.version)
            .await
        {
            Ok(answer) if !answer.status.is_server_error() => return answer,
            Ok(answer) => last = answer,
            Err(fault) => last = Answer::new(StatusCode::BAD_GATEWAY, fault.to_string()),
        }
    }
    last
}
