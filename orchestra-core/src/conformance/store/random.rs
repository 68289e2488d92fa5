//! Random histories, one call after the other, each answer compared with the model's.

use super::Kit;
use super::follow::Follower;
use super::lists::ensure_behind;
use super::model::{Model, broken, under};
use crate::conformance::{Finding, SplitMix64, Suite, ensure, ensure_eq, fail};
use crate::port::store::{
    Cursor, Guard, Key, ListRequest, Revision, StateStore, StoreError, StoreErrorKind, Txn,
    Versioned, Write,
};

const KEYS: [&str; 12] = [
    "a", "a/1", "a/2", "a/2/x", "a0", "ab", "b", "b/1", "pods/a", "pods/ab", "pods/b", "ß",
];
const PREFIXES: [&str; 9] = ["", "a", "a/", "a/2", "b", "b/", "pods/", "pods/a", "none"];

/// A store that forgets a revision before that many changes came behind it is of no use: list
/// and watch would chase each other.
const KEPT_MIN: usize = 16;

/// Watches and listings open at once in one history.
const OPEN_MAX: usize = 6;

pub(super) async fn checks(suite: &mut Suite, kit: &Kit<'_>) {
    suite
        .check(
            "a_random_history_equals_its_model",
            "The whole contract of StateStore, over random transactions, reads, listings and \
             watches.",
            rounds(kit),
        )
        .await;
}

async fn rounds(kit: &Kit<'_>) -> Finding {
    for round in 0..kit.options.rounds {
        let seed = kit.options.seed;
        let mut history =
            History::new(kit, SplitMix64::new(seed ^ (u64::from(round) << 32))).await?;
        for step in 0..kit.options.steps {
            let done = history.step().await;
            done.map_err(|stop| stop.at(format!("seed {seed}, round {round}, step {step}")))?;
        }
        let done = history.settle().await;
        done.map_err(|stop| stop.at(format!("seed {seed}, end of round {round}")))?;
    }
    Ok(())
}

struct Listing {
    prefix: &'static str,
    at: Revision,
    next: Cursor,
    seen: Vec<Versioned>,
}

struct Watching {
    prefix: &'static str,
    from: Revision,
    follower: Follower,
}

struct History<'a, 'k> {
    kit: &'a Kit<'k>,
    store: std::sync::Arc<dyn StateStore>,
    model: Model,
    /// The newest revision that anyone was told of.
    told: Revision,
    watches: Vec<Watching>,
    listings: Vec<Listing>,
    rng: SplitMix64,
    written: u64,
}

impl<'a, 'k> History<'a, 'k> {
    async fn new(kit: &'a Kit<'k>, rng: SplitMix64) -> Result<Self, crate::conformance::Stop> {
        let store = kit.store().await;
        let base = store.list(ListRequest::all("")).await?.revision;
        let model = Model::new(base);
        let (watches, listings) = (Vec::new(), Vec::new());
        Ok(Self {
            kit,
            store,
            model,
            told: base,
            watches,
            listings,
            rng,
            written: 0,
        })
    }

    async fn step(&mut self) -> Finding {
        match self.rng.below(20) {
            0..=9 => self.commit().await,
            10 => self.get().await,
            11..=12 => self.open_listing().await,
            13..=14 => self.continue_listing().await,
            15 => self.open_watch().await,
            16..=18 => self.read_watch().await,
            _ => self.compare_all().await,
        }
    }

    /// Whether so much came behind `at` that a store may have forgotten it.
    fn may_forget(&self, at: Revision) -> bool {
        self.model.changes("", at).len() >= KEPT_MIN
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.below(from.len())]
    }

    fn guard(&mut self) -> Guard {
        let key = Key::from(self.pick(&KEYS));
        let now = self.model.now().get(&key).map(|now| now.modified);
        let truthful = self.rng.percent(70);
        match (now, truthful) {
            (Some(at), true) => Guard::At(key, at),
            (None, true) | (Some(_), false) if self.rng.percent(50) || truthful => {
                Guard::Absent(key)
            }
            _ => {
                // Any revision of the past, that of another key among them.
                let past = self.rng.below(self.model.states.len());
                let at = self
                    .model
                    .states
                    .keys()
                    .nth(past)
                    .copied()
                    .unwrap_or_default();
                Guard::At(key, at)
            }
        }
    }

    fn txn(&mut self) -> Txn {
        let mut txn = Txn::new();
        for _ in 0..self.pick(&[0, 0, 1, 1, 2, 3]) {
            txn = txn.when(self.guard());
        }
        let first = self.rng.below(KEYS.len());
        for n in 0..self.pick(&[1, 1, 1, 2, 3, 5]) {
            let key = Key::from(KEYS[(first + n * 5) % KEYS.len()]);
            txn = txn.then(if self.rng.percent(25) {
                Write::Delete(key)
            } else {
                // Now and then the same value again, which is a change all the same.
                self.written += u64::from(self.rng.percent(90));
                Write::put(key, self.written.to_be_bytes())
            });
        }
        txn
    }

    async fn commit(&mut self) -> Finding {
        let txn = self.txn();
        let broken = broken(&txn, self.model.now());
        match self.store.commit(txn.clone()).await {
            Ok(at) if broken.is_empty() => {
                ensure(
                    at > self.told,
                    format!("a revision after {}", self.told),
                    at,
                )?;
                self.told = at;
                self.model.land(&txn, at);
            }
            Ok(at) => {
                return fail(
                    format!("Conflict about {broken:?} for {txn:?}"),
                    format!("Ok({at})"),
                );
            }
            Err(error) if error.kind() == StoreErrorKind::Conflict && !broken.is_empty() => {
                let about = error.subject().unwrap_or_default();
                ensure(
                    broken.iter().any(|key| about.contains(key.as_str())),
                    format!("a Conflict about one of {broken:?}"),
                    about,
                )?;
            }
            Err(error) => {
                let wanted = if broken.is_empty() { "Ok" } else { "Conflict" };
                return fail(format!("{wanted} for {txn:?}"), format!("{error:?}"));
            }
        }
        for write in &txn.writes {
            self.get_key(write.key()).await?;
        }
        Ok(())
    }

    async fn get(&mut self) -> Finding {
        let key = Key::from(self.pick(&KEYS));
        self.get_key(&key).await
    }

    async fn get_key(&mut self, key: &Key) -> Finding {
        let seen = self.store.get(key).await?;
        ensure_eq(
            &format!("get {key}"),
            seen.as_ref(),
            self.model.now().get(key),
        )
    }

    async fn open_listing(&mut self) -> Finding {
        let (prefix, limit) = (self.pick(&PREFIXES), self.pick(&[1, 2, 3, 100]));
        let request = ListRequest {
            prefix: prefix.into(),
            limit,
            from: None,
        };
        let page = self.store.list(request).await?;
        let newest = self.model.newest();
        ensure(
            page.revision >= newest,
            format!("a listing at {newest}"),
            page.revision,
        )?;
        self.told = self.told.max(page.revision);
        let listing = (prefix, page.revision, Vec::new());
        self.take_page(listing, page, limit)
    }

    async fn continue_listing(&mut self) -> Finding {
        if self.listings.is_empty() {
            return Ok(());
        }
        let n = self.rng.below(self.listings.len());
        let Listing {
            prefix,
            at,
            next,
            seen,
        } = self.listings.swap_remove(n);
        let after = next.after.clone();
        let limit = self.pick(&[1, 2, 3]);
        let request = ListRequest {
            prefix: prefix.into(),
            limit,
            from: Some(next),
        };
        match self.store.list(request).await {
            Ok(page) => {
                ensure_behind(&after, &page)?;
                ensure_eq("revision of a later page", page.revision, at)?;
                self.take_page((prefix, at, seen), page, limit)
            }
            Err(error) if is_compacted(&error) && self.may_forget(at) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_page(
        &mut self,
        (prefix, at, mut seen): (&'static str, Revision, Vec<Versioned>),
        page: crate::port::store::Page,
        limit: usize,
    ) -> Finding {
        ensure(
            page.items.len() <= limit,
            format!("at most {limit} items"),
            page.items.len(),
        )?;
        ensure(
            page.next.is_none() || !page.items.is_empty(),
            "progress",
            &page,
        )?;
        seen.extend(page.items);
        let mut wanted = self
            .model
            .at(at)
            .map(|keys| under(keys, prefix))
            .unwrap_or_default();
        if page.next.is_some() {
            wanted.truncate(seen.len());
        }
        ensure_eq(&format!("listing of {prefix:?} at {at}"), &seen, &wanted)?;
        if let Some(next) = page.next
            && self.listings.len() < OPEN_MAX
        {
            self.listings.push(Listing {
                prefix,
                at,
                next,
                seen,
            });
        }
        Ok(())
    }

    async fn open_watch(&mut self) -> Finding {
        if self.watches.len() >= OPEN_MAX {
            let n = self.rng.below(self.watches.len());
            self.close(n).await?;
        }
        let prefix = self.pick(&PREFIXES);
        let past = self.rng.below(self.model.states.len());
        let any = self
            .model
            .states
            .keys()
            .nth(past)
            .copied()
            .unwrap_or_default();
        let from = if self.rng.percent(50) { self.told } else { any };
        match Follower::new(&*self.store, prefix, from).await {
            Ok(follower) => self.watches.push(Watching {
                prefix,
                from,
                follower,
            }),
            Err(error) if is_compacted(&error) && self.may_forget(from) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn read_watch(&mut self) -> Finding {
        if self.watches.is_empty() {
            return Ok(());
        }
        let n = self.rng.below(self.watches.len());
        let catch_up = self.rng.percent(30);
        let Watching {
            prefix,
            from,
            follower,
        } = &mut self.watches[n];
        let (prefix, from) = (*prefix, *from);
        let wanted = self.model.changes(prefix, from);
        let read = if catch_up {
            follower.expect(self.kit, &wanted).await
        } else {
            follower.glance().await
        };
        let (through, lost) = (follower.through, follower.lost);
        if lost && self.may_forget(through) {
            self.watches.swap_remove(n);
            return Ok(());
        }
        read?;
        let follower = &self.watches[n].follower;
        self.told = self.told.max(follower.through);
        let newest = self.model.newest();
        follower
            .compare(&wanted)
            .map_err(|stop| stop.at(format!("watch of {prefix:?} from {from}, newest {newest}")))
    }

    async fn close(&mut self, n: usize) -> Finding {
        let Watching {
            prefix,
            from,
            mut follower,
        } = self.watches.swap_remove(n);
        let wanted = self.model.changes(prefix, from);
        let place = format!("watch of {prefix:?} from {from}");
        let read = follower.expect(self.kit, &wanted).await;
        if follower.lost && self.may_forget(follower.through) {
            return Ok(());
        }
        read.map_err(|stop| stop.at(&place))?;
        follower.glance().await?;
        follower.compare(&wanted).map_err(|stop| stop.at(&place))
    }

    async fn compare_all(&mut self) -> Finding {
        let page = self.store.list(ListRequest::all("")).await?;
        self.told = self.told.max(page.revision);
        ensure_eq(
            "all that is stored",
            page.items,
            under(self.model.now(), ""),
        )
    }

    async fn settle(&mut self) -> Finding {
        self.compare_all().await?;
        while !self.watches.is_empty() {
            self.close(0).await?;
        }
        while !self.listings.is_empty() {
            self.continue_listing().await?;
        }
        Ok(())
    }
}

fn is_compacted(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Compacted { .. })
}
