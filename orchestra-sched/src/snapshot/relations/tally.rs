//! Counts of which most are 0.

/// Counts in a page.
const PAGE: usize = 16;

/// Counts by number, all 0 at first. They lie in pages, and there is one for all that hold nothing else: with a
/// domain a node, what is counted takes the room of the nodes that have some.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    len: usize,
    /// By page: where it is. The first holds zeros.
    places: Vec<u32>,
    pages: Vec<[i64; PAGE]>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Tally {
    /// So many zeros.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            len,
            places: vec![0; len.div_ceil(PAGE)],
            pages: vec![[0; PAGE]],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> i64 {
        self.pages[self.places[at / PAGE] as usize][at % PAGE]
    }

    fn get_mut(&mut self, at: usize) -> &mut i64 {
        let place = &mut self.places[at / PAGE];
        if *place == 0 {
            *place = self.pages.len() as u32;
            self.pages.push([0; PAGE]);
        }
        &mut self.pages[*place as usize][at % PAGE]
    }

    /// Adds to a count; what it was before.
    pub(crate) fn add(&mut self, at: usize, by: i64) -> i64 {
        let count = self.get_mut(at);
        let before = *count;
        *count += by;
        before
    }

    /// Makes a count that of another; whether it was another.
    pub(crate) fn copy(&mut self, at: usize, other: &Self) -> bool {
        let (before, now) = (self.get(at), other.get(at));
        if before != now {
            *self.get_mut(at) = now;
        }
        before != now
    }

    /// All counts, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = i64> {
        let pages = self.places.iter().map(|&place| &self.pages[place as usize]);
        pages.flatten().copied().take(self.len)
    }

    /// The counts that may be other than 0, and some that are not, each with its number.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (usize, i64)> {
        let places = self.places.iter().enumerate();
        let pages = places.filter(|(_, place)| **place > 0);
        pages.flat_map(|(page, &place)| {
            let first = page * PAGE;
            let counts = self.pages[place as usize].iter().take(self.len - first);
            counts
                .enumerate()
                .map(move |(at, &count)| (first + at, count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tally_counts_as_plain_numbers_do(
            len in 0usize..100,
            steps in proptest::collection::vec((0usize..100, -3i64..4), 0..60),
        ) {
            let (mut tally, mut plain) = (Tally::new(len), vec![0; len]);
            let mut copy = tally.clone();
            for (at, by) in steps {
                if at < len {
                    prop_assert_eq!(tally.add(at, by), plain[at]);
                    plain[at] += by;
                    prop_assert_eq!(copy.copy(at, &tally), by != 0);
                    prop_assert_eq!(copy.get(at), plain[at]);
                }
            }
            prop_assert_eq!(tally.iter().collect::<Vec<_>>(), plain.clone());
            let counted: Vec<_> = tally.counted().filter(|(_, count)| *count != 0).collect();
            let wanted: Vec<_> = plain.into_iter().enumerate().filter(|(_, count)| *count != 0).collect();
            prop_assert_eq!(counted, wanted);
        }
    }
}
