//! Garbage: what lost its owner, its namespace or its node.

use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::{
    ControllerRevision, Deployment, EndpointSlice, Namespace, Node, Pod, Resource, Service,
};
use orchestra_core::meta::{ObjectKey, OwnerReference, Uid};
use orchestra_core::port::store::Revision;
use smol_str::{SmolStr, ToSmolStr};

use super::caches::{BY_NODE, BY_OWNER, Caches};
use crate::api::{ApiError, Client, DeleteParams, FINALIZER_FOREGROUND, FINALIZER_ORPHAN};
use crate::cache::Cache;
use crate::control::{Outcome, PassError, Queue, Reconcile};
use crate::events::Recorder;

/// Objects collected in one pass; a pass that met the bound is followed by another.
const PER_PASS_MAX: usize = 100;

/// How long what could not be collected rests: it changed at that very moment, or is held by
/// somebody else, whose letting go is not always a change that is seen here.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a pod was removed whose node does not exist, in a word: the reason of its event.
const NODE_NOT_FOUND: &str = "NodeNotFound";

/// What a pass leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    /// Nothing that another change does not bring back.
    Nothing,
    /// Work that goes on at once.
    More,
    /// Work that goes on after [`AGAIN`].
    Later,
}

/// What may have become garbage.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Suspect {
    /// The dependents of this owner, which is gone or being deleted.
    Owner {
        /// Its kind.
        kind: SmolStr,
        /// Its key.
        key: ObjectKey,
        /// Which life of that name.
        uid: Uid,
    },
    /// The content of this namespace.
    Namespace(SmolStr),
    /// The pods of this node.
    Node(SmolStr),
}

/// Collects garbage.
#[derive(Debug)]
pub struct GarbageLoop {
    client: Client,
    caches: Caches,
    events: Recorder,
}

impl GarbageLoop {
    /// A controller that reads from `caches`, writes through `client` and tells `events`.
    pub fn new(client: Client, caches: Caches, events: Recorder) -> Self {
        Self {
            client,
            caches,
            events,
        }
    }

    /// Adds to `queue` whatever a change may have made garbage.
    pub fn feed(caches: &Caches, queue: &Queue<Suspect>) {
        owners(&caches.deployments, queue);
        owners(&caches.services, queue);
        owners(&caches.nodes, queue);
        owners(&caches.pods, queue);
        owners(&caches.revisions, queue);
        dependents(&caches.pods, queue);
        dependents(&caches.revisions, queue);
        dependents(&caches.slices, queue);
        let adds = queue.clone();
        caches.namespaces.on_change(move |event| {
            if event
                .new
                .as_ref()
                .is_none_or(|ns| ns.metadata.deletion_timestamp.is_some())
            {
                adds.add(Suspect::Namespace(event.key.name.clone()));
            }
        });
        let (adds, namespaces) = (queue.clone(), caches.namespaces.clone());
        let ending = move |namespace: &SmolStr| {
            namespaces
                .get(&ObjectKey::cluster(namespace.clone()))
                .is_some_and(|ns| ns.metadata.deletion_timestamp.is_some())
        };
        caches.pods.on_change(move |event| {
            if event.new.is_none() && ending(&event.key.namespace) {
                adds.add(Suspect::Namespace(event.key.namespace.clone()));
            }
        });
        let adds = queue.clone();
        caches.nodes.on_change(move |event| {
            if event.new.is_none() {
                adds.add(Suspect::Node(event.key.name.clone()));
            }
        });
        let (adds, nodes) = (queue.clone(), caches.nodes.clone());
        caches.pods.on_change(move |event| {
            let before = event.old.as_ref().and_then(|old| old.node_name());
            // A node that goes later is seen above.
            if let Some(pod) = &event.new
                && let Some(node) = pod.node_name().filter(|node| before != Some(*node))
                && nodes.get(&ObjectKey::cluster(node.clone())).is_none()
            {
                adds.add(Suspect::Node(node.clone()));
            }
        });
    }
}

/// Suspects an owner that goes or is told to go.
fn owners<K: Resource>(cache: &Cache<K>, queue: &Queue<Suspect>) {
    let adds = queue.clone();
    cache.on_change(move |event| {
        let uid = |object: &Option<Arc<K>>| object.as_ref().map(|object| object.metadata().uid);
        // After a gap in the watch another object may have the name in one step.
        let gone = uid(&event.old).filter(|old| uid(&event.new) != Some(*old));
        let held = event.new.as_ref().filter(|now| {
            let meta = now.metadata();
            meta.deletion_timestamp.is_some() && !meta.finalizers.is_empty()
        });
        for uid in gone.into_iter().chain(held.map(|held| held.metadata().uid)) {
            adds.add(Suspect::Owner {
                kind: K::KIND.into(),
                key: event.key.clone(),
                uid,
            });
        }
    });
}

/// Suspects the owner of each new dependent, which may be gone already, and of each that went,
/// which may wait for that.
fn dependents<K: Resource>(cache: &Cache<K>, queue: &Queue<Suspect>) {
    let adds = queue.clone();
    cache.on_change(move |event| {
        let uid = |object: &Option<Arc<K>>| object.as_ref().map(|object| object.metadata().uid);
        if uid(&event.old) == uid(&event.new) {
            return;
        }
        for object in [&event.old, &event.new].into_iter().flatten() {
            let Some(owner) = object.metadata().controller() else {
                continue;
            };
            let namespace = match owner.kind.as_str() {
                Node::KIND | Namespace::KIND => SmolStr::default(),
                _ => event.key.namespace.clone(),
            };
            adds.add(Suspect::Owner {
                kind: owner.kind.clone(),
                key: ObjectKey {
                    namespace,
                    name: owner.name.clone(),
                },
                uid: owner.uid,
            });
        }
    });
}

impl Reconcile for GarbageLoop {
    type Key = Suspect;

    fn name(&self) -> &'static str {
        "garbage"
    }

    async fn reconcile(&self, suspect: &Suspect) -> Result<Outcome, PassError> {
        let rest = match suspect {
            Suspect::Owner { kind, key, uid } => match kind.as_str() {
                Deployment::KIND => self.owner(&self.caches.deployments, key, *uid).await?,
                Service::KIND => self.owner(&self.caches.services, key, *uid).await?,
                Node::KIND => self.owner(&self.caches.nodes, key, *uid).await?,
                Pod::KIND => self.owner(&self.caches.pods, key, *uid).await?,
                ControllerRevision::KIND => self.owner(&self.caches.revisions, key, *uid).await?,
                // Kinds of an application: only it knows what becomes of their dependents.
                _ => Rest::Nothing,
            },
            Suspect::Namespace(name) => self.namespace(name).await?,
            Suspect::Node(name) => self.node(name).await?,
        };
        let now = self.client.now();
        Ok(match rest {
            Rest::Nothing => Outcome::Settled,
            Rest::More => Outcome::ReviewAt(now),
            Rest::Later => Outcome::ReviewAt(now + AGAIN),
        })
    }
}

impl GarbageLoop {
    /// Collects or frees the dependents of an owner.
    async fn owner<K: Resource>(
        &self,
        cache: &Cache<K>,
        key: &ObjectKey,
        uid: Uid,
    ) -> Result<Rest, ApiError> {
        let owner = cache.get(key).filter(|owner| owner.metadata().uid == uid);
        let holds = |finalizer: &str| {
            owner.as_ref().is_some_and(|owner| {
                let meta = owner.metadata();
                meta.deletion_timestamp.is_some()
                    && meta.finalizers.iter().any(|found| found == finalizer)
            })
        };
        let (orphan, foreground) = (holds(FINALIZER_ORPHAN), holds(FINALIZER_FOREGROUND));
        if owner.is_none() {
            // The cache may lag behind a fresh owner: the store decides.
            let fresh = self.client.api::<K>().find(key).await?;
            if fresh.is_some_and(|fresh| fresh.metadata().uid == uid) {
                return Ok(Rest::Nothing);
            }
        } else if !orphan && !foreground {
            return Ok(Rest::Nothing);
        }
        let (pods, revisions, slices) = (
            &self.caches.pods,
            &self.caches.revisions,
            &self.caches.slices,
        );
        let mut tally = Tally {
            left: PER_PASS_MAX,
            held: 0,
            missed: 0,
        };
        self.each(pods, uid, orphan, &mut tally).await?;
        self.each(revisions, uid, orphan, &mut tally).await?;
        self.each(slices, uid, orphan, &mut tally).await?;
        if tally.left == 0 {
            return Ok(Rest::More);
        }
        // Before each dependent is free, the owner must not go: it would take them with it.
        if tally.missed > 0 {
            return Ok(Rest::Later);
        }
        if let Some(owner) = owner
            && (orphan || tally.held == 0)
        {
            let finalizer = if orphan {
                FINALIZER_ORPHAN
            } else {
                FINALIZER_FOREGROUND
            };
            let mut freed = K::clone(&owner);
            freed
                .metadata_mut()
                .finalizers
                .retain(|found| found != finalizer);
            if settle(self.client.commit().replace(freed).send().await)?.is_none() {
                return Ok(Rest::Later);
            }
        }
        Ok(Rest::Nothing)
    }

    /// Deletes each dependent of one kind, or takes its owner from it.
    async fn each<K: Resource>(
        &self,
        cache: &Cache<K>,
        uid: Uid,
        orphan: bool,
        tally: &mut Tally,
    ) -> Result<(), ApiError> {
        let mut landed = Revision(0);
        for object in cache.by_index(BY_OWNER, &uid.to_smolstr()) {
            let meta = object.metadata();
            let mine = |owner: &OwnerReference| owner.uid == uid;
            let blocks = |owner: &OwnerReference| owner.block_owner_deletion == Some(true);
            if !orphan && meta.owner_references.iter().any(|o| mine(o) && blocks(o)) {
                tally.held += 1;
            }
            if !orphan && meta.deletion_timestamp.is_some() {
                continue;
            }
            if tally.left == 0 {
                break;
            }
            tally.left -= 1;
            let commit = if orphan {
                let mut freed = K::clone(&object);
                freed
                    .metadata_mut()
                    .owner_references
                    .retain(|owner| !mine(owner));
                self.client.commit().replace(freed)
            } else {
                // Whatever its version: a pod's status may change at any moment.
                let params = DeleteParams::default().uid(meta.uid);
                self.client.commit().delete_key::<K>(meta.key(), params)
            };
            match settle(commit.send().await)? {
                Some(at) => landed = landed.max(at),
                None => tally.missed += 1,
            }
        }
        if landed > Revision(0) {
            cache.wait_through(landed).await;
        }
        Ok(())
    }

    /// Empties a namespace that is being deleted, and lets it go once it is empty.
    async fn namespace(&self, name: &SmolStr) -> Result<Rest, ApiError> {
        let Some(namespace) = self
            .caches
            .namespaces
            .get(&ObjectKey::cluster(name.clone()))
        else {
            return Ok(Rest::Nothing);
        };
        if namespace.metadata.deletion_timestamp.is_none() {
            return Ok(Rest::Nothing);
        }
        let mut left = PER_PASS_MAX;
        let mut remain = 0;
        // Owners first, so that nobody replaces what goes.
        remain += self
            .empty(&self.caches.deployments, name, &mut left)
            .await?;
        remain += self.empty(&self.caches.services, name, &mut left).await?;
        remain += self.empty(&self.caches.pods, name, &mut left).await?;
        remain += self.empty(&self.caches.revisions, name, &mut left).await?;
        remain += self.empty(&self.caches.slices, name, &mut left).await?;
        remain += self.empty(&self.caches.leases, name, &mut left).await?;
        remain += self
            .empty_uncached::<orchestra_core::kind::ConfigMap>(name, &mut left)
            .await?;
        remain += self
            .empty_uncached::<orchestra_core::kind::Secret>(name, &mut left)
            .await?;
        remain += self
            .empty_uncached::<orchestra_core::kind::PodDisruptionBudget>(name, &mut left)
            .await?;
        remain += self
            .empty_uncached::<orchestra_core::kind::ResourceQuota>(name, &mut left)
            .await?;
        remain += self
            .empty_uncached::<orchestra_core::kind::Event>(name, &mut left)
            .await?;
        if remain == 0 {
            let mut freed = Namespace::clone(&namespace);
            freed
                .metadata
                .finalizers
                .retain(|finalizer| finalizer != Namespace::FINALIZER);
            let gone = settle(self.client.commit().replace(freed).send().await)?.is_some();
            return Ok(if gone { Rest::Nothing } else { Rest::Later });
        }
        Ok(if left == 0 { Rest::More } else { Rest::Later })
    }

    async fn empty<K: Resource>(
        &self,
        cache: &Cache<K>,
        namespace: &str,
        left: &mut usize,
    ) -> Result<usize, ApiError> {
        let objects = cache.in_namespace(namespace);
        let (remain, landed) = self.remove(&objects, left).await?;
        if landed > Revision(0) {
            cache.wait_through(landed).await;
        }
        Ok(remain)
    }

    /// Tells objects to go. Returns how many are still there, and when the last change landed.
    async fn remove<K: Resource>(
        &self,
        objects: &[Arc<K>],
        left: &mut usize,
    ) -> Result<(usize, Revision), ApiError> {
        let mut landed = Revision(0);
        let mut remain = 0;
        for object in objects {
            let meta = object.metadata();
            if meta.deletion_timestamp.is_some() || *left == 0 {
                remain += 1;
                continue;
            }
            *left -= 1;
            let params = DeleteParams::default().uid(meta.uid);
            let commit = self.client.commit().delete_key::<K>(meta.key(), params);
            match commit.send_all().await {
                Ok(done) => {
                    landed = landed.max(done.revision);
                    remain += usize::from(!done.removed(0));
                }
                Err(error) if error.is_not_found() || error.is_conflict() => remain += 1,
                Err(error) => return Err(error),
            }
        }
        Ok((remain, landed))
    }

    async fn empty_uncached<K: Resource>(
        &self,
        namespace: &str,
        left: &mut usize,
    ) -> Result<usize, ApiError> {
        let api = self.client.api::<K>();
        let list = api
            .list(crate::api::ListParams::namespace(namespace))
            .await?;
        let (remain, _) = self.remove(&list.items, left).await?;
        Ok(remain)
    }

    /// Removes the pods of a node that does not exist: no agent will ever do it.
    async fn node(&self, name: &SmolStr) -> Result<Rest, ApiError> {
        let key = ObjectKey::cluster(name.clone());
        if self.client.api::<Node>().find(&key).await?.is_some() {
            return Ok(Rest::Nothing);
        }
        let pods = self.caches.pods.by_index(BY_NODE, name);
        let mut landed = Revision(0);
        let mut rest = Rest::Nothing;
        for pod in pods.iter().take(PER_PASS_MAX) {
            let params = DeleteParams::now().uid(pod.metadata.uid);
            let commit = self.client.commit().delete_key::<Pod>(pod.key(), params);
            match settle(commit.send().await)? {
                Some(Revision(0)) => {} // gone already
                Some(at) => {
                    landed = landed.max(at);
                    let pod = pod.as_ref();
                    tracing::warn!(pod = %pod.key(), node = %name, "removed: there is no such node");
                    let why = format!(
                        "removed: there is no node {name:?}, so that nobody would run it or stop it"
                    );
                    self.events.warning(pod, NODE_NOT_FOUND, why);
                }
                None => rest = Rest::Later,
            }
        }
        if landed > Revision(0) {
            self.caches.pods.wait_through(landed).await;
        }
        Ok(if pods.len() > PER_PASS_MAX {
            Rest::More
        } else {
            rest
        })
    }
}

/// What a pass over dependents has done.
struct Tally {
    /// How many more it may touch.
    left: usize,
    /// Those that are still there and hold a foreground deletion.
    held: usize,
    /// Those that changed at that very moment.
    missed: usize,
}

/// When it landed: zero for what was gone already, `None` for what changed meanwhile.
fn settle(outcome: Result<Revision, ApiError>) -> Result<Option<Revision>, ApiError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(Some(Revision(0))),
        Err(error) if error.is_conflict() => Ok(None),
        other => other.map(Some),
    }
}

/// Which kinds the collector knows as dependents, for the documentation and its test.
pub const COLLECTED: [&str; 3] = [Pod::KIND, ControllerRevision::KIND, EndpointSlice::KIND];
