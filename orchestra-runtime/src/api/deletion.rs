//! What a delete marks, and when a marked object goes.

use std::any::Any;

use orchestra_core::kind::pod::PodPhase;
use orchestra_core::kind::{Pod, Resource};
use orchestra_core::time::Timestamp;

use super::error::{ApiError, ApiErrorKind};
use super::object::subject;
use super::params::{DeleteParams, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Propagation};

/// What a delete does to an object.
#[derive(Debug)]
pub(crate) enum Deletion<K> {
    /// It goes now.
    Remove,
    /// It is marked, and goes when its finalizers and its agent agree.
    Mark(K),
    /// It is marked already; nothing changes.
    Already,
}

/// Decides what deleting `current` at `now` means.
///
/// A pod that is bound and runs gets its grace; everything else goes as soon as no finalizer
/// holds it. A second delete can shorten the grace, never lengthen it.
pub(crate) fn deletion<K: Resource>(
    current: &K,
    params: &DeleteParams,
    now: Timestamp,
) -> Result<Deletion<K>, ApiError> {
    let meta = current.metadata();
    let refuse = |why: String| {
        let error = ApiError::new(ApiErrorKind::Conflict, "delete", subject::<K>(&meta.key()));
        Err(error.because(why))
    };
    if let Some(uid) = params.uid
        && uid != meta.uid
    {
        return refuse(format!("its uid is {}, the delete meant {uid}", meta.uid));
    }
    if let Some(version) = params.resource_version
        && version != meta.resource_version
    {
        let is = meta.resource_version;
        return refuse(format!(
            "its resourceVersion is {is}, the delete meant {version}"
        ));
    }

    let mut marked = current.clone();
    let meta = marked.metadata_mut();
    let (add, remove): (Option<&str>, &[&str]) = match params.propagation {
        None => (None, &[]),
        Some(Propagation::Background) => (None, &[FINALIZER_FOREGROUND, FINALIZER_ORPHAN]),
        Some(Propagation::Foreground) => (Some(FINALIZER_FOREGROUND), &[FINALIZER_ORPHAN]),
        Some(Propagation::Orphan) => (Some(FINALIZER_ORPHAN), &[FINALIZER_FOREGROUND]),
    };
    meta.finalizers
        .retain(|finalizer| !remove.contains(&finalizer.as_str()));
    if let Some(add) = add
        && !meta.finalizers.iter().any(|finalizer| finalizer == add)
    {
        meta.finalizers.push(add.into());
    }

    let mut grace = grace_seconds(current, params.grace_seconds);
    if let Some(before) = meta.deletion_grace_period_seconds {
        grace = grace.min(before);
    }
    meta.deletion_timestamp.get_or_insert(now);
    meta.deletion_grace_period_seconds = Some(grace);
    if may_go(&marked) {
        return Ok(Deletion::Remove);
    }
    Ok(if marked.metadata() == current.metadata() {
        Deletion::Already
    } else {
        Deletion::Mark(marked)
    })
}

/// Whether a marked object has nothing left to wait for.
pub(crate) fn may_go<K: Resource>(object: &K) -> bool {
    let meta = object.metadata();
    meta.deletion_timestamp.is_some()
        && meta.finalizers.is_empty()
        && meta.deletion_grace_period_seconds.unwrap_or(0) == 0
}

/// How long the end of `object` may take, in seconds: zero for all but pods that are bound to a
/// node and have not ended.
fn grace_seconds<K: Resource>(object: &K, asked: Option<u64>) -> u64 {
    let Some(pod) = (object as &dyn Any).downcast_ref::<Pod>() else {
        return 0;
    };
    let ended = matches!(pod.status.phase, PodPhase::Succeeded | PodPhase::Failed);
    if ended || pod.spec.node_name.is_empty() {
        return 0;
    }
    asked
        .or(pod.spec.termination_grace_period_seconds)
        .unwrap_or(Pod::GRACE_SECONDS)
}
