//! Quotas: no namespace's pods ask for more together than was allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::codec;
use orchestra_core::error::report;
use orchestra_core::kind::{Pod, Resource, ResourceQuota};
use orchestra_core::port::clock::Clock;
use orchestra_core::port::store::{Guard, StateStore, Versioned, Write};
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use super::{Admission, AdmissionRequest};
use crate::api::{Client, ListParams, store_key};
use crate::ids::Ids;

/// For how long it is taken to be so without looking which namespaces have quotas. A quota written
/// through this process counts at once.
const KNOWN_AGE_MAX: Duration = Duration::from_secs(1);

/// For how long a namespace is looked at whatever is known, after a quota was written there through
/// this process: when that write lands is not heard here.
const WRITTEN_AGE_MAX: Duration = Duration::from_secs(60);

/// Refuses pods that would have their namespace ask for more than its quotas allow, naming the
/// quota, the resource and what is left.
///
/// What a pod uses is added to each quota's status in the transaction that creates the pod, so that
/// no two writers can use the same room twice: one of them conflicts and looks again. The quota
/// controller gives back what pods used once they have ended or are gone.
#[derive(Debug)]
pub struct QuotaAdmission {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The namespaces that have quotas, and when that was looked up.
    bounded: Option<(Timestamp, BTreeSet<SmolStr>)>,
    /// The namespaces in which quotas were written lately, and when.
    written: BTreeMap<SmolStr, Timestamp>,
}

impl QuotaAdmission {
    /// A hook that looks quotas up in `store`.
    pub fn new(store: Arc<dyn StateStore>, clock: Arc<dyn Clock>) -> Self {
        // It only reads: no identity is ever drawn.
        let client = Client::new(store, clock, Arc::new(Ids::seeded(0)));
        Self {
            client,
            known: Mutex::default(),
        }
    }

    async fn list(&self, params: ListParams) -> Result<Vec<Arc<ResourceQuota>>, String> {
        let list = self.client.api::<ResourceQuota>().list(params).await;
        Ok(list.map_err(|error| report(&error).to_string())?.items)
    }

    /// Whether the namespace has a quota: as it is, or was a moment ago.
    async fn is_bounded(&self, namespace: &SmolStr) -> Result<bool, String> {
        let now = self.client.now();
        {
            let mut known = self.known();
            known.written.retain(|_, at| now < *at + WRITTEN_AGE_MAX);
            if known.written.contains_key(namespace) {
                return Ok(true);
            }
            if let Some((at, bounded)) = &known.bounded
                && now < *at + KNOWN_AGE_MAX
            {
                return Ok(bounded.contains(namespace));
            }
        }
        let quotas = self.list(ListParams::default()).await?;
        let bounded = quotas.iter().map(|quota| quota.metadata.namespace.clone());
        let bounded: BTreeSet<SmolStr> = bounded.collect();
        let found = bounded.contains(namespace);
        self.known().bounded = Some((now, bounded));
        Ok(found)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pod(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        let namespace = request.key().namespace.clone();
        if !self.is_bounded(&namespace).await? {
            return Ok(());
        }
        for quota in self.list(ListParams::namespace(namespace.clone())).await? {
            let key = store_key::<ResourceQuota>(&quota.key());
            let mut quota = Arc::unwrap_or_clone(quota);
            let seen = quota.metadata.resource_version;
            if let Some(value) = request.written(&key) {
                // Pods before this one in the same transaction.
                let earlier = Versioned {
                    key: key.clone(),
                    value: value.clone(),
                    created: seen,
                    modified: seen,
                    lease: None,
                };
                quota = codec::decode(&earlier).map_err(|error| report(&error).to_string())?;
            } else if !quota.is_current() {
                // Read after the quota: whoever adds a pod from there on changes the quota.
                let pods = self.client.api::<Pod>();
                let pods = pods.list(ListParams::namespace(namespace.clone())).await;
                let pods = pods.map_err(|error| report(&error).to_string())?.items;
                quota.status.used = quota.usage(pods.iter().map(AsRef::as_ref));
            }
            let Some(pod) = request.object::<Pod>() else {
                return Ok(());
            };
            let used = quota.admit(pod, 1).map_err(|error| error.to_string())?;
            if used == quota.status.used {
                continue;
            }
            quota.status.used = used;
            let value = codec::encode(&quota).map_err(|error| report(&error).to_string())?;
            request.guard(Guard::At(key.clone(), seen));
            request.write(Write::put(key, value));
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for QuotaAdmission {
    fn name(&self) -> &'static str {
        "quota"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), String> {
        match request.kind() {
            Pod::KIND if request.is_create() => self.pod(request).await?,
            ResourceQuota::KIND => {
                let (namespace, now) = (request.key().namespace.clone(), self.client.now());
                self.known().written.insert(namespace, now);
            }
            _ => {}
        }
        Ok(())
    }
}
