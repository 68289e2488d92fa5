//! Which commit started pods last, as the revisions of a deployment tell.
//!
//! A commit cannot name its own revision. So the `ControllerRevision` it writes says that pods were
//! started *with it*, which its resource version dates; the commit after that knows the number and
//! carries it on.

use std::sync::Arc;

use orchestra_core::kind::ControllerRevision;
use orchestra_core::port::store::Revision;
use smol_str::{SmolStr, ToSmolStr};

/// The annotation of a revision that tells when pods of its deployment were last started.
const STARTED_ANNOTATION: &str = "orchestra.dev/rollout-started";

/// Its value where that was in the commit that wrote the revision.
const WITH_THIS: &str = "with-this";

/// The last commit that started pods, as far as `revisions` know; zero if none did.
pub(super) fn last(revisions: &[Arc<ControllerRevision>]) -> Revision {
    let known = revisions.iter().map(|revision| told_by(revision));
    known.max().unwrap_or_default()
}

/// As far as one revision knows, as it was read.
pub(super) fn told_by(revision: &ControllerRevision) -> Revision {
    let meta = &revision.metadata;
    match meta
        .annotations
        .get(STARTED_ANNOTATION)
        .map(SmolStr::as_str)
    {
        Some(WITH_THIS) => meta.resource_version,
        Some(number) => Revision(number.parse().unwrap_or(0)),
        None => Revision(0),
    }
}

/// Notes on `revision`, which is about to be written, whether that commit starts pods; if not, that
/// `before` was the last one that did.
pub(super) fn note(revision: &mut ControllerRevision, starts: bool, before: Revision) {
    let value = match starts {
        true => WITH_THIS.into(),
        false => before.0.to_smolstr(),
    };
    let annotations = &mut revision.metadata.annotations;
    annotations.insert(STARTED_ANNOTATION.into(), value);
}
