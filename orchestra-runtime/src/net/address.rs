//! An address for each pod and each service, out of the loopback range.
//!
//! On Linux all of 127.0.0.0/8 is local, so that every pod gets an address of its own and may
//! listen on the port its manifest names. Where only 127.0.0.1 exists ([`LoopbackSpan::Single`])
//! pods share it and get ports instead, handed over in the environment: see [`PodAddresses`].
//! Services share it too, each on the ports its manifest names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

/// Where pods live unless told otherwise: node *n* has the *n*th /24 of it.
pub const POD_RANGE: AddressRange = AddressRange {
    base: Ipv4Addr::new(127, 128, 0, 0),
    prefix: 10,
};

/// Where services live unless told otherwise.
pub const SERVICE_RANGE: AddressRange = AddressRange {
    base: Ipv4Addr::new(127, 64, 0, 0),
    prefix: 10,
};

/// The prefix length of one node's share of the pod range: 254 pods.
pub const NODE_PREFIX: u8 = 24;

/// How many [shares](AddressPlan::share) there are.
pub const SHARES: u32 = 16;

/// How often a port is asked for before giving up: each time the system may offer one that is
/// already promised to another pod.
const PORT_ATTEMPTS_MAX: u32 = 64;

/// A range of IPv4 addresses, written as `127.128.0.0/10`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressRange {
    base: Ipv4Addr,
    prefix: u8,
}

impl AddressRange {
    /// The range that holds `address` and all that share its first `prefix` bits.
    ///
    /// # Errors
    ///
    /// [`AddressError::Prefix`] if `prefix` is over 30: nothing would be left to hand out.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, AddressError> {
        if prefix > 30 {
            return Err(AddressError::Prefix { prefix });
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self {
            base: Ipv4Addr::from_bits(address.to_bits() & mask),
            prefix,
        })
    }

    /// The `n`th of the ranges with that prefix length which lie next to each other from here on.
    const fn next(self, n: u32, prefix: u8) -> Self {
        Self {
            base: Ipv4Addr::from_bits(self.base.to_bits() + (n << (32 - prefix))),
            prefix,
        }
    }

    /// Whether `address` lies within, ends included.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first()..=self.last()).contains(&address.to_bits())
    }

    /// How many addresses can be handed out: all but the first and the last, which networks keep
    /// for themselves.
    pub fn capacity(self) -> u32 {
        self.last() - self.first() - 1
    }

    fn first(self) -> u32 {
        self.base.to_bits()
    }

    fn last(self) -> u32 {
        self.base.to_bits() | u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for AddressRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = text
            .split_once('/')
            .and_then(|(base, prefix)| Some((base.parse().ok()?, prefix.parse().ok()?)));
        match parsed {
            Some((base, prefix)) => Self::new(base, prefix),
            None => Err(AddressError::Syntax {
                text: text.to_owned(),
            }),
        }
    }
}

/// An address cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Every address of the range is taken.
    #[error("all {} addresses of {range} are taken; release some, or use a wider range", range.capacity())]
    Exhausted {
        /// The range.
        range: AddressRange,
    },
    /// The address asked for belongs to another range.
    #[error("{address} cannot be handed out from {range}; ask for one between its ends")]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The range.
        range: AddressRange,
    },
    /// The address asked for is in use.
    #[error("{address} is taken; ask for another, or let one be chosen")]
    Taken {
        /// The address.
        address: Ipv4Addr,
    },
    /// There are more nodes than the pod range has room for.
    #[error("node {node} has no addresses: {range} has room for {room} nodes; use a wider range")]
    NoSuchNode {
        /// The node's number, from 0.
        node: u32,
        /// The pod range.
        range: AddressRange,
        /// How many nodes it has room for.
        room: u32,
    },
    /// A range for pods that no node has a share of.
    #[error("{range} is too narrow for pods; use a prefix length of at most {NODE_PREFIX}")]
    Narrow {
        /// The range.
        range: AddressRange,
    },
    /// Pods and services would get the same addresses.
    #[error("{pods} and {services} overlap; keep pods and services apart")]
    Overlap {
        /// The range for pods.
        pods: AddressRange,
        /// The range for services.
        services: AddressRange,
    },
    /// A share that does not exist.
    #[error("there is no share {share}; use 0 to {}", SHARES - 1)]
    NoSuchShare {
        /// The share asked for.
        share: u32,
    },
    /// A prefix length that leaves nothing to hand out.
    #[error("a range with prefix length {prefix} has no addresses to give; use 0 to 30")]
    Prefix {
        /// The prefix length.
        prefix: u8,
    },
    /// A text is not a range.
    #[error("{text:?} is not an address range; write it like 127.64.0.0/10")]
    Syntax {
        /// The text.
        text: String,
    },
    /// The system gave no free port.
    #[error("no free port on {address}: {reason}; close some sockets")]
    NoPort {
        /// Where.
        address: IpAddr,
        /// What the system said.
        reason: String,
    },
}

/// Which addresses of one range are taken. Pure: it touches no socket.
///
/// Takes `O(log r)` for each call, `r` being the number of unbroken runs of taken addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressPool {
    range: AddressRange,
    /// Runs of taken addresses, first to last, which neither touch nor overlap.
    runs: BTreeMap<u32, u32>,
    taken: u32,
}

impl AddressPool {
    /// A pool with nothing taken.
    pub fn new(range: AddressRange) -> Self {
        Self {
            range,
            runs: BTreeMap::new(),
            taken: 0,
        }
    }

    /// What it hands out from.
    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// How many are taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Whether `address` is taken.
    pub fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.run_of(address.to_bits()).is_some()
    }

    /// Takes the lowest free address.
    ///
    /// # Errors
    ///
    /// [`AddressError::Exhausted`], naming the range.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, AddressError> {
        let lowest = self.range.first() + 1;
        let free = match self.runs.first_key_value() {
            Some((&start, &end)) if start == lowest => end + 1,
            _ => lowest,
        };
        if free >= self.range.last() {
            return Err(AddressError::Exhausted { range: self.range });
        }
        self.insert(free);
        Ok(Ipv4Addr::from_bits(free))
    }

    /// Takes this address, and no other.
    ///
    /// # Errors
    ///
    /// [`AddressError::Outside`] or [`AddressError::Taken`].
    pub fn claim(&mut self, address: Ipv4Addr) -> Result<(), AddressError> {
        let bits = address.to_bits();
        if bits <= self.range.first() || bits >= self.range.last() {
            return Err(AddressError::Outside {
                address,
                range: self.range,
            });
        }
        if self.is_taken(address) {
            return Err(AddressError::Taken { address });
        }
        self.insert(bits);
        Ok(())
    }

    /// Gives an address back. Returns whether it was taken.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        let Some((start, end)) = self.run_of(bits) else {
            return false;
        };
        self.runs.remove(&start);
        if start < bits {
            self.runs.insert(start, bits - 1);
        }
        if bits < end {
            self.runs.insert(bits + 1, end);
        }
        self.taken -= 1;
        true
    }

    fn run_of(&self, bits: u32) -> Option<(u32, u32)> {
        let (&start, &end) = self.runs.range(..=bits).next_back()?;
        (bits <= end).then_some((start, end))
    }

    /// Adds a free address, which lies strictly between the ends of the range.
    fn insert(&mut self, bits: u32) {
        let end = self.runs.remove(&(bits + 1)).unwrap_or(bits);
        let start = match self.run_of(bits - 1) {
            Some((start, _)) => start,
            None => bits,
        };
        self.runs.insert(start, end);
        self.taken += 1;
    }
}

/// How much of 127.0.0.0/8 this host answers for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoopbackSpan {
    /// All of it, as on Linux: each pod and each service has an address of its own.
    Whole,
    /// Only 127.0.0.1, as on macOS and Windows: pods share it and are told apart by port.
    Single,
}

/// Which addresses an orchestra hands out.
///
/// Two orchestras on one host must not hand out the same: give each a [`share`](Self::share) of
/// its own, or ranges that do not meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressPlan {
    pods: AddressRange,
    services: AddressRange,
    span: LoopbackSpan,
}

impl Default for AddressPlan {
    /// All of [`POD_RANGE`] and [`SERVICE_RANGE`], on a whole loopback range.
    fn default() -> Self {
        Self {
            pods: POD_RANGE,
            services: SERVICE_RANGE,
            span: LoopbackSpan::Whole,
        }
    }
}

impl AddressPlan {
    /// Ranges of one's own. On Linux they are local without further ado if they lie in
    /// 127.0.0.0/8.
    ///
    /// # Errors
    ///
    /// [`AddressError::Narrow`] if `pods` has no room for one node, [`AddressError::Overlap`] if
    /// the two meet.
    pub fn new(pods: AddressRange, services: AddressRange) -> Result<Self, AddressError> {
        if pods.prefix > NODE_PREFIX {
            return Err(AddressError::Narrow { range: pods });
        }
        if pods.first() <= services.last() && services.first() <= pods.last() {
            return Err(AddressError::Overlap { pods, services });
        }
        let span = LoopbackSpan::Whole;
        Ok(Self {
            pods,
            services,
            span,
        })
    }

    /// One of [`SHARES`] equal parts of the default ranges, from 0 on: 1,024 nodes and 262,142
    /// services each.
    ///
    /// # Errors
    ///
    /// [`AddressError::NoSuchShare`] from [`SHARES`] on.
    pub fn share(n: u32) -> Result<Self, AddressError> {
        const BITS: u8 = SHARES.ilog2() as u8;
        if n >= SHARES {
            return Err(AddressError::NoSuchShare { share: n });
        }
        Ok(Self {
            pods: POD_RANGE.next(n, POD_RANGE.prefix + BITS),
            services: SERVICE_RANGE.next(n, SERVICE_RANGE.prefix + BITS),
            span: LoopbackSpan::Whole,
        })
    }

    /// The same on a host that answers for so much of the loopback range.
    #[must_use]
    pub fn on(mut self, span: LoopbackSpan) -> Self {
        self.span = span;
        self
    }

    /// The same on this host: tries out what it answers for, by binding a socket in each range.
    /// Does not wait for anything.
    #[must_use]
    pub fn on_this_host(self) -> Self {
        let binds = |range: AddressRange| {
            let probe = Ipv4Addr::from_bits(range.last() - 1);
            TcpListener::bind(SocketAddr::new(probe.into(), 0)).is_ok()
        };
        let span = if binds(self.pods) && binds(self.services) {
            LoopbackSpan::Whole
        } else {
            LoopbackSpan::Single
        };
        self.on(span)
    }

    /// How much of the loopback range it counts on.
    pub fn span(&self) -> LoopbackSpan {
        self.span
    }

    /// Where services live, on a whole loopback range.
    pub fn services(&self) -> AddressRange {
        self.services
    }

    /// How many nodes there is room for.
    pub fn nodes_max(&self) -> u32 {
        1 << (NODE_PREFIX - self.pods.prefix)
    }

    /// The share of node `n`, from 0 on: its pod CIDR.
    ///
    /// # Errors
    ///
    /// [`AddressError::NoSuchNode`] from [`nodes_max`](Self::nodes_max) on.
    pub fn of_node(&self, n: u32) -> Result<AddressRange, AddressError> {
        let (range, room) = (self.pods, self.nodes_max());
        if n >= room {
            return Err(AddressError::NoSuchNode {
                node: n,
                range,
                room,
            });
        }
        Ok(range.next(n, NODE_PREFIX))
    }
}

/// Where one pod answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodAddress {
    /// Its address.
    pub ip: IpAddr,
    /// The port to listen on for each port of the manifest, in the manifest's order. The same
    /// number twice where the pod has an address of its own.
    pub ports: Vec<(u16, u16)>,
}

impl PodAddress {
    /// What the workload must be told: `PORT` is its first port, `PORT_<n>` where it listens for
    /// port *n* of the manifest. A program that listens on `PORT` runs on every host.
    pub fn env(&self) -> BTreeMap<String, String> {
        let first = self
            .ports
            .first()
            .map(|(_, real)| ("PORT".to_owned(), real.to_string()));
        let each = self
            .ports
            .iter()
            .map(|(named, real)| (format!("PORT_{named}"), real.to_string()));
        first.into_iter().chain(each).collect()
    }

    /// Where the pod listens for port `named` of its manifest.
    pub fn port(&self, named: u16) -> Option<u16> {
        self.ports
            .iter()
            .find(|(wanted, _)| *wanted == named)
            .map(|(_, real)| *real)
    }
}

/// Hands out the addresses of one node's pods.
#[derive(Debug)]
pub struct PodAddresses {
    span: LoopbackSpan,
    pool: AddressPool,
    /// Ports promised on 127.0.0.1.
    promised: BTreeSet<u16>,
}

impl PodAddresses {
    /// The addresses of the node whose share is `range`.
    pub fn new(range: AddressRange, span: LoopbackSpan) -> Self {
        Self {
            span,
            pool: AddressPool::new(range),
            promised: BTreeSet::new(),
        }
    }

    /// Finds a place for a pod that wants to listen on `ports`. Where pods share an address each
    /// port is one that was free a moment ago and is promised to nobody else here; another
    /// program can still be quicker, which the workload sees when it binds.
    ///
    /// # Errors
    ///
    /// [`AddressError::Exhausted`] or [`AddressError::NoPort`]; then nothing is taken.
    pub fn assign(&mut self, ports: &[u16]) -> Result<PodAddress, AddressError> {
        match self.span {
            LoopbackSpan::Whole => {
                let ip = self.pool.allocate()?.into();
                Ok(PodAddress {
                    ip,
                    ports: ports.iter().map(|port| (*port, *port)).collect(),
                })
            }
            LoopbackSpan::Single => {
                let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let mut place = PodAddress {
                    ip,
                    ports: Vec::with_capacity(ports.len()),
                };
                for named in ports {
                    match self.promise_port(ip) {
                        Ok(real) => place.ports.push((*named, real)),
                        Err(error) => {
                            self.release(&place);
                            return Err(error);
                        }
                    }
                }
                Ok(place)
            }
        }
    }

    /// Takes exactly `place`: for a pod found running after a restart.
    ///
    /// # Errors
    ///
    /// [`AddressError::Taken`] or [`AddressError::Outside`].
    pub fn adopt(&mut self, place: &PodAddress) -> Result<(), AddressError> {
        match (self.span, place.ip) {
            (LoopbackSpan::Whole, IpAddr::V4(address)) => self.pool.claim(address),
            _ => {
                self.promised
                    .extend(place.ports.iter().map(|(_, real)| *real));
                Ok(())
            }
        }
    }

    /// Gives a place back. Idempotent.
    pub fn release(&mut self, place: &PodAddress) {
        match (self.span, place.ip) {
            (LoopbackSpan::Whole, IpAddr::V4(address)) => {
                self.pool.release(address);
            }
            _ => place.ports.iter().for_each(|(_, real)| {
                self.promised.remove(real);
            }),
        }
    }

    fn promise_port(&mut self, ip: IpAddr) -> Result<u16, AddressError> {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = free_port(ip).map_err(|e| AddressError::NoPort {
                address: ip,
                reason: e.to_string(),
            })?;
            if self.promised.insert(port) {
                return Ok(port);
            }
        }
        let reason = format!("{PORT_ATTEMPTS_MAX} offers were promised already");
        Err(AddressError::NoPort {
            address: ip,
            reason,
        })
    }
}

/// A TCP port of `address` that nobody listens on at this moment.
///
/// # Errors
///
/// What the system says: no such address here, no port left, too many open files.
pub fn free_port(address: IpAddr) -> io::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::new(address, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_node_has_the_nth_24_of_the_pod_range() {
        let plan = AddressPlan::default();
        assert_eq!(plan.of_node(0).unwrap().to_string(), "127.128.0.0/24");
        assert_eq!(plan.of_node(257).unwrap().to_string(), "127.129.1.0/24");
        let last = plan.of_node(plan.nodes_max() - 1).unwrap();
        assert_eq!(last.to_string(), "127.191.255.0/24");
        assert!(POD_RANGE.contains(last.base) && !SERVICE_RANGE.contains(last.base));
        let error = plan.of_node(plan.nodes_max()).unwrap_err().to_string();
        assert!(
            error.contains("127.128.0.0/10") && error.contains("16384"),
            "{error}"
        );
    }

    #[test]
    fn shares_do_not_meet_and_fill_the_ranges() {
        let plans: Vec<_> = (0..SHARES)
            .map(|n| AddressPlan::share(n).unwrap())
            .collect();
        for pair in plans.windows(2) {
            assert_eq!(pair[0].pods.last() + 1, pair[1].pods.first());
            assert_eq!(pair[0].services.last() + 1, pair[1].services.first());
        }
        assert_eq!(plans[1].of_node(0).unwrap().to_string(), "127.132.0.0/24");
        assert_eq!(plans[1].services().to_string(), "127.68.0.0/14");
        assert_eq!(plans[15].pods.last(), POD_RANGE.last());
        assert_eq!(plans[0].nodes_max(), 1_024);
        let error = AddressPlan::share(SHARES).unwrap_err().to_string();
        assert_eq!(error, "there is no share 16; use 0 to 15");
    }

    #[test]
    fn plans_that_cannot_work_are_refused_by_name() {
        let plan = |pods: &str, services: &str| {
            let plan = AddressPlan::new(pods.parse().unwrap(), services.parse().unwrap());
            plan.unwrap_err().to_string()
        };
        assert_eq!(
            plan("127.9.0.0/25", "127.10.0.0/16"),
            "127.9.0.0/25 is too narrow for pods; use a prefix length of at most 24"
        );
        assert_eq!(
            plan("127.9.0.0/16", "127.9.3.0/24"),
            "127.9.0.0/16 and 127.9.3.0/24 overlap; keep pods and services apart"
        );
        assert!(plan("127.9.3.0/24", "127.0.0.0/8").contains("overlap"));
    }

    #[test]
    fn a_range_reads_what_it_writes_and_refuses_the_rest_by_name() {
        assert_eq!("127.64.0.0/10".parse(), Ok(SERVICE_RANGE));
        assert_eq!("127.65.3.7/10".parse(), Ok(SERVICE_RANGE));
        for bad in ["", "127.0.0.1", "127.0.0.1/31", "127.0.0.1/x", "::1/64"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad}");
        }
        assert_eq!(
            AddressRange::new(Ipv4Addr::LOCALHOST, 0)
                .unwrap()
                .capacity(),
            u32::MAX - 1
        );
    }

    #[test]
    fn the_lowest_free_address_is_next_and_exhaustion_names_the_range() {
        let mut pool = AddressPool::new("127.64.0.0/29".parse().unwrap());
        let all: Vec<_> = (0..6)
            .map(|_| pool.allocate().unwrap().octets()[3])
            .collect();
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
        let error = pool.allocate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "all 6 addresses of 127.64.0.0/29 are taken; release some, or use a wider range"
        );
        assert!(pool.release(Ipv4Addr::new(127, 64, 0, 4)));
        assert!(!pool.release(Ipv4Addr::new(127, 64, 0, 4)));
        assert_eq!(pool.allocate(), Ok(Ipv4Addr::new(127, 64, 0, 4)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// The runs against a plain set.
        #[test]
        fn the_pool_does_what_a_plain_set_does(
            ops in prop::collection::vec((0u8..3, 0u32..18), 1..120)
        ) {
            let range: AddressRange = "127.64.0.0/28".parse().unwrap();
            let mut pool = AddressPool::new(range);
            let mut plain = BTreeSet::new();
            for (op, n) in ops {
                let address = Ipv4Addr::from_bits(range.first() + n);
                match op {
                    0 => {
                        let free = (1..15).find(|n| !plain.contains(n));
                        let got = pool.allocate().ok().map(|a| a.to_bits() - range.first());
                        prop_assert_eq!(got, free);
                        plain.extend(free);
                    }
                    1 => {
                        let fine = (1..15).contains(&n) && plain.insert(n);
                        prop_assert_eq!(pool.claim(address).is_ok(), fine);
                    }
                    _ => prop_assert_eq!(pool.release(address), plain.remove(&n)),
                }
                prop_assert_eq!(pool.taken() as usize, plain.len());
                for n in 0..16 {
                    let address = Ipv4Addr::from_bits(range.first() + n);
                    prop_assert_eq!(pool.is_taken(address), plain.contains(&n));
                }
            }
        }
    }

    #[test]
    fn pods_on_a_whole_loopback_keep_their_ports() {
        let range = AddressPlan::default().of_node(3).unwrap();
        let mut pods = PodAddresses::new(range, LoopbackSpan::Whole);
        let (a, b) = (
            pods.assign(&[80, 9000]).unwrap(),
            pods.assign(&[80]).unwrap(),
        );
        assert_ne!(a.ip, b.ip);
        assert_eq!((a.port(9000), b.port(80)), (Some(9000), Some(80)));
        assert_eq!(a.env()["PORT"], "80");
        pods.release(&a);
        assert_eq!(pods.assign(&[80]).unwrap().ip, a.ip);
        assert!(matches!(pods.adopt(&b), Err(AddressError::Taken { .. })));
    }

    #[test]
    fn pods_on_a_single_address_get_ports_of_their_own() {
        let range = AddressPlan::default().of_node(0).unwrap();
        let mut pods = PodAddresses::new(range, LoopbackSpan::Single);
        let places: Vec<_> = (0..20).map(|_| pods.assign(&[80, 443]).unwrap()).collect();
        let ports: BTreeSet<_> = places
            .iter()
            .flat_map(|p| &p.ports)
            .map(|(_, real)| *real)
            .collect();
        assert_eq!(ports.len(), 40);
        let env = places[0].env();
        assert_eq!(env["PORT"], env["PORT_80"]);
        assert_eq!(env["PORT_443"], places[0].port(443).unwrap().to_string());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_answers_for_the_whole_loopback() {
        let plan = AddressPlan::default().on(LoopbackSpan::Single);
        assert_eq!(plan.on_this_host().span(), LoopbackSpan::Whole);
    }
}
