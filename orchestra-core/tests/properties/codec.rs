//! What is stored comes back as it was.

use orchestra_core::codec::{decode, encode};
use orchestra_core::int_or::IntOrString;
use orchestra_core::kind::{Container, Pod};
use orchestra_core::meta::{Condition, ObjectMeta, Uid};
use orchestra_core::port::store::{Revision, Versioned};
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;
use proptest::prelude::*;

fn metadata() -> impl Strategy<Value = ObjectMeta> {
    let texts = || prop::collection::btree_map("[a-z\"\\\\{}:,]{1,16}", any::<String>(), 0..4);
    (
        any::<String>(),
        texts(),
        texts(),
        any::<u128>(),
        any::<u64>(),
        any::<Option<i64>>(),
    )
        .prop_map(
            |(name, labels, annotations, uid, generation, created)| ObjectMeta {
                labels: labels
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect(),
                annotations: annotations
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect(),
                uid: Uid(uid),
                generation,
                creation_timestamp: created.map(Timestamp::from_micros),
                ..ObjectMeta::named(name)
            },
        )
}

fn container() -> impl Strategy<Value = Container> {
    (
        any::<String>(),
        prop::collection::vec(any::<String>(), 0..3),
        any::<i64>(),
    )
        .prop_map(|(name, args, cpu)| {
            let mut container = Container {
                name: name.into(),
                args,
                ..Container::default()
            };
            let requests = &mut container.resources.requests;
            requests.insert("cpu".into(), Quantity::from_milli(cpu));
            container
        })
}

proptest! {
    #[test]
    fn a_pod_comes_back_with_the_stores_revision(
        metadata in metadata(),
        containers in prop::collection::vec(container(), 0..3),
        message: String,
        before: u64,
        modified in 1_u64..,
    ) {
        let mut pod = Pod { metadata, ..Pod::default() };
        pod.metadata.resource_version = Revision(before);
        pod.spec.containers = containers;
        pod.status.conditions.push(Condition { message, ..Condition::default() });
        let value = encode(&pod).unwrap();
        pod.metadata.resource_version = Revision(0);
        prop_assert_eq!(&encode(&pod).unwrap(), &value, "the revision leaves no trace");
        let stored = Versioned {
            key: "pods/default/a".into(),
            value,
            created: Revision(1),
            modified: Revision(modified),
            lease: None,
        };
        pod.metadata.resource_version = Revision(modified);
        prop_assert_eq!(decode::<Pod>(&stored).unwrap(), pod);
    }

    #[test]
    fn a_port_comes_back(number: i32, name: String) {
        for port in [IntOrString::Int(number), IntOrString::String(name.into())] {
            let json = serde_json::to_string(&port).unwrap();
            prop_assert_eq!(serde_json::from_str::<IntOrString>(&json).unwrap(), port);
        }
    }
}
