//! YAML and JSON documents in, typed objects out, with a report of what is not honoured.
//!
//! A text is taken as a whole or refused as a whole, with every problem named by document, line,
//! object, path, value and remedy. A field that no kind has is such a problem, as for `kubectl`; a
//! field of Kubernetes that nothing here acts on is none, but never goes in silence: see
//! [`Manifests::unhonoured`].
//!
//! ```
//! use orchestra_core::kind::Deployment;
//! use orchestra_core::manifest;
//!
//! let text = "
//! apiVersion: apps/v1
//! kind: Deployment
//! metadata: {name: web}
//! spec:
//!   replcas: 3
//!   selector: {matchLabels: {app: web}}
//!   template:
//!     metadata: {labels: {app: web}}
//!     spec:
//!       containers: [{name: web, image: web, tty: true}]
//! ";
//! let refused = manifest::load(text).expect_err("no such field");
//! assert_eq!(
//!     refused.to_string(),
//!     "document 1, line 6, Deployment web: spec.replcas: is not a known field; did you mean replicas?"
//! );
//!
//! let found = manifest::load(&text.replace("replcas", "replicas"))?;
//! assert_eq!(found.of::<Deployment>().next().map(|web| web.spec.replicas), Some(Some(3)));
//! assert_eq!(
//!     found.unhonoured[0].to_string(),
//!     "document 1, line 11, Deployment web: spec.template.spec.containers[0].tty is not acted on: \
//!      containers get no terminal"
//! );
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
