//! A set of numbers, most of them near each other.

/// Numbers, one bit each. Those beyond its end are not in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set, with room for the numbers below `len`.
    pub(super) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Whether there is room for no number.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn has(&self, at: usize) -> bool {
        let word = self.0.get(at / 64);
        word.is_some_and(|word| word >> (at % 64) & 1 != 0)
    }

    /// Puts a number in; whether it was in already.
    #[inline]
    pub(super) fn put(&mut self, at: usize) -> bool {
        let word = &mut self.0[at / 64];
        let before = *word;
        *word |= 1 << (at % 64);
        before >> (at % 64) & 1 != 0
    }

    /// Takes a number out; whether it was in.
    #[inline]
    pub(super) fn take(&mut self, at: usize) -> bool {
        let Some(word) = self.0.get_mut(at / 64) else {
            return false;
        };
        let before = *word;
        *word &= !(1 << (at % 64));
        before >> (at % 64) & 1 != 0
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }
}
