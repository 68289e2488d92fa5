//! The suite for [`ServiceRegistry`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, Report, SplitMix64, Suite, Timer, ensure, ensure_eq, fail, join_all};
use crate::meta::Uid;
use crate::port::registry::{
    Applied, Endpoint, EndpointWatch, Endpoints, RegistryError, ServiceName, ServiceRegistry,
    SetGeneration,
};

/// How long a registry may take to tell a follower, by the caller's sleep function.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// How long a follower is watched that has nothing to hear.
const QUIET_FOR: Duration = Duration::from_millis(50);

/// What the random history is made from, and how long it is.
const SEED: u64 = 1;
const STEPS: u32 = 600;

/// Tests a registry. `fresh` gives an empty one, `sleep` waits.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance;
/// # use orchestra_core::port::registry::ServiceRegistry;
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyRegistry: ServiceRegistry + Default>() {
/// let fresh = || async { Arc::new(MyRegistry::default()) as Arc<dyn ServiceRegistry> };
/// conformance::registry::run(fresh, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<F, A, S, Z>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Arc<dyn ServiceRegistry>> + Send,
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    let timer = Timer::new(sleep);
    let mut suite = Suite::new("registry", timer.clone()).seeded(SEED);
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            let registry = fresh().await;
            suite
                .check(stringify!($name), $sentence, $name(&*registry, &timer))
                .await;
        };
    }
    check!(
        nothing_published_is_empty_at_zero,
        "The current set; empty at generation zero if nothing was ever published."
    );
    check!(
        what_was_published_is_looked_up,
        "A set that was published is what later lookups return, until a newer one is."
    );
    check!(
        repeating_changes_nothing,
        "Publishes, unless something as new or newer is there."
    );
    check!(
        a_late_set_is_refused,
        "A late call from a deposed controller is refused by its generation."
    );
    check!(
        an_empty_set_is_a_set,
        "Callers publish the set they want, not the difference."
    );
    check!(
        every_difference_is_published,
        "Callers publish the set they want, not the difference: what a newer set says of an \
         endpoint counts."
    );
    check!(
        services_are_apart,
        "Publishes whole endpoint sets of one service."
    );
    check!(
        a_follower_starts_with_the_current_set,
        "The first call returns the current set at once."
    );
    check!(
        a_follower_hears_of_nothing_twice,
        "Waits for a set newer than the last one returned."
    );
    check!(
        every_follower_comes_to_the_newest,
        "Every follower comes to the newest set."
    );
    check!(
        a_follower_never_goes_back,
        "… and never goes back to an older one."
    );
    check!(
        a_dropped_wait_loses_nothing,
        "Waiting for the next set is cancel-safe."
    );
    check!(
        of_many_at_once_the_newest_wins,
        "Whichever call comes first, the newest set stays."
    );
    check!(
        a_random_history_equals_its_model,
        "A set that was published is what later lookups return and followers come to, over random \
         sets of several services."
    );
    suite.finish()
}

fn web() -> ServiceName {
    ServiceName::new("default", "web")
}

/// A set of that generation, with one endpoint whose pod has the generation's number.
fn set(generation: u64) -> Endpoints {
    let endpoint = Endpoint {
        pod: Uid(generation.into()),
        pod_name: "web-0".into(),
        address: [127, 0, 0, 1].into(),
        ports: Arc::new([("http".into(), 80)]),
        ready: true,
        terminating: false,
        node: "node-0".into(),
        zone: "a".into(),
    };
    Endpoints {
        generation: SetGeneration(generation),
        all: Arc::new([endpoint]),
    }
}

async fn publish(registry: &dyn ServiceRegistry, generation: u64) -> Finding {
    let applied = registry.apply(&web(), set(generation)).await?;
    ensure_eq("a newer set is", applied, Applied::Published)
}

async fn next(watch: &mut Box<dyn EndpointWatch>, timer: &Timer) -> Result<Endpoints, super::Stop> {
    match timer.within(TOLD_WITHIN, watch.next()).await {
        Some(told) => Ok(told?),
        None => fail("the follower is told of a newer set", "it waits for ever"),
    }
}

async fn nothing_published_is_empty_at_zero(
    registry: &dyn ServiceRegistry,
    timer: &Timer,
) -> Finding {
    ensure_eq(
        "lookup",
        registry.lookup(&web()).await?,
        Endpoints::default(),
    )?;
    let mut watch = registry.follow(&web()).await?;
    ensure_eq(
        "first of follow",
        next(&mut watch, timer).await?,
        Endpoints::default(),
    )
}

async fn what_was_published_is_looked_up(
    registry: &dyn ServiceRegistry,
    _timer: &Timer,
) -> Finding {
    for generation in [1, 2, 9] {
        publish(registry, generation).await?;
        ensure_eq("lookup", registry.lookup(&web()).await?, set(generation))?;
    }
    Ok(())
}

async fn repeating_changes_nothing(registry: &dyn ServiceRegistry, _timer: &Timer) -> Finding {
    publish(registry, 3).await?;
    let superseded = Applied::Superseded(SetGeneration(3));
    ensure_eq(
        "the same again is",
        registry.apply(&web(), set(3)).await?,
        superseded,
    )?;
    let other = Endpoints {
        generation: SetGeneration(3),
        all: set(4).all,
    };
    ensure_eq(
        "another set as new is",
        registry.apply(&web(), other).await?,
        superseded,
    )?;
    ensure_eq("lookup", registry.lookup(&web()).await?, set(3))
}

async fn a_late_set_is_refused(registry: &dyn ServiceRegistry, _timer: &Timer) -> Finding {
    publish(registry, 5).await?;
    let applied = registry.apply(&web(), set(4)).await?;
    ensure_eq(
        "an older set is",
        applied,
        Applied::Superseded(SetGeneration(5)),
    )?;
    ensure_eq("lookup", registry.lookup(&web()).await?, set(5))
}

async fn an_empty_set_is_a_set(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    publish(registry, 1).await?;
    let mut watch = registry.follow(&web()).await?;
    next(&mut watch, timer).await?;
    let empty = Endpoints {
        generation: SetGeneration(2),
        all: Arc::new([]),
    };
    let applied = registry.apply(&web(), empty.clone()).await?;
    ensure_eq("a newer empty set is", applied, Applied::Published)?;
    ensure_eq("lookup", registry.lookup(&web()).await?, empty.clone())?;
    ensure_eq("the follower sees", next(&mut watch, timer).await?, empty)
}

async fn every_difference_is_published(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    let changes: [fn(&mut Endpoint); 7] = [
        |it| it.ready = false,
        |it| it.terminating = true,
        |it| it.address = [127, 0, 0, 2].into(),
        |it| it.ports = Arc::new([("http".into(), 81)]),
        |it| it.node = "node-1".into(),
        |it| it.zone = "b".into(),
        |it| it.ready = true,
    ];
    publish(registry, 1).await?;
    let mut watch = registry.follow(&web()).await?;
    next(&mut watch, timer).await?;
    let mut endpoint = set(1).all[0].clone();
    for (generation, change) in (2..).zip(changes) {
        change(&mut endpoint);
        let newer = Endpoints {
            generation: SetGeneration(generation),
            all: Arc::new([endpoint.clone()]),
        };
        let applied = registry.apply(&web(), newer.clone()).await?;
        ensure_eq("a newer set is", applied, Applied::Published)?;
        ensure_eq("lookup", registry.lookup(&web()).await?, newer.clone())?;
        ensure_eq("the follower sees", next(&mut watch, timer).await?, newer)?;
    }
    Ok(())
}

async fn services_are_apart(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    let mut watch = registry.follow(&web()).await?;
    next(&mut watch, timer).await?;
    for other in [
        ServiceName::new("default", "api"),
        ServiceName::new("other", "web"),
    ] {
        let applied = registry.apply(&other, set(7)).await?;
        ensure_eq("the other service's set is", applied, Applied::Published)?;
    }
    ensure_eq(
        "lookup",
        registry.lookup(&web()).await?,
        Endpoints::default(),
    )?;
    let heard = timer.within(QUIET_FOR, watch.next()).await;
    ensure(
        heard.is_none(),
        "the follower hears of its own service only",
        &heard,
    )?;
    publish(registry, 1).await
}

async fn a_follower_starts_with_the_current_set(
    registry: &dyn ServiceRegistry,
    timer: &Timer,
) -> Finding {
    publish(registry, 1).await?;
    publish(registry, 2).await?;
    let mut watch = registry.follow(&web()).await?;
    ensure_eq("first of follow", next(&mut watch, timer).await?, set(2))
}

async fn a_follower_hears_of_nothing_twice(
    registry: &dyn ServiceRegistry,
    timer: &Timer,
) -> Finding {
    publish(registry, 2).await?;
    let mut watch = registry.follow(&web()).await?;
    next(&mut watch, timer).await?;
    for refused in [1, 2] {
        let _ = registry.apply(&web(), set(refused)).await?;
    }
    let heard = timer.within(QUIET_FOR, watch.next()).await;
    ensure(
        heard.is_none(),
        "the follower waits while nothing is new",
        &heard,
    )
}

async fn every_follower_comes_to_the_newest(
    registry: &dyn ServiceRegistry,
    timer: &Timer,
) -> Finding {
    let mut early = registry.follow(&web()).await?;
    publish(registry, 1).await?;
    let mut late = registry.follow(&web()).await?;
    next(&mut late, timer).await?;
    for generation in 2..=20 {
        publish(registry, generation).await?;
    }
    for watch in [&mut early, &mut late] {
        while next(watch, timer).await? != set(20) {}
    }
    Ok(())
}

async fn a_follower_never_goes_back(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    let mut watch = registry.follow(&web()).await?;
    let mut last = next(&mut watch, timer).await?.generation;
    for generation in [1, 2, 5, 3, 6, 4, 7] {
        let _ = registry.apply(&web(), set(generation)).await?;
        if let Some(told) = timer.within(QUIET_FOR, watch.next()).await {
            let told = told?.generation;
            ensure(told > last, format!("a set newer than {last:?}"), told)?;
            last = told;
        }
    }
    while last < SetGeneration(7) {
        last = next(&mut watch, timer).await?.generation;
    }
    Ok(())
}

async fn a_dropped_wait_loses_nothing(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    let mut watch = registry.follow(&web()).await?;
    next(&mut watch, timer).await?;
    for generation in 1..=3 {
        let heard = timer.within(QUIET_FOR, watch.next()).await;
        ensure(heard.is_none(), "nothing to hear yet", &heard)?;
        publish(registry, generation).await?;
        // A wait that is dropped when it may have begun to look.
        if let Some(told) = timer.within(Duration::ZERO, watch.next()).await {
            ensure_eq("the follower sees", told?, set(generation))?;
        } else {
            ensure_eq(
                "the follower sees",
                next(&mut watch, timer).await?,
                set(generation),
            )?;
        }
    }
    Ok(())
}

async fn of_many_at_once_the_newest_wins(registry: &dyn ServiceRegistry, timer: &Timer) -> Finding {
    const SETS: u64 = 32;
    let mut watch = registry.follow(&web()).await?;
    let calls = (1..=SETS).map(|n| {
        // Neither rising nor falling.
        let generation = (n * 13) % SETS + 1;
        let call = async move { registry.apply(&web(), set(generation)).await };
        Box::pin(call) as Pin<Box<dyn Future<Output = Result<Applied, RegistryError>> + Send + '_>>
    });
    for applied in join_all(calls.collect()).await {
        let _superseded_or_not = applied?;
    }
    ensure_eq("lookup", registry.lookup(&web()).await?, set(SETS))?;
    while next(&mut watch, timer).await? != set(SETS) {}
    Ok(())
}

/// Some of a handful of pods, each as it happens to be.
fn any_set(rng: &mut SplitMix64, generation: u64) -> Endpoints {
    let mut all = Vec::new();
    for pod in 1..=6 {
        if rng.percent(60) {
            let mut endpoint = set(pod).all[0].clone();
            endpoint.ready = rng.percent(70);
            endpoint.terminating = !endpoint.ready && rng.percent(30);
            all.push(endpoint);
        }
    }
    Endpoints {
        generation: SetGeneration(generation),
        all: all.into(),
    }
}

async fn a_random_history_equals_its_model(
    registry: &dyn ServiceRegistry,
    timer: &Timer,
) -> Finding {
    let mut rng = SplitMix64::new(SEED);
    let services = ["a", "b", "c"].map(|name| ServiceName::new("default", name));
    // Of each service all sets that were published, the newest last.
    let mut published = services.clone().map(|_| vec![Endpoints::default()]);
    let mut followers = Vec::new();
    for step in 0..STEPS {
        let n = rng.below(services.len());
        let newest = published[n].last().cloned().unwrap_or_default();
        let at = |stop: super::Stop| stop.at(format!("step {step} of {}", services[n]));
        match rng.below(10) {
            0..=4 => {
                let late = rng.percent(20);
                let generation = match newest.generation.0 {
                    there if late && there > 0 => there - rng.below(2).min(1) as u64,
                    there => there + 1 + rng.below(3) as u64,
                };
                let offered = any_set(&mut rng, generation.max(1));
                let applied = registry.apply(&services[n], offered.clone()).await?;
                if offered.generation > newest.generation {
                    ensure_eq("a newer set is", applied, Applied::Published).map_err(at)?;
                    published[n].push(offered);
                } else {
                    let superseded = Applied::Superseded(newest.generation);
                    ensure_eq("a late set is", applied, superseded).map_err(at)?;
                }
            }
            5..=7 => {
                let seen = registry.lookup(&services[n]).await?;
                ensure_eq("lookup", seen, newest).map_err(at)?;
            }
            8 if followers.len() < 8 => {
                followers.push((n, registry.follow(&services[n]).await?, None));
            }
            _ => {
                if let Some((n, watch, last)) = followers.first_mut() {
                    follow_on(watch, last, &published[*n], timer)
                        .await
                        .map_err(at)?;
                    followers.rotate_left(1);
                }
            }
        }
    }
    for (n, watch, last) in &mut followers {
        while *last != published[*n].last().map(|newest| newest.generation) {
            follow_on(watch, last, &published[*n], timer).await?;
        }
    }
    Ok(())
}

/// Reads a follower for which there is news, if there is.
async fn follow_on(
    watch: &mut Box<dyn EndpointWatch>,
    last: &mut Option<SetGeneration>,
    published: &[Endpoints],
    timer: &Timer,
) -> Finding {
    let newest = published.last().map(|newest| newest.generation);
    if *last == newest {
        return Ok(());
    }
    let told = next(watch, timer).await?;
    ensure(
        Some(told.generation) > *last,
        format!("a set newer than {last:?}"),
        told.generation,
    )?;
    let as_published = published
        .iter()
        .find(|one| one.generation == told.generation);
    *last = Some(told.generation);
    ensure_eq("what a follower is told", Some(&told), as_published)
}
