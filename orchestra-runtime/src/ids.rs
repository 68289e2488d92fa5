//! Identity, from a seed.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orchestra_core::meta::Uid;
use rand::Rng;
use rand_pcg::Pcg64;
use smol_str::SmolStr;

/// The letters of a name suffix: no vowels (so no words), and nothing that looks like another.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The letters in a name suffix.
const SUFFIX_CHARS: usize = 5;

/// The longest part of `generateName` that is kept, in bytes, so that the whole stays within one
/// DNS label.
const GENERATE_NAME_BYTES_MAX: usize = 63 - SUFFIX_CHARS;

/// Hands out identities: one stream of numbers for each purpose, so that drawing one more name
/// does not change the uids.
///
/// Two sources of one seed, asked the same in the same order, answer the same.
pub struct Ids {
    seed: u64,
    uids: Mutex<Pcg64>,
    names: Mutex<Pcg64>,
}

impl Ids {
    /// Identities that repeat with the seed: for simulations and tests.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            uids: Mutex::new(Pcg64::new(seed.into(), 0x0075_6964)),
            names: Mutex::new(Pcg64::new(seed.into(), 0x6e61_6d65)),
        }
    }

    /// Identities from the operating system's entropy: for everything else.
    pub fn random() -> Self {
        let draw = || u128::from(RandomState::new().build_hasher().finish());
        let wide = || (draw() << 64) | draw();
        Self {
            seed: RandomState::new().build_hasher().finish(),
            uids: Mutex::new(Pcg64::new(wide(), wide())),
            names: Mutex::new(Pcg64::new(wide(), wide())),
        }
    }

    /// A new uid: a random (version 4) UUID.
    pub fn uid(&self) -> Uid {
        let mut uids = lock(&self.uids);
        let wide = (u128::from(uids.next_u64()) << 64) | u128::from(uids.next_u64());
        let versioned = (wide & !(0xf << 76)) | (0x4 << 76);
        Uid((versioned & !(0x3 << 62)) | (0x2 << 62))
    }

    /// A name that starts with `base` and ends in five random letters. A base too long for one
    /// DNS label is cut.
    pub fn name(&self, base: &str) -> SmolStr {
        let mut end = base.len().min(GENERATE_NAME_BYTES_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        let mut name = String::with_capacity(end + SUFFIX_CHARS);
        name.push_str(&base[..end]);
        let mut names = lock(&self.names);
        for _ in 0..SUFFIX_CHARS {
            let at = (u64::from(names.next_u32()) * SUFFIX_LETTERS.len() as u64) >> 32;
            name.push(char::from(SUFFIX_LETTERS[at as usize]));
        }
        name.into()
    }

    /// A generator of its own for one purpose, for instance the jitter of one controller. The
    /// same seed and stream give the same numbers.
    pub fn stream(&self, stream: u64) -> Pcg64 {
        Pcg64::new(self.seed.into(), u128::from(stream) | (1 << 64))
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

fn lock(rng: &Mutex<Pcg64>) -> MutexGuard<'_, Pcg64> {
    rng.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_seed_one_history() {
        let (a, b, other) = (Ids::seeded(7), Ids::seeded(7), Ids::seeded(8));
        let uids: Vec<_> = (0..5).map(|_| a.uid()).collect();
        assert_eq!(uids, (0..5).map(|_| b.uid()).collect::<Vec<_>>());
        assert_ne!(uids, (0..5).map(|_| other.uid()).collect::<Vec<_>>());
        assert_eq!(a.stream(3).next_u64(), b.stream(3).next_u64());
    }

    #[test]
    fn a_name_drawn_in_between_does_not_change_the_uids() {
        let (a, b) = (Ids::seeded(1), Ids::seeded(1));
        a.name("web-");
        assert_eq!(a.uid(), b.uid());
    }

    #[test]
    fn names_keep_their_base_within_one_label() {
        let ids = Ids::random();
        let name = ids.name("web-");
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        assert_eq!(ids.name(&"ä".repeat(100)).len(), 63);
    }

    #[test]
    fn random_uids_differ_and_are_of_version_4() {
        let ids = Ids::random();
        let uids: BTreeSet<_> = (0..1_000).map(|_| ids.uid().to_string()).collect();
        assert_eq!(uids.len(), 1_000);
        assert!(
            uids.iter()
                .all(|uid| &uid[14..15] == "4" && "89ab".contains(&uid[19..20]))
        );
    }
}
