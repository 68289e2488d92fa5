//! The cluster as the log of commits tells it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use orchestra_core::codec;
use orchestra_core::error::report;
use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Namespace, Node, Pod, PodDisruptionBudget,
    Resource, ResourceQuota, Service, gang,
};
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::port::store::{Change, Key, Revision, Versioned};
use orchestra_core::quantity::{Quantity, ResourceList};
use smol_str::SmolStr;

use crate::api::{Shelf, object_key};

/// All objects of one kind.
pub(super) type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

/// One object before and after a commit.
pub(super) struct Delta<K> {
    pub(super) key: ObjectKey,
    pub(super) old: Option<Arc<K>>,
    pub(super) new: Option<Arc<K>>,
}

/// What one change was about.
pub(super) enum Changed {
    Pod(Delta<Pod>),
    Node(Delta<Node>),
    Deployment(Delta<Deployment>),
    Revision(Delta<ControllerRevision>),
    Service(Delta<Service>),
    Slice,
    Other,
}

/// What pods take of a node.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) pods: i64,
    pub(super) requests: ResourceList,
}

/// All that the checker knows, built change by change.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    pub(super) pods: Objects<Pod>,
    pub(super) nodes: Objects<Node>,
    pub(super) deployments: Objects<Deployment>,
    pub(super) revisions: Objects<ControllerRevision>,
    pub(super) services: Objects<Service>,
    pub(super) slices: Objects<EndpointSlice>,
    /// Every key that exists, with the commit that wrote it and a checksum of its value.
    pub(super) stored: BTreeMap<Key, (Revision, u64)>,
    /// The last commit that touched each key, gone or not.
    pub(super) touched: BTreeMap<Key, Revision>,
    /// What the pods bound to each node take, those that have ended left out.
    pub(super) used: BTreeMap<SmolStr, Used>,
    /// Pods by their controlling owner.
    pub(super) owned: BTreeMap<Uid, BTreeMap<ObjectKey, Arc<Pod>>>,
}

impl Mirror {
    /// Takes over one change, whose value has that checksum. Every object that controllers know from
    /// caches is read from its bytes, and must be what `shelf` says was written. Fails in words.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        sum: u64,
        shelf: &Shelf,
    ) -> Result<Changed, String> {
        let key = change.key();
        self.touched.insert(key.clone(), change.revision());
        match change {
            Change::Put(now) => {
                self.stored.insert(key.clone(), (now.modified, sum));
            }
            Change::Delete { .. } => {
                self.stored.remove(key);
            }
        }
        let now = match change {
            Change::Put(now) => Some(now),
            Change::Delete { .. } => None,
        };
        let plural = key.as_str().split('/').next().unwrap_or_default();
        Ok(match plural {
            Pod::PLURAL => match take(&mut self.pods, key, now, shelf)? {
                Some(delta) => {
                    self.account(&delta);
                    Changed::Pod(delta)
                }
                None => Changed::Other,
            },
            Node::PLURAL => {
                take(&mut self.nodes, key, now, shelf)?.map_or(Changed::Other, Changed::Node)
            }
            Deployment::PLURAL => take(&mut self.deployments, key, now, shelf)?
                .map_or(Changed::Other, Changed::Deployment),
            ControllerRevision::PLURAL => take(&mut self.revisions, key, now, shelf)?
                .map_or(Changed::Other, Changed::Revision),
            Service::PLURAL => {
                take(&mut self.services, key, now, shelf)?.map_or(Changed::Other, Changed::Service)
            }
            EndpointSlice::PLURAL => {
                take(&mut self.slices, key, now, shelf)?;
                Changed::Slice
            }
            Namespace::PLURAL => reads::<Namespace>(key, now, shelf)?,
            PodDisruptionBudget::PLURAL => reads::<PodDisruptionBudget>(key, now, shelf)?,
            ResourceQuota::PLURAL => reads::<ResourceQuota>(key, now, shelf)?,
            _ => Changed::Other,
        })
    }

    fn account(&mut self, delta: &Delta<Pod>) {
        if let Some(old) = delta.old.as_deref().filter(|old| takes_room(old)) {
            let used = self.used.entry(old.spec.node_name.clone()).or_default();
            used.pods -= 1;
            for (name, amount) in old.requests() {
                let sum = used.requests.entry(name).or_default();
                *sum = sum.checked_sub(amount).unwrap_or(Quantity::ZERO);
            }
        }
        if let Some(new) = delta.new.as_deref().filter(|new| takes_room(new)) {
            let used = self.used.entry(new.spec.node_name.clone()).or_default();
            used.pods += 1;
            for (name, amount) in new.requests() {
                let sum = used.requests.entry(name).or_default();
                *sum = sum.checked_add(amount).unwrap_or(amount);
            }
        }
        let owner = |pod: &Option<Arc<Pod>>| {
            pod.as_ref()
                .and_then(|pod| pod.metadata.controller().map(|owner| owner.uid))
        };
        let (before, after) = (owner(&delta.old), owner(&delta.new));
        if before != after
            && let Some(before) = before
            && let Some(owned) = self.owned.get_mut(&before)
        {
            owned.remove(&delta.key);
            if owned.is_empty() {
                self.owned.remove(&before);
            }
        }
        if let (Some(after), Some(pod)) = (after, &delta.new) {
            let owned = self.owned.entry(after).or_default();
            owned.insert(delta.key.clone(), pod.clone());
        }
    }

    /// The pods that `owner` controls.
    pub(super) fn pods_of(&self, owner: Uid) -> impl Iterator<Item = &Arc<Pod>> {
        let owned = self.owned.get(&owner);
        owned.into_iter().flat_map(BTreeMap::values)
    }

    /// What a key of the store looks like to a person.
    pub(super) fn describe(changed: &Changed) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        match changed {
            Changed::Pod(Delta { new: Some(pod), .. }) => {
                let _ = write!(text, " {:?}", pod.status.phase);
                if let Some(node) = pod.node_name() {
                    let _ = write!(text, " on {node}");
                }
                if gang::gate(pod).is_some() {
                    text.push_str(" waits for its gang");
                }
                if pod.is_ready() {
                    text.push_str(" ready");
                }
                if pod.is_terminating() {
                    text.push_str(" terminating");
                }
                let statuses = pod.status.container_statuses.iter();
                let restarts: u64 = statuses.map(|status| u64::from(status.restart_count)).sum();
                if restarts > 0 {
                    let _ = write!(text, " restarts={restarts}");
                }
            }
            Changed::Node(Delta {
                new: Some(node), ..
            }) => {
                text.push_str(if node.is_ready() {
                    " ready"
                } else {
                    " not-ready"
                });
                if node.spec.unschedulable {
                    text.push_str(" unschedulable");
                }
                for taint in &node.spec.taints {
                    let _ = write!(text, " {}:{:?}", taint.key, taint.effect);
                }
            }
            Changed::Deployment(Delta {
                new: Some(deployment),
                ..
            }) => {
                let status = &deployment.status;
                let _ = write!(
                    text,
                    " generation={} wanted={} pods={} updated={} available={}",
                    deployment.metadata.generation,
                    deployment.spec.replicas.unwrap_or(1),
                    status.replicas,
                    status.updated_replicas,
                    status.available_replicas
                );
            }
            Changed::Revision(Delta {
                new: Some(revision),
                ..
            }) => {
                let _ = write!(text, " number={}", revision.revision);
            }
            _ => {}
        }
        text
    }
}

/// Whether the pod holds room on a node.
pub(super) fn takes_room(pod: &Pod) -> bool {
    pod.node_name().is_some() && !pod.is_terminal()
}

fn take<K: Resource>(
    objects: &mut Objects<K>,
    key: &Key,
    now: Option<&Versioned>,
    shelf: &Shelf,
) -> Result<Option<Delta<K>>, String> {
    let Some(key) = object_key::<K>(key) else {
        return Ok(None);
    };
    let new = now.map(|now| read::<K>(now, shelf)).transpose()?;
    let old = match &new {
        Some(new) => objects.insert(key.clone(), new.clone()),
        None => objects.remove(&key),
    };
    Ok(Some(Delta { key, old, new }))
}

/// Of an object of which nothing is kept: it reads as it was written.
fn reads<K: Resource>(
    key: &Key,
    now: Option<&Versioned>,
    shelf: &Shelf,
) -> Result<Changed, String> {
    if let (Some(_), Some(now)) = (object_key::<K>(key), now) {
        read::<K>(now, shelf)?;
    }
    Ok(Changed::Other)
}

/// The object in `stored`, which must be what was written.
fn read<K: Resource>(stored: &Versioned, shelf: &Shelf) -> Result<Arc<K>, String> {
    let read = codec::decode::<K>(stored).map_err(|error| report(&error).to_string())?;
    match shelf.get::<K>(&stored.key, stored.modified) {
        Some(written) if *written == read => Ok(written),
        Some(_) => Err(format!("{} does not read as it was written", stored.key)),
        None => Ok(Arc::new(read)),
    }
}
