//! The suite of [`LeaseStore`], reached through the store it belongs to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::store::{Follower, Kit, Options};
use super::{Finding, Report, Stop, Suite, Timer, ensure, ensure_eq, fail, join_all, skip};
use crate::port::lease::{KeptAlive, LeaseId, LeaseStore};
use crate::port::store::{
    Change, Guard, Key, Revision, StateStore, StateStoreExt, StoreErrorKind, Txn, Write,
};

/// Runs the lease checks alone on stores from `fresh`, each empty and used by nobody else.
/// `sleep` is the executor's, for instance `tokio::time::sleep`.
pub async fn run<F, Fut, S, Slept>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Arc<dyn StateStore>> + Send,
    S: Fn(Duration) -> Slept + Send + Sync + 'static,
    Slept: Future<Output = ()> + Send + 'static,
{
    run_with(fresh, sleep, Options::default()).await
}

/// As [`run`], with other times.
pub async fn run_with<F, Fut, S, Slept>(fresh: F, sleep: S, options: Options) -> Report
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Arc<dyn StateStore>> + Send,
    S: Fn(Duration) -> Slept + Send + Sync + 'static,
    Slept: Future<Output = ()> + Send + 'static,
{
    let kit = Kit::new(&fresh, Timer::new(sleep), options);
    let mut suite = Suite::new("LeaseStore", kit.timer.clone());
    checks(&mut suite, &kit).await;
    suite.finish()
}

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "a_lease_ends_after_its_time_never_before_and_soon_after",
            "A lease that is not kept alive ends after its time to live, never before, and soon \
             after.",
            ends_in_time(kit),
        )
        .await;
    suite
        .check(
            "each_of_many_leases_has_its_own_time",
            "A lease that is not kept alive ends after its time to live, whatever becomes of \
             others.",
            each_of_many(kit),
        )
        .await;
    suite
        .check(
            "its_keys_go_in_one_commit",
            "All its keys are then deleted in one commit, which watchers see as ordinary \
             deletions.",
            one_commit(kit),
        )
        .await;
    suite
        .check(
            "keep_alive_extends_to_the_full_time",
            "Extends a lease to its full time to live from now.",
            kept_alive(kit),
        )
        .await;
    suite
        .check(
            "a_key_belongs_to_the_lease_of_its_last_put",
            "A key belongs to the lease of its last put; a put without a lease takes it out of \
             any.",
            last_put(kit),
        )
        .await;
    suite
        .check(
            "a_failed_commit_binds_nothing",
            "A failed commit changed nothing.",
            failed_commit(kit),
        )
        .await;
    suite
        .check(
            "an_ended_lease_stays_ended",
            "An ended lease stays ended: keep_alive answers Ended, and a put that names it fails \
             with LeaseEnded.",
            stays_ended(kit),
        )
        .await;
    suite
        .check(
            "revoke_ends_a_lease_at_once",
            "Ends a lease now and deletes its keys in one commit. Idempotent: an unknown lease \
             has already ended.",
            revoked(kit),
        )
        .await;
    suite
        .check(
            "ids_are_never_given_twice",
            "Names a lease of one store. Never given twice.",
            ids(kit),
        )
        .await;
}

fn leases(store: &dyn StateStore) -> Result<&dyn LeaseStore, Stop> {
    store
        .leases()
        .map_or_else(|| skip("the store has no leases"), Ok)
}

fn bound(key: &str, lease: LeaseId) -> Write {
    Write::Put {
        key: key.into(),
        value: (*b"leased").into(),
        lease: Some(lease),
    }
}

async fn put(store: &dyn StateStore, key: &str, lease: LeaseId) -> Result<Revision, Stop> {
    Ok(store.commit(Txn::new().then(bound(key, lease))).await?)
}

async fn exists(store: &dyn StateStore, key: &str) -> Result<bool, Stop> {
    Ok(store.get(&Key::from(key)).await?.is_some())
}

/// A moment that every lease of that time to live must outlast.
fn safe(kit: &Kit<'_>) -> Duration {
    kit.options.lease_ttl * 3 / 4
}

/// From [`safe`] to when it must have ended.
fn rest(kit: &Kit<'_>) -> Duration {
    let Options {
        lease_ttl: ttl,
        lease_unit: unit,
        lease_slack: slack,
        ..
    } = kit.options;
    let unit = unit.max(Duration::from_millis(1)).as_nanos();
    let whole = ttl.as_nanos().div_ceil(unit) * unit;
    let whole = Duration::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX));
    whole.saturating_sub(safe(kit)) + slack
}

async fn ends_in_time(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let base = store.put("other".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    // Of two leases the longer must neither hold up nor be dragged along by the shorter.
    let long = leases.grant(kit.options.lease_ttl * 4).await?;
    put(&*store, "long", long).await?;
    let lease = leases.grant(kit.options.lease_ttl).await?;
    let at = put(&*store, "k", lease).await?;
    let seen = store.get(&"k".into()).await?.and_then(|now| now.lease);
    ensure_eq("the lease of a key", seen, Some(lease))?;
    while follower.seen.len() < 2 {
        follower.read(kit).await?;
    }
    // Nobody calls the store but the watch, which waits.
    let early = kit.timer.within(safe(kit), follower.read(kit)).await;
    if early.is_some() {
        let text = format!("no change within {:?} of the put", safe(kit));
        return fail(text, format!("{:?}", follower.seen.last()));
    }
    ensure(
        exists(&*store, "k").await?,
        "the key, before its lease's time",
        "absent",
    )?;
    match kit.timer.within(rest(kit), follower.read(kit)).await {
        Some(done) => done?,
        None => {
            let read = exists(&*store, "k").await?;
            let text = format!("a deletion within {:?} after the lease's time", rest(kit));
            return fail(
                text,
                format!(
                    "none; the key {}",
                    if read { "still exists" } else { "is gone" }
                ),
            );
        }
    }
    match follower.seen.last() {
        Some(Change::Delete { key, at: end }) if key.as_str() == "k" && *end > at => {}
        other => return fail("the deletion of k", format!("{other:?}")),
    }
    ensure(
        !exists(&*store, "k").await?,
        "no key after its lease",
        "it exists",
    )?;
    ensure(
        exists(&*store, "other").await?,
        "the key without a lease",
        "absent",
    )?;
    ensure(
        exists(&*store, "long").await?,
        "the key of the longer lease",
        "absent",
    )?;
    // Again without a watch: a read alone must see it.
    let lease = leases.grant(kit.options.lease_ttl).await?;
    put(&*store, "k", lease).await?;
    drop(follower);
    kit.timer.sleep(safe(kit)).await;
    ensure(
        exists(&*store, "k").await?,
        "the key, before its lease's time",
        "absent",
    )?;
    kit.timer.sleep(rest(kit)).await;
    ensure(
        !exists(&*store, "k").await?,
        "no key after its lease's time",
        "it exists",
    )
}

/// Some are kept alive, some written to, some read: only the first live on.
async fn each_of_many(kit: &Kit<'_>) -> Finding {
    const MANY: usize = 32;
    let store = kit.store().await;
    let (store, leases) = (&*store, leases(&*store)?);
    let key = |n: usize| format!("many/{n}");
    let kept = |n: usize| n.is_multiple_of(4);
    // Side by side, so that all are about as old.
    let granting = (0..MANY).map(|n| {
        let grant = async move {
            let lease = leases.grant(kit.options.lease_ttl).await?;
            put(store, &key(n), lease).await?;
            Ok(lease)
        };
        Box::pin(grant) as Pin<Box<dyn Future<Output = Result<LeaseId, Stop>> + Send + '_>>
    });
    let granted = join_all(granting.collect()).await;
    let granted: Vec<_> = granted.into_iter().collect::<Result<_, Stop>>()?;
    let keep = async || {
        for (n, lease) in granted.iter().enumerate().filter(|(n, _)| kept(*n)) {
            if leases.keep_alive(*lease).await? == KeptAlive::Ended {
                return fail(
                    "a lease kept alive in time",
                    format!("{} has ended", key(n)),
                );
            }
        }
        Ok(())
    };
    let half = kit.options.lease_ttl / 2;
    kit.timer.sleep(half).await;
    keep().await?;
    for (n, lease) in granted.iter().enumerate().filter(|(n, _)| n % 4 == 1) {
        put(store, &key(n), *lease).await?;
    }
    kit.timer.sleep(safe(kit).saturating_sub(half)).await;
    for n in 0..MANY {
        let there = exists(store, &key(n)).await?;
        ensure(
            there,
            format!("{}, before its lease's time", key(n)),
            "absent",
        )?;
    }
    keep().await?;
    kit.timer.sleep(rest(kit)).await;
    for n in 0..MANY {
        let there = exists(store, &key(n)).await?;
        match kept(n) {
            true if rest(kit) < safe(kit) => {
                ensure(there, format!("{}, kept alive", key(n)), "absent")?;
            }
            true => {}
            false => {
                let what = format!("no {} after its lease's time", key(n));
                ensure(!there, what, "it exists")?;
            }
        }
    }
    kit.timer.sleep(safe(kit)).await;
    for n in 0..MANY {
        let what = format!("no {} after its lease's time", key(n));
        ensure(!exists(store, &key(n)).await?, what, "it exists")?;
    }
    Ok(())
}

async fn one_commit(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let lease = leases.grant(kit.options.lease_ttl).await?;
    let keys = ["a", "b/1", "b/2", "c", "d"];
    for key in keys {
        put(&*store, key, lease).await?;
    }
    let base = store.put("free".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    let wait = safe(kit) + rest(kit);
    match kit.timer.within(wait, follower.read(kit)).await {
        Some(done) => done?,
        None => return fail(format!("deletions within {wait:?}"), "none"),
    }
    let Some(at) = follower.seen.first().map(Change::revision) else {
        return fail("deletions", "a bookmark");
    };
    let mut seen: Vec<_> = follower.seen.iter().map(deleted).collect();
    seen.sort();
    let wanted: Vec<_> = keys
        .iter()
        .map(|key| Some(((*key).to_owned(), at)))
        .collect();
    ensure_eq("the deletions, in one batch of one commit", seen, wanted)?;
    for key in keys {
        ensure(!exists(&*store, key).await?, "no key after its lease", key)?;
    }
    // The next commit lies behind the end of the lease.
    let next = store.put("free".into(), *b"2").await?;
    ensure(next > at, format!("a revision after {at}"), next)
}

fn deleted(change: &Change) -> Option<(String, Revision)> {
    match change {
        Change::Delete { key, at } => Some((key.to_string(), *at)),
        Change::Put(_) => None,
    }
}

async fn kept_alive(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let ttl = kit.options.lease_ttl;
    let longest = safe(kit) + rest(kit);
    let lease = leases.grant(ttl).await?;
    put(&*store, "k", lease).await?;
    for n in 0..4 {
        kit.timer.sleep(ttl / 2).await;
        match leases.keep_alive(lease).await? {
            KeptAlive::For(span) => ensure(
                span >= safe(kit) && span <= longest,
                format!("about {ttl:?} more"),
                span,
            )?,
            KeptAlive::Ended => {
                return fail(
                    "a lease kept alive in time",
                    format!("Ended, at keep-alive {n}"),
                );
            }
        }
        ensure(
            exists(&*store, "k").await?,
            "the key of a lease kept alive",
            "absent",
        )?;
    }
    kit.timer.sleep(safe(kit)).await;
    ensure(
        exists(&*store, "k").await?,
        "the full time since the last keep-alive",
        "absent",
    )?;
    kit.timer.sleep(rest(kit)).await;
    ensure(
        !exists(&*store, "k").await?,
        "the end after the last keep-alive",
        "the key exists",
    )
}

async fn last_put(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let long = leases.grant(kit.options.lease_ttl * 4).await?;
    let short = leases.grant(kit.options.lease_ttl).await?;
    let freed = put(&*store, "freed", short).await?;
    for key in ["moved", "deleted", "kept", "rewritten"] {
        put(&*store, key, short).await?;
    }
    put(&*store, "taken", long).await?;
    store.replace("freed".into(), *b"free", freed).await?;
    put(&*store, "moved", long).await?;
    put(&*store, "taken", short).await?;
    put(&*store, "rewritten", short).await?;
    store.delete("deleted".into()).await?;
    store.put("deleted".into(), *b"again").await?;
    for (key, lease) in [
        ("freed", None),
        ("moved", Some(long)),
        ("deleted", None),
        ("taken", Some(short)),
    ] {
        let seen = store.get(&key.into()).await?.map(|now| now.lease);
        ensure_eq(&format!("the lease of {key}"), seen, Some(lease))?;
    }
    kit.timer.sleep(safe(kit) + rest(kit)).await;
    for (key, there) in [
        ("freed", true),
        ("moved", true),
        ("deleted", true),
        ("kept", false),
        ("taken", false),
        ("rewritten", false),
    ] {
        let seen = exists(&*store, key).await?;
        ensure_eq(
            &format!("{key} exists after the shorter lease"),
            seen,
            there,
        )?;
    }
    leases.revoke(long).await?;
    for (key, there) in [("freed", true), ("moved", false), ("deleted", true)] {
        let seen = exists(&*store, key).await?;
        ensure_eq(&format!("{key} exists after both leases"), seen, there)?;
    }
    Ok(())
}

async fn failed_commit(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let lease = leases.grant(kit.options.lease_ttl).await?;
    put(&*store, "bound", lease).await?;
    store.put("free".into(), *b"1").await?;
    let txn = Txn::new()
        .when(Guard::Absent("bound".into()))
        .then(Write::put("bound".into(), *b"2"))
        .then(bound("free", lease));
    match store.commit(txn).await {
        Err(error) if error.kind() == StoreErrorKind::Conflict => {}
        other => return fail("Conflict", format!("{other:?}")),
    }
    leases.revoke(lease).await?;
    ensure(
        !exists(&*store, "bound").await?,
        "the bound key gone with its lease",
        "it exists",
    )?;
    ensure(exists(&*store, "free").await?, "the free key", "absent")
}

/// Expects everything of `lease` to say that it has ended.
async fn expect_ended(store: &dyn StateStore, lease: LeaseId, what: &str) -> Finding {
    let leases = leases(store)?;
    for _ in 0..2 {
        ensure_eq(
            &format!("keep_alive of {what}"),
            leases.keep_alive(lease).await?,
            KeptAlive::Ended,
        )?;
        let txn = Txn::new()
            .then(Write::put("beside".into(), *b"1"))
            .then(bound("late", lease));
        match store.commit(txn).await {
            Err(error) if error.kind() == StoreErrorKind::LeaseEnded => {}
            other => {
                return fail(
                    format!("put under {what}: LeaseEnded"),
                    format!("{other:?}"),
                );
            }
        }
        for key in ["late", "beside", "k"] {
            ensure(
                !exists(store, key).await?,
                format!("no {key:?} under {what}"),
                "it exists",
            )?;
        }
        leases.revoke(lease).await?;
    }
    Ok(())
}

async fn stays_ended(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let lease = leases.grant(kit.options.lease_ttl).await?;
    put(&*store, "k", lease).await?;
    kit.timer.sleep(safe(kit) + rest(kit)).await;
    // The first call that concerns it must not bring it back.
    ensure_eq(
        "keep_alive after its time",
        leases.keep_alive(lease).await?,
        KeptAlive::Ended,
    )?;
    expect_ended(&*store, lease, "a lease past its time").await?;
    let revoked = leases.grant(kit.options.lease_ttl).await?;
    put(&*store, "k", revoked).await?;
    leases.revoke(revoked).await?;
    expect_ended(&*store, revoked, "a revoked lease").await?;
    expect_ended(&*store, LeaseId(u64::MAX / 3), "a lease that never was").await
}

async fn revoked(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let (mine, other) = (
        leases.grant(kit.options.lease_ttl).await?,
        leases.grant(kit.options.lease_ttl).await?,
    );
    put(&*store, "a", mine).await?;
    put(&*store, "b", mine).await?;
    put(&*store, "other", other).await?;
    let base = store.put("free".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    leases.revoke(mine).await?;
    for (key, there) in [("a", false), ("b", false), ("other", true), ("free", true)] {
        let seen = exists(&*store, key).await?;
        ensure_eq(&format!("{key} exists after the revoke"), seen, there)?;
    }
    follower.read(kit).await?;
    let at = follower.seen.first().map_or(base, Change::revision);
    let mut seen: Vec<_> = follower.seen.iter().map(deleted).collect();
    seen.sort();
    let wanted = vec![Some(("a".to_owned(), at)), Some(("b".to_owned(), at))];
    ensure_eq("the deletions, in one batch of one commit", seen, wanted)?;
    leases.revoke(mine).await?;
    let last = store.put("free".into(), *b"2").await?;
    while follower.seen.len() < 3 {
        follower.read(kit).await?;
    }
    let seen = follower.seen.get(2).map(Change::revision);
    ensure_eq("the change after a second revoke", seen, Some(last))?;
    ensure_eq("changes in all", follower.seen.len(), 3)
}

async fn ids(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let leases = leases(&*store)?;
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..100 {
        let lease = leases.grant(kit.options.lease_ttl).await?;
        ensure(seen.insert(lease), "a new id", lease)?;
        if n % 2 == 0 {
            leases.revoke(lease).await?;
        }
    }
    Ok(())
}
