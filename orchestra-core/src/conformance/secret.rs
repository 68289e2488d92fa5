//! The suite for [`SecretProvider`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Finding, Report, Stop, Suite, Timer, ensure, ensure_eq, fail, join};
use crate::port::secret::{SecretErrorKind, SecretProvider, SecretRef, SecretValue};

/// How often a value is changed and looked at.
const CHANGES: u8 = 100;

/// A provider, and the way to change what it hands out, for the suite.
#[async_trait]
pub trait SecretBench: fmt::Debug + Send + Sync {
    /// The provider under test.
    fn provider(&self) -> &dyn SecretProvider;

    /// Sets a value, or removes it.
    async fn set(&self, secret: &SecretRef, bytes: Option<&[u8]>);
}

/// Tests a secret provider. `fresh` gives one without secrets, `sleep` waits.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance::{self, secret::SecretBench};
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyBench: SecretBench + Default + 'static>() {
/// let fresh = || async { Arc::new(MyBench::default()) as Arc<dyn SecretBench> };
/// conformance::secret::run(fresh, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<F, A, S, Z>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Arc<dyn SecretBench>> + Send,
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    let mut suite = Suite::new("secret", Timer::new(sleep));
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            let bench = fresh().await;
            suite
                .check(stringify!($name), $sentence, $name(&*bench))
                .await;
        };
    }
    check!(fetch_gives_the_newest, "fetch gives the newest version.");
    check!(
        equal_versions_equal_bytes,
        "Two fetches with equal versions gave equal bytes."
    );
    check!(
        changed_bytes_another_version,
        "Changed bytes come with another version."
    );
    check!(
        what_is_not_there_is_not_found,
        "NotFound: there is no such secret, or no such key."
    );
    check!(keys_are_apart, "Which value of which secret.");
    check!(
        bytes_stay_hidden,
        "Neither errors nor Debug output ever hold the bytes."
    );
    check!(fetches_at_once_agree, "Fetching is retry-safe.");
    suite.finish()
}

fn password() -> SecretRef {
    SecretRef {
        namespace: "default".into(),
        name: "db".into(),
        key: "password".into(),
    }
}

async fn fetch(bench: &dyn SecretBench) -> Result<SecretValue, Stop> {
    Ok(bench.provider().fetch(&password()).await?)
}

/// Compares without showing either.
fn same(what: &str, seen: &SecretValue, expected: &[u8]) -> Finding {
    ensure(
        seen.bytes.expose() == expected,
        format!("{what}: the bytes set last"),
        "others",
    )
}

async fn fetch_gives_the_newest(bench: &dyn SecretBench) -> Finding {
    for bytes in [b"one".as_slice(), b"two", b"", b"\0\xff not text"] {
        bench.set(&password(), Some(bytes)).await;
        same("fetch", &fetch(bench).await?, bytes)?;
    }
    Ok(())
}

async fn equal_versions_equal_bytes(bench: &dyn SecretBench) -> Finding {
    let mut seen: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for n in 0..CHANGES {
        // Some come back, some after there was nothing.
        let bytes = [b'v', n % 7];
        if n % 5 == 4 {
            bench.set(&password(), None).await;
        }
        bench.set(&password(), Some(&bytes)).await;
        let value = fetch(bench).await?;
        same("the newest", &value, &bytes)?;
        let before = seen
            .entry(value.version.clone())
            .or_insert_with(|| bytes.to_vec());
        same("a version seen before", &value, before)?;
    }
    Ok(())
}

async fn changed_bytes_another_version(bench: &dyn SecretBench) -> Finding {
    let mut last = None;
    for n in 0..CHANGES {
        bench.set(&password(), Some(&[n])).await;
        let value = fetch(bench).await?;
        ensure(
            last.as_ref() != Some(&value.version),
            "another version",
            &value.version,
        )?;
        last = Some(value.version);
        let again = fetch(bench).await?;
        ensure_eq(
            "the version of unchanged bytes",
            Some(again.version),
            last.clone(),
        )?;
    }
    Ok(())
}

async fn what_is_not_there_is_not_found(bench: &dyn SecretBench) -> Finding {
    let not_found =
        async |secret: SecretRef, what: &str| match bench.provider().fetch(&secret).await {
            Err(error) => ensure_eq(what, error.kind(), SecretErrorKind::NotFound),
            Ok(value) => fail(
                format!("{what} is not found"),
                format!("version {}", value.version),
            ),
        };
    not_found(password(), "an unknown secret").await?;
    bench.set(&password(), Some(b"there")).await;
    same("what is there", &fetch(bench).await?, b"there")?;
    not_found(
        SecretRef {
            key: "user".into(),
            ..password()
        },
        "an unknown key",
    )
    .await?;
    not_found(
        SecretRef {
            name: "cache".into(),
            ..password()
        },
        "another secret",
    )
    .await?;
    not_found(
        SecretRef {
            namespace: "other".into(),
            ..password()
        },
        "another namespace",
    )
    .await?;
    bench.set(&password(), None).await;
    not_found(password(), "a removed key").await
}

async fn keys_are_apart(bench: &dyn SecretBench) -> Finding {
    let user = SecretRef {
        key: "user".into(),
        ..password()
    };
    bench.set(&password(), Some(b"pw")).await;
    bench.set(&user, Some(b"root")).await;
    same("one key", &fetch(bench).await?, b"pw")?;
    same("the other", &bench.provider().fetch(&user).await?, b"root")?;
    bench.set(&user, None).await;
    same("after the other went", &fetch(bench).await?, b"pw")
}

async fn bytes_stay_hidden(bench: &dyn SecretBench) -> Finding {
    const HUSH: &str = "hush-hush-4711";
    bench.set(&password(), Some(HUSH.as_bytes())).await;
    let value = fetch(bench).await?;
    let mut shown = format!("{value:?} {:?} {} ", bench.provider(), value.version);
    let missing = SecretRef {
        key: "nothing".into(),
        ..password()
    };
    if let Err(error) = bench.provider().fetch(&missing).await {
        shown += &format!("{error:?} {}", crate::error::report(&error));
    }
    let spelled = format!("{:?}", HUSH.as_bytes());
    let hidden = !shown.contains(HUSH) && !shown.contains(spelled.trim_matches(['[', ']']));
    ensure(
        hidden,
        "nothing printed holds the bytes",
        "they are in Debug, the version or an error",
    )
}

async fn fetches_at_once_agree(bench: &dyn SecretBench) -> Finding {
    bench.set(&password(), Some(b"shared")).await;
    let (one, two) = join(fetch(bench), fetch(bench)).await;
    let (one, two) = (one?, two?);
    same("one", &one, b"shared")?;
    same("two", &two, b"shared")?;
    ensure_eq("versions", one.version, two.version)
}
