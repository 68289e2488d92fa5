//! Whole manifests, as public projects write them: they load, pass, and come back as they were.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::pod::*;
use super::*;
use crate::quantity::Quantity;

/// Reads, checks, and writes again: every field must come back.
fn comes_back<K: Resource>(manifest: &Value) -> K {
    let object: K = serde_json::from_value(manifest.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(&object).unwrap(),
        *manifest,
        "every field comes back"
    );
    let mut complete = object.clone();
    complete.set_defaults();
    assert_eq!(validate_object(&complete), Ok(()));
    let text = serde_json::to_string(&complete).unwrap();
    let again: K = serde_json::from_str(&text).unwrap();
    assert_eq!(again, complete);
    assert!(again.same_spec(&complete));
    object
}

const FRONTEND: &str = r#"{
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "frontend", "namespace": "shop",
        "labels": {"app.kubernetes.io/name": "frontend", "app.kubernetes.io/version": "1.4.2"},
        "annotations": {"Deployment.example.com/owner": "team web"}
    },
    "spec": {
        "replicas": 3,
        "revisionHistoryLimit": 5,
        "minReadySeconds": 10,
        "selector": {"matchLabels": {"app.kubernetes.io/name": "frontend"}},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}
        },
        "template": {
            "metadata": {
                "labels": {"app.kubernetes.io/name": "frontend"},
                "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}
            },
            "spec": {
                "restartPolicy": "Always",
                "dnsPolicy": "ClusterFirst",
                "serviceAccountName": "frontend",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 45,
                "priorityClassName": "business-critical",
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000,
                    "seccompProfile": {"type": "RuntimeDefault"}
                },
                "imagePullSecrets": [{"name": "registry"}],
                "initContainers": [
                    {
                        "name": "migrate", "image": "example.com/shop/migrate:1.4.2",
                        "command": ["/migrate", "--wait"],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}]
                    },
                    {
                        "name": "logs", "image": "example.com/logs:3", "restartPolicy": "Always",
                        "terminationMessagePolicy": "File",
                        "volumeMounts": [
                            {"name": "logs", "mountPath": "/var/log/web", "readOnly": true}
                        ]
                    }
                ],
                "containers": [{
                    "name": "web",
                    "image": "example.com/shop/web:1.4.2",
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["--listen=:8080", "--node=$(NODE)"],
                    "terminationMessagePolicy": "File",
                    "ports": [
                        {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                        {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}
                    ],
                    "env": [
                        {"name": "LOG_LEVEL", "value": "info"},
                        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                        {"name": "PASSWORD", "valueFrom":
                            {"secretKeyRef": {"name": "db", "key": "password"}}},
                        {"name": "FEATURES", "valueFrom": {"configMapKeyRef":
                            {"name": "web", "key": "features", "optional": true}}},
                        {"name": "GOMEMLIMIT", "valueFrom":
                            {"resourceFieldRef": {"resource": "limits.memory"}}}
                    ],
                    "envFrom": [{"configMapRef": {"name": "web"}}],
                    "resources": {
                        "requests": {"cpu": "250m", "memory": "128Mi"},
                        "limits": {"memory": "256Mi"}
                    },
                    "livenessProbe": {
                        "httpGet": {"path": "/healthz", "port": "http", "scheme": "HTTP",
                            "httpHeaders": [{"name": "X-Probe", "value": "live"}]},
                        "initialDelaySeconds": 5, "periodSeconds": 20
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTP"},
                        "successThreshold": 2, "timeoutSeconds": 2
                    },
                    "startupProbe": {"grpc": {"port": 9090}, "failureThreshold": 30},
                    "lifecycle": {
                        "postStart": {"exec": {"command": ["/warm-up"]}},
                        "preStop": {"sleep": {"seconds": 5}}
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
                    },
                    "volumeMounts": [
                        {"name": "config", "mountPath": "/etc/web", "readOnly": true},
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "logs", "mountPath": "/var/log/web", "subPath": "web"}
                    ]
                }],
                "volumes": [
                    {"name": "config", "configMap":
                        {"name": "web", "items": [{"key": "web.yaml", "path": "web.yaml"}]}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                    {"name": "logs", "emptyDir": {}}
                ],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                            {"matchExpressions": [
                                {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
                            ]}
                        ]},
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 50, "preference": {"matchExpressions": [
                                {"key": "disk", "operator": "In", "values": ["ssd"]}
                            ]}}
                        ]
                    },
                    "podAntiAffinity": {
                        "preferredDuringSchedulingIgnoredDuringExecution": [
                            {"weight": 100, "podAffinityTerm": {
                                "topologyKey": "kubernetes.io/hostname",
                                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "frontend"}},
                                "namespaceSelector": {}
                            }}
                        ]
                    }
                },
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "minDomains": 3,
                    "topologyKey": "topology.kubernetes.io/zone",
                    "whenUnsatisfiable": "DoNotSchedule",
                    "nodeTaintsPolicy": "Honor",
                    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "frontend"}},
                    "matchLabelKeys": ["pod-template-hash"]
                }]
            }
        }
    }
}"#;

#[test]
fn a_web_frontend_with_probes_sidecar_and_spread() {
    let manifest = serde_json::from_str(FRONTEND).unwrap();
    let deployment: Deployment = comes_back(&manifest);
    let pod = &deployment.spec.template.spec;
    assert!(pod.init_containers[1].is_sidecar());
    assert!(matches!(
        pod.containers[0]
            .startup_probe
            .as_ref()
            .and_then(|probe| probe.action()),
        Some(ProbeAction::Grpc(_))
    ));
}

#[test]
fn a_node_agent_on_every_host() {
    let pod: Pod = comes_back(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "node-exporter-x7k2p", "namespace": "monitoring",
            "labels": {"app": "node-exporter"}},
        "spec": {
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirstWithHostNet",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "hostNetwork": true, "hostPID": true,
            "priority": 2_000_001_000, "preemptionPolicy": "PreemptLowerPriority",
            "runtimeClassName": "native", "overhead": {"cpu": "10m", "memory": "16Mi"},
            "tolerations": [
                {"operator": "Exists"},
                {"key": "dedicated", "operator": "Equal", "value": "infra", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                    "effect": "NoExecute", "tolerationSeconds": 60},
            ],
            "containers": [{
                "name": "exporter", "image": "example.com/node-exporter:v1.8.1",
                "terminationMessagePolicy": "File",
                "args": ["--path.rootfs=/host/root"],
                "ports": [{"name": "metrics", "containerPort": 9100, "hostPort": 9100,
                    "hostIP": "127.0.0.1", "protocol": "TCP"}],
                "securityContext": {"privileged": true},
                "volumeMounts": [
                    {"name": "root", "mountPath": "/host/root", "readOnly": true,
                        "mountPropagation": "HostToContainer"},
                    {"name": "all", "mountPath": "/var/run/all"},
                    {"name": "data", "mountPath": "/data"},
                ],
            }],
            "volumes": [
                {"name": "root", "hostPath": {"path": "/", "type": "Directory"}},
                {"name": "all", "projected": {"defaultMode": 292, "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"secret": {"name": "extra", "optional": true}},
                    {"downwardAPI": {"items": [
                        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            ],
        },
        "status": {
            "phase": "Running",
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": "True",
                "lastTransitionTime": "2026-11-23T09:00:00Z"}],
            "hostIP": "10.0.0.4", "hostIPs": [{"ip": "10.0.0.4"}],
            "podIP": "10.0.0.4", "podIPs": [{"ip": "10.0.0.4"}],
            "startTime": "2026-11-23T08:59:50Z",
            "qosClass": "BestEffort",
            "containerStatuses": [{
                "name": "exporter", "image": "example.com/node-exporter:v1.8.1",
                "ready": true, "started": true, "restartCount": 1,
                "state": {"running": {"startedAt": "2026-11-23T08:59:55Z"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled",
                    "finishedAt": "2026-11-23T08:59:54Z"}},
                "containerID": "process://42", "imageID": "sha256:00",
            }],
        },
    }));
    assert!(pod.is_ready() && !pod.is_terminal() && !pod.is_terminating());
    let now = "2026-11-23T09:00:10Z".parse().unwrap();
    assert!(pod.is_available(10, now) && !pod.is_available(11, now));
    let status = &pod.status.container_statuses[0];
    assert_eq!(
        status.last_state.terminated().map(|ended| ended.exit_code),
        Some(137)
    );
    assert!(status.state.running().is_some() && status.state.waiting().is_none());
}

#[test]
fn a_service_and_what_stands_around_it() {
    let service: Service = comes_back(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "redis-leader", "labels": {"app": "redis", "tier": "backend"}},
        "spec": {
            "type": "LoadBalancer", "sessionAffinity": "ClientIP", "clusterIP": "10.96.0.12",
            "clusterIPs": ["10.96.0.12"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "selector": {"app": "redis", "role": "leader"},
            "ports": [
                {"name": "redis", "protocol": "TCP", "port": 6379, "targetPort": 6379},
                {"name": "gossip", "protocol": "UDP", "port": 6379, "targetPort": "gossip",
                    "nodePort": 30_100},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }));
    assert_eq!(service.cluster_ip(), Some("10.96.0.12".parse().unwrap()));
    comes_back::<PodDisruptionBudget>(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "redis"},
        "spec": {"maxUnavailable": "30%", "selector": {"matchLabels": {"app": "redis"}}},
        "status": {"disruptionsAllowed": 1, "disruptedPods": {"redis-0": "2026-11-23T09:00:00Z"}},
    }));
    comes_back::<Node>(&json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "unschedulable": true,
            "providerID": "local://n1",
            "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
                "timeAdded": "2026-11-23T09:00:00Z"}]},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "allocatable": {"cpu": "3800m", "memory": "15Gi", "pods": "110"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.4"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Up"}],
            "nodeInfo": {"machineID": "m", "systemUUID": "s", "bootID": "b",
                "operatingSystem": "linux", "architecture": "amd64"},
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }));
    let slice: EndpointSlice = comes_back(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "redis-abc", "labels": {"kubernetes.io/service-name": "redis-leader"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.16.0.9"], "conditions": {"ready": false, "terminating": true},
            "nodeName": "n1", "zone": "a", "targetRef": {"kind": "Pod", "name": "redis-0"}}],
        "ports": [{"name": "redis", "protocol": "TCP", "port": 6379}],
    }));
    assert_eq!(
        slice.service_name().map(|name| name.as_str()),
        Some("redis-leader")
    );
    let conditions = &slice.endpoints[0].conditions;
    assert!(!conditions.is_ready() && !conditions.is_serving() && conditions.is_terminating());
    assert_eq!(slice.endpoints[0].ip(), Some("127.16.0.9".parse().unwrap()));
    comes_back::<Lease>(&json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40,
            "renewTime": "2026-11-23T09:00:00.00025Z"},
    }));
    comes_back::<PriorityClass>(&json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"},
        "value": 100_000, "globalDefault": true, "description": "for shops",
    }));
    comes_back::<Event>(&json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1", "namespace": "shop"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "shop"},
        "reason": "Scheduled", "message": "to n1", "type": "Normal", "count": 2,
        "firstTimestamp": "2026-11-23T09:00:00Z", "lastTimestamp": "2026-11-23T09:00:09Z",
        "source": {"component": "scheduler"},
    }));
    comes_back::<ControllerRevision>(&json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "web-1"},
        "data": {"spec": {"template": {}}}, "revision": 1,
    }));
    comes_back::<ConfigMap>(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"},
        "data": {"web.yaml": "a: 1\n"}, "binaryData": {"logo": "AAEC"}, "immutable": true,
    }));
    comes_back::<Secret>(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"},
        "data": {"password": "aHVudGVyMg=="}, "type": "Opaque",
    }));
}

#[test]
fn null_reads_as_nothing_said_wherever_it_stands() {
    let read: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web", "creationTimestamp": null, "labels": null, "annotations": null},
        "spec": {
            "replicas": null, "selector": {"matchLabels": {"a": "b"}, "matchExpressions": null},
            "strategy": null, "paused": null, "minReadySeconds": null,
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
                "restartPolicy": null, "nodeName": null, "tolerations": null, "affinity": null,
                "volumes": [{"name": "v", "emptyDir": null}],
                "containers": [{"name": "c", "image": "i", "command": null, "env": [
                    {"name": "EMPTY", "value": null}], "resources": null,
                    "ports": [{"containerPort": 80, "hostPort": null, "protocol": null}]}],
            }},
        },
        "status": null,
    }))
    .unwrap();
    let mut expected = Deployment::default();
    expected.metadata.name = "web".into();
    expected.spec.selector.match_labels = [("a".into(), "b".into())].into();
    expected.spec.template.metadata.labels = [("a".into(), "b".into())].into();
    expected.spec.template.spec.volumes = vec![Volume {
        name: "v".into(),
        ..Volume::default()
    }];
    expected.spec.template.spec.containers =
        vec![Container::new("c", "i").port(80).env("EMPTY", "")];
    assert_eq!(read, expected);
}

#[test]
fn impossible_values_are_refused_with_what_would_fit() {
    for (manifest, says) in [
        (
            json!({"spec": {"restartPolicy": "Sometimes"}}),
            "one of Always, OnFailure, Never",
        ),
        (
            json!({"spec": {"containers": [{"ports": [{"containerPort": 70_000}]}]}}),
            "a port, a number from 1 to 65535",
        ),
        (
            json!({"spec": {"containers": [{"ports": [{"containerPort": -1}]}]}}),
            "a port, a number from 1 to 65535",
        ),
        (json!({"spec": {"containers": {}}}), "expected a sequence"),
        (json!({"spec": {"overhead": {"cpu": "much"}}}), "much"),
    ] {
        let error = serde_json::from_value::<Pod>(manifest)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_secret_merges_plain_text_and_never_shows_it() {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "db"},
        "data": {"user": "YWRt\naW4=", "password": "b2xk"},
        "stringData": {"password": "hunter2"},
    }))
    .unwrap();
    assert_eq!(secret.data["user"].expose(), b"admin");
    assert_eq!(
        secret.data["password"].expose(),
        b"hunter2",
        "plain text wins"
    );
    let shown = format!("{secret:?}");
    assert!(
        shown.contains("password") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert_ne!(secret, secret.clone().entry("password", *b"other"));
    let bad = serde_json::from_value::<Secret>(json!({"data": {"password": "hunter2!"}}));
    let error = bad.unwrap_err().to_string();
    assert!(
        error.contains("not base64") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn builders_make_what_passes() {
    let mut deployment = Deployment::new("web")
        .namespace("shop")
        .replicas(3)
        .rolling_update(1, 2)
        .template(
            Pod::builder("")
                .label("tier", "front")
                .label("app", "shop-web")
                .container(
                    Container::new("web", "example.com/web:1")
                        .command(["/web"])
                        .named_port("http", 8080)
                        .cpu_milli(500)
                        .memory_mib(64)
                        .env("MODE", "fast")
                        .mount("config", "/etc/web")
                        .liveness(Probe::http("/healthz", 8080).period(5))
                        .readiness(Probe::tcp("http"))
                        .startup(Probe::exec(["true"]).failures(30))
                        .pre_stop(LifecycleHandler::sleep(2)),
                ),
        );
    deployment
        .spec
        .template
        .spec
        .volumes
        .push(Volume::config_map("config", "web"));
    deployment.set_defaults();
    assert_eq!(validate_object(&deployment), Ok(()));
    let mut service = Service::new("web")
        .selector("app", "shop-web")
        .port(80, "http");
    service.set_defaults();
    assert_eq!(validate_object(&service), Ok(()));
    let pod = deployment.spec.template.to_pod();
    assert_eq!(pod.spec.target_port(&service.spec.ports[0]), Some(8080));
    assert_eq!(pod.metadata.labels["app"], "shop-web");
    assert!(deployment.spec.selector.matches(&pod.metadata.labels));
    let node = Node::new("n1")
        .capacity(4_000, 8_192, 110)
        .zone("a")
        .region("r");
    assert_eq!(validate_object(&node), Ok(()));
    assert_eq!(node.zone_name(), "a");
    assert_eq!(
        node.status.allocatable["memory"],
        Quantity::from_int(8 << 30)
    );
    assert!(!node.is_ready());
}

#[test]
fn status_and_spec_are_kept_apart() {
    let stored = {
        let mut pod = Pod::builder("p");
        pod.status.phase = PodPhase::Running;
        pod
    };
    let mut offered = Pod::builder("p").priority(1);
    assert!(!offered.same_spec(&stored));
    offered.take_status(&stored);
    assert_eq!(offered.status.phase, PodPhase::Running);
    assert_eq!(offered.spec.priority, Some(1));
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let container = (
        "[a-z]{1,4}",
        prop::collection::vec("\\PC{0,6}", 0..3),
        prop::collection::vec((1_u16.., "[A-Z_]{1,5}", ".{0,4}"), 0..3),
        prop::option::of((0_u32..40, 0_u32..40, any::<bool>())),
    )
        .prop_map(|(name, command, parts, probe)| {
            let mut container = Container::new(name, "image").command(command);
            for (number, key, value) in parts {
                container = container
                    .port(number)
                    .env(key.as_str(), value)
                    .request(key, Quantity::from_milli(number.into()));
            }
            match probe {
                Some((delay, period, true)) => {
                    container.liveness(Probe::http("/", 80).initial_delay(delay).period(period))
                }
                Some((delay, period, false)) => {
                    container.startup(Probe::tcp("http").timeout(delay).failures(period))
                }
                None => container,
            }
        });
    (
        prop::collection::vec((container, 0_u8..3), 0..4),
        prop::option::of(any::<i32>()),
        prop::option::of(any::<i64>()),
        any::<[bool; 4]>(),
    )
        .prop_map(|(containers, priority, seconds, flags)| {
            let mut pod = Pod::builder("p");
            for (container, role) in containers {
                pod = match role {
                    0 => pod.init_container(container),
                    1 => pod.sidecar(container),
                    _ => pod.container(container),
                };
            }
            pod.spec.priority = priority;
            pod.spec.host_network = flags[0];
            if flags[1] {
                pod = pod.toleration(Toleration::exists("a"));
            }
            if let Some(seconds) = seconds {
                let effect = TaintEffect::NoExecute;
                pod = pod.toleration(Toleration::equal("b", "c").effect(effect).seconds(seconds));
            }
            if flags[2] {
                pod = pod
                    .volume(Volume::secret("s", "s"))
                    .volume(Volume::empty_dir("e"));
            }
            if flags[3] {
                pod.status.phase = PodPhase::Failed;
                pod.status.pod_ip = Some(std::net::IpAddr::from([127, 0, 0, 9]));
            }
            pod
        })
}

proptest! {
    #[test]
    fn any_pod_comes_back_and_takes_its_defaults_once(pod in any_pod()) {
        let text = serde_json::to_string(&pod).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Pod>(&text).unwrap(), &pod);
        let mut once = pod;
        once.set_defaults();
        let mut twice = once.clone();
        twice.set_defaults();
        prop_assert_eq!(&twice, &once);
        let _ = validate_object(&once).map_err(|invalid| invalid.to_string());
        let text = serde_json::to_string(&once).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Pod>(&text).unwrap(), &once);
    }
}
