//! The wheel, in virtual time.
#![allow(clippy::unwrap_used)]
use super::*;
use async_trait::async_trait;
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::WorkloadId;
use orchestra_core::port::probe::ProbeSpec;
use orchestra_sched::health::tracker::ProbePolicy;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::clock::TokioClock;
use crate::probe::{ContainerHealth, WatchedProbe, WatchedProbes};

/// What the target does at a probe: of the first, the second, … ; the last one stays.
#[derive(Clone, Copy, Debug)]
enum Act {
    Pass,
    Fail,
    Hang,
    Error,
    Panic,
    /// Passes after so many seconds.
    Slow(u64),
}

const STARTUP: u16 = 1;
const LIVENESS: u16 = 2;
const READINESS: u16 = 3;

/// Acts by a script for each port, and writes down when it was asked.
#[derive(Debug)]
struct Scripted {
    began: Instant,
    scripts: Mutex<BTreeMap<u16, Vec<Act>>>,
    asked: Mutex<Vec<(u16, u64)>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Scripted {
    fn new<const N: usize>(scripts: [(u16, &[Act]); N]) -> Arc<Self> {
        let scripts = scripts.map(|(port, acts)| (port, acts.to_vec()));
        Arc::new(Self {
            began: Instant::now(),
            scripts: Mutex::new(scripts.into()),
            asked: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    /// Seconds at which that port was asked.
    fn asked(&self, port: u16) -> Vec<u64> {
        let asked = lock(&self.asked);
        asked
            .iter()
            .filter(|(p, _)| *p == port)
            .map(|(_, at)| *at)
            .collect()
    }
}

struct Here<'a>(&'a AtomicUsize);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Prober for Scripted {
    async fn probe(&self, _: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let ProbeSpec::Tcp { port, .. } = spec else {
            panic!("only TCP is scripted")
        };
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        let _here = Here(&self.now);
        self.most.fetch_max(now, Ordering::Relaxed);
        lock(&self.asked).push((*port, self.began.elapsed().as_secs()));
        let act = {
            let mut scripts = lock(&self.scripts);
            let script = scripts.get_mut(port).unwrap();
            if script.len() > 1 {
                script.remove(0)
            } else {
                script[0]
            }
        };
        match act {
            Act::Pass => {}
            Act::Slow(seconds) => sleep(Duration::from_secs(seconds)).await,
            Act::Fail => {
                return Ok(Verdict::Fail {
                    reason: format!("port {port} is sick"),
                });
            }
            Act::Hang => std::future::pending().await,
            Act::Error => return Err(ProbeError::new(ProbeErrorKind::Exhausted, "probe")),
            Act::Panic => panic!("a prober's own fault"),
        }
        Ok(Verdict::Pass {
            took: Duration::ZERO,
        })
    }
}

struct Bed {
    prober: Arc<Scripted>,
    wheel: WheelHandle,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn bed<const N: usize>(in_flight_max: usize, scripts: [(u16, &[Act]); N]) -> Bed {
    let prober = Scripted::new(scripts);
    let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
    let wheel = ProbeWheel::new(
        Arc::clone(&prober) as _,
        clock,
        WheelLimits { in_flight_max },
    );
    let (handle, cancel) = (wheel.handle(), CancellationToken::new());
    let task = tokio::spawn(wheel.run(cancel.clone()));
    Bed {
        prober,
        wheel: handle,
        cancel,
        task,
    }
}

fn probe(port: u16, period: u64, failures: u32) -> Option<WatchedProbe> {
    let policy = ProbePolicy {
        period: Duration::from_secs(period),
        failure_threshold: failures,
        ..Default::default()
    };
    Some(WatchedProbe {
        spec: ProbeSpec::Tcp { host: None, port },
        policy,
    })
}

fn watch(bed: &Bed, probes: WatchedProbes) -> ContainerHealth {
    bed.wheel.watch(
        WorkloadId {
            pod: Uid(1),
            container: "main".into(),
        },
        probes,
    )
}

/// Lets time pass until shortly after that second.
async fn until(bed: &Bed, second: u64) {
    let at = bed.prober.began + Duration::from_secs(second) + Duration::from_millis(20);
    tokio::time::sleep_until(at).await;
}

#[tokio::test(start_paused = true)]
async fn startup_gates_the_others_and_readiness_follows_the_target() {
    use Act::{Fail, Pass};
    let bed = bed(
        8,
        [
            (STARTUP, &[Fail, Pass]),
            (LIVENESS, &[Pass]),
            (READINESS, &[Fail, Pass, Fail, Pass]),
        ],
    );
    let health = watch(
        &bed,
        WatchedProbes {
            startup: probe(STARTUP, 5, 3),
            liveness: probe(LIVENESS, 10, 3),
            readiness: probe(READINESS, 10, 1),
        },
    );
    until(&bed, 3).await;
    assert_eq!(
        bed.wheel.stats().begun,
        0,
        "nothing is probed before it runs"
    );
    health.on_started(None, 0);
    until(&bed, 4).await;
    let state = health.state();
    assert_eq!((state.attempt, state.health.started), (Some(0), false));
    assert_eq!(state.reason, "port 1 is sick");
    until(&bed, 9).await;
    let state = health.state();
    assert!(state.health.started && !state.health.ready);
    assert_eq!(state.reason, "port 3 is sick");
    let mut ready = Vec::new();
    for second in [19, 29, 39] {
        until(&bed, second).await;
        ready.push(health.state().health.ready);
    }
    assert_eq!(ready, [true, false, true]);
    assert_eq!(
        bed.prober.asked(STARTUP),
        [3, 8],
        "once started it is not asked again"
    );
    assert_eq!(bed.prober.asked(LIVENESS), [8, 18, 28, 38]);
    assert_eq!(health.state().health.restart, None);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_a_failure_and_asks_for_one_restart() {
    let bed = bed(8, [(LIVENESS, &[Act::Hang])]);
    let mut health = watch(
        &bed,
        WatchedProbes {
            liveness: probe(LIVENESS, 10, 3),
            ..Default::default()
        },
    );
    health.on_started(None, 0);
    let state = loop {
        let state = health.changed().await;
        if state.health.restart.is_some() {
            break state;
        }
    };
    assert_eq!(
        bed.prober.began.elapsed().as_secs(),
        21,
        "at 0, 10 and 20, 1 s each"
    );
    assert_eq!(state.health.restart, Some(ProbeKind::Liveness));
    assert_eq!(state.reason, "no answer within 1s");
    until(&bed, 60).await;
    assert_eq!(
        bed.prober.asked(LIVENESS).len(),
        3,
        "on hold until it was restarted"
    );
    health.on_stopped();
    health.on_started(None, 1);
    until(&bed, 62).await;
    assert_eq!(
        health.state().health,
        Health {
            started: true,
            ready: true,
            restart: None
        }
    );
    assert_eq!(health.state().attempt, Some(1));
    assert_eq!(bed.prober.asked(LIVENESS).len(), 4);
    assert_eq!(bed.wheel.stats().timed_out, 4);
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_of_the_prober_do_not_count() {
    use Act::{Error, Panic, Pass};
    let bed = bed(8, [(READINESS, &[Pass, Error, Panic, Error, Panic, Pass])]);
    let health = watch(
        &bed,
        WatchedProbes {
            readiness: probe(READINESS, 1, 1),
            ..Default::default()
        },
    );
    health.on_started(None, 0);
    for second in 0..6 {
        until(&bed, second).await;
        assert!(health.state().health.ready, "second {second}");
    }
    assert_eq!((bed.wheel.stats().begun, bed.wheel.stats().errors), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn a_stop_or_a_drop_ends_what_is_in_flight() {
    let bed = bed(8, [(READINESS, &[Act::Hang])]);
    let mut slow = probe(READINESS, 10, 1);
    slow.as_mut().unwrap().policy.timeout = Duration::from_hours(1);
    let probes = WatchedProbes {
        readiness: slow,
        ..Default::default()
    };
    let (stopped, dropped) = (watch(&bed, probes.clone()), watch(&bed, probes));
    stopped.on_started(None, 0);
    dropped.on_started(None, 0);
    until(&bed, 1).await;
    assert_eq!(
        (
            bed.wheel.stats().in_flight,
            bed.prober.now.load(Ordering::Relaxed)
        ),
        (2, 2)
    );
    stopped.on_stopped();
    drop(dropped);
    until(&bed, 100).await;
    assert_eq!(
        (
            bed.wheel.stats().in_flight,
            bed.prober.now.load(Ordering::Relaxed)
        ),
        (0, 0)
    );
    assert_eq!(
        (bed.wheel.stats().begun, stopped.state().attempt),
        (2, None)
    );
    stopped.on_started(None, 1);
    until(&bed, 101).await;
    assert_eq!(bed.wheel.stats().in_flight, 1);
    bed.cancel.cancel();
    bed.task.await.unwrap();
    assert_eq!(
        bed.prober.now.load(Ordering::Relaxed),
        0,
        "run leaves nothing behind"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_than_allowed_are_in_flight_and_everyone_has_a_turn() {
    let bed = bed(10, [(READINESS, &[Act::Slow(1)])]);
    let mut probes = WatchedProbes {
        readiness: probe(READINESS, 100, 1),
        ..Default::default()
    };
    probes.readiness.as_mut().unwrap().policy.timeout = Duration::from_secs(2);
    let all: Vec<_> = (0..200).map(|_| watch(&bed, probes.clone())).collect();
    all.iter().for_each(|health| health.on_started(None, 0));
    until(&bed, 10).await;
    let ready = || {
        all.iter()
            .filter(|health| health.state().health.ready)
            .count()
    };
    assert_eq!(ready(), 100, "10 a second");
    until(&bed, 20).await;
    assert_eq!(ready(), 200);
    assert_eq!(bed.prober.most.load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_is_not_restarted_but_still_taken_out_of_service() {
    let bed = bed(
        8,
        [
            (LIVENESS, &[Act::Fail]),
            (READINESS, &[Act::Pass, Act::Fail]),
        ],
    );
    let health = watch(
        &bed,
        WatchedProbes {
            liveness: probe(LIVENESS, 1, 3),
            readiness: probe(READINESS, 5, 1),
            ..Default::default()
        },
    );
    health.on_started(None, 0);
    until(&bed, 1).await;
    assert!(health.state().health.ready);
    health.on_deleted();
    until(&bed, 10).await;
    assert_eq!(
        health.state().health,
        Health {
            started: true,
            ready: false,
            restart: None
        }
    );
}

#[tokio::test(start_paused = true)]
async fn many_thousands_turn_at_their_pace() {
    const CONTAINERS: u64 = 4_000;
    let bed = bed(256, [(READINESS, &[Act::Pass])]);
    let probes = WatchedProbes {
        readiness: probe(READINESS, 10, 1),
        ..Default::default()
    };
    let all: Vec<_> = (0..CONTAINERS)
        .map(|_| watch(&bed, probes.clone()))
        .collect();
    all.iter().for_each(|health| health.on_started(None, 0));
    until(&bed, 25).await;
    assert_eq!(bed.wheel.stats().begun, 3 * CONTAINERS, "at 0, 10 and 20");
    assert!(all.iter().all(|health| health.state().health.ready));
    drop(all);
    until(&bed, 50).await;
    assert_eq!(bed.wheel.stats().begun, 3 * CONTAINERS);
}

#[tokio::test(start_paused = true)]
async fn the_same_script_gives_the_same_history() {
    use Act::{Error, Fail, Pass, Slow};
    let history = async || {
        let script: &[Act] = &[Fail, Slow(3), Pass, Error, Pass, Fail, Slow(0), Pass];
        let bed = bed(
            3,
            [(STARTUP, script), (LIVENESS, script), (READINESS, script)],
        );
        let all: Vec<_> = (1..9)
            .map(|period| {
                let health = watch(
                    &bed,
                    WatchedProbes {
                        startup: probe(STARTUP, period, 9),
                        liveness: probe(LIVENESS, 2, 1),
                        readiness: probe(READINESS, period, 1),
                    },
                );
                health.on_started(None, 0);
                health
            })
            .collect();
        until(&bed, 60).await;
        let states: Vec<_> = all.iter().map(ContainerHealth::state).collect();
        let asked = lock(&bed.prober.asked).clone();
        (asked, states)
    };
    let first = history().await;
    assert!(first.0.len() > 50);
    assert_eq!(first, history().await);
}
