//! The columns that pods change, with one plan's changes on top of a snapshot's.

use std::sync::{Arc, OnceLock};

use super::NodeIx;
use super::columns::{Capacity, Columns, Load, Rows};
use super::demand::Demand;
use super::devices::Devices;
use super::line::Line;

/// A snapshot's rows of which few changed: those are kept beside it, so that a plan pays for the rows
/// that it touches and not for the cluster's size. Who asks for whole columns after a change gets a copy of
/// all, which is what is changed from then on.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    capacity: Arc<Capacity>,
    below: Arc<Load>,
    /// By row: its place in `changed`, counted from 1; 0 if it is as below. Empty before the first
    /// change.
    places: Vec<u32>,
    changed: Vec<Line>,
    /// How many changes there will be, as far as that is known.
    expected: usize,
    /// Once it was asked for after a change: then it holds, and the above no longer.
    whole: OnceLock<Box<Columns>>,
    devices: Arc<Vec<Devices>>,
}

impl Layer {
    /// What pods leave of `capacity`, without a change.
    pub(crate) fn on(capacity: &Arc<Capacity>, below: &Arc<Load>) -> Self {
        Self {
            capacity: Arc::clone(capacity),
            below: Arc::clone(below),
            places: Vec::new(),
            changed: Vec::new(),
            expected: 0,
            whole: OnceLock::new(),
            devices: Arc::clone(&below.devices),
        }
    }

    /// So many changes will come.
    pub(crate) fn expect(&mut self, changes: usize) {
        self.expected = changes;
    }

    /// All rows. After changes the first call copies the columns.
    pub(crate) fn rows(&self) -> Rows<'_> {
        let columns = if self.changed.is_empty() {
            &self.below.columns
        } else {
            &**self.whole.get_or_init(|| Box::new(self.flatten()))
        };
        Rows::all(&self.capacity, columns, &self.devices)
    }

    /// One row.
    #[inline]
    pub(crate) fn row(&self, node: NodeIx) -> Rows<'_> {
        match self.whole.get() {
            Some(whole) => Rows::one(&self.capacity, whole, &self.devices, node),
            None => Rows::of_line(self.line(node), &self.devices, node),
        }
    }

    /// What is free on one node: thousandths of a core, bytes of memory and of ephemeral storage, and
    /// how many more pods may run.
    #[inline]
    pub(crate) fn free(&self, node: NodeIx) -> [i64; 4] {
        match self.whole.get() {
            Some(whole) => whole.free(node.row()),
            None => self.line(node).free(),
        }
    }

    #[inline]
    fn line(&self, node: NodeIx) -> &Line {
        match self.places.get(node.row()) {
            Some(&place) if place > 0 => &self.changed[place as usize - 1],
            _ => &self.below.lines[node.row()],
        }
    }

    /// The accelerators of all rows.
    pub(crate) fn devices(&self) -> &[Devices] {
        &self.devices
    }

    /// One row's accelerators, to be changed.
    pub(crate) fn devices_mut(&mut self, node: NodeIx) -> &mut Devices {
        &mut Arc::make_mut(&mut self.devices)[node.row()]
    }

    /// Takes what `demand` asks from a row.
    pub(crate) fn charge(&mut self, node: NodeIx, demand: &Demand) {
        match self.whole.get_mut() {
            Some(whole) => whole.charge(node.row(), demand),
            None => self.line_mut(node).charge(demand),
        }
    }

    /// Gives back what `demand` took from a row.
    pub(crate) fn refund(&mut self, node: NodeIx, demand: &Demand) {
        match self.whole.get_mut() {
            Some(whole) => whole.refund(node.row(), demand),
            None => self.line_mut(node).refund(demand),
        }
    }

    /// Whether a change of a row finds it at hand, as far as rows can be laid there.
    pub(crate) fn is_at_hand(&self, node: NodeIx) -> bool {
        let is_changed = |&place: &u32| place > 0;
        self.whole.get().is_some() || self.places.get(node.row()).is_some_and(is_changed)
    }

    /// Lays rows that will be changed soon at hand. Far from any cache as they are, they are looked up much
    /// sooner together than one after the other.
    pub(crate) fn fetch(&mut self, nodes: impl Iterator<Item = NodeIx>) {
        if self.whole.get().is_some() {
            return;
        }
        let rows: Vec<usize> = nodes.map(NodeIx::row).collect();
        let places = self.places_mut();
        let fresh: Vec<usize> = rows.into_iter().filter(|&row| places[row] == 0).collect();
        let mut place = self.changed.len() as u32;
        let lines = &self.below.lines;
        self.changed.extend(fresh.iter().map(|&row| lines[row]));
        for row in fresh {
            place += 1;
            self.places[row] = place;
        }
    }

    fn places_mut(&mut self) -> &mut [u32] {
        if self.places.is_empty() {
            let rows = self.below.len();
            self.places = vec![0; rows];
            self.changed.reserve(self.expected.min(rows));
        }
        &mut self.places
    }

    #[inline]
    fn line_mut(&mut self, node: NodeIx) -> &mut Line {
        let mut place = self.places_mut()[node.row()];
        if place == 0 {
            self.changed.push(self.below.lines[node.row()]);
            place = self.changed.len() as u32;
            self.places[node.row()] = place;
        }
        &mut self.changed[place as usize - 1]
    }

    fn flatten(&self) -> Columns {
        let mut columns = Columns::clone(&self.below.columns);
        for (row, &place) in self.places.iter().enumerate() {
            if place > 0 {
                columns.set(row, &self.changed[place as usize - 1]);
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::demand::Scored;
    use crate::snapshot::{Amounts, NodeFacts};
    use proptest::prelude::*;

    fn demand(amount: i64) -> Demand {
        let requests = Amounts {
            cpu_milli: amount,
            memory: 3 * amount,
            storage: amount / 2,
            ..Amounts::default()
        };
        let scored = Scored {
            cpu_milli: amount,
            memory: 5 * amount,
        };
        Demand {
            requests,
            scored,
            ..Demand::default()
        }
    }

    fn text(rows: Rows<'_>, i: usize) -> String {
        let of = |column: &[i64]| column[i];
        format!(
            "{:?} {:?}",
            rows.node(i),
            [
                rows.cpu_free,
                rows.memory_free,
                rows.storage_free,
                rows.pods_free,
                rows.cpu_scored,
                rows.memory_scored,
                rows.cpu_total,
            ]
            .map(of)
        )
    }

    proptest! {
        #[test]
        fn a_layer_shows_what_plain_columns_show(
            nodes in 1usize..12,
            steps in proptest::collection::vec((0usize..12, 0i64..50, 0u8..8), 0..60),
        ) {
            let (mut capacity, mut plain) = (Capacity::default(), Load::default());
            for n in 0..nodes {
                let facts = NodeFacts { pods: 10 + n as i64, ..NodeFacts::default() };
                capacity.push(&facts);
                plain.push(&facts);
            }
            let (capacity, before) = (Arc::new(capacity), Arc::new(plain.clone()));
            let mut layers = vec![Layer::on(&capacity, &before)];
            for (row, amount, what) in steps {
                let (row, demand) = (row % nodes, demand(amount));
                let node = NodeIx::from_row(row);
                match what {
                    // A look at all, here and there.
                    0 => { layers[0].rows(); }
                    1 => layers.push(layers[0].clone()),
                    4 => {
                        let several = || (row..nodes).map(NodeIx::from_row);
                        layers.iter_mut().for_each(|layer| layer.fetch(several()));
                        prop_assert!(layers[0].is_at_hand(node));
                    }
                    2 | 3 => {
                        plain.refund(row, &demand);
                        layers.iter_mut().for_each(|layer| layer.refund(node, &demand));
                    }
                    _ => {
                        plain.charge(row, &demand);
                        layers.iter_mut().for_each(|layer| layer.charge(node, &demand));
                    }
                }
                let wanted = Rows::all(&capacity, &plain.columns, &plain.devices);
                for layer in &layers {
                    for row in 0..nodes {
                        let one = layer.row(NodeIx::from_row(row));
                        let [cpu, memory, storage, pods] = layer.free(NodeIx::from_row(row));
                        prop_assert_eq!([cpu, memory], [one.cpu_free[0], one.memory_free[0]]);
                        prop_assert_eq!([storage, pods], [one.storage_free[0], one.pods_free[0]]);
                        prop_assert_eq!(text(one, 0), text(wanted, row));
                    }
                }
            }
            let wanted = Rows::all(&capacity, &plain.columns, &plain.devices);
            for layer in &layers {
                let all = layer.rows();
                for row in 0..nodes {
                    prop_assert_eq!(text(all, row), text(wanted, row));
                }
            }
            let untouched = Layer::on(&capacity, &before);
            prop_assert_eq!(untouched.rows().pods_free[0], 10);
        }
    }
}
