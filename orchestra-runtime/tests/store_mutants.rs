//! Stores with one planted bug each: the suite must catch every one of them, by a check that
//! names what is wrong.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::conformance::{self, Report, store::Options};
use orchestra_core::port::lease::{KeptAlive, LeaseId, LeaseStore};
use orchestra_core::port::store::{
    Batch, Change, Guard, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind,
    Txn, Versioned, Watch, Write,
};
use orchestra_runtime::store::MemoryStore;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    // What a watch tells.
    LosesAnEvent,
    LosesAnEventNowAndThen,
    DuplicatesAnEvent,
    ReordersEvents,
    SplitsACommit,
    StartsOneEarly,
    StartsOneLate,
    ForgetsWhatADroppedNextHeld,
    TellsThroughTooFar,
    NeverWakes,
    PanicsOnWatch,
    SwallowsDeletions,
    PrefixTakesNeighbours,
    CompactsInSilence,
    ComesBackAfterAnError,
    MissesWhatLandsWhileItOpens,
    DropsWhatPilesUp,
    MergesPutsOfOneKey,
    TellsThroughTooLittle,
    // What a commit does.
    CasSucceedsFalsely,
    CasSucceedsFalselyNowAndThen,
    ConflictButApplied,
    ConflictForNothingNowAndThen,
    AppliesHalf,
    LosesAWriteNowAndThen,
    ChecksBeforeItWaits,
    AbsentIgnoresTheDeleted,
    AcceptsInvalid,
    RevisionsRepeat,
    ConflictAboutTheWrongKey,
    ChecksTheFirstGuardOnly,
    AtIsAtLeast,
    UnavailableButAppliedNowAndThen,
    RefusesTheLargest,
    RefusesTheMostWrites,
    CutsLargeValues,
    KeepsTextOnly,
    AnEmptyValueIsNone,
    // What a read shows.
    StaleReads,
    StaleReadsNowAndThen,
    CreatedIsModified,
    ModifiedIsCreated,
    PagesMixRevisions,
    PagesSkipAKey,
    PagesRepeatAKey,
    IgnoresTheLimit,
    KeysInReverse,
    KeysByLength,
    PrefixIsAPath,
    ListedRevisionTooNew,
    // What a lease does.
    LeaseOutlives,
    LeaseOutlivesALittle,
    LeaseNeverEnds,
    LeaseEndsEarly,
    LeaseKeepsItsKeys,
    LeaseKeepsOneKey,
    KeepAliveDoesNothing,
    KeepAliveLies,
    EndedLeaseIsRevived,
    RevokeDoesNothing,
    RevokeInManyCommits,
    PutWithoutLeaseKeepsTheOld,
    PutUnderEndedLease,
    LeaseIsNotShown,
    LeaseIdsRepeat,
    SomeLeasesOutlive,
    SomeLeasesEndEarly,
    PutExtendsItsLease,
    KeepAliveExtendsAll,
}

use Bug::*;

/// Every bug, with a check that must fail for it.
const ALL: &[(Bug, &str)] = &[
    (LosesAnEvent, "a_waiting_watch_wakes"),
    (LosesAnEventNowAndThen, "a_random_history_equals_its_model"),
    (DuplicatesAnEvent, "a_random_history_equals_its_model"),
    (ReordersEvents, "a_watch_starts_right_after_its_revision"),
    (SplitsACommit, "a_transaction_lands_at_one_revision"),
    (StartsOneEarly, "a_watch_starts_right_after_its_revision"),
    (StartsOneLate, "a_watch_starts_right_after_its_revision"),
    (ForgetsWhatADroppedNextHeld, "next_is_cancel_safe"),
    (TellsThroughTooFar, "a_random_history_equals_its_model"),
    (NeverWakes, "a_waiting_watch_wakes"),
    (PanicsOnWatch, "a_waiting_watch_wakes"),
    (SwallowsDeletions, "a_transaction_lands_at_one_revision"),
    (PrefixTakesNeighbours, "watches_of_other_prefixes_are_apart"),
    (
        CompactsInSilence,
        "a_watch_from_a_revision_no_longer_kept_is_compacted",
    ),
    (ComesBackAfterAnError, "a_watch_never_skips"),
    (
        MissesWhatLandsWhileItOpens,
        "concurrent_calls_fit_one_order",
    ),
    (DropsWhatPilesUp, "a_watch_never_skips"),
    (MergesPutsOfOneKey, "a_random_history_equals_its_model"),
    (TellsThroughTooLittle, "a_random_history_equals_its_model"),
    (CasSucceedsFalsely, "guards_decide"),
    (
        CasSucceedsFalselyNowAndThen,
        "a_random_history_equals_its_model",
    ),
    (ConflictButApplied, "a_failed_commit_changed_nothing"),
    (
        ConflictForNothingNowAndThen,
        "a_random_history_equals_its_model",
    ),
    (AppliesHalf, "a_transaction_lands_at_one_revision"),
    (LosesAWriteNowAndThen, "a_random_history_equals_its_model"),
    (ChecksBeforeItWaits, "of_many_who_create_one_wins"),
    (AbsentIgnoresTheDeleted, "guards_decide"),
    (AcceptsInvalid, "what_breaks_the_rules_is_invalid"),
    (RevisionsRepeat, "a_commit_is_visible_to_every_later_call"),
    (ConflictAboutTheWrongKey, "guards_decide"),
    (ChecksTheFirstGuardOnly, "a_random_history_equals_its_model"),
    (AtIsAtLeast, "a_random_history_equals_its_model"),
    (
        UnavailableButAppliedNowAndThen,
        "a_random_history_equals_its_model",
    ),
    (RefusesTheLargest, "values_and_keys_of_every_size_come_back"),
    (
        RefusesTheMostWrites,
        "values_and_keys_of_every_size_come_back",
    ),
    (CutsLargeValues, "values_and_keys_of_every_size_come_back"),
    (KeepsTextOnly, "values_and_keys_of_every_size_come_back"),
    (
        AnEmptyValueIsNone,
        "values_and_keys_of_every_size_come_back",
    ),
    (StaleReads, "a_commit_is_visible_to_every_later_call"),
    (StaleReadsNowAndThen, "a_random_history_equals_its_model"),
    (CreatedIsModified, "created_stays_and_modified_moves"),
    (ModifiedIsCreated, "created_stays_and_modified_moves"),
    (
        PagesMixRevisions,
        "every_page_of_one_listing_reads_at_the_same_revision",
    ),
    (
        PagesSkipAKey,
        "every_page_of_one_listing_reads_at_the_same_revision",
    ),
    (
        PagesRepeatAKey,
        "every_page_of_one_listing_reads_at_the_same_revision",
    ),
    (
        IgnoresTheLimit,
        "every_page_of_one_listing_reads_at_the_same_revision",
    ),
    (KeysInReverse, "keys_are_ordered_by_their_bytes"),
    (KeysByLength, "keys_are_ordered_by_their_bytes"),
    (PrefixIsAPath, "a_prefix_is_text_and_nothing_else"),
    (ListedRevisionTooNew, "a_random_history_equals_its_model"),
    (
        LeaseOutlives,
        "a_lease_ends_after_its_time_never_before_and_soon_after",
    ),
    (
        LeaseOutlivesALittle,
        "a_lease_ends_after_its_time_never_before_and_soon_after",
    ),
    (
        LeaseNeverEnds,
        "a_lease_ends_after_its_time_never_before_and_soon_after",
    ),
    (
        LeaseEndsEarly,
        "a_lease_ends_after_its_time_never_before_and_soon_after",
    ),
    (LeaseKeepsItsKeys, "revoke_ends_a_lease_at_once"),
    (LeaseKeepsOneKey, "its_keys_go_in_one_commit"),
    (KeepAliveDoesNothing, "keep_alive_extends_to_the_full_time"),
    (KeepAliveLies, "an_ended_lease_stays_ended"),
    (EndedLeaseIsRevived, "an_ended_lease_stays_ended"),
    (RevokeDoesNothing, "revoke_ends_a_lease_at_once"),
    (RevokeInManyCommits, "revoke_ends_a_lease_at_once"),
    (
        PutWithoutLeaseKeepsTheOld,
        "a_key_belongs_to_the_lease_of_its_last_put",
    ),
    (PutUnderEndedLease, "an_ended_lease_stays_ended"),
    (
        LeaseIsNotShown,
        "a_key_belongs_to_the_lease_of_its_last_put",
    ),
    (LeaseIdsRepeat, "ids_are_never_given_twice"),
    (SomeLeasesOutlive, "each_of_many_leases_has_its_own_time"),
    (SomeLeasesEndEarly, "each_of_many_leases_has_its_own_time"),
    (PutExtendsItsLease, "each_of_many_leases_has_its_own_time"),
    (KeepAliveExtendsAll, "each_of_many_leases_has_its_own_time"),
];

#[tokio::test(start_paused = true)]
async fn every_planted_bug_is_caught_by_name() {
    let mut missed = Vec::new();
    let mut broken = BTreeSet::new();
    for (bug, check) in ALL {
        for seed in 1..=3 {
            let report = examine(*bug, seed).await;
            broken.extend(report.failed().map(|found| found.name));
            if !report.failed().any(|found| found.name == *check) {
                let found: Vec<_> = report.failed().map(|found| found.name).collect();
                missed.push(format!(
                    "{bug:?} (seed {seed}) not caught by {check}, only {found:?}"
                ));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    // And none of the checks is there for nothing.
    let all = examine(None, 1).await.checks;
    let idle: Vec<_> = all
        .iter()
        .map(|check| check.name)
        .filter(|name| !broken.contains(name))
        .collect();
    assert!(idle.is_empty(), "no planted bug is caught by {idle:?}");
}

#[tokio::test(start_paused = true)]
async fn the_wrapper_without_a_bug_passes() {
    examine(None, 1).await.assert_passed();
}

#[tokio::test(start_paused = true)]
async fn the_lease_suite_alone_catches_a_lease_that_outlives_its_time() {
    let fresh = || async { Mutant::new(LeaseOutlives) };
    let report = conformance::lease::run(fresh, tokio::time::sleep).await;
    assert!(!report.passed() && report.suite == "LeaseStore");
    let without = || async { Arc::new(NoLeases(MemoryStore::new())) as Arc<dyn StateStore> };
    let report = conformance::lease::run(without, tokio::time::sleep).await;
    report.assert_passed();
    assert!(report.to_string().contains("skipped"));
}

async fn examine(bug: Bug, seed: u64) -> Report {
    let options = Options {
        seed,
        rounds: 4,
        churn: 200,
        ..Options::default()
    };
    conformance::store::run_with(
        || async move { Mutant::new(bug) },
        tokio::time::sleep,
        options,
    )
    .await
}

/// A store without leases.
#[derive(Debug)]
struct NoLeases(MemoryStore);

#[async_trait]
impl StateStore for NoLeases {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.0.get(key).await
    }
    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.0.list(request).await
    }
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        self.0.commit(txn).await
    }
    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.0.watch(prefix, from).await
    }
    fn leases(&self) -> Option<&dyn LeaseStore> {
        Option::None
    }
}

/// A good store behind a bad wrapper.
#[derive(Debug)]
struct Mutant {
    bug: Bug,
    inner: MemoryStore,
    calls: AtomicU64,
    stale: Mutex<BTreeMap<Key, Option<Versioned>>>,
    revived: Mutex<BTreeMap<LeaseId, LeaseId>>,
    granted: Mutex<Vec<LeaseId>>,
}

impl Mutant {
    #[allow(clippy::new_ret_no_self)]
    fn new(bug: Bug) -> Arc<dyn StateStore> {
        let inner = match bug {
            CompactsInSilence | ComesBackAfterAnError => {
                MemoryStore::builder().history_entries(60).build()
            }
            _ => MemoryStore::new(),
        };
        Arc::new(Self {
            bug,
            inner,
            calls: AtomicU64::new(0),
            stale: Mutex::default(),
            revived: Mutex::default(),
            granted: Mutex::default(),
        })
    }

    /// True once in `every` calls.
    fn rarely(&self, every: u64) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) % every == every / 2
    }

    fn distort(&self, mut now: Versioned) -> Versioned {
        match self.bug {
            CreatedIsModified => now.created = now.modified,
            ModifiedIsCreated => now.modified = now.created,
            LeaseIsNotShown => now.lease = Option::None,
            _ => {}
        }
        now
    }

    fn real(&self, lease: LeaseId) -> LeaseId {
        self.revived
            .lock()
            .unwrap()
            .get(&lease)
            .copied()
            .unwrap_or(lease)
    }
}

#[async_trait]
impl StateStore for Mutant {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        let now = self.inner.get(key).await?.map(|now| self.distort(now));
        let late = self.bug == StaleReads || (self.bug == StaleReadsNowAndThen && self.rarely(50));
        let before = self.stale.lock().unwrap().insert(key.clone(), now.clone());
        Ok(if late { before.unwrap_or(now) } else { now })
    }

    async fn list(&self, mut request: ListRequest) -> Result<Page, StoreError> {
        let later = request.from.is_some();
        match (self.bug, &mut request.from) {
            (PagesMixRevisions, Some(from)) => {
                let asked = from.at;
                from.at = self.inner.stats().revision;
                let mut page = self.inner.list(request).await?;
                page.revision = asked;
                return Ok(page);
            }
            (PagesRepeatAKey, Some(from)) => {
                let text = from.after.as_str();
                from.after =
                    Key::from(&text[..text.len() - text.chars().last().unwrap().len_utf8()]);
            }
            _ => {}
        }
        if self.bug == IgnoresTheLimit {
            request.limit = usize::MAX;
        }
        if self.bug == PrefixIsAPath && !request.prefix.as_str().is_empty() {
            let path = format!("{}/", request.prefix.as_str().trim_end_matches('/'));
            request.prefix = Key::from(path);
        }
        let mut page = self.inner.list(request).await?;
        page.items = page
            .items
            .into_iter()
            .map(|now| self.distort(now))
            .collect();
        match self.bug {
            PagesSkipAKey if later && page.items.len() > 1 => drop(page.items.remove(0)),
            KeysInReverse => page.items.reverse(),
            KeysByLength => page.items.sort_by_key(|item| item.key.as_str().len()),
            ListedRevisionTooNew => page.revision.0 += 1,
            _ => {}
        }
        Ok(page)
    }

    async fn commit(&self, mut txn: Txn) -> Result<Revision, StoreError> {
        if self.bug == AcceptsInvalid && txn.check().is_err() {
            return Ok(Revision(self.inner.stats().revision.0 + 1));
        }
        txn.check()?;
        match self.bug {
            CasSucceedsFalsely => txn.guards.clear(),
            CasSucceedsFalselyNowAndThen if !txn.guards.is_empty() && self.rarely(40) => {
                txn.guards.clear();
            }
            ConflictForNothingNowAndThen if !txn.guards.is_empty() && self.rarely(50) => {
                let about = txn.guards[0].key().as_str();
                return Err(StoreError::new(StoreErrorKind::Conflict, "commit").about(about));
            }
            ChecksTheFirstGuardOnly => txn.guards.truncate(1),
            RefusesTheLargest
                if txn.writes.iter().any(
                    |write| matches!(write, Write::Put { value, .. } if value.len() > 1_000_000),
                ) =>
            {
                return Err(StoreError::new(StoreErrorKind::Invalid, "commit"));
            }
            RefusesTheMostWrites if txn.writes.len() > 100 => {
                return Err(StoreError::new(StoreErrorKind::Invalid, "commit"));
            }
            CutsLargeValues | KeepsTextOnly | AnEmptyValueIsNone => {
                for write in &mut txn.writes {
                    let Write::Put { key, value, .. } = write else {
                        continue;
                    };
                    if self.bug == CutsLargeValues && value.len() > 65_535 {
                        *value = value[..65_535].into();
                    }
                    if self.bug == KeepsTextOnly {
                        let text = String::from_utf8_lossy(value).into_owned();
                        *value = text.into_bytes().into();
                    }
                    if self.bug == AnEmptyValueIsNone && value.is_empty() {
                        *write = Write::Delete(key.clone());
                    }
                }
            }
            AtIsAtLeast => {
                for guard in &mut txn.guards {
                    if let Guard::At(key, at) = guard
                        && let Some(now) = self.inner.get(key).await?
                        && now.modified >= *at
                    {
                        *at = now.modified;
                    }
                }
            }
            PutExtendsItsLease => {
                for write in &txn.writes {
                    if let Write::Put {
                        lease: Some(lease), ..
                    } = write
                    {
                        let _ = self.inner.keep_alive(*lease).await?;
                    }
                }
            }
            AppliesHalf if txn.writes.len() > 1 => drop(txn.writes.pop()),
            LosesAWriteNowAndThen if self.rarely(50) => {
                return Ok(Revision(self.inner.stats().revision.0 + 1));
            }
            ChecksBeforeItWaits => {
                self.inner
                    .commit(Txn {
                        writes: vec![Write::Delete("-".into())],
                        ..txn.clone()
                    })
                    .await?;
                tokio::task::yield_now().await;
                txn.guards.clear();
            }
            AbsentIgnoresTheDeleted => {
                let stale = self.stale.lock().unwrap();
                for guard in &txn.guards {
                    if let Guard::Absent(key) = guard
                        && stale.contains_key(key)
                        && txn.guards.len() == 1
                    {
                        let error = StoreError::new(StoreErrorKind::Conflict, "commit");
                        return Err(error.about(key.as_str()));
                    }
                }
                drop(stale);
                for write in &txn.writes {
                    if let Write::Delete(key) = write {
                        self.stale.lock().unwrap().insert(key.clone(), Option::None);
                    }
                }
            }
            PutWithoutLeaseKeepsTheOld => {
                for write in &mut txn.writes {
                    if let Write::Put {
                        key,
                        lease: lease @ Option::None,
                        ..
                    } = write
                    {
                        *lease = self.inner.get(key).await?.and_then(|now| now.lease);
                    }
                }
            }
            PutUnderEndedLease => {
                for write in &mut txn.writes {
                    if let Write::Put {
                        lease: lease @ Some(_),
                        ..
                    } = write
                        && let KeptAlive::Ended = self.inner.keep_alive(lease.unwrap()).await?
                    {
                        *lease = Option::None;
                    }
                }
            }
            EndedLeaseIsRevived => {
                for write in &mut txn.writes {
                    if let Write::Put {
                        lease: Some(lease), ..
                    } = write
                    {
                        *lease = self.real(*lease);
                    }
                }
            }
            LeaseKeepsItsKeys => {
                for write in &mut txn.writes {
                    if let Write::Put { lease, .. } = write {
                        *lease = Option::None;
                    }
                }
            }
            LeaseKeepsOneKey => {
                for write in &mut txn.writes {
                    if let Write::Put { key, lease, .. } = write
                        && key.as_str() == "c"
                    {
                        *lease = Option::None;
                    }
                }
            }
            _ => {}
        }
        let again = txn.clone();
        let result = self.inner.commit(txn).await;
        match (self.bug, result) {
            (ConflictButApplied, Err(error)) if error.kind() == StoreErrorKind::Conflict => {
                self.inner
                    .commit(Txn {
                        guards: vec![],
                        ..again
                    })
                    .await?;
                Err(error)
            }
            (ConflictAboutTheWrongKey, Err(error)) => {
                Err(StoreError::new(error.kind(), "commit").about("?"))
            }
            (UnavailableButAppliedNowAndThen, Ok(_)) if self.rarely(50) => {
                Err(StoreError::new(StoreErrorKind::Unavailable, "commit"))
            }
            (RevisionsRepeat, Ok(at)) => Ok(Revision(at.0 / 2)),
            (_, result) => result,
        }
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let from = match self.bug {
            StartsOneEarly => Revision(from.0.saturating_sub(1)),
            StartsOneLate => Revision((from.0 + 1).min(self.inner.stats().revision.0)),
            CompactsInSilence => from.max(self.inner.stats().oldest),
            _ => from,
        };
        let wide = match self.bug {
            PrefixTakesNeighbours => prefix.as_str().trim_end_matches('/').into(),
            _ => prefix,
        };
        let before = self.inner.stats().revision;
        if self.bug == MissesWhatLandsWhileItOpens {
            tokio::task::yield_now().await;
        }
        let missed = (before, self.inner.stats().revision);
        let inner = self.inner.watch(wide.clone(), from).await?;
        let restart = (self.inner.clone(), wide);
        Ok(Box::new(MutantWatch {
            bug: self.bug,
            inner,
            restart,
            missed,
            count: from.0 * 7,
            later: Option::None,
            told: false,
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        Some(self)
    }
}

struct MutantWatch {
    bug: Bug,
    inner: Box<dyn Watch>,
    restart: (MemoryStore, Key),
    /// What landed after the first of these revisions and up to the second is not told.
    missed: (Revision, Revision),
    count: u64,
    later: Option<Batch>,
    told: bool,
}

impl MutantWatch {
    fn rarely(&mut self, every: u64) -> bool {
        self.count += 1;
        self.count % every == every / 2
    }
}

#[async_trait]
impl Watch for MutantWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        if let Some(later) = self.later.take() {
            return Ok(later);
        }
        if self.bug == PanicsOnWatch && self.rarely(20) {
            panic!("the watch is broken");
        }
        let next = self.inner.next().await;
        if self.bug == ComesBackAfterAnError && next.is_err() && !self.told {
            self.told = true;
            let (store, prefix) = &self.restart;
            self.inner = store.watch(prefix.clone(), store.stats().oldest).await?;
        }
        let mut batch = next?;
        let (after, to) = self.missed;
        let bug = self.bug;
        match bug {
            MissesWhatLandsWhileItOpens => {
                let missed = |change: &Change| change.revision() > after && change.revision() <= to;
                batch.changes.retain(|change| !missed(change));
            }
            // As a queue does that is full.
            DropsWhatPilesUp => {
                let past = batch.changes.len().saturating_sub(64);
                batch.changes.drain(..past);
            }
            MergesPutsOfOneKey => {
                let all = std::mem::take(&mut batch.changes);
                for (n, change) in all.iter().enumerate() {
                    if !all[n + 1..].iter().any(|later| later.key() == change.key()) {
                        batch.changes.push(change.clone());
                    }
                }
            }
            TellsThroughTooLittle => {
                batch.through = batch
                    .changes
                    .first()
                    .map_or(batch.through, |first| Revision(first.revision().0 - 1))
            }
            LosesAnEvent if self.rarely(10) => drop(batch.changes.pop()),
            LosesAnEventNowAndThen => {
                for n in (0..batch.changes.len()).rev() {
                    if self.rarely(50) {
                        batch.changes.remove(n);
                    }
                }
            }
            DuplicatesAnEvent if self.rarely(30) => {
                let last = batch.changes.last().cloned();
                batch.changes.extend(last);
            }
            ReordersEvents if batch.changes.len() > 1 => batch.changes.reverse(),
            SplitsACommit if batch.changes.len() > 1 => {
                let rest = batch.changes.split_off(1);
                self.later = Some(Batch {
                    changes: rest,
                    through: batch.through,
                });
            }
            ForgetsWhatADroppedNextHeld => tokio::task::yield_now().await,
            TellsThroughTooFar => batch.through.0 += 3,
            NeverWakes if self.rarely(5) => std::future::pending().await,
            SwallowsDeletions => {
                batch
                    .changes
                    .retain(|change| matches!(change, Change::Put(_)));
            }
            _ => {}
        }
        if batch.changes.is_empty() && !matches!(self.bug, None | TellsThroughTooFar) {
            // A bookmark in its place would give the loss away too soon.
            return self.next().await;
        }
        Ok(batch)
    }
}

#[async_trait]
impl LeaseStore for Mutant {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.inner.grant(match self.bug {
            LeaseOutlives => ttl * 2,
            LeaseOutlivesALittle => ttl + Duration::from_secs(1),
            LeaseNeverEnds => Duration::MAX,
            LeaseEndsEarly => ttl / 2,
            SomeLeasesOutlive if self.rarely(10) => ttl * 2,
            SomeLeasesEndEarly if self.rarely(10) => ttl / 2,
            _ => ttl,
        });
        let lease = lease.await?;
        self.granted.lock().unwrap().push(lease);
        Ok(if self.bug == LeaseIdsRepeat {
            LeaseId(lease.0 % 50)
        } else {
            lease
        })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeptAlive, StoreError> {
        let ttl = Duration::from_secs(2);
        match self.bug {
            KeepAliveDoesNothing => Ok(KeptAlive::For(ttl)),
            KeepAliveExtendsAll => {
                let granted = self.granted.lock().unwrap().clone();
                for other in granted {
                    let _ = self.inner.keep_alive(other).await?;
                }
                self.inner.keep_alive(lease).await
            }
            KeepAliveLies => {
                let _ = self.inner.keep_alive(lease).await?;
                Ok(KeptAlive::For(ttl))
            }
            EndedLeaseIsRevived => {
                let real = self.real(lease);
                match self.inner.keep_alive(real).await? {
                    KeptAlive::Ended if lease.0 < 1_000 => {
                        let new = self.inner.grant(ttl).await?;
                        self.revived.lock().unwrap().insert(lease, new);
                        Ok(KeptAlive::For(ttl))
                    }
                    other => Ok(other),
                }
            }
            _ => self.inner.keep_alive(lease).await,
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.bug {
            RevokeDoesNothing => Ok(()),
            RevokeInManyCommits => {
                for item in self.inner.list(ListRequest::all("")).await?.items {
                    if item.lease == Some(lease) {
                        self.inner
                            .commit(Txn::new().then(Write::Delete(item.key)))
                            .await?;
                    }
                }
                self.inner.revoke(lease).await
            }
            _ => self.inner.revoke(self.real(lease)).await,
        }
    }
}
