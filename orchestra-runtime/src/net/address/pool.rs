//! Which addresses of a range are taken.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::range::{AddressError, AddressRange};

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

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
}
