//! Tasks side by side: what they saw must fit one order of all commits.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Kit;
use super::follow::Follower;
use super::lists::ensure_behind;
use super::model::{Model, broken, under};
use crate::conformance::{
    Finding, SplitMix64, Stop, Suite, ensure, ensure_eq, fail, join_all, yield_now,
};
use crate::port::store::{
    Guard, Key, ListRequest, Page, Revision, StateStore, StateStoreExt, StoreError, StoreErrorKind,
    Txn, Versioned, Write,
};

const WRITERS: u64 = 6;
const READERS: u64 = 3;
/// Watches that are opened while others write.
const LATE: u64 = 6;

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "of_many_who_create_one_wins",
            "It lands wholly or not at all, and only if every guard held at that very moment.",
            one_wins(kit),
        )
        .await;
    suite
        .check(
            "concurrent_calls_fit_one_order",
            "Commits are totally ordered by Revision; a commit is visible to every later call, \
             and a reader never sees half of one.",
            one_order(kit),
        )
        .await;
}

type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

async fn pause(rng: &mut SplitMix64) {
    for _ in 0..rng.below(4) {
        yield_now().await;
    }
}

async fn one_wins(kit: &Kit<'_>) -> Finding {
    let store = kit.store().await;
    for race in 0..20_u64 {
        let key = Key::from(format!("race/{race}"));
        let tasks = (0..WRITERS).map(|who| {
            let (store, key) = (&*store, key.clone());
            let mut rng = SplitMix64::new(kit.options.seed ^ (race << 8) ^ who);
            Box::pin(async move {
                pause(&mut rng).await;
                store.create(key, who.to_be_bytes()).await
            }) as Task<'_, Result<Revision, StoreError>>
        });
        let results: Vec<Result<Revision, StoreError>> = join_all(tasks.collect()).await;
        let won: Vec<_> = (0_u64..).zip(&results).filter(|(_, r)| r.is_ok()).collect();
        let [(winner, Ok(at))] = won[..] else {
            return fail("exactly one create succeeds", format!("{results:?}"));
        };
        let seen = store
            .get(&key)
            .await?
            .map(|now| (now.value.to_vec(), now.modified));
        let wanted = Some((winner.to_be_bytes().to_vec(), *at));
        ensure_eq("what the winner wrote", seen, wanted)?;
    }
    Ok(())
}

enum Did {
    Landed(Txn, Revision),
    Refused(Txn),
    Got(Key, Option<Versioned>),
    Listed(Vec<Versioned>, Revision),
}

struct Call {
    began: u64,
    ended: u64,
    did: Did,
}

struct Record<'a> {
    store: &'a dyn StateStore,
    ticks: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Record<'_> {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    fn add(&self, began: u64, did: Did) {
        let call = Call {
            began,
            ended: self.tick(),
            did,
        };
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }

    async fn write(&self, mut rng: SplitMix64, steps: u32) -> Finding {
        let keys = ["c/1", "c/2", "c/3", "c/4"].map(Key::from);
        for step in 0..steps {
            let (one, two) = (rng.below(4), rng.below(4));
            let began = self.tick();
            let seen = self.store.get(&keys[one]).await?;
            self.add(began, Did::Got(keys[one].clone(), seen.clone()));
            pause(&mut rng).await;
            let guard = match seen {
                Some(now) => Guard::At(keys[one].clone(), now.modified),
                None => Guard::Absent(keys[one].clone()),
            };
            let value = [rng.next_u64().to_be_bytes(), u64::from(step).to_be_bytes()].concat();
            let mut txn = Txn::new().when(guard);
            txn = if rng.percent(15) {
                txn.then(Write::Delete(keys[one].clone()))
            } else {
                txn.then(Write::put(keys[one].clone(), value.clone()))
            };
            if one != two {
                txn = txn.then(Write::put(keys[two].clone(), value));
            }
            let began = self.tick();
            match self.store.commit(txn.clone()).await {
                Ok(at) => self.add(began, Did::Landed(txn, at)),
                Err(error) if error.kind() == StoreErrorKind::Conflict => {
                    self.add(began, Did::Refused(txn));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn read(&self, mut rng: SplitMix64, steps: u32) -> Finding {
        for _ in 0..steps {
            let began = self.tick();
            let limit = 1 + rng.below(5);
            let mut request = ListRequest {
                prefix: "c/".into(),
                limit,
                from: None,
            };
            let Page {
                mut items,
                revision,
                mut next,
            } = self.store.list(request.clone()).await?;
            let first_page_ended = self.tick();
            while let Some(from) = next.take() {
                pause(&mut rng).await;
                let after = from.after.clone();
                request.from = Some(from);
                match self.store.list(request.clone()).await {
                    Ok(mut page) => {
                        ensure_behind(&after, &page)?;
                        ensure_eq("revision of a later page", page.revision, revision)?;
                        items.append(&mut page.items);
                        next = page.next;
                    }
                    Err(error) => match error.kind() {
                        StoreErrorKind::Compacted { .. } => return Ok(()),
                        _ => return Err(error.into()),
                    },
                }
            }
            // The revision belongs to the first page's time, whenever the last came.
            let call = Call {
                began,
                ended: first_page_ended,
                did: Did::Listed(items, revision),
            };
            self.calls
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(call);
            pause(&mut rng).await;
        }
        Ok(())
    }
}

async fn follow(kit: &Kit<'_>, follower: &mut Follower) -> Finding {
    while follower
        .seen
        .last()
        .is_none_or(|last| last.key().as_str() != "c/end")
    {
        follower.read(kit).await?;
    }
    Ok(())
}

/// Opens a watch in the midst of it all, from what a listing shows just then, and follows it.
async fn follow_late(
    kit: &Kit<'_>,
    store: &dyn StateStore,
    mut rng: SplitMix64,
    slot: &mut Option<(Revision, Follower)>,
) -> Finding {
    for _ in 0..=rng.below(kit.options.steps as usize / 4) {
        pause(&mut rng).await;
    }
    let request = ListRequest {
        prefix: "c/".into(),
        limit: 1,
        from: None,
    };
    let from = store.list(request).await?.revision;
    pause(&mut rng).await;
    match Follower::new(store, "c/", from).await {
        Ok(mut follower) => {
            let done = match store.get(&"c/end".into()).await? {
                Some(end) if end.modified <= from => Ok(()),
                _ => follow(kit, &mut follower).await,
            };
            *slot = Some((from, follower));
            done
        }
        Err(error) if matches!(error.kind(), StoreErrorKind::Compacted { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn one_order(kit: &Kit<'_>) -> Finding {
    for round in 0..u64::from(kit.options.rounds.div_ceil(2)) {
        let seed = kit.options.seed ^ (round << 40);
        let store = kit.store().await;
        let base = store.list(ListRequest::all("")).await?.revision;
        let record = Record {
            store: &*store,
            ticks: AtomicU64::new(0),
            calls: Mutex::new(Vec::new()),
        };
        let mut followers = [
            Follower::new(&*store, "", base).await?,
            Follower::new(&*store, "c/", base).await?,
        ];
        let steps = kit.options.steps / 8;
        let working = async {
            let writers = (0..WRITERS).map(|who| {
                Box::pin(record.write(SplitMix64::new(seed ^ who), steps)) as Task<'_, Finding>
            });
            let readers = (0..READERS).map(|who| {
                let rng = SplitMix64::new(seed ^ (who << 16));
                Box::pin(record.read(rng, steps)) as Task<'_, Finding>
            });
            let done: Finding = join_all(writers.chain(readers).collect())
                .await
                .into_iter()
                .collect();
            let began = record.tick();
            let txn = Txn::new().then(Write::put("c/end".into(), *b"."));
            let at = store.commit(txn.clone()).await?;
            record.add(began, Did::Landed(txn, at));
            done
        };
        let mut late: Vec<_> = (0..LATE).map(|_| None).collect();
        let mut tasks: Vec<Task<'_, Finding>> = vec![Box::pin(working)];
        for (who, slot) in (0_u64..).zip(&mut late) {
            let rng = SplitMix64::new(seed ^ (who << 24) ^ 0x1a7e);
            tasks.push(Box::pin(follow_late(kit, &*store, rng, slot)));
        }
        for follower in &mut followers {
            tasks.push(Box::pin(follow(kit, follower)));
        }
        let done: Finding = join_all(tasks).await.into_iter().collect();
        let place = format!("seed {}, round {round}", kit.options.seed);
        let calls = record
            .calls
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let judged = judge(base, &calls);
        // What is wrong with the commits explains what is wrong with a watch.
        let model = judged.map_err(|stop: Stop| stop.at(&place))?;
        for follower in &followers {
            follower
                .compare(&model.log)
                .map_err(|stop| stop.at(&place))?;
        }
        for (from, follower) in late.iter().flatten() {
            let later = model.changes("c/", *from);
            follower
                .compare(&later)
                .map_err(|stop| stop.at(format!("{place}, watched from {from}")))?;
        }
        done.map_err(|stop| stop.at(&place))?;
    }
    Ok(())
}

/// Lands the commits in the order of their revisions and looks whether every call's answer fits.
fn judge(base: Revision, calls: &[Call]) -> Result<Model, Stop> {
    let mut landed: Vec<_> = calls
        .iter()
        .filter_map(|call| match &call.did {
            Did::Landed(txn, at) => Some((*at, txn, call.began, call.ended)),
            _ => None,
        })
        .collect();
    landed.sort_by_key(|(at, ..)| *at);
    let mut model = Model::new(base);
    let mut latest_begin = 0;
    for (at, txn, began, ended) in &landed {
        ensure(
            *at > model.newest(),
            format!("a revision after {}", model.newest()),
            at,
        )?;
        ensure(
            *ended > latest_begin,
            format!("revision {at} below that of every commit that began after it ended"),
            txn,
        )?;
        latest_begin = latest_begin.max(*began);
        let broken = broken(txn, model.now());
        ensure(
            broken.is_empty(),
            format!("Conflict about {broken:?}"),
            (at, txn),
        )?;
        model.land(txn, *at);
    }
    for call in calls {
        let before = |(.., ended): &&(_, _, _, u64)| *ended < call.began;
        let lower = landed
            .iter()
            .filter(before)
            .map(|(at, ..)| *at)
            .max()
            .unwrap_or(base);
        let possible = |(_, _, began, _): &&(Revision, &Txn, u64, u64)| *began < call.ended;
        let upper = landed
            .iter()
            .filter(possible)
            .map(|(at, ..)| *at)
            .max()
            .unwrap_or(base);
        let mut window = model
            .states
            .range(lower..=upper.max(lower))
            .map(|(_, keys)| keys);
        match &call.did {
            Did::Landed(..) => {}
            Did::Refused(txn) => ensure(
                window.any(|keys| !broken(txn, keys).is_empty()),
                format!("Ok: its guards held from {lower} to {upper}"),
                format!("Conflict for {txn:?}"),
            )?,
            Did::Got(key, seen) => ensure(
                window.any(|keys| keys.get(key) == seen.as_ref()),
                format!("{key} as it stood between {lower} and {upper}"),
                seen,
            )?,
            Did::Listed(items, at) => {
                ensure(
                    (lower..=upper).contains(at),
                    format!("a listing between {lower} and {upper}"),
                    at,
                )?;
                let wanted = model
                    .at(*at)
                    .map(|keys| under(keys, "c/"))
                    .unwrap_or_default();
                ensure_eq(&format!("listing at {at}"), items, &wanted)?;
            }
        }
    }
    Ok(model)
}
