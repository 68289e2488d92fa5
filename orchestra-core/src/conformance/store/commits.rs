//! What a commit does, and what it must not.

use super::Kit;
use super::follow::Follower;
use crate::conformance::{Finding, Stop, Suite, ensure, ensure_eq, fail};
use crate::port::store::{
    Change, Guard, KEY_BYTES_MAX, Key, ListRequest, Revision, StateStore, StateStoreExt,
    StoreErrorKind, TXN_OPS_MAX, Txn, VALUE_BYTES_MAX, Value, Versioned, Write,
};

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "a_commit_is_visible_to_every_later_call",
            "Commits are totally ordered by Revision; a commit is visible to every later call.",
            visible(kit),
        )
        .await;
    suite
        .check(
            "created_stays_and_modified_moves",
            "created: the commit that made the key exist; modified: the commit that last wrote it.",
            created_modified(kit),
        )
        .await;
    suite
        .check(
            "guards_decide",
            "It lands wholly or not at all, and only if every guard held at that very moment.",
            guards(kit),
        )
        .await;
    suite
        .check(
            "a_failed_commit_changed_nothing",
            "A failed commit changed nothing, unless its kind is Ambiguous.",
            nothing_changed(kit),
        )
        .await;
    suite
        .check(
            "a_transaction_lands_at_one_revision",
            "If every guard holds, every write lands at one new revision.",
            one_revision(kit),
        )
        .await;
    suite
        .check(
            "deleting_an_absent_key_is_not_an_error",
            "Removing an absent key is not an error.",
            delete_absent(kit),
        )
        .await;
    suite
        .check(
            "what_breaks_the_rules_is_invalid",
            "Checks what every store must refuse: stores call Txn::check first in commit.",
            refused(kit),
        )
        .await;
    suite
        .check(
            "values_and_keys_of_every_size_come_back",
            "TXN_OPS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX: what every backend accepts.",
            sizes(kit),
        )
        .await;
}

async fn visible(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    ensure_eq("an absent key", store.get(&"a".into()).await?, None)?;
    let mut last = store.list(ListRequest::all("")).await?.revision;
    for n in 0..200_u8 {
        let key = Key::from(format!("k/{}", n % 7));
        let revision = store.put(key.clone(), [n]).await?;
        ensure(
            revision > last,
            format!("a revision after {last}"),
            revision,
        )?;
        last = revision;
        let seen = store.get(&key).await?;
        ensure_eq(
            "value read after its commit",
            seen.map(|now| now.value.to_vec()),
            Some(vec![n]),
        )?;
        let page = store.list(ListRequest::all("k/")).await?;
        ensure(
            page.revision >= revision,
            format!("a listing at {revision}"),
            page.revision,
        )?;
        let listed = page
            .items
            .iter()
            .find(|item| item.key == key)
            .map(|item| item.value.to_vec());
        ensure_eq("value listed after its commit", listed, Some(vec![n]))?;
        if n % 5 == 4 {
            last = store.delete(key.clone()).await?;
            ensure_eq("a deleted key", store.get(&key).await?, None)?;
        }
    }
    Ok(())
}

async fn created_modified(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let key = Key::from("k");
    let read = |now: Option<Versioned>| now.map(|now| (now.created, now.modified, now.lease));
    let one = store.create(key.clone(), *b"1").await?;
    ensure_eq(
        "after create",
        read(store.get(&key).await?),
        Some((one, one, None)),
    )?;
    let two = store.put(key.clone(), *b"2").await?;
    ensure_eq(
        "after put",
        read(store.get(&key).await?),
        Some((one, two, None)),
    )?;
    let three = store.replace(key.clone(), *b"2", two).await?;
    ensure_eq(
        "after an equal put",
        read(store.get(&key).await?),
        Some((one, three, None)),
    )?;
    store.put("other".into(), *b"x").await?;
    ensure_eq(
        "after another's put",
        read(store.get(&key).await?),
        Some((one, three, None)),
    )?;
    store.delete(key.clone()).await?;
    let five = store.create(key.clone(), *b"5").await?;
    ensure_eq(
        "after its second create",
        read(store.get(&key).await?),
        Some((five, five, None)),
    )
}

/// Commits, and expects a conflict about `key`.
async fn conflict(store: &dyn StateStore, txn: Txn, key: &str, what: &str) -> Finding {
    match store.commit(txn).await {
        Err(error) if error.kind() == StoreErrorKind::Conflict => ensure(
            error.subject().is_some_and(|subject| subject.contains(key)),
            format!("{what}: a Conflict about {key}"),
            error.subject(),
        ),
        other => fail(format!("{what}: Conflict"), format!("{other:?}")),
    }
}

async fn guards(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let write = |n: u8| Write::put("target".into(), [n]);
    let (absent, here) = (|| Guard::Absent("here".into()), Key::from("here"));
    store
        .commit(Txn::new().when(absent()).then(write(0)))
        .await?;
    let old = store.create(here.clone(), *b"1").await?;
    let other = store.create("other".into(), *b"1").await?;
    let new = store.replace(here.clone(), *b"2", old).await?;
    for n in 0..20 {
        let on = |guard: Guard| Txn::new().when(guard).then(write(n));
        let at = |revision| Guard::At(here.clone(), revision);
        conflict(&*store, on(absent()), "here", "Absent on a key that exists").await?;
        conflict(
            &*store,
            on(at(old)),
            "here",
            "At a revision that was replaced",
        )
        .await?;
        conflict(
            &*store,
            on(at(other)),
            "here",
            "At the revision of another key",
        )
        .await?;
        conflict(
            &*store,
            on(at(Revision(new.0 + 1))),
            "here",
            "At a revision to come",
        )
        .await?;
        conflict(&*store, on(at(Revision(0))), "here", "At no revision").await?;
        let gone = Guard::At("gone".into(), new);
        conflict(&*store, on(gone), "gone", "At on a key that does not exist").await?;
        let zero = Guard::At("gone".into(), Revision(0));
        conflict(
            &*store,
            on(zero),
            "gone",
            "At 0 on a key that does not exist",
        )
        .await?;
        let second = on(at(new)).when(Guard::Absent("other".into()));
        conflict(&*store, second, "other", "the second of two guards").await?;
        let first = on(Guard::Absent("other".into())).when(at(new));
        conflict(&*store, first, "other", "the first of two guards").await?;
        store
            .commit(on(at(new)).when(Guard::At("other".into(), other)))
            .await
            .map_err(|error| Stop::from(error).at("both guards held"))?;
    }
    let gone = store.delete(here.clone()).await?;
    for stale in [old, new, gone] {
        let on = Txn::new()
            .when(Guard::At(here.clone(), stale))
            .then(write(9));
        conflict(&*store, on, "here", "At on a key that was deleted").await?;
    }
    store
        .commit(Txn::new().when(absent()).then(write(9)))
        .await?;
    Ok(())
}

async fn nothing_changed(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    store.create("a".into(), *b"1").await?;
    let base = store.create("b".into(), *b"1").await?;
    let before = store.list(ListRequest::all("")).await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    for n in 0..100_u8 {
        let txn = Txn::new()
            .then(Write::put("a".into(), [n]))
            .then(Write::Delete("b".into()))
            .then(Write::put("c".into(), [n]))
            .when(Guard::Absent("none".into()))
            .when(Guard::At("a".into(), Revision(base.0 + 1_000)));
        conflict(&*store, txn, "a", "a guard that cannot hold").await?;
        let after = store.list(ListRequest::all("")).await?;
        ensure_eq("what is stored", &after.items, &before.items)?;
        follower.glance().await?;
        follower.compare(&[])?;
    }
    let end = store.put("end".into(), *b"1").await?;
    let seen = store.get(&"end".into()).await?;
    let Some(now) = seen else {
        return fail("the last put", "an absent key");
    };
    ensure_eq("revision of the last put", now.modified, end)?;
    follower.expect(kit, &[Change::Put(now)]).await
}

async fn one_revision(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    store.create("old/1".into(), *b"1").await?;
    let base = store.create("old/2".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    let names = ["z", "old/2", "a", "old/1", "m"];
    let txn = Txn::new()
        .then(Write::put("z".into(), *b"z"))
        .then(Write::Delete("old/2".into()))
        .then(Write::put("a".into(), *b"a"))
        .then(Write::Delete("old/1".into()))
        .then(Write::put("m".into(), *b"m"));
    let at = store.commit(txn).await?;
    for key in ["a", "m", "z"] {
        let seen = store.get(&key.into()).await?;
        ensure_eq(
            key,
            seen.map(|now| (now.created, now.modified)),
            Some((at, at)),
        )?;
    }
    follower.read(kit).await?;
    let seen: Vec<_> = follower
        .seen
        .iter()
        .map(|c| (c.key().as_str(), c.revision()))
        .collect();
    let wanted: Vec<_> = names.iter().map(|name| (*name, at)).collect();
    ensure_eq(
        "one batch with one commit, in the order of its writes",
        seen,
        wanted,
    )
}

async fn delete_absent(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let base = store.create("a".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "", base).await?;
    store.delete("none".into()).await?;
    store.delete("a/".into()).await?;
    let last = store.put("b".into(), *b"1").await?;
    while follower.seen.is_empty() {
        follower.read(kit).await?;
    }
    let seen: Vec<_> = follower
        .seen
        .iter()
        .map(|c| (c.key().as_str(), c.revision()))
        .collect();
    ensure_eq("changes seen", seen, vec![("b", last)])?;
    let kept = store.get(&"a".into()).await?.map(|now| now.modified);
    ensure_eq("the neighbour of a deleted key", kept, Some(base))
}

async fn refused(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let before = store.list(ListRequest::all("")).await?.revision;
    let long = Key::from("k".repeat(KEY_BYTES_MAX + 1));
    let many = |n: usize| (0..n).map(|n| Key::from(format!("many/{n}")));
    let put = |key: &str| Write::put(key.into(), *b"1");
    let bad = [
        ("no write", Txn::new().when(Guard::Absent("a".into()))),
        (
            "a key written twice",
            Txn::new().then(put("a")).then(Write::Delete("a".into())),
        ),
        ("an empty key", Txn::new().then(put("ok")).then(put(""))),
        (
            "an empty key in a guard",
            Txn::new().when(Guard::Absent("".into())).then(put("ok")),
        ),
        (
            "a key too long",
            Txn::new().then(put("ok")).then(Write::Delete(long)),
        ),
        (
            "a value too large",
            Txn::new().then(Write::put("big".into(), vec![0; VALUE_BYTES_MAX + 1])),
        ),
        (
            "too many writes",
            many(TXN_OPS_MAX + 1).fold(Txn::new(), |txn, key| txn.then(Write::Delete(key))),
        ),
        (
            "too many guards",
            many(TXN_OPS_MAX + 1)
                .fold(Txn::new(), |txn, k| txn.when(Guard::Absent(k)))
                .then(put("a")),
        ),
    ];
    for (what, txn) in bad {
        match store.commit(txn).await {
            Err(error) if error.kind() == StoreErrorKind::Invalid => {}
            other => return fail(format!("{what}: Invalid"), format!("{other:?}")),
        }
    }
    let after = store.list(ListRequest::all("")).await?;
    ensure_eq(
        "what refused transactions left",
        (after.items, after.revision),
        (vec![], before),
    )
}

async fn sizes(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let values: [Value; 4] = [
        Value::from([]),
        every_byte.into(),
        vec![0xff; 4_096].into(),
        vec![7; VALUE_BYTES_MAX].into(),
    ];
    for (n, value) in values.into_iter().enumerate() {
        let key = Key::from(format!("{n}{}", "ß".repeat((KEY_BYTES_MAX - 1) / 2)));
        store.put(key.clone(), value.clone()).await?;
        let seen = store.get(&key).await?.map(|now| now.value);
        ensure(
            seen.as_ref() == Some(&value),
            format!("the {} bytes that were put", value.len()),
            seen.map(|seen| seen.len()),
        )?;
    }
    let keys: Vec<_> = (0..TXN_OPS_MAX)
        .map(|n| Key::from(format!("many/{n:03}")))
        .collect();
    let wide = keys.iter().fold(Txn::new(), |txn, key| {
        txn.when(Guard::Absent(key.clone()))
            .then(Write::put(key.clone(), *b"1"))
    });
    let base = store.put("base".into(), *b"1").await?;
    let mut follower = Follower::new(&*store, "many/", base).await?;
    let at = store.commit(wide).await?;
    follower.read(kit).await?;
    ensure_eq(
        "changes of the widest commit in one batch",
        follower.seen.len(),
        TXN_OPS_MAX,
    )?;
    ensure_eq(
        "`through` at least its revision",
        follower.through >= at,
        true,
    )
}
