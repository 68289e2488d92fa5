//! The game: one arrival at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_core::port::store::Revision;
use orchestra_core::time::Timestamp;
use rand::Rng as _;
use rand_pcg::Pcg64;
use smol_str::SmolStr;

use super::{Outcome, Point, Policy, Ties, Trace};
use crate::fits;
use crate::place::Pending;
use crate::place::ask::{Faults, contain};
use crate::place::packing::{Class, Target};
use crate::place::plugin::{Cycle, PodFields, Reach, Score, Scorer};
use crate::rng::PlanRng;
use crate::snapshot::{Ledger, NodeIx, PodId, Rows, Running, Snapshot, SnapshotBuilder};

/// Where a pod went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The node.
    pub node: SmolStr,
    /// The devices.
    pub devices: DeviceSet,
}

/// Plays `trace`: `policy` places each pod when it comes. `seed` settles what the trace leaves open;
/// equal seeds, equal games. `seen` is told how many pods have come, after each.
///
/// A policy that learns is told each pod when it comes, and no pod before. Whether a pod fits is asked of
/// [`fits`]; the policy only chooses among nodes that do, so a pod that
/// fits somewhere is always placed. A policy whose scorer looks at one node at a time is asked again
/// only about nodes that changed.
///
/// A policy that panics ends no game: the nodes it was asked about score 0, the devices are the tightest,
/// a learner is asked no more, and [`Outcome::faults`] says so.
pub fn play(trace: &Trace, policy: &Policy, seed: u64, mut seen: impl FnMut(usize)) -> Outcome {
    let target = Target::of(&trace.mix());
    let mut board = Board::new(trace, policy, seed, &target);
    let mut outcome = Outcome {
        policy: policy.name.clone(),
        capacity_milli: trace.device_milli(),
        ..Outcome::default()
    };
    let mut learner = policy.learner.as_ref().map(|learner| learner.fork());
    let mut point = Point::default();
    for (nth, pod) in trace.pods.iter().enumerate() {
        let ask = pod.demand.accelerators.as_ref();
        let milli = ask.map_or(0, |ask| i64::from(ask.count) * i64::from(ask.milli));
        point.arrived_milli += milli;
        let pending = Pending {
            id: PodId {
                uid: Uid(nth as u128 + 1),
                key: ObjectKey::cluster(pod.name.clone()),
            },
            arrived: Timestamp::from_secs(nth as i64),
            demand: Arc::clone(&pod.demand),
            ..Pending::default()
        };
        if let Some(one) = &mut learner {
            match contain(|| one.arrive(&pod.demand)) {
                Ok(None) => {}
                Ok(Some(learned)) => board.change(learned),
                Err(panic) => {
                    board.faults.add("Learner", &pending, panic);
                    learner = None;
                }
            }
        }
        let place = board.arrive(&pending);
        match &place {
            Some(_) => point.used_milli += milli,
            None => {
                outcome.unplaced.count(&pod.demand);
                outcome.spurned += usize::from(board.fits_somewhere(&pending));
            }
        }
        point.fragment = board.fragment;
        outcome.places.push(place);
        outcome.points.push(point);
        seen(nth + 1);
    }
    outcome.faults = board.faults.take();
    outcome
}

/// What a policy said of each node for one kind of pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Stale,
    Out,
    Score(Score),
}

struct Board<'a> {
    policy: &'a Policy,
    /// What is in its place, once its learner has answered.
    learned: Option<Policy>,
    target: &'a Target,
    builder: SnapshotBuilder,
    /// By row: among equals the lowest wins.
    ranks: Vec<u32>,
    draw: Pcg64,
    answers: BTreeMap<Class, Vec<Answer>>,
    /// By row.
    fragments: Vec<f64>,
    /// Of all rows.
    fragment: f64,
    faults: Faults,
}

impl<'a> Board<'a> {
    fn new(trace: &Trace, policy: &'a Policy, seed: u64, target: &'a Target) -> Self {
        let mut builder = SnapshotBuilder::new();
        for node in &trace.nodes {
            builder.set_node(node.clone());
        }
        let rng = PlanRng::new(seed);
        let snapshot = builder.snapshot(Revision(0));
        let fragments: Vec<f64> = snapshot
            .nodes()
            .map(|(node, _)| fragment(target, &snapshot, node))
            .collect();
        Self {
            policy,
            learned: None,
            target,
            ranks: ranks(trace, &snapshot, rng),
            builder,
            draw: rng.stream("trace-draws"),
            answers: BTreeMap::new(),
            fragment: fragments.iter().sum(),
            fragments,
            faults: Faults::default(),
        }
    }

    /// From here on, nodes and devices are chosen by another policy.
    fn change(&mut self, learned: Policy) {
        self.learned = Some(learned);
        self.answers.clear();
    }

    /// Places a pod, if it fits anywhere.
    fn arrive(&mut self, pod: &Pending) -> Option<Place> {
        let snapshot = self.builder.snapshot(Revision(0));
        let ledger = Ledger::open(&snapshot);
        let cycle = Cycle::new(&ledger, pod, Timestamp::EPOCH);
        let node = self.choose(&cycle)?;
        let rules = self.learned.as_ref().unwrap_or(self.policy);
        let chosen = rules.devices.as_ref().zip(pod.demand.accelerators.as_ref());
        let devices = chosen
            .and_then(|(choice, ask)| {
                let set = contain(|| choice.choose(&cycle, node)).unwrap_or_else(|panic| {
                    self.faults.add("DeviceChoice", pod, panic);
                    None
                })?;
                ledger.row(node).devices[0].can_on(ask, set).then_some(set)
            })
            .unwrap_or_else(|| ledger.devices_for(node, &pod.demand));
        let name = snapshot.node(node).name().clone();
        drop((ledger, snapshot)); // or the change below would copy its columns
        self.bind(pod, node, &name, devices);
        Some(Place {
            node: name,
            devices,
        })
    }

    fn bind(&mut self, pod: &Pending, node: NodeIx, name: &str, devices: DeviceSet) {
        let mut demand = Arc::clone(&pod.demand);
        if !devices.is_empty()
            && let Some(ask) = &mut Arc::make_mut(&mut demand).accelerators
        {
            ask.held = devices;
        }
        let running = Running {
            id: pod.id.clone(),
            demand,
            ..Running::default()
        };
        self.builder.set_pod(name, running);
        for answers in self.answers.values_mut() {
            answers[node.row()] = Answer::Stale;
        }
        let snapshot = self.builder.snapshot(Revision(0));
        let now = fragment(self.target, &snapshot, node);
        let was = std::mem::replace(&mut self.fragments[node.row()], now);
        self.fragment += now - was;
    }

    fn choose(&mut self, cycle: &Cycle<'_>) -> Option<NodeIx> {
        let rows = cycle.ledger.rows();
        let nodes = rows.len();
        let rules = self.learned.as_ref().unwrap_or(self.policy);
        let scorer = rules.scorer.as_deref();
        let reach = scorer.map_or(Reach::Nothing, |scorer| {
            contain(|| scorer.reach(cycle)).unwrap_or_else(|panic| {
                self.faults.add(scorer.name(), cycle.pod, panic);
                Reach::Nothing
            })
        });
        let whole = scorer.is_some_and(|scorer| {
            reach == Reach::Cluster
                || contain(|| scorer.depends()).is_ok_and(|fields| fields.has(PodFields::IDENTITY))
        });
        let answers = self
            .answers
            .entry(Class::of(&cycle.pod.demand))
            .or_insert_with(|| vec![Answer::Stale; nodes]);
        if whole {
            answers.fill(Answer::Stale);
        }
        for (answer, node) in answers.iter_mut().zip(rows.nodes()) {
            if *answer == Answer::Stale {
                let fits = fits::obstacles(cycle.ledger, node, &cycle.pod.demand).is_empty();
                *answer = match (fits, scorer) {
                    (false, _) => Answer::Out,
                    (true, Some(scorer)) if !whole && reach != Reach::Nothing => {
                        let row = cycle.ledger.row(node);
                        Answer::Score(score(scorer, cycle, row, &[true], &self.faults)[0])
                    }
                    (true, _) => Answer::Score(0),
                };
            }
        }
        if let Some(scorer) = scorer.filter(|_| whole) {
            let fits: Vec<bool> = answers
                .iter()
                .map(|answer| *answer != Answer::Out)
                .collect();
            let scores = score(scorer, cycle, rows, &fits, &self.faults);
            for (answer, score) in answers.iter_mut().zip(scores) {
                if *answer != Answer::Out {
                    *answer = Answer::Score(score);
                }
            }
        }
        let scored = answers
            .iter()
            .enumerate()
            .filter_map(|(row, answer)| match answer {
                Answer::Score(score) => Some((*score, row)),
                _ => None,
            });
        let row = match self.policy.ties {
            Ties::Ranked => {
                let best = scored
                    .max_by_key(|&(score, row)| (score, std::cmp::Reverse((self.ranks[row], row))));
                best?.1
            }
            Ties::Drawn => {
                let top = scored.clone().map(|(score, _)| score).max()?;
                let best: Vec<usize> = scored
                    .filter(|(score, _)| *score == top)
                    .map(|(_, row)| row)
                    .collect();
                best[draw(&mut self.draw, best.len())]
            }
        };
        Some(rows.node(row))
    }

    fn fits_somewhere(&self, pod: &Pending) -> bool {
        let snapshot = self.builder.snapshot(Revision(0));
        let ledger = Ledger::open(&snapshot);
        let mut nodes = ledger.rows().nodes();
        nodes.any(|node| fits::obstacles(&ledger, node, &pod.demand).is_empty())
    }
}

fn score(
    scorer: &dyn Scorer,
    cycle: &Cycle<'_>,
    rows: Rows<'_>,
    fits: &[bool],
    faults: &Faults,
) -> Vec<Score> {
    let mut raw = vec![0; rows.len()];
    if let Err(panic) = contain(|| scorer.score(cycle, rows, fits, &mut raw)) {
        raw.fill(0);
        faults.add(scorer.name(), cycle.pod, panic);
    }
    raw
}

fn fragment(target: &Target, snapshot: &Snapshot, node: NodeIx) -> f64 {
    let rows = snapshot.rows();
    let row = node.row();
    let model = &snapshot.node(node).facts().model;
    target.fragment(rows.cpu_free[row], &rows.devices[row], model)
}

/// A number below `bound`, each as likely as the next to one part in 2^32.
fn draw(rng: &mut Pcg64, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// The trace's ranks, and behind them the other nodes in an order drawn from the seed.
fn ranks(trace: &Trace, snapshot: &Snapshot, rng: PlanRng) -> Vec<u32> {
    let mut order: Vec<usize> = (0..snapshot.len()).collect();
    let mut rng = rng.stream("trace-ties");
    for last in (1..order.len()).rev() {
        order.swap(last, draw(&mut rng, last + 1));
    }
    let mut drawn = vec![0; order.len()];
    for (nth, row) in order.into_iter().enumerate() {
        drawn[row] = nth;
    }
    let name = |row: usize| snapshot.node(NodeIx::from_row(row)).name();
    let mut order: Vec<usize> = (0..snapshot.len()).collect();
    order.sort_by_key(|&row| {
        let rank = trace.ranks.get(name(row)).copied();
        (rank.is_none(), rank, drawn[row])
    });
    let mut ranks = vec![0; order.len()];
    for (nth, row) in order.into_iter().enumerate() {
        ranks[row] = nth as u32;
    }
    ranks
}
