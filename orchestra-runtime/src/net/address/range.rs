//! Ranges of addresses, and why one cannot be had.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use super::plan::{NODE_PREFIX, SHARES};

/// A range of IPv4 addresses, written as `127.128.0.0/10`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressRange {
    pub(super) base: Ipv4Addr,
    pub(super) prefix: u8,
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
    pub(super) const fn next(self, n: u32, prefix: u8) -> Self {
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

    pub(super) fn first(self) -> u32 {
        self.base.to_bits()
    }

    pub(super) fn last(self) -> u32 {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::plan::SERVICE_RANGE;
    use super::*;

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
}
