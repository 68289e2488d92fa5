//! The columns in rough, four bytes a number: enough to tell which rows cannot win.
//!
//! A shape of pod that nobody has seen has to look at every node. Most of them cannot win, and
//! rough numbers show it: for each row an upper bound of its weighted score, close enough that few
//! rows have to be asked exactly. Only bounds are computed here; what is decided is decided by
//! the exact rules, in integers.

use super::kernel::{Asked, Rough};
use crate::snapshot::{Ledger, Mark, NodeIx, Rows, Snapshot};

/// More than all rounding of this file taken together, in percent: shares are at most 100 and are
/// the outcome of at most five operations, each wrong by less than 1 part in 2^23.
const SLACK: f32 = 1.0 / 1_024.0;

/// The bound of a row that cannot run the pod.
const OUT: f32 = -1.0;

/// 1.5 times 2^23. From 2^23 to 2^24 there are only whole numbers: a small number added to it is
/// rounded to the nearest.
const WHOLE: f32 = 12_582_912.0;

/// Rows computed together. Columns are as long as so many rows more as make whole chunks.
const LANES: usize = 8;

/// Rough columns, kept up to date with a cluster, and the bounds for one pod.
#[derive(Debug)]
pub(super) struct Sketch {
    /// The snapshot it is as of,
    mark: Mark,
    /// but for these rows, which hold placements of a plan.
    but: Vec<NodeIx>,
    /// How many placements of the plan in the making are in.
    synced: usize,
    cpu: Shares,
    memory: Shares,
    /// 0 where one more pod may run and far below it elsewhere; without bounds where the node has
    /// no CPU or no memory, which rules pass over.
    room: Vec<f32>,
    bounds: Vec<f32>,
}

/// One resource, in percent of what there is.
#[derive(Debug, Default)]
struct Shares {
    /// Not scored.
    spare: Vec<f32>,
    /// Requested.
    used: Vec<f32>,
    /// What one unit is.
    unit: Vec<f32>,
}

impl Shares {
    fn resize(&mut self, rows: usize) {
        for column in [&mut self.spare, &mut self.used, &mut self.unit] {
            column.resize(rows, 0.0);
        }
    }

    fn set(&mut self, row: usize, total: i64, free: i64, scored: i64) {
        let percent = |part: i64| (100.0 * part as f64 / total as f64) as f32;
        (self.spare[row], self.used[row], self.unit[row]) = if total > 0 {
            let used = total.wrapping_sub(free);
            let spare = total.wrapping_sub(scored);
            (percent(spare), percent(used), percent(1))
        } else {
            (100.0, 0.0, 0.0)
        };
    }
}

impl Sketch {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut sketch = Self {
            mark: snapshot.history().mark(),
            but: Vec::new(),
            synced: 0,
            cpu: Shares::default(),
            memory: Shares::default(),
            room: Vec::new(),
            bounds: Vec::new(),
        };
        sketch.redraw(&snapshot.rows());
        sketch
    }

    /// Follows the cluster to `snapshot`, at the beginning of a plan.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let (rows, history) = (snapshot.rows(), snapshot.history());
        let few = |count: usize| count <= rows.len() / 2;
        let mark = std::mem::replace(&mut self.mark, history.mark());
        let but = std::mem::take(&mut self.but);
        match history.since(&mark) {
            Some(changed) if history.count_since(&mark).is_some_and(few) => {
                self.resize(rows.len());
                for node in changed.chain(but) {
                    self.draw(&rows, node.row());
                }
            }
            _ => self.redraw(&rows),
        }
        self.synced = 0;
    }

    /// Brings in the placements of the plan in the making.
    pub(super) fn sync(&mut self, ledger: &Ledger, log: &[NodeIx]) {
        for node in &log[self.synced..] {
            self.draw(&ledger.row(*node), 0);
            self.but.push(*node);
        }
        self.synced = log.len();
    }

    fn redraw(&mut self, rows: &Rows<'_>) {
        self.resize(rows.len());
        for row in 0..rows.len() {
            self.draw(rows, row);
        }
    }

    fn resize(&mut self, rows: usize) {
        let padded = rows.next_multiple_of(LANES);
        self.cpu.resize(padded);
        self.memory.resize(padded);
        self.room.resize(padded, 0.0);
        self.room[rows..].fill(f32::NEG_INFINITY);
        self.bounds.resize(padded, 0.0);
    }

    /// Row `i` of `rows`.
    fn draw(&mut self, rows: &Rows<'_>, i: usize) {
        if i >= rows.len() {
            return;
        }
        let row = rows.node(i).row();
        let (cpu, memory) = (&mut self.cpu, &mut self.memory);
        cpu.set(row, rows.cpu_total[i], rows.cpu_free[i], rows.cpu_scored[i]);
        memory.set(
            row,
            rows.memory_total[i],
            rows.memory_free[i],
            rows.memory_scored[i],
        );
        self.room[row] = if rows.pods_free[i] < 1 {
            f32::NEG_INFINITY
        } else if rows.cpu_total[i] <= 0 || rows.memory_total[i] <= 0 {
            f32::INFINITY
        } else {
            0.0
        };
    }

    /// For each row a bound that its weighted score does not exceed, if it fits; below 0 where it
    /// does not. Whole numbers, or infinity. The largest of them comes first.
    pub(super) fn bounds(&mut self, asked: &Asked, rough: Rough) -> (f32, &mut [f32]) {
        // Who asks nothing always gets it.
        let limit = |asked: i64| {
            if asked > 0 {
                100.0 + SLACK
            } else {
                f32::INFINITY
            }
        };
        let (cpu_limit, memory_limit) = (limit(asked.cpu), limit(asked.memory));
        let [cpu, memory, cpu_scored, memory_scored] = [
            asked.cpu,
            asked.memory,
            asked.cpu_scored,
            asked.memory_scored,
        ]
        .map(|a| a as f32);
        let Rough {
            least,
            most,
            balanced,
        } = rough;
        let chunks = |column: &'_ Vec<f32>| column.as_chunks::<LANES>().0.len();
        let n = chunks(&self.room);
        macro_rules! columns {
            ($($name:ident = $column:expr;)*) => { $(let $name = &$column.as_chunks::<LANES>().0[..n];)* };
        }
        columns! {
            cpu_spare = self.cpu.spare;
            cpu_used = self.cpu.used;
            cpu_unit = self.cpu.unit;
            memory_spare = self.memory.spare;
            memory_used = self.memory.used;
            memory_unit = self.memory.unit;
            room = self.room;
        }
        let bounds = &mut self.bounds.as_chunks_mut::<LANES>().0[..n];
        let mut top = [OUT; LANES];
        for c in 0..n {
            let mut some = [0.0; LANES];
            for l in 0..LANES {
                let cpu_left = cpu_spare[c][l] - cpu_scored * cpu_unit[c][l];
                let memory_left = memory_spare[c][l] - memory_scored * memory_unit[c][l];
                let free = mean(floor(above_zero(cpu_left)), floor(above_zero(memory_left)));
                // In use beyond what there is counts as 0, and 100 bounds that too.
                let full = mean(
                    floor(above_zero(100.0 - cpu_left)),
                    floor(above_zero(100.0 - memory_left)),
                );
                let cpu_share = cpu_used[c][l] + cpu * cpu_unit[c][l];
                let memory_share = memory_used[c][l] + memory * memory_unit[c][l];
                let apart =
                    below_hundred(above_zero(cpu_share)) - below_hundred(above_zero(memory_share));
                let even = floor(100.0 - 0.5 * apart.abs());
                let sum = room[c][l]
                    + least * free
                    + most * below_hundred(full)
                    + balanced * below_hundred(even);
                let fits = (cpu_share <= cpu_limit) & (memory_share <= memory_limit);
                some[l] = if fits & (sum >= 0.0) { sum } else { OUT };
            }
            bounds[c] = some;
            for l in 0..LANES {
                top[l] = if some[l] > top[l] { some[l] } else { top[l] };
            }
        }
        let top = top
            .into_iter()
            .fold(OUT, |top, one| if one > top { one } else { top });
        (top, &mut self.bounds)
    }
}

#[inline(always)]
fn above_zero(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

#[inline(always)]
fn below_hundred(x: f32) -> f32 {
    if x < 100.0 { x } else { 100.0 }
}

/// A whole number that is not below the floor of what `x`, from 0 to 2^21, stands for, and above it
/// only where that is within twice [`SLACK`] of the next.
#[inline(always)]
fn floor(x: f32) -> f32 {
    (x + (SLACK - 0.5) + WHOLE) - WHOLE
}

/// The mean of two whole numbers, rounded down.
#[inline(always)]
fn mean(a: f32, b: f32) -> f32 {
    (0.5 * (a + b) - 0.25 + WHOLE) - WHOLE
}
