//! Traces in the columns of openb, Alibaba's production cluster of 2023.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orchestra_core::kind::accelerator::{AcceleratorAsk, DEVICES_MAX, DeviceSet, WHOLE_MILLI};
use smol_str::SmolStr;

use super::csv::{CsvError, Table};
use crate::place::packing::Workload;
use crate::snapshot::{AMOUNT_MAX, Amounts, Demand, NodeFacts, Scored};

/// The most MiB of memory that a table may say.
const MEMORY_MIB_MAX: i64 = AMOUNT_MAX >> 20;

/// A cluster, and pods in the order in which they come.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The nodes.
    pub nodes: Vec<NodeFacts>,
    /// The pods, first come first.
    pub pods: Vec<TracePod>,
    /// What kinds of pod are to be expected; empty where nothing is known.
    pub workload: Workload,
    /// Among nodes of equal score the lowest rank wins; of those without a rank, whatever the seed
    /// says.
    pub ranks: BTreeMap<SmolStr, u32>,
}

/// A pod of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TracePod {
    /// Its name.
    pub name: SmolStr,
    /// What it asks.
    pub demand: Arc<Demand>,
}

impl Trace {
    /// What [`CsvError::table`] says of the table of nodes.
    pub const NODES: &'static str = "nodes";

    /// Reads a trace. `nodes` has the columns `sn` (or `name`), `cpu_milli`, `memory_mib`, `gpu` and
    /// `model`; `pods` has `name`, `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (of each) and
    /// perhaps `gpu_spec`, the models that will do, separated by `|`. Of the workload nothing is known;
    /// see [`with_workload`](Self::with_workload).
    ///
    /// # Errors
    ///
    /// What is wrong with the first row that cannot be read, with its line and column.
    pub fn openb(nodes: &str, pods: &str) -> Result<Self, CsvError> {
        let nodes = read_nodes(nodes)?;
        let pods = read_pods("pods", pods)?;
        Ok(Self {
            nodes,
            workload: Workload::default(),
            pods,
            ranks: BTreeMap::new(),
        })
    }

    /// With a workload such as that of other pods, in the columns of `pods`.
    ///
    /// # Errors
    ///
    /// As [`openb`](Self::openb).
    pub fn with_workload(mut self, pods: &str) -> Result<Self, CsvError> {
        let pods = read_pods("workload", pods)?;
        self.workload = Workload::of(pods.iter().map(|pod| &*pod.demand));
        Ok(self)
    }

    /// With ranks that settle ties, from the columns `sn` (or `name`) and `tie_rank`.
    ///
    /// # Errors
    ///
    /// As [`openb`](Self::openb), and where a node is not known.
    pub fn with_ranks(mut self, ranks: &str) -> Result<Self, CsvError> {
        let table = Table::read("tie ranks", ranks)?;
        let name = table.column(&["sn", "name"])?;
        let rank = table.column(&["tie_rank"])?;
        let known: BTreeSet<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        for row in table.rows() {
            if !known.contains(row.text(name)) {
                return Err(row.wrong(name, "is no node of this trace"));
            }
            let rank = row.number(rank, u32::MAX.into())? as u32;
            self.ranks.insert(row.text(name).into(), rank);
        }
        Ok(self)
    }

    /// The workload or, where nothing is known, that of the pods themselves: what fragments are measured by.
    /// A policy that is told it knows what nobody could.
    pub fn mix(&self) -> Workload {
        match self.workload.pods() {
            0 => Workload::of(self.pods.iter().map(|pod| &*pod.demand)),
            _ => self.workload.clone(),
        }
    }

    /// Thousandths of devices there are.
    pub fn device_milli(&self) -> i64 {
        let devices: usize = self.nodes.iter().map(|node| node.devices).sum();
        devices as i64 * i64::from(WHOLE_MILLI)
    }
}

fn read_nodes(text: &str) -> Result<Vec<NodeFacts>, CsvError> {
    let table = Table::read(Trace::NODES, text)?;
    let name = table.column(&["sn", "name"])?;
    let cpu = table.column(&["cpu_milli"])?;
    let memory = table.column(&["memory_mib"])?;
    let devices = table.column(&["gpu"])?;
    let model = table.find(&["model"]);
    let mut seen = BTreeSet::new();
    let rows = table.rows().map(|row| {
        if row.text(name).is_empty() || !seen.insert(row.text(name)) {
            return Err(row.wrong(name, "is no name of its own; name each node once"));
        }
        Ok(NodeFacts {
            name: row.text(name).into(),
            allocatable: Amounts {
                cpu_milli: row.number(cpu, AMOUNT_MAX)?,
                memory: row.number(memory, MEMORY_MIB_MAX)? << 20,
                ..Amounts::default()
            },
            // The trace knows no such limit.
            pods: AMOUNT_MAX,
            devices: row.number(devices, DEVICES_MAX as i64)? as usize,
            model: model
                .map(|model| row.text(model).into())
                .unwrap_or_default(),
            ..NodeFacts::default()
        })
    });
    rows.collect()
}

fn read_pods(table: &'static str, text: &str) -> Result<Vec<TracePod>, CsvError> {
    let table = Table::read(table, text)?;
    let name = table.column(&["name"])?;
    let cpu = table.column(&["cpu_milli"])?;
    let memory = table.column(&["memory_mib"])?;
    let count = table.column(&["num_gpu"])?;
    let milli = table.column(&["gpu_milli"])?;
    let models = table.find(&["gpu_spec"]);
    let mut seen = BTreeSet::new();
    // Like pods share what they ask.
    let mut known: BTreeMap<(i64, i64, i64, i64, &str), Arc<Demand>> = BTreeMap::new();
    let rows = table.rows().map(|row| {
        if row.text(name).is_empty() || !seen.insert(row.text(name)) {
            return Err(row.wrong(name, "is no name of its own; name each pod once"));
        }
        let count = row.number(count, i64::from(u32::MAX))?;
        let share = if count > 0 {
            let share = row.number(milli, WHOLE_MILLI.into())?;
            if share == 0 {
                return Err(row.wrong(milli, "of a device is nothing; write 1 to 1000"));
            }
            share
        } else {
            0
        };
        let spec = models.map_or("", |models| row.text(models));
        let key = (
            row.number(cpu, AMOUNT_MAX)?,
            row.number(memory, MEMORY_MIB_MAX)?,
            count,
            share,
            spec,
        );
        let demand = known.entry(key).or_insert_with(|| Arc::new(demand(key)));
        Ok(TracePod {
            name: row.text(name).into(),
            demand: Arc::clone(demand),
        })
    });
    rows.collect()
}

/// What a pod with these columns asks: CPU, memory in MiB, devices, share of each, models.
pub(super) fn demand((cpu, memory, count, milli, spec): (i64, i64, i64, i64, &str)) -> Demand {
    let names = spec
        .split('|')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let ask = AcceleratorAsk {
        count: count as u32,
        milli: milli as u16,
        // As they are written: kinds of pod are told apart by it.
        models: names.map(SmolStr::new).collect(),
        held: DeviceSet::NONE,
    };
    Demand {
        requests: Amounts {
            cpu_milli: cpu,
            memory: memory << 20,
            ..Amounts::default()
        },
        scored: Scored {
            cpu_milli: cpu,
            memory: memory << 20,
        },
        accelerators: (count > 0).then_some(ask),
        ..Demand::default()
    }
}
