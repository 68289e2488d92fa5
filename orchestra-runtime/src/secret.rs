//! Where secrets come from: out of the store's Secret objects, or out of memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orchestra_core::codec::decode;
use orchestra_core::kind::Secret;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::secret::{
    SecretBytes, SecretError, SecretErrorKind, SecretProvider, SecretRef, SecretValue,
};
use orchestra_core::port::store::StateStore;

use crate::api::store_key;

/// Hands out the values of the store's Secret objects.
///
/// A value's version is the object's resource version: it also changes when another key of the
/// same secret does.
#[derive(Clone, Debug)]
pub struct StoreSecrets {
    store: Arc<dyn StateStore>,
}

impl StoreSecrets {
    /// Reads from `store`.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store }
    }
}

fn not_found(secret: &SecretRef) -> SecretError {
    SecretError::new(SecretErrorKind::NotFound, "fetch secret").about(secret.to_string())
}

#[async_trait]
impl SecretProvider for StoreSecrets {
    async fn fetch(&self, secret: &SecretRef) -> Result<SecretValue, SecretError> {
        let unavailable = || {
            SecretError::new(SecretErrorKind::Unavailable, "fetch secret").about(secret.to_string())
        };
        let key = ObjectKey::namespaced(secret.namespace.clone(), secret.name.clone());
        let stored = match self.store.get(&store_key::<Secret>(&key)).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Err(not_found(secret)),
            Err(error) => return Err(unavailable().because(error)),
        };
        // The decoder's error may quote what it stumbled over, so that only its fact is kept.
        let mut object = decode::<Secret>(&stored).map_err(|_| {
            unavailable().because("the stored secret cannot be read; write it again")
        })?;
        let bytes = object
            .data
            .remove(&secret.key)
            .ok_or_else(|| not_found(secret))?;
        Ok(SecretValue {
            bytes,
            version: smol_str::format_smolstr!("{}", stored.modified),
        })
    }
}

/// Hands out secrets that the application sets.
#[derive(Debug, Default)]
pub struct MemorySecrets {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: BTreeMap<SecretRef, SecretValue>,
    changes: u64,
}

impl MemorySecrets {
    /// No secrets yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value. The same bytes again keep their version.
    pub fn set(&self, secret: SecretRef, bytes: impl Into<Vec<u8>>) {
        let bytes = SecretBytes::new(bytes);
        let mut inner = self.lock();
        let same = inner
            .values
            .get(&secret)
            .is_some_and(|v| v.bytes.expose() == bytes.expose());
        if !same {
            inner.changes += 1;
            let version = smol_str::format_smolstr!("{}", inner.changes);
            inner.values.insert(secret, SecretValue { bytes, version });
        }
    }

    /// Removes a value. Returns whether there was one.
    pub fn remove(&self, secret: &SecretRef) -> bool {
        self.lock().values.remove(secret).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Values are replaced as a whole, so that a panic leaves them whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SecretProvider for MemorySecrets {
    async fn fetch(&self, secret: &SecretRef) -> Result<SecretValue, SecretError> {
        self.lock()
            .values
            .get(secret)
            .cloned()
            .ok_or_else(|| not_found(secret))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::MemoryStore;
    use orchestra_core::codec::encode;
    use orchestra_core::conformance::secret::{SecretBench, run};
    use orchestra_core::port::store::{StateStoreExt, Txn, Write};
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[async_trait]
    impl SecretBench for MemorySecrets {
        fn provider(&self) -> &dyn SecretProvider {
            self
        }

        async fn set(&self, secret: &SecretRef, bytes: Option<&[u8]>) {
            match bytes {
                Some(bytes) => MemorySecrets::set(self, secret.clone(), bytes),
                None => drop(self.remove(secret)),
            }
        }
    }

    #[async_trait]
    impl SecretBench for StoreSecrets {
        fn provider(&self) -> &dyn SecretProvider {
            self
        }

        async fn set(&self, secret: &SecretRef, bytes: Option<&[u8]>) {
            let key = ObjectKey::namespaced(secret.namespace.clone(), secret.name.clone());
            let key = store_key::<Secret>(&key);
            let mut object = match self.store.get(&key).await.unwrap() {
                Some(stored) => decode(&stored).unwrap(),
                None => Secret::new(secret.name.clone()),
            };
            match bytes {
                Some(bytes) => object
                    .data
                    .insert(secret.key.clone(), SecretBytes::new(bytes)),
                None => object.data.remove(&secret.key),
            };
            let value = encode(&object).unwrap();
            self.store
                .commit(Txn::new().then(Write::put(key, value)))
                .await
                .unwrap();
        }
    }

    #[tokio::test]
    async fn secrets_in_memory_keep_the_contract() {
        let fresh = || async { Arc::new(MemorySecrets::new()) as Arc<dyn SecretBench> };
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[tokio::test]
    async fn secrets_in_the_store_keep_the_contract() {
        let fresh = || async {
            let store = Arc::new(MemoryStore::default());
            Arc::new(StoreSecrets::new(store)) as Arc<dyn SecretBench>
        };
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[tokio::test]
    async fn a_damaged_secret_is_not_quoted() {
        let store = Arc::new(MemoryStore::default());
        let at = "secrets/default/db".into();
        store
            .put(at, b"1{\"data\":{\"password\":\"hush!!\"}}".to_vec())
            .await
            .unwrap();
        let secret = SecretRef {
            namespace: "default".into(),
            name: "db".into(),
            key: "password".into(),
        };
        let error = StoreSecrets::new(store).fetch(&secret).await.unwrap_err();
        assert_eq!(error.kind(), SecretErrorKind::Unavailable);
        let text = format!("{error:?} {}", orchestra_core::error::report(&error));
        assert!(
            !text.contains("hush") && text.contains("default/db[password]"),
            "{text}"
        );
    }

    /// Providers that each break one sentence.
    #[derive(Clone, Copy, Debug)]
    enum Bug {
        OldValues,
        OneVersion,
        NewVersionEachTime,
        EmptyForMissing,
        IgnoresTheKey,
        BytesInTheVersion,
        OldValuesNowAndThen,
        OldBytesUnderTheNewVersion,
        ServesWhatWasRemoved,
        CountsVersionsAnew,
    }

    #[derive(Debug)]
    struct Broken(
        MemorySecrets,
        Bug,
        Mutex<BTreeMap<SecretRef, SecretValue>>,
        AtomicU64,
    );

    impl Broken {
        /// True once in `every` calls.
        fn rarely(&self, every: u64) -> bool {
            self.3.fetch_add(1, Ordering::Relaxed) % every == every / 2
        }
    }

    #[async_trait]
    impl SecretProvider for Broken {
        async fn fetch(&self, secret: &SecretRef) -> Result<SecretValue, SecretError> {
            let asked = match self.1 {
                Bug::IgnoresTheKey => SecretRef {
                    key: "password".into(),
                    ..secret.clone()
                },
                _ => secret.clone(),
            };
            let mut fetched = self.0.fetch(&asked).await;
            let Ok(value) = &mut fetched else {
                let served = self.2.lock().unwrap().get(&asked).cloned();
                return match self.1 {
                    Bug::ServesWhatWasRemoved if served.is_some() => Ok(served.unwrap()),
                    Bug::EmptyForMissing => {
                        let bytes = SecretBytes::default();
                        Ok(SecretValue {
                            bytes,
                            version: "0".into(),
                        })
                    }
                    _ => fetched,
                };
            };
            let mut seen = self.2.lock().unwrap();
            match self.1 {
                Bug::OldValues => {
                    return Ok(seen.entry(asked).or_insert_with(|| value.clone()).clone());
                }
                Bug::OldValuesNowAndThen => {
                    let before = seen.insert(asked, value.clone());
                    if self.rarely(50)
                        && let Some(before) = before
                    {
                        return Ok(before);
                    }
                }
                Bug::OldBytesUnderTheNewVersion => {
                    let before = seen.insert(asked, value.clone());
                    if self.rarely(50)
                        && let Some(before) = before
                    {
                        value.bytes = before.bytes;
                    }
                }
                Bug::ServesWhatWasRemoved => {
                    seen.insert(asked, value.clone());
                }
                Bug::CountsVersionsAnew => {
                    let n = self.3.load(Ordering::Relaxed);
                    value.version = smol_str::format_smolstr!("{n}");
                }
                Bug::OneVersion => value.version = "1".into(),
                Bug::NewVersionEachTime => {
                    let n = seen.len();
                    let key = smol_str::format_smolstr!("{n}");
                    seen.insert(
                        SecretRef {
                            key: key.clone(),
                            ..asked
                        },
                        value.clone(),
                    );
                    value.version = key;
                }
                Bug::BytesInTheVersion => {
                    value.version = String::from_utf8_lossy(value.bytes.expose())
                        .as_ref()
                        .into();
                }
                _ => {}
            }
            fetched
        }
    }

    #[async_trait]
    impl SecretBench for Broken {
        fn provider(&self) -> &dyn SecretProvider {
            self
        }

        async fn set(&self, secret: &SecretRef, bytes: Option<&[u8]>) {
            SecretBench::set(&self.0, secret, bytes).await;
            if matches!(self.1, Bug::CountsVersionsAnew) {
                let next = bytes.map_or(0, |_| self.3.load(Ordering::Relaxed) + 1);
                self.3.store(next, Ordering::Relaxed);
            }
        }
    }

    #[tokio::test]
    async fn the_suite_finds_each_planted_bug() {
        let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for (bug, check) in [
            (Bug::OldValues, "fetch_gives_the_newest"),
            (Bug::OneVersion, "changed_bytes_another_version"),
            (Bug::OneVersion, "equal_versions_equal_bytes"),
            (Bug::NewVersionEachTime, "changed_bytes_another_version"),
            (Bug::EmptyForMissing, "what_is_not_there_is_not_found"),
            (Bug::IgnoresTheKey, "keys_are_apart"),
            (Bug::BytesInTheVersion, "bytes_stay_hidden"),
            (Bug::OldValuesNowAndThen, "equal_versions_equal_bytes"),
            (
                Bug::OldBytesUnderTheNewVersion,
                "equal_versions_equal_bytes",
            ),
            (Bug::ServesWhatWasRemoved, "what_is_not_there_is_not_found"),
            (Bug::CountsVersionsAnew, "equal_versions_equal_bytes"),
        ] {
            let fresh = || async move {
                let broken = Broken(
                    MemorySecrets::new(),
                    bug,
                    Mutex::default(),
                    AtomicU64::new(0),
                );
                Arc::new(broken) as Arc<dyn SecretBench>
            };
            let report = run(fresh, tokio::time::sleep).await;
            all.extend(report.checks.iter().map(|check| check.name));
            broken.extend(report.failed().map(|check| check.name));
            assert!(
                report.failed().any(|failed| failed.name == check),
                "{bug:?}\n{report}"
            );
        }
        assert_eq!(broken, all, "checks that no planted bug breaks");
    }
}
