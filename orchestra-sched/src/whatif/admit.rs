//! What a question asks for, as the API would store it: a question says yes to nothing that the API
//! would refuse.

use orchestra_core::kind::pod::Container;
use orchestra_core::kind::{Namespace, Pod, Resource, Scope, validate_object};
use orchestra_core::quantity::ResourceList;
use smol_str::SmolStr;

use super::QuestionError;

/// The object in its namespace, with defaults filled in and its rules checked.
pub(super) fn admitted<K: Resource>(mut object: K) -> Result<K, QuestionError> {
    if K::SCOPE == Scope::Namespaced {
        let namespace = &mut object.metadata_mut().namespace;
        *namespace = namespace_or_default(std::mem::take(namespace));
    }
    object.set_defaults();
    match validate_object(&object) {
        Ok(()) => Ok(object),
        Err(invalid) => Err(QuestionError::Invalid {
            what: smol_str::format_smolstr!("{} {}", K::KIND, object.key()),
            invalid,
        }),
    }
}

/// The namespace that nobody named is `default`.
pub(super) fn namespace_or_default(namespace: SmolStr) -> SmolStr {
    match namespace.is_empty() {
        true => Namespace::DEFAULT.into(),
        false => namespace,
    }
}

/// Checks what pods are to request as if one container requested it, and was limited to it.
pub(super) fn check_requests(requests: &ResourceList) -> Result<(), QuestionError> {
    let mut main = Container::new("main", "main");
    main.resources.requests.clone_from(requests);
    main.resources.limits.clone_from(requests);
    let Err(mut invalid) = validate_object(&Pod::builder("pod").container(main)) else {
        return Ok(());
    };
    invalid.errors.retain_mut(|error| {
        let of_requests = error.path.strip_prefix("spec.containers[0].resources.");
        let path = of_requests.filter(|path| path.starts_with("requests"));
        let path = path.map(str::to_owned);
        path.is_some_and(|path| {
            error.path = path;
            true
        })
    });
    invalid
        .into_result()
        .map_err(|invalid| QuestionError::Invalid {
            what: SmolStr::new_static("what pods are to request"),
            invalid,
        })
}
