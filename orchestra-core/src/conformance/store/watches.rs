//! What a watch tells, and when.

use super::Kit;
use super::follow::Follower;
use super::model::Model;
use crate::conformance::{Finding, Stop, Suite, ensure, join, yield_now};
use crate::port::store::{Change, ListRequest, Revision, StoreErrorKind, Txn, Write};

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "a_watch_starts_right_after_its_revision",
            "`list` at revision r, then `watch` from r, yields every later change exactly once, \
             in order.",
            starts(kit),
        )
        .await;
    suite
        .check(
            "a_waiting_watch_wakes",
            "Streams every change under prefix after from. Waits for the next batch.",
            wakes(kit),
        )
        .await;
    suite
        .check(
            "next_is_cancel_safe",
            "Cancel-safe: dropping the future loses nothing.",
            cancelled(kit),
        )
        .await;
    suite
        .check(
            "watches_of_other_prefixes_are_apart",
            "Streams every change under prefix.",
            prefixes(kit),
        )
        .await;
    suite
        .check(
            "a_watch_never_skips",
            "A watch never skips a change; if it cannot keep up it ends with Lagged or Compacted. \
             After an error every further call fails too.",
            slow(kit),
        )
        .await;
    suite
        .check(
            "a_watch_from_a_revision_no_longer_kept_is_compacted",
            "So does a watch from a revision no longer kept (fail with Compacted).",
            old(kit),
        )
        .await;
}

async fn starts(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let base = store.list(ListRequest::all("")).await?.revision;
    let mut model = Model::new(base);
    for n in 0..30_u8 {
        let mut txn = Txn::new().then(Write::put(format!("k/{}", n % 4).into(), [n]));
        if n % 3 == 0 {
            txn = txn.then(Write::put("k/x".into(), [n]));
        }
        if n % 5 == 0 {
            txn = txn
                .then(Write::Delete("k/x2".into()))
                .then(Write::Delete(format!("k/{}", (n + 1) % 4).into()));
        }
        let at = store.commit(txn.clone()).await?;
        model.land(&txn, at);
        // A watch of what is already past, and one of what is still to come.
        let listed = store.list(ListRequest::all("k/")).await?.revision;
        let mut live = Follower::new(&*store, "k/", listed).await?;
        live.glance().await?;
        live.compare(&[])
            .map_err(|stop| stop.at(format!("watching from {listed}, the newest")))?;
    }
    let revisions: Vec<_> = model.states.keys().copied().collect();
    for from in revisions {
        let mut follower = match Follower::new(&*store, "k/", from).await {
            Ok(follower) => follower,
            Err(error) if matches!(error.kind(), StoreErrorKind::Compacted { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let wanted = model.changes("k/", from);
        let place = format!("watching from {from}");
        follower
            .expect(kit, &wanted)
            .await
            .map_err(|stop| stop.at(&place))?;
        follower.glance().await.map_err(|stop| stop.at(&place))?;
        follower.compare(&wanted).map_err(|stop| stop.at(&place))?;
    }
    Ok(())
}

async fn wakes(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
    let base = model.newest();
    let mut follower = Follower::new(&*store, "w/", base).await?;
    for n in 0..150_u8 {
        let txn = Txn::new().then(Write::put("w/k".into(), [n]));
        let commit = async {
            for _ in 0..n % 4 {
                yield_now().await;
            }
            store.commit(txn.clone()).await
        };
        let (read, at) = join(follower.read(kit), commit).await;
        model.land(&txn, at?);
        read.map_err(|stop| stop.at(format!("commit {n} made while the watch waited")))?;
        follower.expect(kit, &model.changes("w/", base)).await?;
    }
    Ok(())
}

async fn cancelled(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
    let base = model.newest();
    let mut follower = Follower::new(&*store, "", base).await?;
    for n in 0..150_u8 {
        follower.glance().await?;
        let txn = Txn::new().then(Write::put("k".into(), [n]));
        model.land(&txn, store.commit(txn.clone()).await?);
        if n % 3 == 0 {
            follower.glance().await?;
            follower.glance().await?;
        }
        follower.compare(&model.changes("", base))?;
    }
    follower.expect(kit, &model.changes("", base)).await
}

async fn prefixes(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
    let base = model.newest();
    let prefixes = [
        "", "pods", "pods/", "pods/a", "pods/a/", "nodes/", "p", "none/", "ß",
    ];
    let mut followers = Vec::new();
    for prefix in prefixes {
        followers.push((prefix, Follower::new(&*store, prefix, base).await?));
    }
    let keys = [
        "pods/a", "pods/ab", "pods/a/1", "pods/b", "pods", "podz", "nodes/1", "ßa", "p",
    ];
    for n in 0..100_u8 {
        let at = usize::from(n);
        let txn = Txn::new()
            .then(Write::put(keys[at % 9].into(), [n]))
            .then(Write::put(keys[(at * 2 + 1) % 9].into(), [n]));
        if at % 9 == (at * 2 + 1) % 9 {
            continue;
        }
        let revision = store.commit(txn.clone()).await?;
        model.land(&txn, revision);
        for (prefix, follower) in &mut followers {
            if at % 4 == 0 {
                follower.glance().await?;
                follower.compare(&model.changes(prefix, base))?;
            }
        }
    }
    for (prefix, follower) in &mut followers {
        follower.expect(kit, &model.changes(prefix, base)).await?;
        follower.glance().await?;
        follower.compare(&model.changes(prefix, base))?;
    }
    Ok(())
}

/// Writes until a store with little history compacts. The changes it made.
async fn churn(
    kit: &Kit<'_>,
    store: &dyn crate::port::store::StateStore,
    model: &mut Model,
) -> Finding {
    for n in 0..kit.options.churn {
        let mut value = vec![0; 1_000];
        value[..4].copy_from_slice(&n.to_be_bytes());
        let txn = Txn::new().then(Write::put(format!("c/{}", n % 3).into(), value));
        let at = store.commit(txn.clone()).await?;
        // Only the log matters here: dropping the states keeps the model small.
        model.land(&txn, at);
        while model.states.len() > 2 {
            model.states.pop_first();
        }
    }
    Ok(())
}

fn may_end_watch(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::Lagged | StoreErrorKind::Compacted { .. }
    )
}

async fn slow(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
    let base = model.newest();
    let mut follower = Follower::new(&*store, "c/", base).await?;
    churn(kit, &*store, &mut model).await?;
    let wanted = model.changes("c/", base);
    while follower.seen.len() < wanted.len() {
        let what = "a batch, Lagged or Compacted";
        match kit.patiently(what, follower.try_read()).await? {
            Ok(taken) => taken?,
            Err(error) if may_end_watch(error.kind()) => {
                let again = kit.patiently("another error", follower.try_read()).await?;
                return ensure(
                    again.is_err(),
                    "an error from every call after the first",
                    follower.seen.last(),
                );
            }
            Err(error) => return Err(error.into()),
        }
        follower.compare(&wanted).map_err(brief)?;
    }
    Ok(())
}

async fn old(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    let mut model = Model::new(store.list(ListRequest::all("")).await?.revision);
    let base = model.newest();
    churn(kit, &*store, &mut model).await?;
    let revisions: Vec<Revision> = model.log.iter().map(Change::revision).collect();
    let quarter = revisions.len() / 4;
    let starts = [0, 1, quarter, 2 * quarter, 3 * quarter];
    let starts = starts.into_iter().filter_map(|n| revisions.get(n).copied());
    for from in std::iter::once(base).chain(starts) {
        let wanted = model.changes("c/", from);
        let mut follower = match Follower::new(&*store, "c/", from).await {
            Ok(follower) => follower,
            Err(error) if matches!(error.kind(), StoreErrorKind::Compacted { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        while follower.seen.len() < wanted.len() {
            match kit
                .patiently("a batch or Compacted", follower.try_read())
                .await?
            {
                Ok(taken) => taken?,
                Err(error) if may_end_watch(error.kind()) => break,
                Err(error) => return Err(error.into()),
            }
            let place = format!("watching from {from}");
            follower
                .compare(&wanted)
                .map_err(|stop| brief(stop).at(place))?;
        }
    }
    Ok(())
}

/// Values of a kilobyte do not belong in a report.
fn brief(stop: Stop) -> Stop {
    let cut = |text: String| text.chars().take(200).collect::<String>();
    match stop {
        Stop::Failed { expected, seen } => Stop::Failed {
            expected: cut(expected),
            seen: cut(seen),
        },
        skipped @ Stop::Skipped { .. } => skipped,
    }
}
