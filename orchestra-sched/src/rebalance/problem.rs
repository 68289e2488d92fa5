//! A rebalancing problem as it is written down.

/// Something that machines have and processes need.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Resource {
    /// Whether a process that moves needs it on both ends until it has moved, as disks do.
    pub transient: bool,
    /// What each unit above a machine's safety capacity costs.
    pub load_weight: i64,
}

/// Where processes run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// Within which a service must find what it depends on.
    pub neighbourhood: u32,
    /// Over which services are spread.
    pub location: u32,
    /// What it has of each resource.
    pub capacity: Vec<i64>,
    /// How much of each resource had better be used at most.
    pub safety: Vec<i64>,
}

/// Processes that do the same. No two of them share a machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// In how many locations it must at least run.
    pub spread_min: u32,
    /// The services that must run in every neighbourhood where this one does.
    pub depends_on: Vec<u32>,
}

/// What is moved.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// The service it belongs to.
    pub service: u32,
    /// What it needs of each resource.
    pub needs: Vec<i64>,
    /// What it costs to move it.
    pub move_cost: i64,
}

/// What is free of two resources should be in proportion: on each machine every unit of
/// `second` that is missing to `target` times the free units of `first` costs `weight`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Balance {
    /// The resource that should not be free without the other.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// How many units of `second` there should be free for one of `first`.
    pub target: i64,
    /// What one unit too few costs.
    pub weight: i64,
}

/// How much the three kinds of move cost count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Weights {
    /// Times the sum of [`Process::move_cost`] over what moved.
    pub process_move: i64,
    /// Times the largest number of processes moved of one service.
    pub service_move: i64,
    /// Times the sum of [`Problem::machine_moves`] over what moved.
    pub machine_move: i64,
}

/// A rebalancing problem. All amounts, costs and weights are from 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Problem {
    /// Named by their position from here on, as all the others are.
    pub resources: Vec<Resource>,
    /// Where processes run.
    pub machines: Vec<Machine>,
    /// What belongs together.
    pub services: Vec<Service>,
    /// What is moved.
    pub processes: Vec<Process>,
    /// Which resources should be free in proportion.
    pub balances: Vec<Balance>,
    /// What it costs to move a process from one machine to another: one row a machine of origin,
    /// one after the other. Empty if it costs nothing.
    pub machine_moves: Vec<u32>,
    /// How much moves count.
    pub weights: Weights,
    /// How many processes may be elsewhere than they were. `None`: any number.
    pub moves_max: Option<u32>,
}
