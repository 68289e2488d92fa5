//! What rows are ranked by: a weighted score and what settles ties, in one number.

/// In place of a key: no such row, or a row that must not win.
pub(super) const OUT: u64 = 0;
/// Bits of a key that settle ties. The rest hold the weighted score and one more, so that no key is
/// [`OUT`].
pub(super) const TIE_BITS: u32 = 44;
/// The bits that settle ties.
const TIES: u64 = (1 << TIE_BITS) - 1;
/// The largest weighted score that a key holds; larger ones count as that.
pub(super) const WEIGHTED_MAX: u64 = (1 << (64 - TIE_BITS)) - 2;

/// The key of a node of that weighted score, whose name has that hash.
#[inline]
pub(super) fn key(sum: u64, name_hash: u64, salt: u64) -> u64 {
    key_with(sum, tie(name_hash, salt) >> (64 - TIE_BITS))
}

/// The key of the same node with another weighted score.
#[inline]
pub(super) fn rekeyed(key: u64, sum: u64) -> u64 {
    key_with(sum, key & TIES)
}

/// `bound`, which is [at most](at_most) what a node's key may be, as its key; it had `key` before.
#[inline]
pub(super) fn tied(bound: u64, key: u64) -> u64 {
    (bound & !TIES) | (key & TIES)
}

/// What no key with that weighted score exceeds.
#[inline]
pub(super) fn at_most(sum: u64) -> u64 {
    key_with(sum, TIES)
}

#[inline]
fn key_with(sum: u64, tie: u64) -> u64 {
    ((sum.min(WEIGHTED_MAX) + 1) << TIE_BITS) | tie
}

/// The weighted score in a key.
pub(super) fn weighted_in(key: u64) -> u32 {
    (key >> TIE_BITS).saturating_sub(1) as u32
}

/// A number for a node that differs from plan to plan, and not with the order of the nodes.
#[inline]
fn tie(name_hash: u64, salt: u64) -> u64 {
    // The finaliser of SplitMix64: every bit of the input moves every bit of the output.
    let mut z = name_hash ^ salt;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
