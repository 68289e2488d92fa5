//! Probing by an HTTP request.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::http::uri::{Authority, PathAndQuery};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use orchestra_core::port::probe::{
    ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict,
};
use tokio::time::Instant;

use super::tcp::{connect, host_of};

const OP: &str = "probe by HTTP";

/// How much of a body is read before the connection is closed, in bytes. The status is what
/// counts; reading a little lets a target finish its answer in peace.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// How long a response's head may be, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How many headers a response may have.
const HEADERS_MAX: usize = 128;

/// How many redirects to the same host are followed.
const REDIRECTS_MAX: usize = 10;

/// Passes if a `GET` is answered with a status of 200 to 399, over a fresh connection each time.
///
/// A redirect to the same host is followed, at most ten in a row. One to another host, or to
/// `https`, is not, and passes as it is: the target has answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpProber;

#[async_trait]
impl Prober for HttpProber {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let ProbeSpec::Http {
            host,
            port,
            path,
            headers,
        } = spec
        else {
            return Err(ProbeError::new(ProbeErrorKind::Unsupported, OP));
        };
        let host = host_of(target, host.as_deref(), OP)?;
        let mut port = *port;
        let mut path = parse_path(path)?;
        let headers = parse_headers(headers)?;
        let began = Instant::now();
        for _ in 0..=REDIRECTS_MAX {
            let (status, location) = match get(&host, port, &path, &headers).await? {
                Ok(answer) => answer,
                Err(reason) => return Ok(Verdict::Fail { reason }),
            };
            let next = location.filter(|_| status.is_redirection());
            match next.and_then(|location| same_host(&location, &host, port, &path)) {
                Some(next) => (port, path) = next,
                None => return Ok(judge(status, began.elapsed())),
            }
        }
        Ok(Verdict::Fail {
            reason: format!("more than {REDIRECTS_MAX} redirects in a row"),
        })
    }
}

fn judge(status: StatusCode, took: Duration) -> Verdict {
    if (200..400).contains(&status.as_u16()) {
        Verdict::Pass { took }
    } else {
        Verdict::Fail {
            reason: format!("HTTP status {status}"),
        }
    }
}

fn invalid(about: impl Into<String>, why: &'static str) -> ProbeError {
    ProbeError::new(ProbeErrorKind::Invalid, OP)
        .about(about)
        .because(why)
}

fn parse_path(path: &str) -> Result<PathAndQuery, ProbeError> {
    let rooted = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    PathAndQuery::try_from(rooted).map_err(|_| {
        invalid(
            format!("path {path:?}"),
            "it is not a path; escape what is special",
        )
    })
}

fn parse_headers(
    headers: &[(String, String)],
) -> Result<Vec<(HeaderName, HeaderValue)>, ProbeError> {
    let parse = |(name, value): &(String, String)| {
        // Values may be secret (a token), so that an error names the header only.
        let bad = || {
            invalid(
                format!("header {name:?}"),
                "its name or value is not allowed in HTTP",
            )
        };
        let parsed = HeaderName::try_from(name).map_err(|_| bad())?;
        Ok((parsed, HeaderValue::try_from(value).map_err(|_| bad())?))
    };
    headers.iter().map(parse).collect()
}

/// Where a redirect leads if it stays on this host.
fn same_host(
    location: &HeaderValue,
    host: &str,
    port: u16,
    from: &PathAndQuery,
) -> Option<(u16, PathAndQuery)> {
    let location = location.to_str().ok()?;
    let without_fragment = location.split('#').next().unwrap_or_default();
    if let Some((scheme, _)) = without_fragment.split_once("://") {
        let uri: Uri = without_fragment.parse().ok()?;
        let there = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        if !scheme.eq_ignore_ascii_case("http") || !there.eq_ignore_ascii_case(host) {
            return None;
        }
        let path = uri.path_and_query().cloned();
        return Some((
            uri.port_u16().unwrap_or(80),
            path.unwrap_or_else(|| PathAndQuery::from_static("/")),
        ));
    }
    if without_fragment.starts_with("//") {
        return None;
    }
    let path = if without_fragment.starts_with('/') {
        without_fragment.to_owned()
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{folder}/{without_fragment}")
    };
    Some((port, PathAndQuery::try_from(path).ok()?))
}

/// One request over one connection. The inner error is the target's failure.
async fn get(
    host: &str,
    port: u16,
    path: &PathAndQuery,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Result<(StatusCode, Option<HeaderValue>), String>, ProbeError> {
    let request = request(host, port, path, headers)?;
    let stream = match connect(host, port, OP).await? {
        Ok(stream) => stream,
        Err(reason) => return Ok(Err(reason)),
    };
    let shaken = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => return Ok(Err(broken(&error))),
    };
    let exchange = async move {
        let mut response = sender.send_request(request).await?;
        let location = response.headers().get(LOCATION).cloned();
        let mut read = 0;
        while read < BODY_BYTES_MAX
            && let Some(frame) = response.frame().await
        {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok::<_, hyper::Error>((response.status(), location))
    };
    // Driven here and not by a task: a dropped probe leaves nothing behind.
    tokio::pin!(connection, exchange);
    let answer = tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    };
    Ok(answer.map_err(|error| broken(&error)))
}

fn broken(error: &hyper::Error) -> String {
    format!(
        "no valid HTTP answer: {}",
        orchestra_core::error::report(error)
    )
}

fn request(
    host: &str,
    port: u16,
    path: &PathAndQuery,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<Request<Empty<Bytes>>, ProbeError> {
    let host = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    if host.parse::<Authority>().is_err() {
        return Err(invalid(
            format!("host {host:?}"),
            "it is not a host name or an address",
        ));
    }
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from(path.clone());
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    let defaults = [
        (HOST, host.as_str()),
        (
            USER_AGENT,
            concat!("orchestra-probe/", env!("CARGO_PKG_VERSION")),
        ),
        (ACCEPT, "*/*"),
        (CONNECTION, "close"),
    ];
    for (name, value) in defaults {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().entry(name).or_insert(value);
        }
    }
    Ok(request)
}
