//! Several typed writes as one transaction: the one place where plans become writes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::error::report;
use orchestra_core::kind::{FieldError, Invalid, Resource};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::{
    Guard, ListRequest, Revision, StoreError, StoreErrorKind, TXN_OPS_MAX, Txn, Write,
};
use tracing::Instrument;

use super::client::Client;
use super::error::{ApiError, ApiErrorKind};
use super::object::AnyObject;
use super::params::DeleteParams;
use super::stage::{self, Draft, Effect, Part};

/// How often a transaction of unknown outcome is looked up and, where that is safe, sent again.
const AMBIGUOUS_TRIES_MAX: u32 = 3;

/// Several typed writes that land together at one revision, or not at all.
///
/// Each write of an object that was read depends on its resource version: if anybody changed it
/// in between, nothing lands and [`send`](Self::send) fails with
/// [`Conflict`](ApiErrorKind::Conflict) about that object. A version of zero means whatever
/// stands there when the commit is prepared. A write that changes nothing is left out, but the
/// others still depend on the object.
///
/// One commit holds at most [`TXN_OPS_MAX`] writes and as many guards. Each object may be
/// written once.
#[must_use = "a commit does nothing until it is sent"]
pub struct Commit {
    client: Client,
    steps: Vec<Box<dyn Step>>,
    guards: Vec<Guard>,
    writes: Vec<Write>,
}

impl Commit {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            steps: Vec::new(),
            guards: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Creates `object`: fills in defaults, uid, creation time, and the name if only
    /// `generateName` is given. Fails with [`AlreadyExists`](ApiErrorKind::AlreadyExists) if the
    /// name is taken.
    pub fn create<K: Resource>(self, object: K) -> Self {
        self.step(Create(Arc::new(object)))
    }

    /// Replaces `object`, all but its status.
    ///
    /// The last finalizer gone from an object that is being deleted deletes it.
    pub fn replace<K: Resource>(self, object: K) -> Self {
        self.step(Replace(Arc::new(object), Part::Spec))
    }

    /// Replaces the status of `object`, and nothing else.
    pub fn replace_status<K: Resource>(self, object: K) -> Self {
        self.step(Replace(Arc::new(object), Part::Status))
    }

    /// Replaces `object`, its status included: for controllers that own both.
    pub fn replace_whole<K: Resource>(self, object: K) -> Self {
        self.step(Replace(Arc::new(object), Part::Whole))
    }

    /// Deletes `object` as it was read: see [`Api::delete`](super::Api::delete).
    pub fn delete<K: Resource>(self, object: &K) -> Self {
        self.delete_with(object, DeleteParams::default())
    }

    /// Deletes `object` as it was read, with `params`.
    pub fn delete_with<K: Resource>(self, object: &K, params: DeleteParams) -> Self {
        let meta = object.metadata();
        let params = DeleteParams {
            uid: params.uid.or(Some(meta.uid)),
            ..params
        };
        let seen = meta.resource_version;
        self.step(Delete::<K> {
            key: meta.key(),
            seen,
            params,
            kind: std::marker::PhantomData,
        })
    }

    /// Deletes the object at `key`, whatever its version unless `params` say which.
    pub fn delete_key<K: Resource>(self, key: ObjectKey, params: DeleteParams) -> Self {
        let seen = Revision(0);
        self.step(Delete::<K> {
            key,
            seen,
            params,
            kind: std::marker::PhantomData,
        })
    }

    /// Adds a condition of the caller's own, for instance on a fence key.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds a raw write, for instance of a fence key. Keys of typed objects must not be written
    /// so.
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// How many writes it holds so far.
    pub fn len(&self) -> usize {
        self.steps.len() + self.writes.len()
    }

    /// Whether it writes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Commits, and returns the revision at which everything stands as asked. If there is
    /// nothing to change, nothing is committed, and that is the newest revision among the objects
    /// named, or zero if there are none.
    ///
    /// An unknown outcome is looked up, and sent again where that is safe, a few times.
    ///
    /// Not cancel-safe: a dropped call may still land.
    ///
    /// # Errors
    ///
    /// See [`ApiErrorKind`]. Nothing landed, unless the kind is
    /// [`Ambiguous`](ApiErrorKind::Ambiguous).
    pub async fn send(self) -> Result<Revision, ApiError> {
        self.send_all().await.map(|landed| landed.revision)
    }

    /// Like [`send`](Self::send), and returns the objects too.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_all(self) -> Result<Landed, ApiError> {
        let Self {
            client,
            steps,
            guards,
            writes,
        } = self;
        check_count(steps.len() + writes.len())?;
        let mut draft = Draft::default();
        draft
            .txn
            .guards
            .reserve(steps.len() + guards.len() + client.fence().len());
        draft.txn.writes.reserve(steps.len() + writes.len());
        draft.placed.reserve(steps.len());
        for step in steps {
            step.stage(&client, &mut draft).await?;
        }
        draft.txn.guards.extend(guards);
        draft.txn.writes.extend(writes);
        if draft.txn.writes.is_empty() {
            check_guards(&client, &draft).await?;
            return Ok(draft.land(&client, Revision(0)));
        }
        draft.txn.guards.extend_from_slice(client.fence());
        check_count(draft.txn.guards.len().max(draft.txn.writes.len()))?;
        let writes = draft.txn.writes.len();
        let span = tracing::debug_span!("commit", writes, first = %draft.txn.writes[0].key());
        let revision = commit(&client, &mut draft).instrument(span).await?;
        Ok(draft.land(&client, revision))
    }

    fn step(mut self, step: impl Step + 'static) -> Self {
        self.steps.push(Box::new(step));
        self
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// What a commit did, write by write.
#[derive(Debug)]
pub struct Landed {
    /// The revision at which everything stands as asked.
    pub revision: Revision,
    effects: Vec<(bool, AnyObject)>,
}

impl Landed {
    /// The object of the `n`th typed write, from 0: as it stands now, or as it last stood if it
    /// was removed. `None` if there is no such write, or it is not a `K`.
    pub fn object<K: Any + Send + Sync>(&self, n: usize) -> Option<Arc<K>> {
        let (_, object) = self.effects.get(n)?;
        Arc::downcast(object.clone()).ok()
    }

    /// Whether the `n`th typed write removed its object.
    pub fn removed(&self, n: usize) -> bool {
        self.effects.get(n).is_some_and(|(removed, _)| *removed)
    }
}

impl Draft {
    fn land(self, client: &Client, committed: Revision) -> Landed {
        let mut revision = committed;
        let shelf = client.shelf();
        let effects = self.placed.into_iter().map(|placed| match placed.effect {
            Effect::Put(object) => {
                let object = object.land(committed);
                shelf.put(placed.key, committed, object.clone());
                (false, object)
            }
            Effect::Removed(last) => {
                shelf.remove(&placed.key);
                (true, last)
            }
            Effect::Unchanged(object, at) => {
                revision = revision.max(at);
                (false, object)
            }
        });
        let effects = effects.collect();
        Landed { revision, effects }
    }

    /// Which write a store's refusal is about.
    fn explain(&self, client: &Client, error: StoreError) -> ApiError {
        let about = error.subject().unwrap_or("transaction").to_owned();
        let placed = self
            .placed
            .iter()
            .find(|placed| placed.key.as_str() == about);
        let (op, subject) = match placed {
            Some(placed) => (placed.op, format!("{} {}", placed.plural, placed.object)),
            None => ("commit", about.clone()),
        };
        match error.kind() {
            StoreErrorKind::Conflict => {
                let kind = if client
                    .fence()
                    .iter()
                    .any(|guard| guard.key().as_str() == about)
                {
                    ApiErrorKind::Fenced
                } else if op == "create" {
                    ApiErrorKind::AlreadyExists
                } else {
                    ApiErrorKind::Conflict
                };
                ApiError::new(kind, op, subject).because(error)
            }
            StoreErrorKind::Invalid => {
                let mut invalid = Invalid::new();
                let problem = report(&error).to_string();
                let remedy = "send a transaction that every store accepts";
                invalid
                    .errors
                    .push(FieldError::new("transaction", "", problem, remedy));
                ApiError::new(ApiErrorKind::Invalid(invalid), op, subject)
            }
            _ => ApiError::store(error, op, subject),
        }
    }
}

fn check_count(ops: usize) -> Result<(), ApiError> {
    if ops <= TXN_OPS_MAX {
        return Ok(());
    }
    let kind = ApiErrorKind::TooMany {
        ops,
        max: TXN_OPS_MAX,
    };
    Err(ApiError::new(kind, "commit", "transaction"))
}

/// Whether what was read still stands, where there is nothing to write.
async fn check_guards(client: &Client, draft: &Draft) -> Result<(), ApiError> {
    for guard in &draft.txn.guards {
        let found = client.store().get(guard.key()).await;
        let found = found.map_err(|error| draft.explain(client, error))?;
        let holds = match guard {
            Guard::Absent(_) => found.is_none(),
            Guard::At(_, at) => found.is_some_and(|found| found.modified == *at),
            _ => false,
        };
        if !holds {
            let error = StoreError::new(StoreErrorKind::Conflict, "get");
            return Err(draft.explain(client, error.about(guard.key().as_str())));
        }
    }
    Ok(())
}

async fn commit(client: &Client, draft: &mut Draft) -> Result<Revision, ApiError> {
    // The first write whose landing would break a guard: it tells whether the whole landed, and
    // makes sending again harmless.
    let witness = draft.txn.writes.iter().position(|write| {
        draft
            .txn
            .guards
            .iter()
            .any(|guard| guard.key() == write.key())
    });
    for last in (0..AMBIGUOUS_TRIES_MAX).map(|n| n + 1 == AMBIGUOUS_TRIES_MAX) {
        let kept = witness.filter(|_| !last);
        // A clone of keys and values shares them.
        let error = match client.store().commit(draft.txn.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(error) => error,
        };
        let Some(witness) = kept.filter(|_| error.kind() == StoreErrorKind::Ambiguous) else {
            return Err(draft.explain(client, error));
        };
        match seen(client, &draft.txn, witness).await {
            Ok(Outcome::Landed(revision)) => return Ok(revision),
            Ok(Outcome::NotYet) => {}
            Ok(Outcome::Unknown) | Err(_) => return Err(draft.explain(client, error)),
        }
    }
    unreachable!("the last try returns")
}

/// What became of a transaction of unknown outcome.
enum Outcome {
    Landed(Revision),
    /// Its guard still holds: sending it again cannot make it land twice.
    NotYet,
    /// Somebody wrote since.
    Unknown,
}

async fn seen(client: &Client, txn: &Txn, witness: usize) -> Result<Outcome, StoreError> {
    let write = &txn.writes[witness];
    let found = client.store().get(write.key()).await?;
    let guard = txn.guards.iter().find(|guard| guard.key() == write.key());
    let holds = match (guard, &found) {
        (Some(Guard::Absent(_)), None) => true,
        (Some(Guard::At(_, at)), Some(found)) => found.modified == *at,
        _ => false,
    };
    Ok(match (write, found) {
        _ if holds => Outcome::NotYet,
        (Write::Put { value, .. }, Some(found)) if found.value == *value => {
            Outcome::Landed(found.modified)
        }
        // Gone as asked; nobody can tell by whom unless something else was written with it.
        (Write::Delete(key), None) if txn.writes.len() == 1 => {
            let request = ListRequest {
                prefix: key.clone(),
                limit: 1,
                from: None,
            };
            Outcome::Landed(client.store().list(request).await?.revision)
        }
        _ => Outcome::Unknown,
    })
}

/// One typed write that waits to be staged.
#[async_trait]
trait Step: Send {
    async fn stage(self: Box<Self>, client: &Client, draft: &mut Draft) -> Result<(), ApiError>;
}

struct Create<K>(Arc<K>);

#[async_trait]
impl<K: Resource> Step for Create<K> {
    async fn stage(self: Box<Self>, client: &Client, draft: &mut Draft) -> Result<(), ApiError> {
        stage::create(client, self.0, draft).await
    }
}

struct Replace<K>(Arc<K>, Part);

#[async_trait]
impl<K: Resource> Step for Replace<K> {
    async fn stage(self: Box<Self>, client: &Client, draft: &mut Draft) -> Result<(), ApiError> {
        stage::replace(client, self.0, self.1, draft).await
    }
}

struct Delete<K> {
    key: ObjectKey,
    seen: Revision,
    params: DeleteParams,
    kind: std::marker::PhantomData<fn() -> K>,
}

#[async_trait]
impl<K: Resource> Step for Delete<K> {
    async fn stage(self: Box<Self>, client: &Client, draft: &mut Draft) -> Result<(), ApiError> {
        stage::delete::<K>(client, self.key, self.seen, &self.params, draft).await
    }
}
