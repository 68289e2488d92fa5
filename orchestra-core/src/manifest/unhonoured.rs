//! The fields that are read and kept but that nothing acts on yet. One line goes when its field
//! comes to life.

use super::tree::{Node, Value};

/// In the spec of a pod, wherever one stands.
const POD_SPEC: &[(&str, &str)] = &[
    ("securityContext", "pods run as the user of the agent"),
    ("imagePullSecrets", "drivers take images as they are"),
    (
        "hostNetwork",
        "pods share the network of the host or get loopback addresses",
    ),
    ("hostPID", "pods run without namespaces of their own"),
    ("hostIPC", "pods run without namespaces of their own"),
    ("hostUsers", "pods run without namespaces of their own"),
    (
        "shareProcessNamespace",
        "pods run without namespaces of their own",
    ),
    ("hostAliases", "names come from the embedded DNS server"),
    ("dnsPolicy", "names come from the embedded DNS server"),
    ("dnsConfig", "names come from the embedded DNS server"),
    ("setHostnameAsFQDN", "pods keep the name of the host"),
    ("runtimeClassName", "the node's driver runs the pod"),
    ("serviceAccountName", "there are no service accounts"),
    ("serviceAccount", "there are no service accounts"),
    (
        "automountServiceAccountToken",
        "there are no service accounts",
    ),
    ("enableServiceLinks", "services are found by name"),
    ("resourceClaims", "there are no devices to claim"),
    ("ephemeralContainers", "only init and main containers run"),
    (
        "volumes.*.persistentVolumeClaim",
        "there are no persistent volumes",
    ),
    ("volumes.*.ephemeral", "there are no persistent volumes"),
    ("volumes.*.csi", "there are no persistent volumes"),
    ("volumes.*.nfs", "there are no persistent volumes"),
    (
        "containers.*.securityContext",
        "containers run as the user of the agent",
    ),
    ("containers.*.volumeDevices", "there are no block devices"),
    (
        "containers.*.terminationMessagePath",
        "the end of the output tells why it ended",
    ),
    (
        "containers.*.terminationMessagePolicy",
        "the end of the output tells why it ended",
    ),
    ("containers.*.stdin", "containers get no input"),
    ("containers.*.stdinOnce", "containers get no input"),
    ("containers.*.tty", "containers get no terminal"),
    (
        "containers.*.resizePolicy",
        "a change of resources restarts the container",
    ),
    (
        "initContainers.*.securityContext",
        "containers run as the user of the agent",
    ),
    (
        "initContainers.*.volumeDevices",
        "there are no block devices",
    ),
    (
        "initContainers.*.terminationMessagePath",
        "the end of the output tells why it ended",
    ),
    (
        "initContainers.*.terminationMessagePolicy",
        "the end of the output tells why it ended",
    ),
];

/// In a kind other than by way of its pods.
const KINDS: &[(&str, &[(&str, &str)])] = &[
    (
        "Service",
        &[
            (
                "spec.externalIPs",
                "services are reached within the cluster",
            ),
            (
                "spec.externalTrafficPolicy",
                "services are reached within the cluster",
            ),
            (
                "spec.healthCheckNodePort",
                "services are reached within the cluster",
            ),
            (
                "spec.loadBalancerIP",
                "services are reached within the cluster",
            ),
            (
                "spec.loadBalancerClass",
                "services are reached within the cluster",
            ),
            (
                "spec.loadBalancerSourceRanges",
                "services are reached within the cluster",
            ),
            (
                "spec.allocateLoadBalancerNodePorts",
                "services are reached within the cluster",
            ),
            ("spec.ipFamilies", "services get IPv4 addresses"),
            ("spec.ipFamilyPolicy", "services get IPv4 addresses"),
        ],
    ),
    (
        "StatefulSet",
        &[(
            "spec.volumeClaimTemplates",
            "there are no persistent volumes",
        )],
    ),
    (
        "Namespace",
        &[("spec.finalizers", "a namespace goes when it is empty")],
    ),
];

/// Where a kind keeps the spec of its pods.
fn pod_spec_path(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Pod" => "spec",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => "spec.template.spec",
        "CronJob" => "spec.jobTemplate.spec.template.spec",
        _ => return None,
    })
}

/// The paths of `object` that nothing acts on, with what happens instead.
pub(super) fn find(kind: &str, object: &Node) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    let own = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .map_or(&[][..], |(_, table)| *table);
    for (pattern, instead) in own {
        walk(object, pattern, String::new(), &mut |path| {
            found.push((path, *instead))
        });
    }
    if let Some(base) = pod_spec_path(kind) {
        walk_to(object, base, |spec| {
            for (pattern, instead) in POD_SPEC {
                walk(spec, pattern, base.to_owned(), &mut |path| {
                    found.push((path, *instead))
                });
            }
        });
    }
    found
}

fn walk_to(node: &Node, path: &str, then: impl FnOnce(&Node)) {
    let mut here = node;
    for key in path.split('.') {
        match here.get(key) {
            Some(below) => here = below,
            None => return,
        }
    }
    then(here);
}

/// Calls `hit` for each thing at `pattern`, where `*` is any item of a list. What says nothing
/// (`null`, `false`, an empty mapping) is no hit.
fn walk(node: &Node, pattern: &str, path: String, hit: &mut dyn FnMut(String)) {
    let (first, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    let mut descend = |below: &Node, path: String| {
        if !rest.is_empty() {
            walk(below, rest, path, hit);
        } else if !says_nothing(below) {
            hit(path);
        }
    };
    if first == "*" {
        if let Value::Seq(items) = &node.value {
            for (n, item) in items.iter().enumerate() {
                descend(item, format!("{path}[{n}]"));
            }
        }
    } else if let Some(below) = node.get(first) {
        let dot = if path.is_empty() { "" } else { "." };
        descend(below, format!("{path}{dot}{first}"));
    }
}

fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Map(entries) => entries.is_empty(),
        Value::Seq(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn fields_are_found_wherever_a_pod_is_described() {
        let text = "spec: {template: {spec: {securityContext: {}, dnsPolicy: Default, \
                    containers: [{name: a}, {name: b, tty: true}]}}}";
        let node: Node = serde_saphyr::from_str(text).unwrap();
        let paths: Vec<_> = find("Deployment", &node)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(
            paths,
            [
                "spec.template.spec.dnsPolicy",
                "spec.template.spec.containers[1].tty"
            ]
        );
        assert_eq!(find("Pod", &node), []);
        let service: Node = serde_saphyr::from_str("spec: {ipFamilies: [IPv4]}").unwrap();
        assert_eq!(find("Service", &service)[0].0, "spec.ipFamilies");
    }
}
