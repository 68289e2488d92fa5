//! The suite of [`StateStore`], and with it of the store's leases if it has any.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Report, Stop, Suite, Timer, fail};
use crate::port::store::StateStore;

mod commits;
mod concurrent;
mod follow;
mod lists;
mod model;
mod random;
mod watches;

pub(super) use follow::Follower;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Determines the random histories.
    pub seed: u64,
    /// Random histories, each on a fresh store.
    pub rounds: u32,
    /// Steps of each random history.
    pub steps: u32,
    /// Commits of about 1 KB made to push the store into compacting. A suite can only look at
    /// what a store does with revisions it no longer keeps if its factory's stores keep less
    /// than this.
    pub churn: u32,
    /// How long a call or an event may take, by the caller's sleep function, before it counts as
    /// lost.
    pub patience: Duration,
    /// The time to live that lease checks ask for. A multiple of `lease_unit`.
    pub lease_ttl: Duration,
    /// The store's own least unit of time to live: it may lengthen a lease to a multiple of it.
    pub lease_unit: Duration,
    /// How soon after its time a lease must have ended.
    pub lease_slack: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            rounds: 8,
            steps: 300,
            churn: 2_000,
            patience: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(2),
            lease_unit: Duration::from_secs(1),
            lease_slack: Duration::from_millis(500),
        }
    }
}

/// Runs the whole suite on stores from `fresh`, each empty and used by nobody else. `sleep` is
/// the executor's, for instance `tokio::time::sleep`.
pub async fn run<F, Fut, S, Slept>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Arc<dyn StateStore>> + Send,
    S: Fn(Duration) -> Slept + Send + Sync + 'static,
    Slept: Future<Output = ()> + Send + 'static,
{
    run_with(fresh, sleep, Options::default()).await
}

/// As [`run`], looking as hard as `options` say.
pub async fn run_with<F, Fut, S, Slept>(fresh: F, sleep: S, options: Options) -> Report
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Arc<dyn StateStore>> + Send,
    S: Fn(Duration) -> Slept + Send + Sync + 'static,
    Slept: Future<Output = ()> + Send + 'static,
{
    let kit = Kit::new(&fresh, Timer::new(sleep), options);
    let mut suite = Suite::new("StateStore", kit.timer.clone()).seeded(options.seed);
    commits::checks(&mut suite, &kit).await;
    lists::checks(&mut suite, &kit).await;
    watches::checks(&mut suite, &kit).await;
    random::checks(&mut suite, &kit).await;
    concurrent::checks(&mut suite, &kit).await;
    super::lease::checks(&mut suite, &kit).await;
    suite.finish()
}

type Making<'a> = Pin<Box<dyn Future<Output = Arc<dyn StateStore>> + Send + 'a>>;

/// What every check needs.
pub(super) struct Kit<'a> {
    fresh: Box<dyn Fn() -> Making<'a> + Send + Sync + 'a>,
    pub(super) timer: Timer,
    pub(super) options: Options,
}

impl fmt::Debug for Kit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<'a> Kit<'a> {
    pub(super) fn new<F, Fut>(fresh: &'a F, timer: Timer, options: Options) -> Self
    where
        F: Fn() -> Fut + Send + Sync,
        Fut: Future<Output = Arc<dyn StateStore>> + Send + 'a,
    {
        Self {
            fresh: Box::new(move || Box::pin(fresh())),
            timer,
            options,
        }
    }

    /// An empty store.
    pub(super) async fn store(&self) -> Arc<dyn StateStore> {
        (self.fresh)().await
    }

    /// What `work` gives, unless it takes longer than anyone should wait.
    pub(super) async fn patiently<T>(
        &self,
        what: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let patience = self.options.patience;
        match self.timer.within(patience, work).await {
            Some(done) => Ok(done),
            None => fail(format!("{what} within {patience:?}"), "nothing came"),
        }
    }
}
