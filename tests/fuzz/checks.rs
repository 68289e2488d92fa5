//! What must hold for any text at all. The fuzz targets call these with what libFuzzer finds, and
//! the property tests of orchestra-core with what proptest makes up.

use orchestra_core::codec::{decode, encode};
use orchestra_core::kind::{Pod, Resource};
use orchestra_core::manifest::{CustomObject, Loader, PROBLEMS_MAX, WithObject};
use orchestra_core::port::store::{Revision, Versioned};
use orchestra_core::quantity::Quantity;
use orchestra_core::selector::LabelSelector;

/// A load never panics; a refusal names problems; what was loaded is valid, and loads again from
/// its JSON as the same.
pub fn manifest(text: &str) {
    let loader = Loader::new().skip_unknown_kinds();
    let found = match loader.load(text) {
        Ok(found) => found,
        Err(error) => {
            assert!(!error.problems.is_empty() && error.problems.len() <= PROBLEMS_MAX);
            assert!(!error.to_string().is_empty());
            assert!(
                error
                    .problems
                    .iter()
                    .all(|problem| problem.place.document > 0)
            );
            return;
        }
    };
    let all: Vec<_> = found
        .objects
        .iter()
        .cloned()
        .map(|object| object.with(ValidJson))
        .collect();
    let text = serde_json::to_string(&all).expect("JSON can be written");
    let again = loader
        .load(&text)
        .unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert_eq!(again.objects, found.objects);
}

struct ValidJson;

impl WithObject for ValidJson {
    type Out = serde_json::Value;

    fn with<K: Resource>(self, object: K) -> serde_json::Value {
        assert_eq!(object.validate(), Ok(()));
        let mut defaulted = object.clone();
        defaulted.set_defaults();
        assert_eq!(defaulted, object, "defaults are filled in once");
        serde_json::to_value(object).expect("objects can be written as JSON")
    }

    fn with_custom(self, _object: CustomObject) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// A quantity that is read is written in a form that reads as the same amount, and that form is
/// final.
pub fn quantity(text: &str) {
    match text.parse::<Quantity>() {
        Ok(amount) => {
            let written = amount.to_string();
            assert_eq!(
                written.parse(),
                Ok(amount),
                "{text} was written as {written}"
            );
            assert_eq!(
                written.parse::<Quantity>().map(|again| again.to_string()),
                Ok(written)
            );
            assert!(amount.as_int().unsigned_abs() <= amount.as_milli().unsigned_abs());
        }
        Err(error) => assert!(error.to_string().contains("is not a quantity")),
    }
}

/// A selector that is read is written in a form that reads as the same selector.
pub fn selector(text: &str) {
    match text.parse::<LabelSelector>() {
        Ok(selector) => {
            let written = selector.to_string();
            assert_eq!(
                written.parse(),
                Ok(selector),
                "{text:?} was written as {written:?}"
            );
        }
        Err(error) => assert!(error.to_string().contains("is not a label selector")),
    }
}

/// Any bytes under a pod's key are a pod or an error, and a pod can be stored again.
pub fn stored(bytes: &[u8]) {
    let stored = |value: &[u8]| Versioned {
        key: "pods/default/a".into(),
        value: value.into(),
        created: Revision(1),
        modified: Revision(2),
        lease: None,
    };
    if let Ok(pod) = decode::<Pod>(&stored(bytes)) {
        let value = encode(&pod).expect("what was read can be written");
        let again = decode::<Pod>(&stored(&value)).expect("what was written can be read");
        assert_eq!(again, pod);
    }
}
