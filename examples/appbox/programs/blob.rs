//! An object as storage nodes keep it: version, checksum, bytes.

/// The most bytes of an object's name.
const NAME_BYTES_MAX: usize = 128;

/// Whether a name may name an object, and so a file.
pub(crate) fn name_is_valid(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Version, checksum of the bytes, then the bytes.
pub(crate) fn seal(version: u64, bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(16 + bytes.len());
    sealed.extend_from_slice(&version.to_le_bytes());
    sealed.extend_from_slice(&checksum(version, bytes).to_le_bytes());
    sealed.extend_from_slice(bytes);
    sealed
}

/// What [`seal`] made, or `None` if it is damaged.
pub(crate) fn open(sealed: &[u8]) -> Option<(u64, &[u8])> {
    let (version, rest) = sealed.split_first_chunk::<8>()?;
    let (sum, bytes) = rest.split_first_chunk::<8>()?;
    let version = u64::from_le_bytes(*version);
    (checksum(version, bytes) == u64::from_le_bytes(*sum)).then_some((version, bytes))
}

/// FNV-1a over the version and the bytes: against torn files, not against malice.
pub(crate) fn checksum(version: u64, bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let start = version
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, fold);
    bytes.iter().fold(start, fold)
}

/// The bytes that version `version` of object `name` has to hold: anyone can compute them, so
/// every byte read back can be checked.
pub(crate) fn content(name: &str, version: u64, len: usize) -> Vec<u8> {
    let mut state = checksum(version, name.as_bytes()) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
