//! Rules that hold for every input: each fast thing against a slow plain twin of it, and the checks
//! of the fuzz targets on made-up and on damaged texts.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod any_text;
mod codec;
mod quantity;
mod selector;
