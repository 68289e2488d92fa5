//! The columns that pods change, with one plan's changes on top of a snapshot's.

use std::sync::{Arc, OnceLock};

use super::NodeIx;
use super::columns::{Capacity, Line, Load, Rows};
use super::demand::Demand;
use super::devices::Devices;

/// A snapshot's columns in which few rows changed: those are kept beside it, so that a plan pays for the
/// rows that it touches and not for the cluster's size, and each of them lies in one place. Who asks for whole columns after a change gets
/// a copy of all, which is what is changed from then on.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    capacity: Arc<Capacity>,
    below: Arc<Load>,
    /// By row: its place in `changed`, counted from 1; 0 if it is as below. Empty before the first
    /// change.
    places: Vec<u32>,
    changed: Vec<Line>,
    /// Once it was asked for after a change: then it holds, and the above no longer.
    whole: OnceLock<Box<Load>>,
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
            whole: OnceLock::new(),
            devices: Arc::clone(&below.devices),
        }
    }

    /// All rows. After changes the first call copies the columns.
    pub(crate) fn rows(&self) -> Rows<'_> {
        let load = if self.changed.is_empty() {
            &self.below
        } else {
            &**self.whole.get_or_init(|| Box::new(self.flatten()))
        };
        Rows::all(&self.capacity, load, &self.devices)
    }

    /// One row.
    #[inline]
    pub(crate) fn row(&self, node: NodeIx) -> Rows<'_> {
        if let Some(whole) = self.whole.get() {
            return Rows::one(&self.capacity, whole, &self.devices, node);
        }
        match self.places.get(node.row()) {
            Some(&place) if place > 0 => {
                Rows::of_line(&self.changed[place as usize - 1], &self.devices, node)
            }
            _ => Rows::one(&self.capacity, &self.below, &self.devices, node),
        }
    }

    /// What is free on one node: thousandths of a core, bytes of memory and of ephemeral storage, and
    /// how many more pods may run.
    #[inline]
    pub(crate) fn free(&self, node: NodeIx) -> [i64; 4] {
        if let Some(whole) = self.whole.get() {
            return whole.free(node.row());
        }
        match self.places.get(node.row()) {
            Some(&place) if place > 0 => self.changed[place as usize - 1].free(),
            _ => self.below.free(node.row()),
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

    fn line_mut(&mut self, node: NodeIx) -> &mut Line {
        if self.places.is_empty() {
            self.places = vec![0; self.below.len()];
        }
        let place = &mut self.places[node.row()];
        if *place == 0 {
            let line = Line::of(&self.capacity, &self.below, node.row());
            self.changed.push(line);
            *place = self.changed.len() as u32;
        }
        &mut self.changed[*place as usize - 1]
    }

    fn flatten(&self) -> Load {
        let mut load = Load::clone(&self.below);
        for (row, &place) in self.places.iter().enumerate() {
            if place > 0 {
                load.set(row, &self.changed[place as usize - 1]);
            }
        }
        load
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
        #![proptest_config(ProptestConfig::with_cases(128))]
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
                    2 | 3 => {
                        plain.refund(row, &demand);
                        layers.iter_mut().for_each(|layer| layer.refund(node, &demand));
                    }
                    _ => {
                        plain.charge(row, &demand);
                        layers.iter_mut().for_each(|layer| layer.charge(node, &demand));
                    }
                }
                let wanted = Rows::all(&capacity, &plain, &plain.devices);
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
            let wanted = Rows::all(&capacity, &plain, &plain.devices);
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
