//! Typed values over store bytes, with a format version.
//!
//! A stored object is one digit, the format, and then its JSON: `1{"apiVersion":"v1",…}`. The
//! digit stands before the JSON and not in it, so that a later release can change everything
//! behind it (compress it, encode it otherwise) and still tells old values from new ones without
//! reading them. JSON never starts with a digit where an object is meant, so values stay readable
//! for people too.

use std::fmt;

use crate::error::PortError;
use crate::kind::Resource;
use crate::port::store::{Revision, StoreError, StoreErrorKind, Value, Versioned};

/// The largest object, in bytes of its stored form: 1 MiB. Below what a store accepts
/// ([`VALUE_BYTES_MAX`](crate::port::store::VALUE_BYTES_MAX)).
pub const OBJECT_BYTES_MAX: usize = 1 << 20;

/// The format that is written: JSON.
const FORMAT_JSON: u8 = b'1';

/// What a typical object takes, in bytes: spares growing the buffer.
const OBJECT_BYTES_TYPICAL: usize = 2_048;

/// The stored form of an object. Its `metadata.resourceVersion` is left out: that is the store's to
/// say, and is set by [`decode`].
///
/// # Errors
///
/// [`CodecError`] if it is larger than [`OBJECT_BYTES_MAX`], or cannot be written as JSON.
pub fn encode<K: Resource>(object: &K) -> Result<Value, CodecError> {
    let failed = |problem| CodecError::of::<K>(object.key().to_string(), problem);
    let mut bytes = Vec::with_capacity(OBJECT_BYTES_TYPICAL);
    bytes.push(FORMAT_JSON);
    serde_json::to_writer(&mut bytes, object)
        .map_err(|cause| failed(CodecProblem::Write(cause)))?;
    if object.metadata().resource_version != Revision(0) {
        cut_revision(&mut bytes);
    }
    if bytes.len() > OBJECT_BYTES_MAX {
        return Err(failed(CodecProblem::TooLarge { bytes: bytes.len() }));
    }
    Ok(bytes.into())
}

/// The object that a stored value holds, with the commit that last wrote it as its
/// `metadata.resourceVersion`. Fields that this release does not know are skipped.
///
/// # Errors
///
/// [`CodecError`] if the format is unknown or the value does not read as a `K`.
pub fn decode<K: Resource>(stored: &Versioned) -> Result<K, CodecError> {
    let failed = |problem| CodecError::of::<K>(stored.key.to_string(), problem);
    let json = match stored.value.split_first() {
        Some((&FORMAT_JSON, json)) => json,
        Some((&other, _)) => return Err(failed(CodecProblem::Format { found: other })),
        None => return Err(failed(CodecProblem::Empty)),
    };
    match serde_json::from_slice::<K>(json) {
        Ok(mut object) => {
            object.metadata_mut().resource_version = stored.modified;
            Ok(object)
        }
        Err(cause) => {
            let path = path_of_failure::<K>(json);
            Err(failed(CodecProblem::Read { path, cause }))
        }
    }
}

/// Cuts `metadata.resourceVersion` out of compact JSON behind a format digit: cheaper than writing
/// a copy of the object that has none. Metadata comes first, so little is looked at.
fn cut_revision(bytes: &mut Vec<u8>) {
    let mut depth = 0_u32;
    let mut in_metadata = false;
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = end_of_text(bytes, at);
                let is_key = bytes.get(end) == Some(&b':');
                if is_key && depth == 1 {
                    in_metadata = &bytes[at..end] == b"\"metadata\"";
                } else if is_key
                    && depth == 2
                    && in_metadata
                    && &bytes[at..end] == b"\"resourceVersion\""
                {
                    let mut past = end_of_text(bytes, end + 1);
                    let first = bytes[at - 1] == b'{';
                    if first && bytes.get(past) == Some(&b',') {
                        past += 1;
                    }
                    bytes.drain(if first { at } else { at - 1 }..past);
                    return;
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
}

/// Past the closing quote of the JSON text that opens at `open`.
fn end_of_text(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            b'\\' => 2,
            b'"' => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

/// Reads once more, slowly, to learn which field it was.
#[cold]
fn path_of_failure<K: Resource>(json: &[u8]) -> String {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let _failed = K::deserialize(serde_path_to_error::Deserializer::new(
        &mut reader,
        &mut track,
    ));
    track.path().to_string()
}

/// An object could not be turned into bytes, or back.
#[derive(Debug)]
pub struct CodecError {
    kind: &'static str,
    key: String,
    problem: CodecProblem,
}

/// What went wrong between an object and its bytes.
#[derive(Debug)]
#[non_exhaustive]
pub enum CodecProblem {
    /// It is larger than [`OBJECT_BYTES_MAX`].
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// It cannot be written as JSON.
    Write(serde_json::Error),
    /// The value has no bytes.
    Empty,
    /// The value is in a format that this release does not know.
    Format {
        /// The first byte of the value.
        found: u8,
    },
    /// The value does not read as the kind.
    Read {
        /// Which field does not; `.` for the whole.
        path: String,
        /// Why.
        cause: serde_json::Error,
    },
}

impl CodecError {
    fn of<K: Resource>(key: String, problem: CodecProblem) -> Self {
        Self {
            kind: K::KIND,
            key,
            problem,
        }
    }

    /// What went wrong.
    pub fn problem(&self) -> &CodecProblem {
        &self.problem
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, problem } = self;
        match problem {
            CodecProblem::TooLarge { bytes } => write!(
                f,
                "{kind} {key} has {bytes} bytes, at most {OBJECT_BYTES_MAX}; keep large data \
                 elsewhere and refer to it"
            ),
            CodecProblem::Write(_) => write!(f, "{kind} {key} cannot be written as JSON"),
            CodecProblem::Empty => {
                write!(
                    f,
                    "{key} holds no bytes where a {kind} should be; restore it from a copy"
                )
            }
            CodecProblem::Format { found } => write!(
                f,
                "{key} is stored in format {:?}, and this release reads {:?} only; use the release \
                 that wrote it, or a newer one",
                char::from(*found),
                char::from(FORMAT_JSON)
            ),
            CodecProblem::Read { path, .. } => {
                write!(
                    f,
                    "{key} does not read as a {kind} at {path}; restore it from a copy"
                )
            }
        }
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            CodecProblem::Write(cause) | CodecProblem::Read { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// An object that cannot be stored breaks the store's contract; bytes that cannot be read are
/// damage.
impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        let (kind, op) = match error.problem {
            CodecProblem::TooLarge { .. } | CodecProblem::Write(_) => {
                (StoreErrorKind::Invalid, "encode")
            }
            _ => (StoreErrorKind::Corrupt, "decode"),
        };
        PortError::new(kind, op)
            .about(error.key.clone())
            .because(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::error::report;
    use crate::kind::{Invalid, Scope};
    use crate::meta::ObjectMeta;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Note {
        metadata: ObjectMeta,
        text: String,
        numbers: BTreeMap<String, u8>,
    }

    impl Resource for Note {
        const API_VERSION: &'static str = "example.com/v1";
        const KIND: &'static str = "Note";
        const PLURAL: &'static str = "notes";
        const SCOPE: Scope = Scope::Namespaced;

        fn metadata(&self) -> &ObjectMeta {
            &self.metadata
        }
        fn metadata_mut(&mut self) -> &mut ObjectMeta {
            &mut self.metadata
        }
        fn set_defaults(&mut self) {}
        fn validate(&self) -> Result<(), Invalid> {
            Ok(())
        }
        fn take_status(&mut self, _current: &Self) {}
        fn same_spec(&self, other: &Self) -> bool {
            self.text == other.text
        }
    }

    fn stored(bytes: &[u8]) -> Versioned {
        Versioned {
            key: "notes/default/a".into(),
            value: bytes.into(),
            created: Revision(3),
            modified: Revision(7),
            lease: None,
        }
    }

    #[test]
    fn the_revision_comes_from_the_store_and_is_not_stored() {
        let mut note = Note {
            metadata: ObjectMeta::named("a"),
            ..Note::default()
        };
        note.metadata.resource_version = Revision(5);
        note.metadata
            .labels
            .insert("resourceVersion".into(), "5".into());
        let bytes = encode(&note).unwrap();
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            r#"1{"metadata":{"name":"a","labels":{"resourceVersion":"5"}},"text":"","numbers":{}}"#
        );
        note.metadata.resource_version = Revision(7);
        assert_eq!(decode::<Note>(&stored(&bytes)).unwrap(), note);

        let mut anonymous = Note::default();
        anonymous.metadata.resource_version = Revision(5);
        anonymous.text = "\\\"resourceVersion\":\"5\"".into();
        let bytes = encode(&anonymous).unwrap();
        assert!(bytes.starts_with(br#"1{"metadata":{},"text":"#));
        anonymous.metadata.resource_version = Revision(7);
        assert_eq!(decode::<Note>(&stored(&bytes)).unwrap(), anonymous);
    }

    #[test]
    fn failures_name_key_kind_and_path() {
        for (bytes, said) in [
            (
                &b""[..],
                "notes/default/a holds no bytes where a Note should be",
            ),
            (
                b"2{}",
                "notes/default/a is stored in format '2', and this release reads '1' only",
            ),
            (
                b"1{\"numbers\":{\"x\":256}}",
                "notes/default/a does not read as a Note at numbers.x",
            ),
            (
                b"1{\"text\":",
                "notes/default/a does not read as a Note at text",
            ),
        ] {
            let error = decode::<Note>(&stored(bytes)).unwrap_err();
            assert!(
                report(&error).to_string().starts_with(said),
                "{}",
                report(&error)
            );
            assert_eq!(StoreError::from(error).kind(), StoreErrorKind::Corrupt);
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut note = Note {
            metadata: ObjectMeta::named("a"),
            ..Note::default()
        };
        note.text = "x".repeat(OBJECT_BYTES_MAX - encode(&note).unwrap().len());
        assert_eq!(encode(&note).unwrap().len(), OBJECT_BYTES_MAX);
        note.text.push('x');
        let error = encode(&note).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Note a has 1048577 bytes, at most 1048576")
        );
        assert_eq!(StoreError::from(error).kind(), StoreErrorKind::Invalid);
    }
}
