//! The rules for what every object has, and the one call that checks an object wholly.

use super::rules::{
    Path, annotations, dns_label, dns_subdomain, is_dns_subdomain, label_key, labels,
};
use super::{FieldError, Invalid, Resource, Scope};
use crate::meta::{ObjectMeta, Uid};

/// The most finalizers of one object.
const FINALIZERS_MAX: usize = 100;
/// The most owners of one object.
const OWNERS_MAX: usize = 100;

/// Checks every rule that needs no other object: those of the metadata and those of the kind.
///
/// A name may be missing if there is a `generateName`, and a namespace that is missing is for
/// the API to fill in. Call [`Resource::set_defaults`] first.
///
/// # Errors
///
/// The broken rules, up to a bound, each with path, value and remedy.
pub fn validate_object<K: Resource>(object: &K) -> Result<(), Invalid> {
    let mut invalid = Invalid::new();
    object_meta::<K>(&mut invalid, object.metadata());
    let meta = object.metadata();
    let misnamed = invalid
        .errors
        .iter()
        .any(|error| error.path == "metadata.name");
    if let Err(more) = object.validate() {
        // Builders label what they make by its name: to correct that is enough.
        let follows = |error: &FieldError| {
            misnamed && error.path.ends_with("[app]") && error.value == meta.name
        };
        let own = more.errors.into_iter().filter(|error| !follows(error));
        invalid.errors.extend(own);
    }
    invalid.into_result()
}

fn object_meta<K: Resource>(invalid: &mut Invalid, meta: &ObjectMeta) {
    let path = Path::root("metadata");
    if !meta.name.is_empty() {
        dns_subdomain(invalid, path.field("name"), &meta.name);
    } else if meta.generate_name.is_empty() {
        invalid.missing(
            path.field("name"),
            "write a name, or a generateName to be given one",
        );
    }
    if !meta.generate_name.is_empty() && !is_dns_subdomain(&format!("{}x", meta.generate_name)) {
        let remedy = "write a prefix of lower-case letters, digits, '-' and '.', such as web-";
        invalid.refuse(
            path.field("generateName"),
            &meta.generate_name,
            "begins no name",
            remedy,
        );
    }
    match K::SCOPE {
        Scope::Namespaced if meta.namespace.is_empty() => {}
        Scope::Namespaced => dns_label(invalid, path.field("namespace"), &meta.namespace),
        Scope::Cluster if meta.namespace.is_empty() => {}
        Scope::Cluster => invalid.refuse(
            path.field("namespace"),
            &meta.namespace,
            format!("stands in a {}, which is cluster-wide", K::KIND),
            "leave it out",
        ),
    }
    template_meta(invalid, path, meta);
    finalizers(invalid, path.field("finalizers"), meta);
    owners(invalid, path.field("ownerReferences"), meta);
}

/// What of the metadata also counts in a template.
pub(super) fn template_meta(invalid: &mut Invalid, path: Path<'_>, meta: &ObjectMeta) {
    labels(invalid, path.field("labels"), &meta.labels);
    annotations(invalid, path.field("annotations"), &meta.annotations);
}

fn finalizers(invalid: &mut Invalid, path: Path<'_>, meta: &ObjectMeta) {
    if meta.finalizers.len() > FINALIZERS_MAX {
        let count = format!("{} entries", meta.finalizers.len());
        invalid.refuse(
            path,
            count,
            format!("has more than {FINALIZERS_MAX}"),
            "keep fewer",
        );
        return;
    }
    for (index, finalizer) in meta.finalizers.iter().enumerate() {
        label_key(invalid, path.index(index), finalizer);
    }
}

fn owners(invalid: &mut Invalid, path: Path<'_>, meta: &ObjectMeta) {
    let owners = &meta.owner_references;
    if owners.len() > OWNERS_MAX {
        let count = format!("{} entries", owners.len());
        invalid.refuse(
            path,
            count,
            format!("has more than {OWNERS_MAX}"),
            "keep fewer",
        );
        return;
    }
    for (index, owner) in owners.iter().enumerate() {
        let at = path.index(index);
        for (field, text) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
        ] {
            if text.is_empty() {
                invalid.missing(at.field(field), "take it from the owner");
            }
        }
        if owner.uid == Uid::NIL {
            invalid.missing(at.field("uid"), "take it from the owner as it is stored");
        }
    }
    if owners
        .iter()
        .filter(|owner| owner.controller == Some(true))
        .count()
        > 1
    {
        invalid.refuse(
            path,
            "",
            "names several controllers",
            "leave controller: true on one",
        );
    }
}
