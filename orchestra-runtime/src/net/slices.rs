//! The registry of endpoints that stands in the store, as endpoint slices: what one process
//! publishes, the proxies of every machine follow.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::kind::{
    Endpoint as SliceEndpoint, EndpointConditions, EndpointPort, EndpointSlice, ObjectReference,
    Pod, Resource, Service,
};
use orchestra_core::meta::{ObjectKey, ObjectMeta, Uid};
use orchestra_core::port::registry::{
    Applied, Endpoint, EndpointWatch, Endpoints, RegistryError, RegistryErrorKind, ServiceName,
    ServiceRegistry, SetGeneration,
};
use smol_str::{SmolStr, ToSmolStr};

use super::registry::ENDPOINTS_MAX;
use crate::api::{ApiError, ApiErrorKind, Client};
use crate::cache::{Cache, IndexWatch};
use crate::loops::BY_SERVICE;

/// The annotation of each slice that holds the generation of its set.
pub const GENERATION_ANNOTATION: &str = "orchestra.dev/generation";

/// Slices that one set may take: distinct port lists, and every thousand endpoints.
const SLICES_MAX: usize = 100;

/// How often a set is written again when others publish at the same time.
const TRIES_MAX: u32 = 16;

/// How long the cache may take to show what somebody else published.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// Why a set was not published.
enum Failed {
    /// The cache did not show yet what stands in the store.
    Behind(RegistryError),
    Other(RegistryError),
}

/// Keeps endpoint sets as [`EndpointSlice`] objects: one commit a set, so that no reader sees half
/// of one. Slices belong to their service, and go with it.
///
/// Reads come from the cache, which has to be running.
#[derive(Clone, Debug)]
pub struct SliceRegistry {
    client: Client,
    slices: Cache<EndpointSlice>,
}

impl SliceRegistry {
    /// A registry over a cache that is indexed by [`BY_SERVICE`].
    pub fn new(client: Client, slices: Cache<EndpointSlice>) -> Self {
        Self { client, slices }
    }

    fn stored(&self, service: &ServiceName) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.slices.by_index(BY_SERVICE, &service.to_smolstr());
        // Slices of another maker, without our generation, are not our sets.
        slices.retain(|slice| generation(&slice.metadata).is_some());
        slices
    }

    fn read(&self, service: &ServiceName) -> Endpoints {
        self.read_life(service).1
    }

    /// The set, and which life of its first slice it is: nil if there is none.
    fn read_life(&self, service: &ServiceName) -> (Uid, Endpoints) {
        let slices = self.stored(service);
        let newest = slices
            .iter()
            .filter_map(|slice| generation(&slice.metadata))
            .max();
        let mut all: Vec<Endpoint> = slices.iter().flat_map(|slice| endpoints(slice)).collect();
        all.sort_by_key(|endpoint| endpoint.pod);
        let life = slices.first().map_or(Uid::NIL, |slice| slice.metadata.uid);
        let set = Endpoints {
            generation: newest.unwrap_or_default(),
            all: all.into(),
        };
        (life, set)
    }

    async fn try_apply(
        &self,
        service: &ServiceName,
        endpoints: &Endpoints,
    ) -> Result<Applied, Failed> {
        let failed = |kind, why: String| {
            let error = RegistryError::new(kind, "apply").about(service.to_string());
            Failed::Other(error.because(why))
        };
        if endpoints.all.len() > ENDPOINTS_MAX {
            let why = format!("{} endpoints, at most {ENDPOINTS_MAX}", endpoints.all.len());
            return Err(failed(RegistryErrorKind::Invalid, why));
        }
        let before = self.stored(service);
        let newest = before
            .iter()
            .filter_map(|slice| generation(&slice.metadata))
            .max();
        if let Some(newest) = newest
            && newest >= endpoints.generation
        {
            return Ok(Applied::Superseded(newest));
        }
        let key = ObjectKey::namespaced(service.namespace.clone(), service.name.clone());
        let owner = self
            .client
            .api::<Service>()
            .find(&key)
            .await
            .map_err(|error| Failed::Other(told(error, service)))?;
        if owner.is_none() && endpoints.all.is_empty() && before.is_empty() {
            return Ok(Applied::Published); // a service that never was has nobody
        }
        let wanted = slices(service, endpoints);
        if wanted.len() > SLICES_MAX {
            let why = format!("{} distinct port lists, at most {SLICES_MAX}", wanted.len());
            return Err(failed(RegistryErrorKind::Invalid, why));
        }
        let mut commit = self.client.commit();
        let count = wanted.len();
        for mut slice in wanted {
            // A service that is gone keeps what it owned: that is how it is collected.
            slice.metadata.owner_references = match (&owner, before.first()) {
                (Some(owner), _) => vec![owner.owner_reference()],
                (None, Some(old)) => old.metadata.owner_references.clone(),
                (None, None) => Vec::new(),
            };
            match before
                .iter()
                .find(|old| old.metadata.name == slice.metadata.name)
            {
                Some(old) => {
                    let old_meta = old.metadata.clone();
                    let new_meta = std::mem::replace(&mut slice.metadata, old_meta);
                    slice.metadata.annotations = new_meta.annotations;
                    slice.metadata.owner_references = new_meta.owner_references;
                    commit = commit.replace(slice);
                }
                None => commit = commit.create(slice),
            }
        }
        let used = |old: &Arc<EndpointSlice>| index(&old.metadata.name, service);
        for old in &before {
            if used(old).is_none_or(|at| at >= count) {
                commit = commit.delete(old.as_ref());
            }
        }
        match commit.send().await {
            Ok(landed) => {
                self.slices.wait_through(landed).await;
                Ok(Applied::Published)
            }
            Err(error) if error.is_conflict() || error.is_already_exists() => {
                Err(Failed::Behind(told(error, service)))
            }
            Err(error) => Err(Failed::Other(told(error, service))),
        }
    }
}

#[async_trait]
impl ServiceRegistry for SliceRegistry {
    async fn apply(
        &self,
        service: &ServiceName,
        endpoints: Endpoints,
    ) -> Result<Applied, RegistryError> {
        let mut changes = self.slices.watch_index(BY_SERVICE, service.to_smolstr());
        let mut tries = 1;
        loop {
            match self.try_apply(service, &endpoints).await {
                // Somebody else published meanwhile: which is newer shows once that is in here.
                Err(Failed::Behind(_)) if tries < TRIES_MAX => {
                    let _ = tokio::time::timeout(BEHIND_MAX, changes.changed()).await;
                    tries += 1;
                }
                Ok(applied) => return Ok(applied),
                Err(Failed::Behind(error) | Failed::Other(error)) => return Err(error),
            }
        }
    }

    async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError> {
        Ok(self.read(service))
    }

    async fn follow(&self, service: &ServiceName) -> Result<Box<dyn EndpointWatch>, RegistryError> {
        let changes = self.slices.watch_index(BY_SERVICE, service.to_smolstr());
        Ok(Box::new(SliceWatch {
            registry: self.clone(),
            service: service.clone(),
            changes,
            told: None,
        }))
    }
}

#[derive(Debug)]
struct SliceWatch {
    registry: SliceRegistry,
    service: ServiceName,
    changes: IndexWatch<EndpointSlice>,
    told: Option<Told>,
}

/// What a follower was told last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Told {
    /// The set as it stands in the store: a service that is made anew begins to count anew.
    stored: (Uid, SetGeneration),
    /// The generation that was passed on, which never goes back.
    generation: SetGeneration,
}

#[async_trait]
impl EndpointWatch for SliceWatch {
    async fn next(&mut self) -> Result<Endpoints, RegistryError> {
        loop {
            let (life, now) = self.registry.read_life(&self.service);
            let stored = (life, now.generation);
            let generation = match self.told {
                None => now.generation,
                Some(told) if told.stored == stored => {
                    self.changes.changed().await;
                    continue;
                }
                // The view never goes back, so another set is a newer one, whatever its number.
                Some(told) => now.generation.max(SetGeneration(told.generation.0 + 1)),
            };
            self.told = Some(Told { stored, generation });
            let all = now.all;
            return Ok(Endpoints { generation, all });
        }
    }
}

fn told(error: ApiError, service: &ServiceName) -> RegistryError {
    let kind = match error.kind() {
        ApiErrorKind::Ambiguous => RegistryErrorKind::Ambiguous,
        ApiErrorKind::Invalid(_) | ApiErrorKind::TooLarge { .. } | ApiErrorKind::Fenced => {
            RegistryErrorKind::Invalid
        }
        _ => RegistryErrorKind::Unavailable,
    };
    RegistryError::new(kind, "apply")
        .about(service.to_string())
        .because(error)
}

fn generation(meta: &ObjectMeta) -> Option<SetGeneration> {
    meta.annotations
        .get(GENERATION_ANNOTATION)?
        .parse()
        .ok()
        .map(SetGeneration)
}

fn name(service: &ServiceName, at: usize) -> SmolStr {
    format!("{}-{at}", service.name).into()
}

fn index(slice: &str, service: &ServiceName) -> Option<usize> {
    slice
        .strip_prefix(service.name.as_str())?
        .strip_prefix('-')?
        .parse()
        .ok()
}

/// A port list, and the endpoints that have it.
type Group<'a> = (&'a [(SmolStr, u16)], Vec<&'a Endpoint>);

/// The set as slices: endpoints of one port list together, at most a thousand in each, and one
/// slice even for nobody, so that the generation stands somewhere.
fn slices(service: &ServiceName, set: &Endpoints) -> Vec<EndpointSlice> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for endpoint in set.all.iter() {
        let full = EndpointSlice::ENDPOINTS_MAX;
        match groups
            .iter_mut()
            .find(|(ports, all)| *ports == &*endpoint.ports && all.len() < full)
        {
            Some((_, all)) => all.push(endpoint),
            None => groups.push((&endpoint.ports, vec![endpoint])),
        }
    }
    if groups.is_empty() {
        groups.push((&[], Vec::new()));
    }
    let whole = |(at, (ports, all)): (usize, Group<'_>)| {
        let mut metadata = ObjectMeta::named(name(service, at));
        metadata.namespace = service.namespace.clone();
        metadata.labels.insert(
            EndpointSlice::SERVICE_NAME_LABEL.into(),
            service.name.clone(),
        );
        let generation = set.generation.0.to_smolstr();
        metadata
            .annotations
            .insert(GENERATION_ANNOTATION.into(), generation);
        EndpointSlice {
            metadata,
            endpoints: all
                .into_iter()
                .map(|endpoint| written(service, endpoint))
                .collect(),
            ports: ports
                .iter()
                .map(|(name, port)| EndpointPort {
                    name: name.clone(),
                    port: *port,
                    ..EndpointPort::default()
                })
                .collect(),
            ..EndpointSlice::default()
        }
    };
    groups.into_iter().enumerate().map(whole).collect()
}

fn written(service: &ServiceName, endpoint: &Endpoint) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![endpoint.address.to_smolstr()],
        conditions: EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.ready),
            terminating: Some(endpoint.terminating),
        },
        target_ref: Some(ObjectReference {
            api_version: Pod::API_VERSION.into(),
            kind: Pod::KIND.into(),
            namespace: service.namespace.clone(),
            name: endpoint.pod_name.clone(),
            uid: endpoint.pod,
            ..ObjectReference::default()
        }),
        node_name: endpoint.node.clone(),
        zone: endpoint.zone.clone(),
        ..SliceEndpoint::default()
    }
}

fn endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Arc<[(SmolStr, u16)]> = slice
        .ports
        .iter()
        .map(|port| (port.name.clone(), port.port))
        .collect();
    let read = |endpoint: &SliceEndpoint| {
        let pod = endpoint.target_ref.as_ref()?;
        Some(Endpoint {
            pod: pod.uid,
            pod_name: pod.name.clone(),
            address: endpoint.ip()?,
            ports: ports.clone(),
            ready: endpoint.conditions.is_ready(),
            terminating: endpoint.conditions.is_terminating(),
            node: endpoint.node_name.clone(),
            zone: endpoint.zone.clone(),
        })
    };
    slice.endpoints.iter().filter_map(read).collect()
}
