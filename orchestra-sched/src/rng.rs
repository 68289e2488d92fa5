//! Chance, seeded: one stream of numbers a purpose.
//!
//! Drawing one more number for one purpose changes nothing for another, so that a new feature
//! does not reshuffle every plan and every test.

use rand_pcg::Pcg64;

/// The seed of one run, from which every purpose gets a stream of its own.
///
/// ```
/// use orchestra_sched::rng::PlanRng;
/// use rand::Rng as _;
///
/// let rng = PlanRng::new(7);
/// let mut names = rng.stream("pod-names");
/// let mut jitter = rng.stream("jitter");
/// assert_ne!(names.next_u64(), jitter.next_u64());
/// assert_eq!(rng.stream("jitter"), PlanRng::new(7).stream("jitter"));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PlanRng {
    seed: u128,
}

impl PlanRng {
    /// The streams of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed: seed as u128 }
    }

    /// The stream of that purpose, from its beginning. Equal seeds and purposes give equal
    /// streams, on every platform and in every version.
    pub fn stream(&self, purpose: &str) -> Pcg64 {
        Pcg64::new(self.seed, fnv1a(purpose))
    }

    /// The streams of one part among many, for instance of one node: unlike those of every
    /// other part and of the whole.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self {
            seed: self.seed.rotate_left(61) ^ fnv1a(name),
        }
    }
}

/// FNV-1a, 128 bits: fixed for ever, as std's hashers are not.
fn fnv1a(text: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn the_first_numbers_never_change() {
        let mut stream = PlanRng::new(1).stream("placement");
        let first: Vec<u64> = (0..3).map(|_| stream.next_u64()).collect();
        assert_eq!(first, FIRST_OF_PLACEMENT);
    }

    #[test]
    fn purposes_parts_and_seeds_differ() {
        let rng = PlanRng::new(1);
        let first = |rng: PlanRng, purpose: &str| rng.stream(purpose).next_u64();
        let all = [
            first(rng, "a"),
            first(rng, "b"),
            first(PlanRng::new(2), "a"),
            first(rng.part("node-1"), "a"),
            first(rng.part("node-2"), "a"),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one), "{all:?}");
        }
    }

    const FIRST_OF_PLACEMENT: [u64; 3] = [
        14_166_626_294_164_460_232,
        13_557_197_044_846_706_292,
        6_881_834_824_653_002_540,
    ];
}
