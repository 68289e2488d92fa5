//! The rules of a container.

use std::collections::BTreeSet;

use super::{
    Container, ContainerPort, EnvFromSource, EnvVar, HttpGetAction, LifecycleHandler, PodSpec,
    Probe, ResourceRequirements,
};
use crate::int_or::IntOrString;
use crate::kind::Invalid;
use crate::kind::rules::{
    Path, data_key, dns_label, dns_subdomain, is_exact, is_port_name, port, resources, unique,
};

/// What a pod declares and its containers refer to.
pub(super) struct Declared<'a> {
    pub(super) volumes: BTreeSet<&'a str>,
    claims: BTreeSet<&'a str>,
    host_network: bool,
}

impl<'a> Declared<'a> {
    pub(super) fn by(pod: &'a PodSpec) -> Self {
        let volumes = pod.volumes.iter().map(|volume| volume.name.as_str());
        let claims = pod.resource_claims.iter().map(|claim| claim.name.as_str());
        Self {
            volumes: volumes.collect(),
            claims: claims.collect(),
            host_network: pod.host_network,
        }
    }
}

impl Container {
    /// Adds each rule that a container of `pod` breaks.
    pub(super) fn check(
        &self,
        invalid: &mut Invalid,
        path: Path<'_>,
        pod: &Declared<'_>,
        init: bool,
    ) {
        dns_label(invalid, path.field("name"), &self.name);
        if self.image.is_empty() {
            invalid.missing(path.field("image"), "write an image, or the name of a task");
        } else if self.image.trim() != self.image {
            let remedy = "remove the space around it";
            invalid.refuse(
                path.field("image"),
                &self.image,
                "has space around it",
                remedy,
            );
        }
        if self.image.contains("{{") || self.image.contains("${") {
            let remedy = "fill it in, for instance with helm template or envsubst";
            let problem = "has a place to be filled in";
            invalid.refuse(path.field("image"), &self.image, problem, remedy);
        }
        let ports = path.field("ports");
        for (index, port) in self.ports.iter().enumerate() {
            port.check(invalid, ports.index(index), pod.host_network);
        }
        unique(
            invalid,
            ports,
            "name",
            self.ports.iter().map(|port| port.name.as_str()),
        );
        let sources = path.field("envFrom");
        for (index, source) in self.env_from.iter().enumerate() {
            source.check(invalid, sources.index(index));
        }
        let env = path.field("env");
        for (index, var) in self.env.iter().enumerate() {
            var.check(invalid, env.index(index));
        }
        self.resources.check(invalid, path.field("resources"));
        for (index, claim) in self.resources.claims.iter().enumerate() {
            if !pod.claims.contains(claim.name.as_str()) {
                let at = path.field("resources");
                let at = at.field("claims");
                let remedy = "declare it under spec.resourceClaims";
                invalid.refuse(
                    at.index(index).field("name"),
                    &claim.name,
                    "is no claim",
                    remedy,
                );
            }
        }
        self.check_mounts(invalid, path, pod);
        self.check_care(invalid, path, init);
    }

    /// Probes, lifecycle and restarts.
    fn check_care(&self, invalid: &mut Invalid, path: Path<'_>, init: bool) {
        if !init && self.restart_policy.is_some() {
            let remedy = "leave it out, or move the container to initContainers";
            let problem = "stands in a main container";
            invalid.refuse(path.field("restartPolicy"), "Always", problem, remedy);
        }
        let probes = [
            ("livenessProbe", &self.liveness_probe),
            ("readinessProbe", &self.readiness_probe),
            ("startupProbe", &self.startup_probe),
        ];
        let ends = init && !self.is_sidecar();
        for (field, probe) in probes {
            let Some(probe) = probe else { continue };
            if ends {
                not_in_init(invalid, path.field(field));
            }
            probe.check(invalid, path.field(field), field == "readinessProbe");
        }
        let Some(lifecycle) = &self.lifecycle else {
            return;
        };
        let at = path.field("lifecycle");
        if ends {
            not_in_init(invalid, at);
        }
        let handlers = [
            ("postStart", &lifecycle.post_start),
            ("preStop", &lifecycle.pre_stop),
        ];
        for (field, handler) in handlers {
            if let Some(handler) = handler {
                handler.check(invalid, at.field(field));
            }
        }
    }
}

fn not_in_init(invalid: &mut Invalid, path: Path<'_>) {
    let remedy = "leave it out, or make it a sidecar with restartPolicy: Always";
    invalid.refuse(
        path,
        "",
        "stands in an init container that runs to its end",
        remedy,
    );
}

impl ContainerPort {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>, host_network: bool) {
        if !self.name.is_empty() {
            port_name(invalid, path.field("name"), &self.name);
        }
        port(invalid, path.field("containerPort"), self.container_port);
        if host_network && self.host_port != self.container_port {
            invalid.refuse(
                path.field("hostPort"),
                self.host_port,
                "differs from containerPort on the host's network",
                "leave it out, or write the same number",
            );
        }
        if !self.host_ip.is_empty() && self.host_ip.parse::<std::net::IpAddr>().is_err() {
            let remedy = "write one like 10.0.0.7, or leave it out for all";
            invalid.refuse(
                path.field("hostIP"),
                &self.host_ip,
                "is not an IP address",
                remedy,
            );
        }
    }
}

impl EnvVar {
    /// The fields of a pod that may become variables; those with a key end in `['`.
    const FIELDS: [&str; 11] = [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels['",
        "metadata.annotations['",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];

    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        env_name(invalid, path.field("name"), &self.name);
        if self.value.contains('\0') {
            let remedy = "remove it: the environment cannot hold it";
            invalid.refuse(path.field("value"), "", "has a zero byte", remedy);
        }
        let Some(source) = &self.value_from else {
            return;
        };
        let path = path.field("valueFrom");
        if !self.value.is_empty() {
            invalid.refuse(path, "", "stands beside a value", "keep one of the two");
        }
        let set = [
            source.field_ref.is_some(),
            source.resource_field_ref.is_some(),
            source.config_map_key_ref.is_some(),
            source.secret_key_ref.is_some(),
        ];
        exactly_one(
            invalid,
            path,
            &set,
            "fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef",
        );
        if let Some(field) = &source.field_ref {
            let wanted = field.field_path.as_str();
            let known = Self::FIELDS
                .iter()
                .any(|known| match known.strip_suffix("['") {
                    Some(_) => wanted.starts_with(known) && wanted.ends_with("']"),
                    None => wanted == *known,
                });
            if !known {
                let remedy = "write for instance metadata.name, metadata.labels['app'], \
                              spec.nodeName or status.podIP";
                let at = path.field("fieldRef");
                invalid.refuse(
                    at.field("fieldPath"),
                    wanted,
                    "cannot become a variable",
                    remedy,
                );
            }
        }
        if let Some(resource) = &source.resource_field_ref {
            let at = path.field("resourceFieldRef");
            resource_field(invalid, at, &resource.resource);
        }
        let keys = [
            ("configMapKeyRef", &source.config_map_key_ref),
            ("secretKeyRef", &source.secret_key_ref),
        ];
        for (field, selector) in keys {
            let Some(selector) = selector else { continue };
            let at = path.field(field);
            dns_subdomain(invalid, at.field("name"), &selector.name);
            data_key(invalid, at.field("key"), &selector.key);
        }
    }
}

/// Checks a resource of a container as a field: `limits.cpu` and the like.
pub(super) fn resource_field(invalid: &mut Invalid, path: Path<'_>, resource: &str) {
    let known = resource.split_once('.').is_some_and(|(group, name)| {
        matches!(group, "limits" | "requests")
            && (matches!(name, "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-"))
    });
    if !known {
        let remedy = "write limits. or requests. before cpu, memory or ephemeral-storage";
        invalid.refuse(
            path.field("resource"),
            resource,
            "is no resource of a container",
            remedy,
        );
    }
}

impl EnvFromSource {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        if !self.prefix.is_empty() {
            env_name(invalid, path.field("prefix"), &self.prefix);
        }
        let set = [self.config_map_ref.is_some(), self.secret_ref.is_some()];
        exactly_one(invalid, path, &set, "configMapRef, secretRef");
        let refs = [
            ("configMapRef", &self.config_map_ref),
            ("secretRef", &self.secret_ref),
        ];
        for (field, source) in refs {
            if let Some(source) = source {
                dns_subdomain(invalid, path.field(field).field("name"), &source.name);
            }
        }
    }
}

fn env_name(invalid: &mut Invalid, path: Path<'_>, name: &str) {
    let fits = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b'=';
    if name.is_empty() {
        invalid.missing(path, "write a name such as LOG_LEVEL");
    } else if !name.bytes().all(fits) {
        let remedy = "write printable ASCII characters without '=', such as LOG_LEVEL";
        invalid.refuse(path, name, "is not a name of the environment", remedy);
    }
}

impl ResourceRequirements {
    /// Adds each rule that it breaks.
    pub(super) fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        resources(invalid, path.field("limits"), &self.limits);
        resources(invalid, path.field("requests"), &self.requests);
        let requests = path.field("requests");
        for (name, request) in &self.requests {
            match self.limits.get(name) {
                Some(limit) if request > limit => {
                    let problem = format!("is more than its limit, {limit}");
                    let remedy = "lower the request or raise the limit";
                    invalid.refuse(requests.key(name), request, problem, remedy);
                }
                Some(limit) if is_exact(name) && request != limit => {
                    let problem = format!("differs from its limit, {limit}");
                    let remedy = "write both the same: this resource cannot be overcommitted";
                    invalid.refuse(requests.key(name), request, problem, remedy);
                }
                None if is_exact(name) => {
                    let remedy = "write the same limit: this resource cannot be overcommitted";
                    invalid.refuse(requests.key(name), request, "has no limit", remedy);
                }
                _ => {}
            }
        }
    }
}

impl Probe {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>, readiness: bool) {
        let set = [
            self.http_get.is_some(),
            self.tcp_socket.is_some(),
            self.exec.is_some(),
            self.grpc.is_some(),
        ];
        exactly_one(invalid, path, &set, "httpGet, tcpSocket, exec, grpc");
        if let Some(get) = &self.http_get {
            get.check(invalid, path.field("httpGet"));
        }
        if let Some(socket) = &self.tcp_socket {
            let at = path.field("tcpSocket");
            target_port(invalid, at.field("port"), &socket.port);
        }
        if let Some(exec) = &self.exec
            && exec.command.is_empty()
        {
            let at = path.field("exec");
            invalid.missing(at.field("command"), "write the command, word by word");
        }
        if let Some(grpc) = &self.grpc {
            let at = path.field("grpc");
            port(invalid, at.field("port"), grpc.port);
        }
        if !readiness && self.success_threshold > 1 {
            invalid.refuse(
                path.field("successThreshold"),
                self.success_threshold,
                "is not 1",
                "write 1 or leave it out: only readiness may ask for more",
            );
        }
        match self.termination_grace_period_seconds {
            Some(seconds) if readiness => {
                let remedy = "leave it out: readiness never ends a container";
                let at = path.field("terminationGracePeriodSeconds");
                invalid.refuse(at, seconds, "stands in a readiness probe", remedy);
            }
            Some(0) => {
                let remedy = "write at least 1, or leave it out";
                let at = path.field("terminationGracePeriodSeconds");
                invalid.refuse(at, 0, "is not positive", remedy);
            }
            _ => {}
        }
    }
}

impl HttpGetAction {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        target_port(invalid, path.field("port"), &self.port);
        let headers = path.field("httpHeaders");
        for (index, header) in self.http_headers.iter().enumerate() {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if header.name.is_empty() || !header.name.bytes().all(fits) {
                let remedy = "write letters, digits and '-', such as X-Probe";
                let at = headers.index(index);
                invalid.refuse(
                    at.field("name"),
                    &header.name,
                    "is not a header's name",
                    remedy,
                );
            }
        }
    }
}

impl LifecycleHandler {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        let set = [
            self.exec.is_some(),
            self.http_get.is_some(),
            self.tcp_socket.is_some(),
            self.sleep.is_some(),
        ];
        exactly_one(invalid, path, &set, "exec, httpGet, sleep");
        if let Some(get) = &self.http_get {
            get.check(invalid, path.field("httpGet"));
        }
        if let Some(exec) = &self.exec
            && exec.command.is_empty()
        {
            let at = path.field("exec");
            invalid.missing(at.field("command"), "write the command, word by word");
        }
    }
}

/// A port by number or by the name of a container port.
pub(in crate::kind) fn target_port(invalid: &mut Invalid, path: Path<'_>, target: &IntOrString) {
    match target {
        IntOrString::Int(1..=65_535) => {}
        IntOrString::Int(number) => {
            invalid.refuse(
                path,
                number,
                "is not a port",
                "write a number from 1 to 65535",
            );
        }
        IntOrString::String(name) => port_name(invalid, path, name),
    }
}

fn port_name(invalid: &mut Invalid, path: Path<'_>, name: &str) {
    if !is_port_name(name) {
        let remedy =
            "write up to 15 lower-case letters, digits and single '-', a letter among them";
        invalid.refuse(path, name, "is not a port's name", remedy);
    }
}

/// Checks that exactly one of the named fields is set.
pub(super) fn exactly_one(invalid: &mut Invalid, path: Path<'_>, set: &[bool], names: &str) {
    let remedy = format!("write exactly one of {names}");
    match set.iter().filter(|set| **set).count() {
        0 => invalid.missing(path, remedy),
        1 => {}
        _ => invalid.refuse(path, "", "says several things at once", remedy),
    }
}
