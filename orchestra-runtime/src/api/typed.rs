//! The objects of one kind.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

use super::client::Client;
use super::commit::Commit;
use super::error::{ApiError, ApiErrorKind};
use super::list::{List, ListParams, list};
use super::object::{decode, store_key, subject};
use super::params::DeleteParams;
use super::watch::ApiWatch;

/// How often a create is tried whose generated name is taken, or that depends on something which
/// changed meanwhile, such as a quota.
const CREATE_TRIES_MAX: u32 = 8;

/// How often a read-change-write is repeated because somebody else wrote in between.
pub(super) const UPDATE_TRIES_MAX: u32 = 16;

/// The objects of one kind. Cheap to clone.
///
/// Reads are fresh: they see every commit before them. Every object read is shared
/// (`Arc<K>`); to change one, clone it (`Arc::unwrap_or_clone`), or use
/// [`update`](Self::update).
pub struct Api<K> {
    client: Client,
    namespace: Option<SmolStr>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource> Api<K> {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            namespace: None,
            kind: PhantomData,
        }
    }

    /// The same, with `namespace` wherever a listing or a new object names none.
    #[must_use]
    pub fn namespaced(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Reads one object.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ApiErrorKind::NotFound) if it does not exist.
    pub async fn get(&self, key: &ObjectKey) -> Result<Arc<K>, ApiError> {
        let found = self.find(key).await?;
        found.ok_or_else(|| ApiError::new(ApiErrorKind::NotFound, "get", subject::<K>(key)))
    }

    /// Reads one object; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn find(&self, key: &ObjectKey) -> Result<Option<Arc<K>>, ApiError> {
        let stored = self
            .client
            .store()
            .get(&store_key::<K>(key))
            .await
            .map_err(|error| ApiError::store(error, "get", subject::<K>(key)))?;
        stored
            .map(|stored| decode(self.client.shelf(), &stored, "get"))
            .transpose()
    }

    /// Lists what `params` select, ordered by key. All pages of one listing read at the same
    /// revision.
    ///
    /// # Errors
    ///
    /// [`Gone`](ApiErrorKind::Gone) if the revision of a continued listing is no longer kept:
    /// start again.
    pub async fn list(&self, params: ListParams) -> Result<List<K>, ApiError> {
        list(&self.client, &self.within(params)).await
    }

    /// Follows what `params` select, from the revision `from`: that of a listing, so that nothing
    /// is missed.
    ///
    /// # Errors
    ///
    /// [`Gone`](ApiErrorKind::Gone) if that revision is no longer kept: list again.
    pub async fn watch(&self, params: ListParams, from: Revision) -> Result<ApiWatch<K>, ApiError> {
        ApiWatch::open(self.client.clone(), self.within(params), from).await
    }

    /// Creates `object` and returns it as stored: see [`Commit::create`].
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ApiErrorKind::AlreadyExists) if its name is taken,
    /// [`Invalid`](ApiErrorKind::Invalid) if it breaks rules.
    pub async fn create(&self, mut object: K) -> Result<Arc<K>, ApiError> {
        let meta = object.metadata_mut();
        if meta.namespace.is_empty()
            && K::SCOPE == orchestra_core::kind::Scope::Namespaced
            && let Some(namespace) = &self.namespace
        {
            meta.namespace = namespace.clone();
        }
        let generated = meta.name.is_empty() && !meta.generate_name.is_empty();
        for _ in 1..CREATE_TRIES_MAX {
            match self.send(self.client.commit().create(object.clone())).await {
                Err(error) if generated && error.is_already_exists() => {}
                // What admission or its namespace depended on changed: it is asked anew.
                Err(error) if error.is_conflict() => {}
                answer => return answer,
            }
        }
        self.send(self.client.commit().create(object)).await
    }

    /// Replaces `object`, all but its status, if it still is at the resource version it was read
    /// at: see [`Commit::replace`].
    ///
    /// # Errors
    ///
    /// [`Conflict`](ApiErrorKind::Conflict) if somebody else wrote it in between.
    pub async fn replace(&self, object: K) -> Result<Arc<K>, ApiError> {
        self.send(self.client.commit().replace(object)).await
    }

    /// Replaces the status of `object` and nothing else, if it still is at the resource version
    /// it was read at.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ApiErrorKind::Conflict) if somebody else wrote it in between.
    pub async fn replace_status(&self, object: K) -> Result<Arc<K>, ApiError> {
        self.send(self.client.commit().replace_status(object)).await
    }

    /// Reads the object, changes it, and replaces it (all but its status), again if somebody
    /// else wrote it in between, at most 16 times.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ApiErrorKind::Conflict) if it kept changing.
    pub async fn update(
        &self,
        key: &ObjectKey,
        mut change: impl FnMut(&mut K) + Send,
    ) -> Result<Arc<K>, ApiError> {
        self.retrying(
            key,
            UPDATE_TRIES_MAX,
            |object| {
                change(object);
                Ok(())
            },
            Commit::replace,
        )
        .await
    }

    /// Like [`update`](Self::update), for the status alone.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ApiErrorKind::Conflict) if it kept changing.
    pub async fn update_status(
        &self,
        key: &ObjectKey,
        mut change: impl FnMut(&mut K) + Send,
    ) -> Result<Arc<K>, ApiError> {
        self.retrying(
            key,
            UPDATE_TRIES_MAX,
            |object| {
                change(object);
                Ok(())
            },
            Commit::replace_status,
        )
        .await
    }

    /// Asks for the object's end.
    ///
    /// It goes at once unless a finalizer holds it, or it is a pod that runs: then it is marked
    /// with a deletion timestamp and its grace, its agent stops it and deletes it for good. An
    /// object marked already may get a shorter grace.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ApiErrorKind::NotFound) if it does not exist;
    /// [`Conflict`](ApiErrorKind::Conflict) if it is not the one that `params` mean.
    pub async fn delete(
        &self,
        key: &ObjectKey,
        params: DeleteParams,
    ) -> Result<Deleted<K>, ApiError> {
        let exact = params.resource_version.is_some();
        let mut tries = 1;
        loop {
            let commit = self
                .client
                .commit()
                .delete_key::<K>(key.clone(), params.clone());
            match commit.send_all().await {
                Ok(landed) => {
                    let object = landed.object(0).expect("the one write is of a K");
                    return Ok(if landed.removed(0) {
                        Deleted::Removed(object)
                    } else {
                        Deleted::Marked(object)
                    });
                }
                // The commit found it at one version, and it changed before the commit landed.
                Err(error) if error.is_conflict() && !exact && tries < UPDATE_TRIES_MAX => {
                    if let Some(uid) = params.uid
                        && self
                            .find(key)
                            .await?
                            .is_some_and(|found| found.metadata().uid != uid)
                    {
                        return Err(error);
                    }
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads, changes and writes until no one interferes.
    pub(super) async fn retrying(
        &self,
        key: &ObjectKey,
        tries_max: u32,
        mut change: impl FnMut(&mut K) -> Result<(), ApiError> + Send,
        write: impl Fn(Commit, K) -> Commit + Send,
    ) -> Result<Arc<K>, ApiError> {
        let mut tries = 1;
        loop {
            let current = self.get(key).await?;
            let mut object = K::clone(&current);
            drop(current);
            change(&mut object)?;
            match self.send(write(self.client.commit(), object)).await {
                Err(error) if error.is_conflict() && tries < tries_max => tries += 1,
                answer => return answer,
            }
        }
    }

    pub(super) async fn send(&self, commit: Commit) -> Result<Arc<K>, ApiError> {
        let landed = commit.send_all().await?;
        Ok(landed.object(0).expect("the one write is of a K"))
    }

    pub(super) fn default_namespace(&self) -> Option<SmolStr> {
        self.namespace.clone()
    }

    pub(super) fn within(&self, mut params: ListParams) -> ListParams {
        if params.namespace.is_none() {
            params.namespace.clone_from(&self.namespace);
        }
        params
    }
}

/// What a delete did.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted<K> {
    /// The object is gone; this is how it last stood.
    Removed(Arc<K>),
    /// The object is marked, and goes when its finalizers and its agent agree.
    Marked(Arc<K>),
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            kind: PhantomData,
        }
    }
}

impl<K: Resource> fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("kind", &K::KIND)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
