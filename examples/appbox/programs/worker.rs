//! An API worker: stateless, turns an object into replicas and back.
//!
//! A write is acknowledged when two of the three storage nodes have it; a read asks all three and
//! gives the newest of the first two answers or more, so that it always sees the last write that
//! was acknowledged. What a node missed is written to it again by the next read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;

use super::http::{Answer, Ask, Caller, serve};
use super::{Fault, blob, env};

/// How many replicas must agree: two of three, for reads and for writes.
const QUORUM: usize = 2;

/// How long one storage node may take.
const STORAGE_TIME_MAX: Duration = Duration::from_millis(1_000);

pub(crate) async fn run() -> Result<(), Fault> {
    let address = format!("{}:{}", env("POD_IP")?, env("PORT")?).parse()?;
    let nodes: Vec<String> = env("STORAGE")?
        .split(',')
        .map(|at| format!("http://{at}/blobs/"))
        .collect();
    let worker = Arc::new(Worker {
        version: env("VERSION")?,
        name: env("POD_NAME")?,
        nodes,
        caller: Caller::new(STORAGE_TIME_MAX),
        hangs: AtomicBool::new(false),
    });
    serve(address, move |ask| {
        let worker = worker.clone();
        async move { worker.answer(ask).await }
    })
    .await
}

struct Worker {
    version: String,
    name: String,
    nodes: Vec<String>,
    caller: Caller,
    hangs: AtomicBool,
}

impl Worker {
    async fn answer(&self, ask: Ask) -> Answer {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if let Some(name) = ask.path.strip_prefix("/objects/") {
            if !blob::name_is_valid(name) {
                return Answer::new(StatusCode::BAD_REQUEST, "not an object's name");
            }
            return match (ask.method, ask.version) {
                (Method::GET, _) => self.read(name).await,
                (Method::PUT, Some(version)) => self.write(name, version, ask.body).await,
                _ => Answer::new(StatusCode::METHOD_NOT_ALLOWED, "GET, or PUT with x-version"),
            };
        }
        match (ask.method, ask.path.as_str()) {
            (_, "/healthz") => Answer::ok(),
            (_, "/version") => {
                Answer::new(StatusCode::OK, format!("{} {}", self.version, self.name))
            }
            (_, "/pid") => Answer::new(StatusCode::OK, std::process::id().to_string()),
            (Method::POST, "/hang") => {
                self.hangs.store(true, Ordering::Relaxed);
                Answer::ok()
            }
            _ => Answer::new(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    async fn write(&self, name: &str, version: u64, bytes: Bytes) -> Answer {
        let mut writes = JoinSet::new();
        for node in &self.nodes {
            let (caller, url, bytes) =
                (self.caller.clone(), format!("{node}{name}"), bytes.clone());
            writes.spawn(async move { caller.ask(Method::PUT, &url, bytes, Some(version)).await });
        }
        let mut kept = 0;
        while let Some(outcome) = writes.join_next().await {
            if matches!(&outcome, Ok(Ok(answer)) if answer.status == StatusCode::OK) {
                kept += 1;
            }
            if kept == QUORUM {
                // The third goes on by itself; should it fail, a read repairs it.
                writes.detach_all();
                return Answer::ok();
            }
        }
        Answer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{kept} of {QUORUM} replicas kept it"),
        )
    }

    async fn read(&self, name: &str) -> Answer {
        let mut reads = JoinSet::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let (caller, url) = (self.caller.clone(), format!("{node}{name}"));
            reads
                .spawn(async move { (n, caller.ask(Method::GET, &url, Bytes::new(), None).await) });
        }
        let mut answers: Vec<(usize, u64, Bytes)> = Vec::new();
        while let Some(outcome) = reads.join_next().await {
            if let Ok((n, Ok(answer))) = outcome {
                match answer.status {
                    StatusCode::OK => answers.push((n, answer.version.unwrap_or(0), answer.body)),
                    StatusCode::NOT_FOUND => answers.push((n, 0, Bytes::new())),
                    _ => {}
                }
            }
        }
        if answers.len() < QUORUM {
            let have = answers.len();
            let text = format!("{have} of {QUORUM} replicas answered");
            return Answer::new(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let Some((_, newest, bytes)) = answers.iter().max_by_key(|(_, version, _)| *version) else {
            return Answer::new(StatusCode::NOT_FOUND, "no such object");
        };
        if *newest == 0 {
            return Answer::new(StatusCode::NOT_FOUND, "no such object");
        }
        for (n, version, _) in &answers {
            if version < newest {
                let url = format!("{}{name}", self.nodes[*n]);
                // A repair that fails is tried again by the next read.
                let _ = self
                    .caller
                    .ask(Method::PUT, &url, bytes.clone(), Some(*newest))
                    .await;
            }
        }
        Answer {
            version: Some(*newest),
            ..Answer::new(StatusCode::OK, bytes.clone())
        }
    }
}
