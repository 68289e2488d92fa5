//! YAML and JSON documents in, typed objects out, with a report of what is not honoured.
//!
//! A text is taken as a whole or refused as a whole, with every problem named by document, line,
//! object, path, value and remedy. What it says beyond what is honoured never goes in silence: see
//! [`Manifests::unhonoured`].
//!
//! ```
//! use orchestra_core::kind::Namespace;
//! use orchestra_core::manifest;
//!
//! let found = manifest::load("
//! apiVersion: v1
//! kind: Namespace
//! metadata: {name: shop}
//! colour: green
//! ")?;
//! assert_eq!(found.of::<Namespace>().next().map(|n| n.metadata.name.as_str()), Some("shop"));
//! assert_eq!(
//!     found.unhonoured[0].to_string(),
//!     "document 1, line 5, Namespace shop: colour is not a known field"
//! );
//!
//! let refused = manifest::load("{apiVersion: v1, kind: Namepsace}").expect_err("no such kind");
//! assert!(refused.to_string().contains("did you mean Namespace?"));
//! # Ok::<(), manifest::ManifestError>(())
//! ```

mod json;
mod loader;
mod mend;
mod object;
mod reading;
mod report;
#[cfg(test)]
mod report_test;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod typed;
mod unhonoured;
mod wording;

pub use loader::{Loader, Manifests};
pub use object::{CustomObject, Object, WithObject};
pub use report::{ManifestError, PROBLEMS_MAX, Place, Problem, Reason, Unhonoured};
pub use text::{DEPTH_MAX, DOCUMENTS_MAX, TEXT_BYTES_MAX, VALUES_MAX};

/// Reads a text with the kinds of this crate: see [`Loader::load`].
///
/// # Errors
///
/// All that is wrong with the text, if anything is; then nothing of it is taken.
pub fn load(text: &str) -> Result<Manifests, ManifestError> {
    Loader::new().load(text)
}

/// Reads the bytes of a file with the kinds of this crate: see [`Loader::load_bytes`].
///
/// # Errors
///
/// All that is wrong with the file, if anything is; then nothing of it is taken.
pub fn load_bytes(bytes: &[u8]) -> Result<Manifests, ManifestError> {
    Loader::new().load_bytes(bytes)
}
