//! The little HTTP that the programs share: a server that ends in order, and a client with a
//! time limit.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Fault;

/// The largest body that a server or client reads, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;

/// How long a server waits, once asked to end, for requests under way.
const FINISH_MAX: Duration = Duration::from_secs(10);

/// A request with its body read.
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Bytes,
    pub(crate) version: Option<u64>,
}

/// An answer: status, body, and the version it speaks of.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) version: Option<u64>,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            body: body.into(),
            version: None,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::new(StatusCode::OK, "ok")
    }
}

/// The header that carries an object's version.
const VERSION: &str = "x-version";

/// Serves on `address` until SIGTERM, then refuses new connections and finishes what is under way.
pub(crate) async fn serve<H, F>(address: SocketAddr, handle: H) -> Result<(), Fault>
where
    H: Fn(Ask) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send,
{
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| format!("bind {address}: {e}"))?;
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            biased;
            _ = terminate.recv() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let _ = stream.set_nodelay(true);
        let handle = handle.clone();
        let service = service_fn(move |request| {
            let handle = handle.clone();
            async move { Ok::<_, Infallible>(answer(request, handle).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let _ = watched.await; // a broken connection is its client's to notice
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FINISH_MAX, graceful.shutdown()).await;
    Ok(())
}

async fn answer<H, F>(request: Request<Incoming>, handle: H) -> Response<Full<Bytes>>
where
    H: Fn(Ask) -> F,
    F: Future<Output = Answer>,
{
    let (parts, body) = request.into_parts();
    let version = parts
        .headers
        .get(VERSION)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    let answer = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => {
            let path = parts.uri.path().to_owned();
            handle(Ask {
                method: parts.method,
                path,
                body: body.to_bytes(),
                version,
            })
            .await
        }
        Err(fault) => Answer::new(StatusCode::BAD_REQUEST, format!("body not read: {fault}")),
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    if let Some(version) = answer.version {
        response.headers_mut().insert(VERSION, version.into());
    }
    response
}

/// A client with a pool of connections and a time limit on every request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    limit: Duration,
}

impl Caller {
    /// A client whose requests take at most `limit`, each with its answer read whole.
    pub(crate) fn new(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limit));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(2))
            .pool_max_idle_per_host(8)
            .build(connector);
        Self { client, limit }
    }

    /// Asks once. An answer with whatever status is `Ok`.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
        version: Option<u64>,
    ) -> Result<Answer, Fault> {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(version) = version {
            request = request.header(VERSION, version);
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let version = response
                .headers()
                .get(VERSION)
                .and_then(|v| v.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
                .collect()
                .await?
                .to_bytes();
            Ok::<_, Fault>(Answer {
                status,
                body,
                version,
            })
        };
        match tokio::time::timeout(self.limit, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer from {url} within {:?}", self.limit).into()),
        }
    }
}
