//! Every rule, broken once: a good manifest, one change, and the path that must be named.
#![allow(clippy::unwrap_used)]

mod pods;

use serde_json::{Value, json};

use super::*;

/// The object after its defaults, as the API checks it.
fn read<K: Resource>(manifest: &Value) -> K {
    let mut object: K = serde_json::from_value(manifest.clone()).unwrap();
    object.set_defaults();
    object
}

/// Puts each value at its place in `good`, one at a time, and expects an error at that path which
/// says that. Place and path are those of JSON pointers and of manifests.
fn refuses<K: Resource>(good: &Value, changes: &[(&str, Value, &str, &str)]) {
    assert_eq!(
        validate_object(&read::<K>(good)),
        Ok(()),
        "the manifest itself is good"
    );
    for (place, value, path, problem) in changes {
        let mut manifest = good.clone();
        let (parent, last) = place.rsplit_once('/').unwrap();
        let target = manifest
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{place} is nowhere"));
        match target {
            Value::Object(fields) => {
                fields.insert(last.to_owned(), value.clone());
            }
            Value::Array(items) => items.push(value.clone()),
            _ => panic!("{place} leads into neither map nor list"),
        }
        let invalid = validate_object(&read::<K>(&manifest))
            .expect_err(&format!("{place} = {value} breaks a rule"));
        let found = invalid.errors.iter().find(|error| error.path == *path);
        let found = found.unwrap_or_else(|| panic!("{place} = {value}: {invalid}"));
        assert!(
            found.problem.contains(problem),
            "{place} = {value}: {found}"
        );
        assert!(!found.remedy.is_empty(), "{found}");
    }
}

fn good_pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "initContainers": [{"name": "setup", "image": "setup:1"}],
            "containers": [{
                "name": "web", "image": "web:1",
                "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "envFrom": [{"configMapRef": {"name": "settings"}}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
                "livenessProbe": {"httpGet": {"port": "http"}},
                "readinessProbe": {"grpc": {"port": 9000}},
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            }],
            "volumes": [{"name": "data", "configMap": {"name": "c", "items": []}}],
            "affinity": {
                "nodeAffinity": {}, "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            },
            "tolerations": [],
            "topologySpreadConstraints": [],
            "hostAliases": [], "schedulingGates": [], "readinessGates": [],
        },
    })
}

#[test]
fn metadata() {
    let many: Value = (0..1_001)
        .map(|n| (format!("k{n}"), json!("")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let hundred_thousand: Value = (0..100_000)
        .map(|n| (format!("k{n}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    refuses::<Pod>(
        &good_pod(),
        &[
            ("/metadata/name", json!(""), "metadata.name", "is missing"),
            (
                "/metadata/name",
                json!("Web"),
                "metadata.name",
                "is not a DNS subdomain",
            ),
            (
                "/metadata/name",
                json!("a".repeat(254)),
                "metadata.name",
                "is not a DNS subdomain",
            ),
            (
                "/metadata/generateName",
                json!("_"),
                "metadata.generateName",
                "begins no name",
            ),
            (
                "/metadata/namespace",
                json!("a.b"),
                "metadata.namespace",
                "is not a DNS label",
            ),
            (
                "/metadata/labels",
                json!({"a b": ""}),
                "metadata.labels[a b]",
                "qualified name",
            ),
            (
                "/metadata/labels",
                json!({"a": "b c"}),
                "metadata.labels[a]",
                "label value",
            ),
            (
                "/metadata/labels",
                many,
                "metadata.labels",
                "has more than 1000",
            ),
            (
                "/metadata/labels",
                hundred_thousand,
                "metadata.labels",
                "has more than 1000",
            ),
            (
                "/metadata/annotations",
                json!({"/": ""}),
                "metadata.annotations[/]",
                "qualified name",
            ),
            (
                "/metadata/annotations",
                json!({"a": "x".repeat(262_144)}),
                "metadata.annotations",
                "is more than 262144 bytes",
            ),
            (
                "/metadata/finalizers",
                json!(["a b"]),
                "metadata.finalizers[0]",
                "qualified name",
            ),
            (
                "/metadata/ownerReferences",
                json!([{"kind": "Deployment", "name": "web"}]),
                "metadata.ownerReferences[0].uid",
                "is missing",
            ),
            (
                "/metadata/ownerReferences",
                json!([{"controller": true}, {"controller": true}]),
                "metadata.ownerReferences",
                "several controllers",
            ),
        ],
    );
    let node = json!({"metadata": {"name": "n"}});
    refuses::<Node>(
        &node,
        &[(
            "/metadata/namespace",
            json!("a"),
            "metadata.namespace",
            "cluster-wide",
        )],
    );
    let generated = json!({"metadata": {"generateName": "web-"}, "spec": good_pod()["spec"]});
    assert_eq!(validate_object(&read::<Pod>(&generated)), Ok(()));
}

#[test]
fn errors_are_bounded() {
    let mut pod: Pod = read(&good_pod());
    pod.spec.containers = vec![Container::default(); 1_000];
    let invalid = validate_object(&pod).unwrap_err();
    assert_eq!(invalid.errors.len(), 100);
}

#[test]
fn deployments() {
    let good = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            },
        },
    });
    refuses::<Deployment>(
        &good,
        &[
            ("/spec/selector", json!({}), "spec.selector", "is missing"),
            (
                "/spec/selector",
                json!({"matchLabels": {"app": "api"}}),
                "spec.template.metadata.labels",
                "does not match",
            ),
            (
                "/spec/template/metadata/annotations",
                json!({"a b": ""}),
                "spec.template.metadata.annotations[a b]",
                "qualified name",
            ),
            (
                "/spec/template/spec/containers/0/name",
                json!("Web"),
                "spec.template.spec.containers[0].name",
                "is not a DNS label",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                "spec.template.spec.restartPolicy",
                "not for a Deployment",
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(9),
                "spec.template.spec.activeDeadlineSeconds",
                "not for a Deployment",
            ),
            (
                "/spec/strategy/type",
                json!("Recreate"),
                "spec.strategy.rollingUpdate",
                "Recreate",
            ),
            (
                "/spec/strategy/rollingUpdate",
                json!({"maxUnavailable": 0, "maxSurge": "0%"}),
                "spec.strategy.rollingUpdate",
                "at zero",
            ),
            (
                "/spec/strategy/rollingUpdate",
                json!({"maxUnavailable": "101%"}),
                "spec.strategy.rollingUpdate.maxUnavailable",
                "is more than all",
            ),
            (
                "/spec/minReadySeconds",
                json!(600),
                "spec.progressDeadlineSeconds",
                "is not above minReadySeconds",
            ),
        ],
    );
}

#[test]
fn services() {
    let good = json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
    });
    refuses::<Service>(
        &good,
        &[
            (
                "/metadata/name",
                json!("9web"),
                "metadata.name",
                "starts with a digit",
            ),
            (
                "/metadata/name",
                json!("a.b"),
                "metadata.name",
                "is not a DNS label",
            ),
            (
                "/spec/selector",
                json!({"a": "b c"}),
                "spec.selector[a]",
                "label value",
            ),
            ("/spec/ports", json!([]), "spec.ports", "is missing"),
            (
                "/spec/ports/-",
                json!({"port": 81}),
                "spec.ports[1].name",
                "is missing",
            ),
            (
                "/spec/ports/-",
                json!({"name": "http", "port": 81}),
                "spec.ports[1].name",
                "already taken",
            ),
            (
                "/spec/ports/-",
                json!({"name": "b", "port": 80}),
                "spec.ports[1].port",
                "is taken twice for TCP",
            ),
            (
                "/spec/ports/-",
                json!({"name": "b"}),
                "spec.ports[1].port",
                "is not a port",
            ),
            (
                "/spec/ports/-",
                json!({"name": "b", "port": 1, "targetPort": 65_536}),
                "spec.ports[1].targetPort",
                "is not a port",
            ),
            (
                "/spec/ports/-",
                json!({"name": "b", "port": 1, "nodePort": 30_000}),
                "spec.ports[1].nodePort",
                "is only for the types",
            ),
            (
                "/spec/clusterIP",
                json!("here"),
                "spec.clusterIP",
                "is neither",
            ),
            (
                "/spec/type",
                json!("ExternalName"),
                "spec.externalName",
                "is not a DNS subdomain",
            ),
            (
                "/spec/sessionAffinityConfig",
                json!({"clientIP": {"timeoutSeconds": 0}}),
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "is out of range",
            ),
        ],
    );
}

#[test]
fn the_other_kinds() {
    let node = json!({"metadata": {"name": "n"}, "spec": {"taints": []}});
    let twice = json!([{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]);
    refuses::<Node>(
        &node,
        &[
            (
                "/spec/taints",
                json!([{"key": ""}]),
                "spec.taints[0].key",
                "qualified name",
            ),
            (
                "/spec/taints",
                json!([{"key": "a", "value": "b c"}]),
                "spec.taints[0].value",
                "is no value",
            ),
            (
                "/spec/taints",
                twice,
                "spec.taints[1].key",
                "is already there",
            ),
            (
                "/spec/podCIDR",
                json!("10.0.0.0/33"),
                "spec.podCIDR",
                "is no range",
            ),
            (
                "/status",
                json!({"capacity": {"cpu": "-1"}}),
                "status.capacity[cpu]",
                "is negative",
            ),
        ],
    );
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {}}});
    refuses::<PodDisruptionBudget>(
        &budget,
        &[
            ("/spec/minAvailable", json!(null), "spec", "has neither"),
            ("/spec/maxUnavailable", json!(1), "spec", "has both"),
            (
                "/spec/minAvailable",
                json!("101%"),
                "spec.minAvailable",
                "is more than all",
            ),
        ],
    );
    let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.1.0.1"]}], "ports": [{"name": "http", "port": 80}]});
    let crowd: Vec<_> = (0..1_001)
        .map(|_| json!({"addresses": ["10.0.0.1"]}))
        .collect();
    refuses::<EndpointSlice>(
        &slice,
        &[
            (
                "/endpoints/-",
                json!({}),
                "endpoints[1].addresses",
                "is missing",
            ),
            (
                "/endpoints/-",
                json!({"addresses": ["::1"]}),
                "endpoints[1].addresses[0]",
                "IPv4",
            ),
            (
                "/endpoints",
                json!(crowd),
                "endpoints",
                "has more than 1000",
            ),
            (
                "/ports/-",
                json!({"name": "b", "port": 0}),
                "ports[1].port",
                "is not a port",
            ),
            (
                "/ports/-",
                json!({"name": "http", "port": 1}),
                "ports[1].name",
                "already taken",
            ),
        ],
    );
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "1"}, "binaryData": {}});
    refuses::<ConfigMap>(
        &map,
        &[
            (
                "/data",
                json!({"a b": ""}),
                "data[a b]",
                "is not a usable key",
            ),
            (
                "/data",
                json!({"..a": ""}),
                "data[..a]",
                "is not a usable key",
            ),
            (
                "/data",
                json!({"a": "x".repeat((1 << 20) + 1)}),
                "data",
                "is more than 1048576 bytes",
            ),
            (
                "/binaryData",
                json!({"a": "AA=="}),
                "binaryData[a]",
                "is also in data",
            ),
        ],
    );
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "x"}});
    refuses::<Secret>(
        &secret,
        &[
            (
                "/stringData",
                json!({"a/b": ""}),
                "data[a/b]",
                "is not a usable key",
            ),
            (
                "/type",
                json!("kubernetes.io/tls"),
                "data[tls.crt]",
                "is missing",
            ),
        ],
    );
    let class = json!({"metadata": {"name": "c"}, "value": 7});
    refuses::<PriorityClass>(
        &class,
        &[("/value", json!(1_000_000_001), "value", "is above")],
    );
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    let zero = json!(0);
    refuses::<Lease>(
        &lease,
        &[(
            "/spec/leaseDurationSeconds",
            zero,
            "spec.leaseDurationSeconds",
            "is not positive",
        )],
    );
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": {}});
    refuses::<ControllerRevision>(
        &revision,
        &[
            ("/revision", json!(-1), "revision", "is negative"),
            ("/data", json!(null), "data", "is missing"),
        ],
    );
    let event =
        json!({"metadata": {"name": "e", "namespace": "a"}, "involvedObject": {"kind": "Pod"}});
    refuses::<Event>(
        &event,
        &[(
            "/involvedObject",
            json!({"namespace": "b"}),
            "involvedObject.namespace",
            "is not the event's",
        )],
    );
    let space = json!({"metadata": {"name": "a"}});
    refuses::<Namespace>(
        &space,
        &[(
            "/metadata/name",
            json!("a.b"),
            "metadata.name",
            "is not a DNS label",
        )],
    );
}

#[test]
fn a_bad_name_is_one_mistake() {
    let container = Container::new("main", "i");
    let mut web = Deployment::new("Bad Name").container(container);
    web.set_defaults();
    let invalid = validate_object(&web).unwrap_err();
    assert!(
        invalid.errors.len() == 1 && invalid.errors[0].path == "metadata.name",
        "{invalid}"
    );
    web.metadata.name = "good".into();
    let invalid = validate_object(&web).unwrap_err().to_string();
    assert!(
        invalid
            .contains("spec.selector.matchLabels[app]: \"Bad Name\" is not a label value: it has"),
        "{invalid}"
    );
}
