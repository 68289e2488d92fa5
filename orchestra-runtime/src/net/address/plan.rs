//! Which addresses an orchestra hands out, and how much of them its host answers for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::range::{AddressError, AddressRange};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_answers_for_the_whole_loopback() {
        let plan = AddressPlan::default().on(LoopbackSpan::Single);
        assert_eq!(plan.on_this_host().span(), LoopbackSpan::Whole);
    }
}
