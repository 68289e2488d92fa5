//! A storage node: one replica of every object, on disk.
//!
//! `PUT /blobs/NAME` keeps the body if its version is newer than what is there; `GET` gives it
//! back. A write is a new file renamed into place, so that a kill at any instant leaves the old
//! object or the new one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::{Method, StatusCode};
use tokio::sync::Mutex;

use super::http::{Answer, Ask, serve};
use super::{Fault, blob, env};

/// Writers of different objects rarely share one of these locks.
const LOCKS: usize = 64;

pub(crate) async fn run() -> Result<(), Fault> {
    let folder = PathBuf::from(env("DATA_DIR")?);
    tokio::fs::create_dir_all(&folder).await?;
    let address = format!("{}:{}", env("POD_IP")?, env("PORT")?).parse()?;
    let shelf = Arc::new(Shelf {
        folder,
        attempt: std::process::id(),
        locks: (0..LOCKS).map(|_| Mutex::new(())).collect(),
    });
    serve(address, move |ask| {
        let shelf = shelf.clone();
        async move { shelf.answer(ask).await }
    })
    .await
}

struct Shelf {
    folder: PathBuf,
    attempt: u32,
    locks: Vec<Mutex<()>>,
}

impl Shelf {
    async fn answer(&self, ask: Ask) -> Answer {
        let Some(name) = ask.path.strip_prefix("/blobs/") else {
            return match ask.path.as_str() {
                "/healthz" => Answer::ok(),
                _ => Answer::new(StatusCode::NOT_FOUND, "no such path"),
            };
        };
        if !blob::name_is_valid(name) {
            return Answer::new(StatusCode::BAD_REQUEST, "not an object's name");
        }
        let outcome = match (ask.method, ask.version) {
            (Method::GET, _) => self.read(name).await,
            (Method::PUT, Some(version)) => self.write(name, version, &ask.body).await,
            (Method::PUT, None) => Ok(Answer::new(StatusCode::BAD_REQUEST, "no x-version")),
            _ => Ok(Answer::new(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT")),
        };
        outcome.unwrap_or_else(|fault| {
            Answer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("{name}: {fault}"),
            )
        })
    }

    async fn read(&self, name: &str) -> io::Result<Answer> {
        let sealed = match tokio::fs::read(self.folder.join(name)).await {
            Ok(sealed) => sealed,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                return Ok(Answer::new(StatusCode::NOT_FOUND, "no such object"));
            }
            Err(fault) => return Err(fault),
        };
        Ok(match blob::open(&sealed) {
            Some((version, bytes)) => Answer {
                version: Some(version),
                ..Answer::new(StatusCode::OK, bytes.to_vec())
            },
            None => Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the file is damaged"),
        })
    }

    async fn write(&self, name: &str, version: u64, bytes: &[u8]) -> io::Result<Answer> {
        let slot = blob::checksum(0, name.as_bytes()) as usize % LOCKS;
        let _one_writer = self.locks[slot].lock().await;
        let path = self.folder.join(name);
        if newest(&path).await.is_some_and(|there| there >= version) {
            return Ok(Answer::ok());
        }
        let fresh = self.folder.join(format!(".{name}.{}", self.attempt));
        tokio::fs::write(&fresh, blob::seal(version, bytes)).await?;
        tokio::fs::rename(&fresh, &path).await?;
        Ok(Answer::ok())
    }
}

async fn newest(path: &Path) -> Option<u64> {
    let sealed = tokio::fs::read(path).await.ok()?;
    blob::open(&sealed).map(|(version, _)| version)
}
