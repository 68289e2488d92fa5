//! The fields that are read and kept but that nothing acts on yet, and those of Kubernetes that are
//! not even kept. One line goes when its field comes to life.
//!
//! In a pattern `*` is any item of a list, `a|b` is either name, and `path!VALUE` spares the value
//! that asks for what happens anyway.

use super::tree::{Node, Segment, Value, write_path};

/// What a pattern matches, and what happens instead of it.
type Row = (&'static str, &'static str);

const ALONE: &str = "pods run without namespaces of their own";
const USER: &str = "containers run as the user of the agent";
const NAMES: &str = "names are looked up as on the host";
const ACCOUNTS: &str = "there are no service accounts";
const NO_STORAGE: &str = "there is no such storage; a pod that asks for it does not start";
const HOST_FILES: &str = "containers see the files of the host; the mount's variable leads there";
const MODES: &str = "files get the permissions that the agent's files get";
const LAST_WORDS: &str = "no such file is read; terminationMessagePolicy: FallbackToLogsOnError shows the end of what it printed";
const NO_GRPC: &str = "needs a gRPC prober of the application's own; without one it never passes";
const INSIDE: &str = "services are reached within the cluster";

/// In the spec of a pod, wherever one stands.
const POD_SPEC: &[Row] = &[
    ("securityContext", "pods run as the user of the agent"),
    ("imagePullSecrets", "drivers take images as they are"),
    (
        "hostNetwork",
        "pods share the network of the host or get loopback addresses",
    ),
    ("hostPID|hostIPC|shareProcessNamespace", ALONE),
    ("hostUsers!true", ALONE),
    ("hostAliases|dnsConfig", NAMES),
    ("dnsPolicy!Default", NAMES),
    (
        "hostname|hostnameOverride|subdomain|setHostnameAsFQDN",
        "pods keep the name of the host",
    ),
    (
        "schedulingGroup|workloadRef",
        "pods that start together have the label orchestra.dev/pod-group",
    ),
    (
        "evictionResponders",
        "pods are evicted as disruption budgets allow",
    ),
    (
        "serviceAccountName|serviceAccount|automountServiceAccountToken",
        ACCOUNTS,
    ),
    (
        "os",
        "nodes are taken for alike; select them by the label kubernetes.io/os",
    ),
    ("resourceClaims", "there are no devices to claim"),
    ("ephemeralContainers", "only init and main containers run"),
    (
        "volumes.*.persistentVolumeClaim|ephemeral|csi|nfs|image",
        NO_STORAGE,
    ),
    (
        "volumes.*.awsElasticBlockStore|azureDisk|azureFile|cephfs|cinder|fc",
        NO_STORAGE,
    ),
    (
        "volumes.*.flexVolume|flocker|gcePersistentDisk|gitRepo|glusterfs|iscsi",
        NO_STORAGE,
    ),
    (
        "volumes.*.photonPersistentDisk|portworxVolume|quobyte|rbd|scaleIO",
        NO_STORAGE,
    ),
    ("volumes.*.storageos|vsphereVolume|otherSource", NO_STORAGE),
    (
        "volumes.*.projected.sources.*.serviceAccountToken|clusterTrustBundle",
        NO_STORAGE,
    ),
    ("volumes.*.emptyDir.medium!Memory", "it lies on disk"),
    (
        "volumes.*.emptyDir.sizeLimit",
        "it may grow as the disk allows",
    ),
    (
        "volumes.*.configMap|secret|downwardAPI|projected.defaultMode",
        MODES,
    ),
    ("volumes.*.configMap|secret|downwardAPI.items.*.mode", MODES),
    (
        "volumes.*.projected.sources.*.configMap|secret|downwardAPI.items.*.mode",
        MODES,
    ),
];

/// In a container, init or main.
const CONTAINER: &[Row] = &[
    ("imagePullPolicy", "drivers take images as they are"),
    ("securityContext", USER),
    ("volumeDevices", "there are no block devices"),
    (
        "volumeMounts.*.readOnly|recursiveReadOnly|mountPropagation",
        HOST_FILES,
    ),
    (
        "volumeMounts.*.subPathExpr",
        "the mount leads to the whole volume; write subPath",
    ),
    ("terminationMessagePath", LAST_WORDS),
    ("stdin|stdinOnce", "containers get no input"),
    ("tty", "containers get no terminal"),
    (
        "restartPolicyRules",
        "restartPolicy holds whatever the exit code",
    ),
    (
        "livenessProbe|readinessProbe|startupProbe.httpGet.protocol",
        "probes speak HTTP/1.1",
    ),
    (
        "lifecycle.postStart|preStop.httpGet.protocol",
        "hooks speak HTTP/1.1",
    ),
    ("volumeMounts.*.bindMountOptions", HOST_FILES),
    ("resizePolicy", "resources are set when a container starts"),
    ("resources.claims", "there are no devices to claim"),
    (
        "resources.limits.ephemeral-storage",
        "only cpu and memory are limited",
    ),
    (
        "ports.*.hostPort",
        "pods that ask for the same one are kept apart; nothing listens there",
    ),
    ("livenessProbe|readinessProbe|startupProbe.grpc", NO_GRPC),
    (
        "lifecycle.stopSignal",
        "containers are asked to end by SIGTERM",
    ),
];

/// In every kind.
const ANY_KIND: &[Row] = &[
    ("metadata.managedFields", "nobody keeps who set which field"),
    (
        "metadata.selfLink",
        "objects are found by kind, namespace and name",
    ),
];

/// In a kind other than by way of its pods.
const KINDS: &[(&str, &[Row])] = &[
    (
        "Service",
        &[
            ("spec.type!ClusterIP", INSIDE),
            (
                "spec.externalIPs|externalTrafficPolicy|healthCheckNodePort",
                INSIDE,
            ),
            (
                "spec.loadBalancerIP|loadBalancerClass|loadBalancerSourceRanges",
                INSIDE,
            ),
            ("spec.allocateLoadBalancerNodePorts|externalName", INSIDE),
            ("spec.ports.*.nodePort", INSIDE),
            ("spec.ports.*.protocol!TCP", "only TCP is passed on"),
            (
                "spec.ports.*.appProtocol",
                "connections are passed on byte for byte",
            ),
            (
                "spec.sessionAffinity!None",
                "each connection goes to the next ready pod",
            ),
            (
                "spec.sessionAffinityConfig",
                "each connection goes to the next ready pod",
            ),
            (
                "spec.internalTrafficPolicy!Cluster",
                "pods of all nodes get connections alike",
            ),
            (
                "spec.trafficDistribution",
                "pods of all nodes get connections alike",
            ),
            ("spec.ipFamilies.*!IPv4", "services get IPv4 addresses"),
            (
                "spec.ipFamilyPolicy!SingleStack",
                "services get IPv4 addresses",
            ),
        ],
    ),
    (
        "ConfigMap",
        &[("immutable", "it can be changed all the same")],
    ),
    ("Secret", &[("immutable", "it can be changed all the same")]),
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
    (
        "Node",
        &[
            (
                "spec.providerID|configSource|externalID",
                "a node is known by its name",
            ),
            (
                "status.conditions.*.lastHeartbeatTime",
                "the node's lease tells when it was heard of",
            ),
            (
                "status.volumesAttached|volumesInUse",
                "there are no persistent volumes",
            ),
        ],
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

/// The paths of `object` that nothing acts on, with what happens instead, or nothing where they ask
/// for nothing else.
pub(super) fn find(kind: &str, object: &Node) -> Vec<(String, Option<&'static str>)> {
    let mut found = Vec::new();
    let own = KINDS.iter().filter(|(name, _)| *name == kind);
    let own = own.flat_map(|(_, rows)| rows.iter());
    look(object, "", ANY_KIND.iter().chain(own), &mut found);
    if let Some(base) = pod_spec_path(kind) {
        walk_to(object, base, |spec| {
            look(spec, base, POD_SPEC, &mut found);
            for field in ["initContainers", "containers"] {
                let Some(Value::Seq(containers)) = spec.get(field).map(|node| &node.value) else {
                    continue;
                };
                for (n, container) in containers.iter().enumerate() {
                    look(
                        container,
                        &format!("{base}.{field}[{n}]"),
                        CONTAINER,
                        &mut found,
                    );
                }
            }
        });
    }
    found
}

fn look<'a>(
    node: &Node,
    base: &str,
    rows: impl IntoIterator<Item = &'a Row>,
    found: &mut Vec<(String, Option<&'static str>)>,
) {
    for (pattern, instead) in rows {
        let (pattern, spared) = pattern.split_once('!').unwrap_or((pattern, ""));
        walk(node, pattern, base.to_owned(), &mut |path, node| {
            let said = if spared.is_empty() {
                !says_nothing(node)
            } else {
                !matches!(node.describe().as_str(), "" | "null") && node.describe() != spared
            };
            found.push((path, said.then_some(*instead)));
        });
    }
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

/// Calls `hit` for each thing at `pattern`.
fn walk(node: &Node, pattern: &str, path: String, hit: &mut dyn FnMut(String, &Node)) {
    let (first, rest) = pattern.split_once('.').unwrap_or((pattern, ""));
    let mut descend = |below: &Node, path: String| {
        if rest.is_empty() {
            hit(path, below);
        } else {
            walk(below, rest, path, hit);
        }
    };
    if first == "*" {
        if let Value::Seq(items) = &node.value {
            for (n, item) in items.iter().enumerate() {
                descend(item, format!("{path}[{n}]"));
            }
        }
        return;
    }
    for name in first.split('|') {
        if let Some(below) = node.get(name) {
            let segment = write_path(&[Segment::Key(name.to_owned())]);
            let joint = if path.is_empty() || segment.starts_with('[') {
                ""
            } else {
                "."
            };
            descend(below, format!("{path}{joint}{segment}"));
        }
    }
}

/// Whether it is `null`, `false`, or empty.
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

    fn paths(kind: &str, text: &str) -> Vec<String> {
        let node: Node = serde_saphyr::from_str(text).unwrap();
        find(kind, &node)
            .into_iter()
            .filter_map(|(path, instead)| instead.map(|_| path))
            .collect()
    }

    #[test]
    fn fields_are_found_wherever_a_pod_is_described() {
        let text = "spec: {template: {spec: {securityContext: {}, dnsPolicy: ClusterFirst, \
                    initContainers: [{name: c, stdin: true}], \
                    containers: [{name: a}, {name: b, tty: true}]}}}";
        let spec = "spec.template.spec";
        assert_eq!(
            paths("Deployment", text),
            [
                format!("{spec}.dnsPolicy"),
                format!("{spec}.initContainers[0].stdin"),
                format!("{spec}.containers[1].tty")
            ]
        );
        assert_eq!(paths("Pod", text), [""; 0]);
    }

    #[test]
    fn alternatives_lists_and_spared_values() {
        let text = "spec: {type: ClusterIP, sessionAffinity: ClientIP, ipFamilies: [IPv4, IPv6], \
                    ports: [{protocol: TCP}, {protocol: UDP, nodePort: 30000}, {protocol: null}]}";
        assert_eq!(
            paths("Service", text),
            [
                "spec.ports[1].nodePort",
                "spec.ports[1].protocol",
                "spec.sessionAffinity",
                "spec.ipFamilies[1]"
            ]
        );
        let text = "spec: {hostUsers: false, volumes: [{configMap: {items: [{mode: 1}]}}, \
                    {iscsi: {}}, {rbd: {image: a}}, {emptyDir: {medium: Memory}}, \
                    {emptyDir: {medium: \"\"}}, {emptyDir: {medium: HugePages}}], containers: [{resources: {limits: \
                    {ephemeral-storage: 1Gi, cpu: 1}}}]}";
        assert_eq!(
            paths("Pod", text),
            [
                "spec.hostUsers",
                "spec.volumes[2].rbd",
                "spec.volumes[5].emptyDir.medium",
                "spec.volumes[0].configMap.items[0].mode",
                "spec.containers[0].resources.limits[ephemeral-storage]"
            ]
        );
    }

    #[test]
    fn what_kubernetes_does_anyway_is_spared_and_what_is_new_is_known() {
        let spared = "spec: {dnsPolicy: Default, hostUsers: true, containers: [{name: a}]}";
        assert_eq!(paths("Pod", spared), [""; 0]);
        let spared = "spec: {ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}";
        assert_eq!(paths("Service", spared), [""; 0]);
        let new = "spec: {hostnameOverride: a, schedulingGroup: {name: g}, evictionResponders: [r], \
                   containers: [{restartPolicyRules: [r], livenessProbe: {httpGet: {protocol: H2}}, \
                   lifecycle: {preStop: {httpGet: {protocol: H2}}}}]}";
        assert_eq!(paths("Pod", new).len(), 6);
    }

    /// A name that no kind has would never be found, and nobody would notice.
    #[test]
    fn patterns_are_well_formed() {
        let rows = KINDS.iter().flat_map(|(_, rows)| rows.iter());
        for (pattern, instead) in rows.chain(POD_SPEC).chain(CONTAINER).chain(ANY_KIND) {
            let path = pattern.split('!').next().unwrap();
            assert!(!instead.is_empty() && !instead.ends_with('.'), "{pattern}");
            for name in path.split(['.', '|']) {
                let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                assert!(name == "*" || (word && !name.is_empty()), "{pattern}");
            }
        }
    }
}
