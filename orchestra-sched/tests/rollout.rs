//! Rollouts in small random worlds: they never break their budget and always arrive.

use std::time::Duration;

use orchestra_core::int_or::IntOrPercent;
use orchestra_core::meta::Uid;
use orchestra_core::time::Timestamp;
use orchestra_sched::rollout::arithmetic::Pace;
use orchestra_sched::rollout::guard::{Budget, check, guarded};
use orchestra_sched::rollout::{
    Generation, Memo, Phase, Replica, RolloutAction, RolloutStep, RolloutStrategy, RolloutView,
};
use proptest::prelude::*;

const MIN_READY: Duration = Duration::from_secs(3);
const ROUNDS_MAX: usize = 400;

#[derive(Debug)]
struct World {
    pace: Pace,
    strategy: Box<dyn RolloutStrategy>,
    target: u64,
    wanted: u32,
    paused: bool,
    pods: Vec<Replica>,
    made: u32,
    memo: Memo,
    now: Timestamp,
}

impl World {
    fn new(pace: Pace, wanted: u32) -> Self {
        Self {
            pace,
            strategy: pace.into(),
            target: 1,
            wanted,
            paused: false,
            pods: Vec::new(),
            made: 0,
            memo: Memo::default(),
            now: Timestamp::from_secs(1_000),
        }
    }

    fn view(&self) -> RolloutView<'_> {
        RolloutView {
            target: Generation(self.target),
            wanted: self.wanted,
            replicas: &self.pods,
            memo: &self.memo,
            now: self.now,
            min_ready: MIN_READY,
            deadline: Some(Duration::from_secs(600)),
            paused: self.paused,
        }
    }

    fn available(&self, pod: &Replica) -> bool {
        pod.counts() && pod.available(MIN_READY, self.now)
    }

    fn total(&self) -> u32 {
        self.pods.iter().filter(|pod| pod.counts()).count() as u32
    }

    fn of(&self, generation: u64) -> u32 {
        let of = |pod: &&Replica| pod.counts() && pod.generation == Generation(generation);
        self.pods.iter().filter(of).count() as u32
    }

    /// One guarded step, checked and carried out.
    fn step(&mut self) -> RolloutStep {
        let budget = Budget::of(self.pace, self.wanted);
        let free = self.strategy.step(self.view());
        let step = guarded(&*self.strategy, self.view(), budget);
        let scaling = self
            .memo
            .scaled
            .is_some_and(|scaled| scaled.wanted != self.wanted);
        if !scaling && !self.paused {
            assert_eq!(step, free, "within its budget a step passes as it is");
        }
        let available = self.pods.iter().filter(|pod| self.available(pod)).count() as u32;
        let stopped = |pod: &&Replica| {
            self.available(pod) && step.actions.contains(&RolloutAction::Stop(pod.pod))
        };
        let stopped = self.pods.iter().filter(stopped).count() as u32;
        assert!(
            stopped == 0 || available - stopped >= budget.min_available,
            "{available} - {stopped} below {budget:?}: {}",
            step.note
        );
        let total = self.total();
        for action in &step.actions {
            match action {
                RolloutAction::Stop(pod) => {
                    let pod = self
                        .pods
                        .iter_mut()
                        .find(|one| one.pod == *pod)
                        .expect("known");
                    assert!(!pod.terminating, "stopped twice");
                    pod.terminating = true;
                }
                RolloutAction::Start { generation, count } => {
                    assert!(
                        *count > 0 && total + *count <= budget.max_total,
                        "{}",
                        step.note
                    );
                    for _ in 0..*count {
                        self.made += 1;
                        self.pods.push(Replica {
                            pod: Uid(self.made.into()),
                            name: format!("pod-{:04}", self.made).into(),
                            generation: *generation,
                            created: self.now,
                            ..Replica::default()
                        });
                    }
                }
                other => panic!("nobody shifts traffic here: {other:?}"),
            }
        }
        self.memo = step.memo.clone();
        step
    }

    /// Time passes and everything goes well.
    fn calm(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        self.pods.retain(|pod| !pod.terminating);
        for pod in &mut self.pods {
            pod.node = "node".into();
            pod.running = true;
            pod.ready_since = pod.ready_since.or(Some(self.now));
        }
    }

    /// Steps in calm until it is done; returns the notes on the way.
    fn settle(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let step = self.step();
            notes.push(step.note);
            if step.phase == Phase::Done {
                assert_eq!(step.actions, []);
                assert_eq!(step.wake_at, None);
                let good = self
                    .pods
                    .iter()
                    .filter(|pod| self.available(pod) && pod.generation == Generation(self.target));
                assert_eq!(good.count() as u32, self.wanted);
                assert_eq!(self.total(), self.wanted);
                let memo = self.memo.clone();
                self.calm();
                let again = self.step();
                assert_eq!((again.phase, again.actions), (Phase::Done, vec![]));
                assert_eq!(again.memo, memo, "at rest the memo is at rest");
                return notes;
            }
            self.calm();
        }
        panic!("not done after {ROUNDS_MAX} rounds:\n{}", notes.join("\n"));
    }

    fn act(&mut self, act: Act) {
        let at = |n: usize, world: &Self| (!world.pods.is_empty()).then(|| n % world.pods.len());
        match act {
            Act::Step => drop(self.step()),
            Act::Pass(seconds) => self.now = self.now + Duration::from_secs(seconds),
            Act::Ready(n) => {
                if let Some(n) = at(n, self) {
                    let now = self.now;
                    let pod = &mut self.pods[n];
                    pod.node = format!("node-{}", n % 3).into();
                    pod.running = !pod.ended;
                    pod.ready_since = pod.ready_since.or(Some(now)).filter(|_| !pod.ended);
                }
            }
            Act::Unready(n) => {
                if let Some(n) = at(n, self) {
                    self.pods[n].ready_since = None;
                    self.pods[n].restarts += 1;
                }
            }
            Act::End(n) => {
                if let Some(n) = at(n, self) {
                    self.pods[n].ready_since = None;
                    self.pods[n].ended = true;
                }
            }
            Act::Vanish(n) => {
                if let Some(n) = at(n, self) {
                    self.pods.remove(n);
                }
            }
            Act::Scale(wanted) => self.wanted = wanted,
            Act::Change => self.target += 1,
            Act::Pause(paused) => self.paused = paused,
            Act::Calm => self.calm(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Step,
    Pass(u64),
    Ready(usize),
    Unready(usize),
    End(usize),
    Vanish(usize),
    Scale(u32),
    Change,
    Pause(bool),
    Calm,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let one = prop_oneof![
        8 => Just(Act::Step),
        3 => (0_u64..5).prop_map(Act::Pass),
        6 => (0_usize..64).prop_map(Act::Ready),
        2 => (0_usize..64).prop_map(Act::Unready),
        1 => (0_usize..64).prop_map(Act::End),
        2 => (0_usize..64).prop_map(Act::Vanish),
        1 => (0_u32..14).prop_map(Act::Scale),
        1 => Just(Act::Change),
        1 => any::<bool>().prop_map(Act::Pause),
        3 => Just(Act::Calm),
    ];
    proptest::collection::vec(one, 0..80)
}

fn limit() -> impl Strategy<Value = IntOrPercent> {
    prop_oneof![
        (0_u32..4).prop_map(IntOrPercent::Int),
        prop_oneof![Just(0_u32), Just(25), Just(50), Just(100)].prop_map(IntOrPercent::Percent),
    ]
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![
        4 => (limit(), limit()).prop_map(|(surge, unavailable)| Pace::rolling(surge, unavailable)),
        1 => Just(Pace::Recreate),
    ]
}

proptest! {
    #[test]
    fn any_history_within_budget_ends_where_it_should(
        pace in pace(), wanted in 0_u32..12, acts in acts(),
    ) {
        let mut world = World::new(pace, wanted);
        for act in acts {
            world.act(act);
        }
        world.paused = false;
        world.settle();
    }

    #[test]
    fn a_memo_survives_being_stored(pace in pace(), wanted in 0_u32..12, acts in acts()) {
        let mut world = World::new(pace, wanted);
        for act in acts {
            world.act(act);
            let text = serde_json::to_string(&world.memo).expect("writes");
            prop_assert_eq!(&serde_json::from_str::<Memo>(&text).expect("reads"), &world.memo);
        }
    }

    #[test]
    fn paused_nothing_moves_between_revisions(
        pace in pace(), wanted in 1_u32..12, acts in acts(),
    ) {
        let mut world = World::new(pace, wanted);
        world.settle();
        for act in acts {
            if !matches!(act, Act::Pause(_) | Act::Change | Act::Scale(_)) {
                world.act(act);
            }
        }
        world.paused = true;
        let _ = world.step();
        world.calm();
        world.target += 1;
        for _ in 0..5 {
            let _ = world.step();
            world.calm();
        }
        prop_assert_eq!(world.of(world.target), 0);
        prop_assert!(world.of(world.target - 1) >= wanted.min(1));
        world.paused = false;
        world.settle();
    }

    #[test]
    fn a_strategy_gone_mad_is_held(
        stops in proptest::collection::vec(0_u128..14, 0..20),
        starts in proptest::collection::vec(0_u32..9, 0..4),
        ready in proptest::collection::vec(any::<bool>(), 8),
        pace in pace(),
    ) {
        let mut world = World::new(pace, 8);
        for (n, ready) in ready.iter().enumerate() {
            world.pods.push(Replica {
                pod: Uid(n as u128),
                generation: Generation(1),
                ready_since: ready.then_some(Timestamp::EPOCH),
                ..Replica::default()
            });
        }
        let mut actions: Vec<RolloutAction> =
            stops.into_iter().map(|pod| RolloutAction::Stop(Uid(pod))).collect();
        actions.extend(
            starts.iter().map(|&count| RolloutAction::Start { generation: Generation(1), count }),
        );
        let wild = RolloutStep {
            phase: Phase::Done,
            actions,
            memo: Memo::default(),
            wake_at: None,
            note: String::new(),
        };
        let budget = Budget::of(pace, 8);
        let held = check(world.view(), budget, wild.clone());
        prop_assert_eq!(check(world.view(), budget, held.clone()), held.clone(), "idempotent");
        let has = |pod: &Replica| held.actions.contains(&RolloutAction::Stop(pod.pod));
        let stays = |pod: &&Replica| world.available(pod) && !has(pod);
        let left = world.pods.iter().filter(stays).count() as u32;
        let before = world.pods.iter().filter(|pod| world.available(pod)).count() as u32;
        prop_assert!(left >= budget.min_available.min(before));
        let started: u32 = held
            .actions
            .iter()
            .map(|action| match action {
                RolloutAction::Start { count, .. } => *count,
                _ => 0,
            })
            .sum();
        prop_assert!(started == 0 || 8 + started <= budget.max_total);
    }
}

#[test]
fn a_rolling_update_step_by_step() {
    let pace = Pace::rolling(IntOrPercent::Int(3), IntOrPercent::Int(2));
    let mut world = World::new(pace, 10);
    world.settle();
    world.target = 2;
    let mut sizes = Vec::new();
    loop {
        let step = world.step();
        if sizes.last() != Some(&(world.of(1), world.of(2))) {
            sizes.push((world.of(1), world.of(2)));
        }
        if step.phase == Phase::Done {
            break;
        }
        world.calm();
    }
    assert_eq!(sizes, [(8, 3), (8, 5), (5, 5), (3, 8), (3, 10), (0, 10)]);
}

#[test]
fn new_pods_that_never_get_ready_stop_the_rollout_where_it_hurts_nobody() {
    let mut world = World::new(Pace::default(), 8);
    world.settle();
    world.target = 2;
    for _ in 0..20 {
        let _ = world.step();
        world.now = world.now + Duration::from_secs(1);
        world.pods.retain(|pod| !pod.terminating);
    }
    assert_eq!((world.of(1), world.of(2)), (6, 4));
    let step = world.step();
    assert_eq!((step.phase, step.actions), (Phase::Holding, vec![]));
    assert!(
        step.note
            .ends_with("waits for 4 pods of revision 2 to become available"),
        "{}",
        step.note
    );
    let wake = step.wake_at.expect("the deadline");
    world.now = wake - Duration::from_micros(1);
    assert_eq!(world.step().phase, Phase::Holding);
    world.now = wake;
    let step = world.step();
    assert_eq!((step.phase, step.wake_at), (Phase::Stalled, None));
    assert!(
        step.note.contains("no progress within its deadline"),
        "{}",
        step.note
    );
    // Back to the good revision, under a new number.
    for pod in world
        .pods
        .iter_mut()
        .filter(|pod| pod.generation == Generation(1))
    {
        pod.generation = Generation(3);
    }
    world.target = 3;
    world.settle();
    assert_eq!(world.memo.settled, Some(Generation(3)));
}

#[test]
fn a_pod_failing_after_completion_is_waited_for_without_a_deadline() {
    let mut world = World::new(Pace::default(), 3);
    world.settle();
    world.pods[0].ready_since = None;
    let step = world.step();
    assert_eq!((step.phase, step.wake_at), (Phase::Holding, None));
    world.now = world.now + Duration::from_secs(9_999);
    assert_eq!(world.step().phase, Phase::Holding);
    world.settle();
}

#[test]
fn scaling_in_the_middle_is_shared_in_proportion() {
    let mut world = World::new(Pace::default(), 8);
    world.settle();
    world.target = 2;
    let _ = world.step();
    assert_eq!((world.of(1), world.of(2)), (6, 2));
    let _ = world.step();
    assert_eq!((world.of(1), world.of(2)), (6, 4));
    world.wanted = 16;
    let _ = world.step();
    assert_eq!((world.of(1), world.of(2)), (12, 8));
    world.settle();
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(Pace::Recreate, 3);
    world.settle();
    world.target = 2;
    let _ = world.step();
    assert_eq!(world.total(), 0);
    world.pods.truncate(1);
    let step = world.step();
    assert_eq!((step.phase, step.actions), (Phase::Holding, vec![]));
    assert!(
        step.note.ends_with("waits for 1 old pods to be gone"),
        "{}",
        step.note
    );
    world.pods.clear();
    let _ = world.step();
    assert_eq!((world.of(1), world.of(2)), (0, 3));
    world.settle();
}

#[test]
fn a_partition_keeps_the_rest_old_and_alive() {
    let pace = Pace::Rolling {
        max_surge: IntOrPercent::Int(1),
        max_unavailable: IntOrPercent::Int(1),
        partition: Some(IntOrPercent::Percent(30)),
    };
    let mut world = World::new(pace, 10);
    world.strategy = Pace::default().into();
    world.pace = Pace::default();
    world.settle();
    world.pace = pace;
    world.strategy = pace.into();
    world.target = 2;
    for _ in 0..40 {
        let _ = world.step();
        world.calm();
    }
    assert_eq!((world.of(1), world.of(2)), (7, 3));
    let step = world.step();
    assert_eq!((step.phase, step.actions), (Phase::Holding, vec![]));
    assert!(
        step.note
            .ends_with("its partition of 3 new pods to be raised"),
        "{}",
        step.note
    );
    world.pods.retain(|pod| pod.generation == Generation(2));
    for _ in 0..20 {
        let _ = world.step();
        world.calm();
    }
    assert_eq!(
        (world.of(1), world.of(2)),
        (7, 3),
        "even if all old pods were lost at once"
    );
}

#[test]
fn who_is_stopped_first() {
    let mut world = World::new(Pace::default(), 1);
    let at = |seconds: i64| Timestamp::from_secs(seconds);
    let pod = |name: &str| Replica {
        pod: Uid(name
            .bytes()
            .fold(0_u128, |sum, byte| sum.wrapping_mul(31) + u128::from(byte))),
        name: name.into(),
        generation: Generation(1),
        node: "node".into(),
        running: true,
        ready_since: Some(at(100)),
        created: at(50),
        ..Replica::default()
    };
    let last_to_first = vec![
        Replica {
            deletion_cost: 5,
            ..pod("dear")
        },
        Replica {
            node: "alone".into(),
            ..pod("alone")
        },
        Replica {
            created: at(10),
            ..pod("old")
        },
        pod("same-b"),
        pod("same-a"),
        Replica {
            restarts: 2,
            ..pod("restarted")
        },
        Replica {
            ready_since: Some(at(200)),
            ..pod("ready-for-a-short-time")
        },
        Replica {
            deletion_cost: -1,
            ..pod("cheap")
        },
        Replica {
            ready_since: Some(at(999)),
            deletion_cost: 9,
            ..pod("not-yet-available")
        },
        Replica {
            ready_since: None,
            deletion_cost: 9,
            ..pod("not-ready")
        },
        Replica {
            running: false,
            ready_since: None,
            ..pod("pending")
        },
        Replica {
            node: "".into(),
            running: false,
            ready_since: None,
            ..pod("unplaced")
        },
    ];
    let mut order: Vec<String> = last_to_first
        .iter()
        .rev()
        .map(|p| p.name.to_string())
        .collect();
    order.iter_mut().for_each(|name| name.truncate(99));
    world.pods = last_to_first;
    world.now = at(1_000);
    let expected = order[..order.len() - 1].to_vec();
    let stopped: Vec<String> = world
        .strategy
        .step(world.view())
        .actions
        .iter()
        .map(|action| match action {
            RolloutAction::Stop(uid) => {
                let pod = world
                    .pods
                    .iter()
                    .find(|pod| pod.pod == *uid)
                    .expect("known");
                pod.name.to_string()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stopped, expected);
}
