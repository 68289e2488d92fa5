//! The scheduler that is shipped: a profile of plugins, asked as seldom as their declarations
//! allow.

mod books;
mod gang;
mod retry;
mod room;
mod short;
mod ways;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use orchestra_core::kind::accelerator::DeviceSet;
use orchestra_core::time::Timestamp;
use rand::Rng as _;
use smol_str::SmolStr;

use super::ask::{Ask, Faults};
use super::memory::Memory;
use super::plugin::Cycle;
use super::plugin::PodFields;
use super::preempt::Search;
use super::share::Groups;
use super::sweep::Sweep;
use super::why::explain;
use super::{Pending, Placement, Plan, PlanInputs, Profile, Scheduler, Unplaced};
use crate::explain::{Explanation, Ranking, placement};
use crate::fits::Obstacle;
use crate::snapshot::{Demand, Ledger, NodeIx, Snapshot};
use books::Books;
use gang::Short;
use ways::Member;

pub use ways::GANG_DOMAINS_MAX;

/// How many shapes of pod have their answers kept within one plan; the least recently used is
/// asked again. Each takes up to some 40 bytes a node.
pub const SWEEPS_KEPT_MAX: usize = 64;

/// How many nodes are looked up together: those to which pods will probably go, and the names of those
/// to which they went.
const LOOKED_UP_TOGETHER: usize = 64;

/// The default [`Scheduler`].
///
/// Pods are considered by priority, highest first, then by arrival, then by uid and name. Each
/// goes to the node with the highest weighted score among those that fit; ties go by a hash of the
/// node's name that the plan's seed stirs, so that they do not follow the order in which nodes
/// became known. (Should two hashes agree in 44 bits, the lower row wins.)
#[derive(Debug, Default)]
pub struct Framework {
    pub(super) profile: Profile,
    unshared: bool,
    /// What plans learned; never shows in a plan but by its speed.
    memory: Mutex<Memory>,
}

impl Framework {
    /// A scheduler with these plugins.
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            unshared: false,
            memory: Mutex::default(),
        }
    }

    /// Asks every plugin about every node for every pod. Plans stay the same, unless a plugin
    /// depends on more than it declares: for testing plugins.
    #[must_use]
    pub fn unshared(mut self) -> Self {
        self.unshared = true;
        self
    }

    /// On how many nodes `pod` fits with what `ledger` holds, and why not on the others.
    pub fn explain(&self, ledger: &Ledger, pod: &Pending, now: Timestamp) -> Explanation {
        explain(&self.profile, &Cycle::new(ledger, pod, now), &[])
    }

    /// What earlier plans learned, unless another plan is being made with it right now.
    fn recall(&self) -> Option<MutexGuard<'_, Memory>> {
        if self.unshared {
            return None;
        }
        match self.memory.try_lock() {
            Ok(memory) => Some(memory),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(poisoned)) => {
                let mut memory = poisoned.into_inner();
                memory.clear();
                self.memory.clear_poison();
                Some(memory)
            }
        }
    }

    pub(super) fn fields(&self) -> PodFields {
        if self.unshared {
            return PodFields::ALL;
        }
        let filters = self.profile.filters.iter().map(|filter| filter.depends());
        let scorers = self
            .profile
            .scorers
            .iter()
            .map(|(scorer, _)| scorer.depends());
        filters
            .chain(scorers)
            .fold(PodFields::NONE, PodFields::with)
    }
}

impl Scheduler for Framework {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], inputs: PlanInputs) -> Plan {
        let mut order: Vec<usize> = (0..pending.len()).collect();
        order.sort_by(|&a, &b| pending[a].before(&pending[b]));
        let gangs = gang::gather(&mut order, pending, snapshot);
        let mut ledger = Ledger::open_for(snapshot, pending.len());
        let mut memory = self.recall();
        if let Some(memory) = &mut memory {
            memory.hand_over(&mut ledger);
        }
        pending.iter().for_each(|pod| ledger.expect(&pod.demand));
        let meant = ledger.has_terms();
        let fields = self.fields();
        let mut groups = Groups::new(fields, meant);
        let group_of = order.iter().map(|&at| groups.find_twin(&pending[at]));
        let group_of: Vec<(u32, bool)> = group_of
            .map(|(group, is_twin)| (group as u32, is_twin))
            .collect();
        let mut left = vec![0usize; groups.len()];
        let mut last = vec![0; groups.len()];
        for (place, &(group, _)) in group_of.iter().enumerate() {
            left[group as usize] += 1;
            last[group as usize] = place;
        }
        let faults = Faults::default();
        if let Some(memory) = &mut memory {
            memory.begin(fields, meant);
        }
        let mut run = Run {
            profile: &self.profile,
            unshared: self.unshared,
            memory: memory.as_deref_mut(),
            groups,
            now: inputs.now,
            salt: inputs.rng.stream("placement-ties").next_u64(),
            faults: &faults,
            ledger,
            owed: None,
            owed_room: None,
            log: Vec::with_capacity(pending.len()),
            books: Books::default(),
            sweeps: Vec::new(),
            lately: Vec::new(),
            place: 0,
            last,
            room: None,
            bare: None,
            avoid: Vec::new(),
            holds: 0,
            gang_holds: false,
        };
        run.open();
        let asked = Asked {
            pending,
            order: &order,
            group_of: &group_of,
        };
        let mut draft = Draft {
            chosen: Vec::with_capacity(pending.len()),
            lost: Vec::new(),
            short: Vec::new(),
            plan: Plan {
                base: snapshot.base(),
                ..Plan::default()
            },
        };
        let mut gangs = gangs.into_iter().peekable();
        let mut before = (0, 0);
        for (place, (&at, &(group, is_twin))) in order.iter().zip(&group_of).enumerate() {
            let group = group as usize;
            let gang = gangs.peek().filter(|gang| gang.places.start <= place);
            if gang.is_some_and(|gang| gang.places.start == place) {
                before = (draft.chosen.len(), draft.lost.len());
            }
            left[group] -= 1;
            run.place = place;
            // Of many that ask the same, one demand is looked at.
            let demand = match is_twin {
                true => &run.groups.first(group).0.demand,
                false => &pending[at].demand,
            };
            match run.place(&pending[at], demand, group, left[group]) {
                Ok(choice) => draft.chosen.push((at, choice)),
                Err(refusals) => {
                    run.settle();
                    let mut lost = Lost::new(at, group, refusals);
                    // Of a gang only once it is known what the whole gang misses.
                    if gang.is_none() {
                        run.make_room_for(&mut lost, pending, &mut draft.plan);
                    }
                    draft.lost.push(lost);
                }
            }
            if let Some(gang) = gangs.next_if(|gang| gang.places.end == place + 1) {
                run.close_gang(gang, &asked, before, &mut draft);
            }
        }
        if draft.lost.iter().any(|lost| !lost.has_room) {
            run.settle();
            run.retry(&asked, &mut draft);
        } else if !draft.lost.is_empty() {
            run.settle_placement();
        }
        let Draft {
            chosen,
            mut lost,
            short,
            mut plan,
        } = draft;
        if !short.is_empty() {
            let mut places = vec![0; pending.len()];
            for (place, &at) in order.iter().enumerate() {
                places[at] = place;
            }
            lost.sort_by_key(|lost| places[lost.pending]);
        }
        plan.placed = placements(&chosen, pending, snapshot);
        let gangs = run.tell_gangs(short, &lost, pending);
        let mut shared: Vec<[Option<Arc<Explanation>>; 2]> = Vec::new();
        if !lost.is_empty() {
            shared.resize(run.groups.len(), [None, None]);
        }
        for lost in lost {
            let Lost {
                pending: at, group, ..
            } = lost;
            let fresh = || {
                let cycle = Cycle::new(run.ledger_for(&lost), &pending[at], inputs.now);
                Arc::new(explain(&self.profile, &cycle, &lost.refusals))
            };
            let by_gang = lost.gang.and_then(|gang| {
                let mut groups = gangs[gang].iter();
                groups.find(|(other, _)| *other == group)
            });
            let why = match by_gang {
                Some((_, why)) => Arc::clone(why),
                None if lost.refusals.is_empty() => {
                    let shared = &mut shared[group][usize::from(lost.has_room)];
                    Arc::clone(shared.get_or_insert_with(fresh))
                }
                None => fresh(),
            };
            plan.unplaced.push(Unplaced {
                pending: at,
                pod: pending[at].id.clone(),
                why,
            });
        }
        run.remember();
        plan.faults = faults.take();
        plan
    }

    /// By its profile; see [`explain::placement`](placement).
    fn ranking(&self, snapshot: &Snapshot, pod: &Pending, now: Timestamp) -> Option<Ranking> {
        Some(placement(&self.profile, snapshot, pod, now))
    }
}

/// A pod that found no node, and which nodes were refused by a keeper of accounts.
struct Lost {
    pending: usize,
    group: usize,
    refusals: Vec<(NodeIx, Obstacle)>,
    /// Room is held for it.
    has_room: bool,
    /// Which gang of those that are short of places, if it is for its gang that it has none.
    gang: Option<usize>,
}

impl Lost {
    fn new(pending: usize, group: usize, refusals: Vec<(NodeIx, Obstacle)>) -> Self {
        Self {
            pending,
            group,
            refusals,
            has_room: false,
            gang: None,
        }
    }
}

/// Why the pods of a group find no node.
type ByGroup = (usize, Arc<Explanation>);

/// Those who ask, and in which order.
struct Asked<'a> {
    pending: &'a [Pending],
    /// Which of `pending`, by place in the order.
    order: &'a [usize],
    /// The group of each, by place, and whether another stands for it.
    group_of: &'a [(u32, bool)],
}

impl Asked<'_> {
    fn members(&self, places: &Range<usize>) -> Vec<Member> {
        let places = self.order[places.clone()]
            .iter()
            .zip(&self.group_of[places.clone()]);
        let members = places.map(|(&pending, &(group, _))| Member {
            pending,
            group: group as usize,
        });
        members.collect()
    }
}

/// What is settled of a plan so far.
struct Draft {
    chosen: Vec<(usize, Choice)>,
    lost: Vec<Lost>,
    short: Vec<Short>,
    /// But for who is placed and who is not.
    plan: Plan,
}

/// Where a pod goes.
struct Choice {
    node: NodeIx,
    group: u32,
    devices: DeviceSet,
    score: u32,
}

/// What a plan says of those that found a node.
fn placements(
    chosen: &[(usize, Choice)],
    pending: &[Pending],
    snapshot: &Snapshot,
) -> Vec<Placement> {
    let mut placed = Vec::with_capacity(chosen.len());
    let mut names: Vec<SmolStr> = Vec::new();
    for some in chosen.chunks(LOOKED_UP_TOGETHER) {
        // In a loop of their own, so that the look-ups do not wait for one another.
        names.extend(
            some.iter()
                .map(|(_, choice)| snapshot.name(choice.node).clone()),
        );
        placed.extend(
            some.iter()
                .zip(names.drain(..))
                .map(|((at, choice), node)| Placement {
                    pending: *at,
                    pod: pending[*at].id.clone(),
                    node,
                    devices: choice.devices,
                    score: choice.score,
                }),
        );
    }
    placed
}

/// One plan in the making.
struct Run<'a> {
    profile: &'a Profile,
    unshared: bool,
    /// What earlier plans learned; `None` if it must not be used.
    memory: Option<&'a mut Memory>,
    groups: Groups<'a>,
    now: Timestamp,
    salt: u64,
    faults: &'a Faults,
    ledger: Ledger,
    /// The last placement, which the ledger does not hold yet: after the last of all nobody asks.
    owed: Option<(NodeIx, &'a Arc<Demand>, DeviceSet)>,
    /// The last room that is held, likewise.
    owed_room: Option<(NodeIx, Arc<Demand>)>,
    /// The rows that placements changed, in order.
    log: Vec<NodeIx>,
    books: Books,
    /// By group.
    sweeps: Vec<Option<Box<Sweep>>>,
    /// The groups whose sweeps are kept, least recently used first.
    lately: Vec<usize>,
    /// Which pod it is the turn of.
    place: usize,
    /// By group: when it is the last one's turn.
    last: Vec<usize>,
    /// Where room can be made, once that was asked.
    room: Option<Search>,
    /// The ledger without the room that it holds for pods that are not placed, once it holds any.
    bare: Option<Ledger>,
    /// Where the next one that is placed does not go.
    avoid: Vec<NodeIx>,
    /// For how many pods that were passed too often room is kept.
    holds: usize,
    /// Whether a gang keeps room that it does not fill.
    gang_holds: bool,
}

impl<'a> Run<'a> {
    fn open(&mut self) {
        let snapshot = self.ledger.snapshot();
        self.books = Books::open(&self.profile.reserves, snapshot);
        self.sweeps.resize_with(self.groups.len(), || None);
    }

    /// Puts the last placement and the last room into the ledger.
    fn settle(&mut self) {
        self.settle_room();
        self.settle_placement();
    }

    fn settle_placement(&mut self) {
        if let Some((node, demand, devices)) = self.owed.take() {
            self.ledger.charge_devices(node, demand, devices);
            if let Some(bare) = &mut self.bare {
                bare.charge_devices(node, demand, devices);
            }
            self.log.push(node);
        }
    }

    /// Chooses a node, and takes from it what the pod asks: `demand`, which is the pod's or equal to it.
    /// `to_come` others of its group will ask after it.
    fn place(
        &mut self,
        pod: &'a Pending,
        demand: &'a Arc<Demand>,
        group: usize,
        to_come: usize,
    ) -> Result<Choice, Vec<(NodeIx, Obstacle)>> {
        self.settle();
        // Always the same of those that share their answers, so that plugins find what they know of
        // it at once.
        let first = self.groups.first(group).0;
        let own = Cycle::new(&self.ledger, pod, self.now);
        let ask = Ask {
            profile: self.profile,
            cycle: Cycle::new(&self.ledger, first, self.now),
            salt: self.salt,
            faults: self.faults,
            cleverly: !self.unshared,
        };
        let mut repeats = to_come > 0 && !self.unshared;
        let mut sweep = match (self.sweeps[group].take(), self.memory.as_deref_mut()) {
            (Some(mut sweep), _) => {
                sweep.sync(&ask, &self.log);
                sweep
            }
            (None, Some(memory)) => {
                let (_, fingerprint) = self.groups.first(group);
                repeats |= memory.is_back(fingerprint);
                let known = memory.take(&ask, fingerprint);
                known.map_or_else(
                    || Box::new(Sweep::new(&ask, self.log.len())),
                    |mut sweep| {
                        sweep.synced = 0;
                        sweep.sync(&ask, &self.log);
                        sweep
                    },
                )
            }
            (None, None) => Box::new(Sweep::new(&ask, self.log.len())),
        };
        repeats |= sweep.is_prepared();
        if repeats {
            // Others go to the best nodes meanwhile.
            sweep.prepare(&ask, self.last[group].saturating_sub(self.place));
        }
        let mut refusals = Vec::new();
        let avoid = std::mem::take(&mut self.avoid);
        let mut excluded: Vec<(NodeIx, u64)> = avoid
            .iter()
            .map(|&node| (node, sweep.exclude(&ask, node)))
            .collect();
        // A node on which room was made for the pod comes before better ones.
        let nominated = pod.nominated.as_deref();
        let mut nominated = nominated.and_then(|name| ask.cycle.snapshot().find(name));
        let chosen = loop {
            let first = nominated.take().and_then(|node| sweep.at(&ask, node));
            let best = first.or_else(|| {
                let sketch = match self.memory.as_deref_mut() {
                    Some(memory) if !repeats => Some(memory.sketch(&self.ledger, &self.log)),
                    _ => None,
                };
                let bounded = sketch.and_then(|sketch| sweep.best_by(&ask, sketch));
                bounded.unwrap_or_else(|| sweep.best(&ask))
            });
            let Some((node, score)) = best else {
                break None;
            };
            let alone = self.stands_alone(pod, node);
            match alone.and_then(|()| self.books.reserve(self.faults, &own, node)) {
                Ok(()) => break Some((node, score)),
                Err(obstacle) => {
                    refusals.push((node, obstacle));
                    excluded.push((node, sweep.exclude(&ask, node)));
                }
            }
        };
        for (node, key) in excluded {
            sweep.readmit(node, key);
        }
        let chosen = chosen.map(|(node, score)| Choice {
            group: group as u32,
            node,
            devices: self.profile.choose_devices(&own, demand, self.faults, node),
            score,
        });
        // Where it goes, others will follow, each to the next best.
        if let Some(choice) = &chosen
            && to_come > 0
            && !self.ledger.is_at_hand(choice.node)
        {
            let coming = sweep.coming(LOOKED_UP_TOGETHER.min(to_come));
            self.ledger.fetch(coming);
        }
        if repeats {
            self.keep(group, sweep);
        }
        let Some(choice) = chosen else {
            return Err(refusals);
        };
        if let Some(room) = &mut self.room {
            room.placed(choice.node, demand, choice.devices);
        }
        self.owed = Some((choice.node, demand, choice.devices));
        Ok(choice)
    }

    fn keep(&mut self, group: usize, sweep: Box<Sweep>) {
        self.sweeps[group] = Some(sweep);
        if self.lately.last() == Some(&group) {
            return;
        }
        self.lately.retain(|&other| other != group);
        if self.lately.len() == SWEEPS_KEPT_MAX {
            let oldest = self.lately.remove(0);
            self.sweeps[oldest] = None;
        }
        self.lately.push(group);
    }

    /// Leaves what was learned to the next plan.
    fn remember(mut self) {
        let Some(memory) = self.memory else { return };
        if !self.faults.is_empty() {
            // What a plugin that panicked said is not to be relied on, and is to be reported again.
            memory.clear();
            return;
        }
        let snapshot = self.ledger.snapshot();
        for &group in &self.lately {
            if let Some(sweep) = self.sweeps[group].take() {
                let (pod, fingerprint) = self.groups.first(group);
                memory.keep(pod, fingerprint, self.now, snapshot, &self.log, sweep);
            }
        }
        if let Some(room) = self.room.take() {
            memory.keep_room(room.keep());
        }
        memory.keep_counts(self.ledger);
    }
}
