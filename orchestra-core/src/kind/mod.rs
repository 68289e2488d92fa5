//! The kinds: what there is, in the JSON shape of their Kubernetes namesakes. One kind a file.

mod resource;

pub use resource::{FieldError, Invalid, Resource, Scope};
