//! The rules of pods and their containers.

use super::*;

#[test]
fn containers() {
    let c = "/spec/containers/0";
    let at = |rest: &str| format!("{c}/{rest}");
    let p = |rest: &str| format!("spec.containers[0].{rest}");
    let changes = [
        ("name", json!("Web"), "name", "is not a DNS label"),
        (
            "name",
            json!("setup"),
            "name",
            "is the name of an earlier container",
        ),
        ("image", json!(""), "image", "is missing"),
        ("image", json!(" web"), "image", "space around"),
        (
            "restartPolicy",
            json!("Always"),
            "restartPolicy",
            "main container",
        ),
        (
            "ports",
            json!([{"containerPort": 0}]),
            "ports[0].containerPort",
            "is not a port",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            "ports[1].name",
            "already taken",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "name": "sixteen-letters1"}]),
            "ports[0].name",
            "is not a port's name",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "hostIP": "here"}]),
            "ports[0].hostIP",
            "is not an IP address",
        ),
        (
            "ports",
            json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
            "ports[1].hostPort",
            "is taken by another",
        ),
        ("env", json!([{"name": ""}]), "env[0].name", "is missing"),
        (
            "env",
            json!([{"name": "A=B"}]),
            "env[0].name",
            "is not a name",
        ),
        (
            "env",
            json!([{"name": "A", "value": "a\u{0}b"}]),
            "env[0].value",
            "zero byte",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {}}]),
            "env[0].valueFrom",
            "is missing",
        ),
        (
            "env",
            json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            "env[0].valueFrom",
            "beside a value",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.age"}}}]),
            "env[0].valueFrom.fieldRef.fieldPath",
            "cannot become",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "cpu"}}}]),
            "env[0].valueFrom.resourceFieldRef.resource",
            "no resource",
        ),
        (
            "env",
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a/b"}}}]),
            "env[0].valueFrom.secretKeyRef.key",
            "is not a usable key",
        ),
        ("envFrom", json!([{}]), "envFrom[0]", "is missing"),
        (
            "envFrom",
            json!([{"configMapRef": {"name": "A"}}]),
            "envFrom[0].configMapRef.name",
            "is not a DNS subdomain",
        ),
        (
            "volumeMounts",
            json!([{"name": "dat", "mountPath": "/a"}]),
            "volumeMounts[0].name",
            "is no volume",
        ),
        (
            "volumeMounts",
            json!([{"name": "data"}]),
            "volumeMounts[0].mountPath",
            "is missing",
        ),
        (
            "volumeMounts",
            json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a"}]),
            "volumeMounts[1].mountPath",
            "is taken twice",
        ),
        (
            "volumeMounts",
            json!([{"name": "data", "mountPath": "/a", "subPath": "../b"}]),
            "volumeMounts[0].subPath",
            "leaves its directory",
        ),
        (
            "resources",
            json!({"requests": {"cpu": "-1"}}),
            "resources.requests[cpu]",
            "is negative",
        ),
        (
            "resources",
            json!({"requests": {"cpu": "3"}, "limits": {"cpu": "2"}}),
            "resources.requests[cpu]",
            "is more than its limit, 2",
        ),
        (
            "resources",
            json!({"limits": {"example.com/gpu": "500m"}}),
            "resources.limits[example.com/gpu]",
            "is not whole",
        ),
        (
            "resources",
            json!({"requests": {"example.com/gpu": "1"}}),
            "resources.requests[example.com/gpu]",
            "has no limit",
        ),
        (
            "resources",
            json!({"claims": [{"name": "gpu"}]}),
            "resources.claims[0].name",
            "is no claim",
        ),
        ("livenessProbe", json!({}), "livenessProbe", "is missing"),
        (
            "livenessProbe",
            json!({"exec": {"command": ["x"]}, "grpc": {"port": 1}}),
            "livenessProbe",
            "several things",
        ),
        (
            "livenessProbe",
            json!({"exec": {}}),
            "livenessProbe.exec.command",
            "is missing",
        ),
        (
            "livenessProbe",
            json!({"grpc": {"port": 0}}),
            "livenessProbe.grpc.port",
            "is not a port",
        ),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": 70_000}}),
            "livenessProbe.tcpSocket.port",
            "is not a port",
        ),
        (
            "livenessProbe",
            json!({"tcpSocket": {"port": "A"}}),
            "livenessProbe.tcpSocket.port",
            "is not a port's name",
        ),
        (
            "livenessProbe",
            json!({"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}),
            "livenessProbe.httpGet.httpHeaders[0].name",
            "is not a header's name",
        ),
        (
            "livenessProbe",
            json!({"grpc": {"port": 1}, "successThreshold": 2}),
            "livenessProbe.successThreshold",
            "is not 1",
        ),
        (
            "startupProbe",
            json!({"grpc": {"port": 1}, "successThreshold": 2}),
            "startupProbe.successThreshold",
            "is not 1",
        ),
        (
            "readinessProbe",
            json!({"grpc": {"port": 1}, "terminationGracePeriodSeconds": 2}),
            "readinessProbe.terminationGracePeriodSeconds",
            "readiness",
        ),
        (
            "livenessProbe",
            json!({"grpc": {"port": 1}, "terminationGracePeriodSeconds": 0}),
            "livenessProbe.terminationGracePeriodSeconds",
            "is not positive",
        ),
        (
            "lifecycle",
            json!({"preStop": {}}),
            "lifecycle.preStop",
            "is missing",
        ),
        (
            "lifecycle",
            json!({"postStart": {"exec": {}}}),
            "lifecycle.postStart.exec.command",
            "is missing",
        ),
    ];
    let changes: Vec<_> = changes
        .into_iter()
        .map(|(place, value, path, says)| (at(place), value, p(path), says))
        .collect();
    let changes: Vec<_> = changes
        .iter()
        .map(|(place, value, path, says)| (place.as_str(), value.clone(), path.as_str(), *says))
        .collect();
    refuses::<Pod>(&good_pod(), &changes);
    let init = "/spec/initContainers/0/";
    refuses::<Pod>(
        &good_pod(),
        &[
            (
                &format!("{init}livenessProbe"),
                json!({"grpc": {"port": 1}}),
                "spec.initContainers[0].livenessProbe",
                "runs to its end",
            ),
            (
                &format!("{init}lifecycle"),
                json!({"preStop": {"sleep": {"seconds": 1}}}),
                "spec.initContainers[0].lifecycle",
                "runs to its end",
            ),
        ],
    );
}

#[test]
fn pods() {
    refuses::<Pod>(
        &good_pod(),
        &[
            (
                "/spec/containers",
                json!(null),
                "spec.containers",
                "is missing",
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                "spec.activeDeadlineSeconds",
                "is not positive",
            ),
            (
                "/spec/overhead",
                json!({"cpu": "-1"}),
                "spec.overhead[cpu]",
                "is negative",
            ),
            (
                "/spec/nodeName",
                json!("N"),
                "spec.nodeName",
                "is not a DNS subdomain",
            ),
            (
                "/spec/hostname",
                json!("a.b"),
                "spec.hostname",
                "is not a DNS label",
            ),
            (
                "/spec/readinessGates/-",
                json!({"conditionType": "a b"}),
                "spec.readinessGates[0].conditionType",
                "qualified name",
            ),
            (
                "/spec/schedulingGates/-",
                json!({"name": "a b"}),
                "spec.schedulingGates[0].name",
                "qualified name",
            ),
            (
                "/spec/os",
                json!({"name": "plan9"}),
                "spec.os.name",
                "is unknown",
            ),
            (
                "/spec/hostAliases/-",
                json!({"ip": "x"}),
                "spec.hostAliases[0].ip",
                "is not an IP address",
            ),
            (
                "/spec/dnsPolicy",
                json!("None"),
                "spec.dnsConfig.nameservers",
                "is missing",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "data"}),
                "spec.volumes[1].name",
                "already taken",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "D"}),
                "spec.volumes[1].name",
                "is not a DNS label",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "emptyDir": {}, "hostPath": {"path": "/"}}),
                "spec.volumes[1]",
                "several sources",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "emptyDir": {"sizeLimit": "-1"}}),
                "spec.volumes[1].emptyDir.sizeLimit",
                "is negative",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "hostPath": {"path": "/a/../b"}}),
                "spec.volumes[1].hostPath.path",
                "goes up",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "secret": {}}),
                "spec.volumes[1].secret.secretName",
                "is not a DNS subdomain",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "secret": {"secretName": "s", "defaultMode": 512}}),
                "spec.volumes[1].secret.defaultMode",
                "is no file mode",
            ),
            (
                "/spec/volumes/0/configMap/items/-",
                json!({"key": "k", "path": "/etc"}),
                "spec.volumes[0].configMap.items[0].path",
                "leaves its directory",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "projected": {"sources": [{}]}}),
                "spec.volumes[1].projected.sources[0]",
                "is missing",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "downwardAPI": {"items": [{"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}}]}}),
                "spec.volumes[1].downwardAPI.items[0].resourceFieldRef.containerName",
                "is missing",
            ),
            (
                "/spec/volumes/-",
                json!({"name": "d", "persistentVolumeClaim": {}}),
                "spec.volumes[1].persistentVolumeClaim.claimName",
                "is not a DNS subdomain",
            ),
        ],
    );
    let gated = json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "schedulingGates": [{"name": "wait"}]},
    });
    refuses::<Pod>(
        &gated,
        &[(
            "/spec/nodeName",
            json!("n"),
            "spec.nodeName",
            "behind gates",
        )],
    );
}

#[test]
fn placement() {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let near = format!("/spec/affinity/podAffinity/{required}/-");
    let near_path = format!("spec.affinity.podAffinity.{required}[0].topologyKey");
    let away = format!("/spec/affinity/podAntiAffinity/{preferred}/-");
    let away_path = format!("spec.affinity.podAntiAffinity.{preferred}[0].weight");
    let node_path = format!("spec.affinity.nodeAffinity.{required}.nodeSelectorTerms");
    let spread = "/spec/topologySpreadConstraints/-";
    refuses::<Pod>(
        &good_pod(),
        &[
            (
                "/spec/nodeSelector",
                json!({"a": "b c"}),
                "spec.nodeSelector[a]",
                "label value",
            ),
            (
                "/spec/affinity/nodeAffinity",
                json!({required: {}}),
                &node_path,
                "is missing",
            ),
            (&near, json!({}), &near_path, "is missing"),
            (
                &away,
                json!({"weight": 101, "podAffinityTerm": {"topologyKey": "z"}}),
                &away_path,
                "is out of range",
            ),
            (
                "/spec/tolerations/-",
                json!({"operator": "Equal"}),
                "spec.tolerations[0].key",
                "is missing",
            ),
            (
                "/spec/tolerations/-",
                json!({"key": "a", "operator": "Exists", "value": "b"}),
                "spec.tolerations[0].value",
                "Exists",
            ),
            (
                "/spec/tolerations/-",
                json!({"key": "a", "operator": "Gt", "value": "b"}),
                "spec.tolerations[0].value",
                "is not a whole number",
            ),
            (
                "/spec/tolerations/-",
                json!({"key": "a", "value": "b c"}),
                "spec.tolerations[0].value",
                "is no value of a taint",
            ),
            (
                "/spec/tolerations/-",
                json!({"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}),
                "spec.tolerations[0].tolerationSeconds",
                "only for NoExecute",
            ),
            (
                spread,
                json!({"topologyKey": "z"}),
                "spec.topologySpreadConstraints[0].maxSkew",
                "is not positive",
            ),
            (
                spread,
                json!({"maxSkew": 1}),
                "spec.topologySpreadConstraints[0].topologyKey",
                "is missing",
            ),
            (
                spread,
                json!({"maxSkew": 1, "topologyKey": "z", "minDomains": 0}),
                "spec.topologySpreadConstraints[0].minDomains",
                "is not positive",
            ),
            (
                spread,
                json!({"maxSkew": 1, "topologyKey": "z", "minDomains": 2, "whenUnsatisfiable": "ScheduleAnyway"}),
                "spec.topologySpreadConstraints[0].minDomains",
                "required",
            ),
            (
                spread,
                json!({"maxSkew": 1, "topologyKey": "z", "matchLabelKeys": ["a"]}),
                "spec.topologySpreadConstraints[0].matchLabelKeys",
                "without labelSelector",
            ),
            (
                "/spec/topologySpreadConstraints",
                json!([{"maxSkew": 1, "topologyKey": "z"}, {"maxSkew": 2, "topologyKey": "z"}]),
                "spec.topologySpreadConstraints[1].topologyKey",
                "twice",
            ),
        ],
    );
}

#[test]
fn of_many_volumes_a_few_are_named() {
    let volumes: Vec<_> = (0..100).map(|n| json!({"name": format!("v{n}")})).collect();
    let mounts = json!([{"name": "v7", "mountPath": "/a"}, {"name": "w", "mountPath": "/b"}]);
    let containers = json!([{"name": "a", "image": "x", "volumeMounts": mounts}]);
    let spec = json!({"volumes": volumes, "containers": containers});
    let pod: Pod = read(&json!({"metadata": {"name": "a"}, "spec": spec}));
    let said = validate_object(&pod).unwrap_err().to_string();
    assert_eq!(
        said,
        "spec.containers[0].volumeMounts[1].name: \"w\" is no volume of the pod; declare it under \
         spec.volumes, or write one of v0, v1, v10, v11, v12, v13, v14, v15, v16, v17, …"
    );
}
