//! Start and stop waves from dependencies.
//!
//! What needs nothing starts first; the rest starts once all it needs is ready. Stopping goes the
//! other way round. A cycle is an error that names its path.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use smol_str::SmolStr;

/// One thing to start, and what must be ready before it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unit {
    /// Its name, unique among the units ordered together.
    pub name: SmolStr,
    /// The names of the units it needs. Naming one twice is the same as once.
    pub needs: Vec<SmolStr>,
}

impl Unit {
    /// A unit that needs the others named.
    pub fn new<N: Into<SmolStr>>(
        name: impl Into<SmolStr>,
        needs: impl IntoIterator<Item = N>,
    ) -> Self {
        Self {
            name: name.into(),
            needs: needs.into_iter().map(Into::into).collect(),
        }
    }
}

/// The order in which units start and stop.
///
/// ```
/// use orchestra_sched::order::{Order, Unit};
///
/// let order = Order::of(&[
///     Unit::new("web", ["api", "cache"]),
///     Unit::new("api", ["db"]),
///     Unit::new("cache", [""; 0]),
///     Unit::new("db", [""; 0]),
/// ])?;
/// assert_eq!(order.start_waves(), [vec!["cache", "db"], vec!["api"], vec!["web"]]);
/// assert_eq!(order.stop_waves().next().unwrap(), ["web"]);
/// # Ok::<(), orchestra_sched::order::OrderError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Order {
    waves: Vec<Vec<SmolStr>>,
    needed_by: BTreeMap<SmolStr, Vec<SmolStr>>,
}

impl Order {
    /// Orders the units. The result does not depend on the order in which they are given.
    ///
    /// # Errors
    ///
    /// A name given twice, a need nobody answers, or a cycle; the first found, in that order.
    pub fn of(units: &[Unit]) -> Result<Self, OrderError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = units.iter().find(|unit| !names.insert(&unit.name)) {
            return Err(OrderError::Duplicate {
                name: twice.name.clone(),
            });
        }
        // Sorted names make the graph's order, and so every answer, independent of the input's.
        let names: Vec<&SmolStr> = names.into_iter().collect();
        let number = |name: &SmolStr| names.binary_search(&name).ok();
        let mut graph = DiGraphMap::<usize, ()>::with_capacity(units.len(), units.len());
        for n in 0..names.len() {
            graph.add_node(n);
        }
        let mut sorted: Vec<&Unit> = units.iter().collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for (to, unit) in sorted.iter().enumerate() {
            for need in &unit.needs {
                let Some(from) = number(need) else {
                    return Err(OrderError::Unknown {
                        name: unit.name.clone(),
                        needs: need.clone(),
                    });
                };
                graph.add_edge(from, to, ());
            }
        }
        if let Some(path) = shortest_cycle(&graph) {
            let path = path.into_iter().map(|n| names[n].clone()).collect();
            return Err(OrderError::Cycle { path });
        }
        let name_of = |n: usize| names[n].clone();
        let needed_by = (0..names.len())
            .map(|n| {
                let mut dependents: Vec<SmolStr> = graph.neighbors(n).map(name_of).collect();
                dependents.sort();
                (name_of(n), dependents)
            })
            .collect();
        let waves = waves(&graph)
            .into_iter()
            .map(|w| w.into_iter().map(name_of).collect());
        Ok(Self {
            waves: waves.collect(),
            needed_by,
        })
    }

    /// The waves in starting order, names sorted within each. All that a unit needs stands in
    /// earlier waves, and each unit stands in the earliest wave it can.
    pub fn start_waves(&self) -> &[Vec<SmolStr>] {
        &self.waves
    }

    /// The waves in stopping order: the starting order reversed.
    pub fn stop_waves(&self) -> impl Iterator<Item = &[SmolStr]> {
        self.waves.iter().rev().map(Vec::as_slice)
    }

    /// Which units need this one directly, sorted: they stop before it. Empty for an unknown
    /// name.
    pub fn needed_by(&self, name: &str) -> &[SmolStr] {
        self.needed_by.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Units cannot be ordered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Two units share a name.
    #[error("{name:?} is there twice; give each unit a name of its own")]
    Duplicate {
        /// The name.
        name: SmolStr,
    },
    /// A unit needs one that is not there.
    #[error("{name:?} needs {needs:?}, which is not there; add it, or drop the need")]
    Unknown {
        /// Who needs it.
        name: SmolStr,
        /// What is missing.
        needs: SmolStr,
    },
    /// Units wait for each other.
    #[error(
        "{} wait for each other for ever; drop one of these needs",
        Arrows(path)
    )]
    Cycle {
        /// Each unit needs the next and the last needs the first. A shortest cycle, starting
        /// with its least name.
        path: Vec<SmolStr>,
    },
}

struct Arrows<'a>(&'a [SmolStr]);

impl std::fmt::Display for Arrows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for name in self.0 {
            write!(f, "{name} -> ")?;
        }
        f.write_str(self.0.first().map_or("", SmolStr::as_str))
    }
}

/// Peels off, again and again, all nodes that nothing unpeeled leads to. The graph has no cycle.
fn waves(graph: &DiGraphMap<usize, ()>) -> Vec<Vec<usize>> {
    let mut waits_for: Vec<usize> = (0..graph.node_count())
        .map(|n| graph.neighbors_directed(n, Direction::Incoming).count())
        .collect();
    let mut wave: Vec<usize> = (0..waits_for.len())
        .filter(|&n| waits_for[n] == 0)
        .collect();
    let mut waves = Vec::new();
    while !wave.is_empty() {
        let mut next = Vec::new();
        for &done in &wave {
            for n in graph.neighbors(done) {
                waits_for[n] -= 1;
                if waits_for[n] == 0 {
                    next.push(n);
                }
            }
        }
        next.sort_unstable();
        waves.push(std::mem::replace(&mut wave, next));
    }
    waves
}

/// A shortest cycle through the least node that is on any, each node followed by one it needs.
fn shortest_cycle(graph: &DiGraphMap<usize, ()>) -> Option<Vec<usize>> {
    let on_cycles: BTreeSet<usize> = tarjan_scc(graph)
        .into_iter()
        .filter(|part| part.len() > 1 || graph.contains_edge(part[0], part[0]))
        .flatten()
        .collect();
    let start = *on_cycles.first()?;
    // Breadth first against the edges, which is along the needs, until `start` comes up again.
    let mut came_from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(n) = queue.pop_front() {
        let mut needs: Vec<usize> = graph.neighbors_directed(n, Direction::Incoming).collect();
        needs.sort_unstable();
        for need in needs {
            if need == start {
                let mut path = vec![n];
                let mut at = n;
                while at != start {
                    at = came_from[&at];
                    path.push(at);
                }
                path.reverse();
                return Some(path);
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(need) {
                entry.insert(n);
                queue.push_back(need);
            }
        }
    }
    None // unreachable: `start` is on a cycle
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(name: &str, needs: &[&str]) -> Unit {
        Unit::new(name, needs.iter().copied())
    }

    #[test]
    fn a_cycle_names_its_shortest_path() {
        let units = [
            unit("a", &["b"]),
            unit("b", &["c", "d"]),
            unit("c", &["e"]),
            unit("d", &["b"]),
            unit("e", &["b"]),
        ];
        let error = Order::of(&units).unwrap_err();
        assert_eq!(
            error,
            OrderError::Cycle {
                path: vec!["b".into(), "d".into()]
            }
        );
        assert_eq!(
            error.to_string(),
            "b -> d -> b wait for each other for ever; drop one of these needs"
        );
    }

    #[test]
    fn needing_oneself_is_a_cycle() {
        let error = Order::of(&[unit("a", &["a"])]).unwrap_err();
        assert_eq!(
            error,
            OrderError::Cycle {
                path: vec!["a".into()]
            }
        );
    }

    #[test]
    fn unknown_and_duplicate_names_are_named() {
        assert_eq!(
            Order::of(&[unit("a", &["z"])]).unwrap_err().to_string(),
            "\"a\" needs \"z\", which is not there; add it, or drop the need"
        );
        assert_eq!(
            Order::of(&[unit("a", &[]), unit("a", &["z"])])
                .unwrap_err()
                .to_string(),
            "\"a\" is there twice; give each unit a name of its own"
        );
    }

    #[test]
    fn nothing_is_ordered_into_nothing() {
        let order = Order::of(&[]).unwrap();
        assert!(order.start_waves().is_empty());
        assert!(order.needed_by("a").is_empty());
    }

    proptest! {
        #[test]
        fn needs_come_earlier_and_waves_are_as_early_as_can_be(
            edges in proptest::collection::vec((0_usize..12, 0_usize..12), 0..40),
            shift in 0_usize..12,
        ) {
            let mut units: Vec<Unit> = (0..12)
                .map(|n| {
                    let needs =
                        edges.iter().filter(|(a, b)| *a == n && *b < n).map(|(_, b)| b.to_string());
                    Unit::new(n.to_string(), needs)
                })
                .collect();
            let order = Order::of(&units).unwrap();
            let wave_of = |name: &SmolStr| {
                order.start_waves().iter().position(|wave| wave.contains(name)).unwrap()
            };
            for unit in &units {
                let earliest = unit.needs.iter().map(|n| wave_of(n) + 1).max().unwrap_or(0);
                prop_assert_eq!(wave_of(&unit.name), earliest);
                for need in &unit.needs {
                    prop_assert!(order.needed_by(need).contains(&unit.name));
                }
            }
            prop_assert_eq!(order.start_waves().iter().map(Vec::len).sum::<usize>(), 12);
            units.rotate_left(shift);
            prop_assert_eq!(Order::of(&units).unwrap(), order);
        }

        #[test]
        fn a_reported_cycle_is_one(
            edges in proptest::collection::vec((0_usize..8, 0_usize..8), 0..24),
        ) {
            let units: Vec<Unit> = (0..8)
                .map(|n| {
                    let needs = edges.iter().filter(|(a, _)| *a == n).map(|(_, b)| b.to_string());
                    Unit::new(n.to_string(), needs)
                })
                .collect();
            if let Err(OrderError::Cycle { path }) = Order::of(&units) {
                for (n, name) in path.iter().enumerate() {
                    let next = &path[(n + 1) % path.len()];
                    let unit = units.iter().find(|unit| unit.name == *name).unwrap();
                    prop_assert!(unit.needs.contains(next), "{path:?}");
                }
            }
        }
    }
}
