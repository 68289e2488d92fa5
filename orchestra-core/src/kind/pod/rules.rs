//! The rules of a pod as a whole. Those of its containers, volumes and placement stand in files of
//! their own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::container_rules::Declared;
use super::{DnsPolicy, PodSpec};
use crate::kind::Invalid;
use crate::kind::rules::{Path, dns_label, dns_subdomain, label_key, resources, unique};

impl PodSpec {
    /// Adds each rule that the pod breaks.
    pub(in crate::kind) fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        self.check_volumes(invalid, path);
        self.check_containers(invalid, path);
        if self.active_deadline_seconds == Some(0) {
            let remedy = "write at least 1, or leave it out";
            invalid.refuse(
                path.field("activeDeadlineSeconds"),
                0,
                "is not positive",
                remedy,
            );
        }
        resources(invalid, path.field("overhead"), &self.overhead);
        self.check_placement(invalid, path);
        self.check_names(invalid, path);
        self.check_network(invalid, path);
    }

    fn check_containers(&self, invalid: &mut Invalid, path: Path<'_>) {
        if self.containers.is_empty() {
            let remedy = "write at least one container with name and image";
            invalid.missing(path.field("containers"), remedy);
        }
        let declared = Declared::by(self);
        let mut names = BTreeSet::new();
        let mut host_ports = BTreeSet::new();
        let groups = [
            ("initContainers", &self.init_containers),
            ("containers", &self.containers),
        ];
        for (field, containers) in groups {
            let group = path.field(field);
            for (index, container) in containers.iter().enumerate() {
                let at = group.index(index);
                container.check(invalid, at, &declared, field == "initContainers");
                if !container.name.is_empty() && !names.insert(&container.name) {
                    invalid.refuse(
                        at.field("name"),
                        &container.name,
                        "is the name of an earlier container",
                        "give each container of the pod its own, init containers too",
                    );
                }
                // Init containers that end give their host ports back.
                if field == "initContainers" && !container.is_sidecar() {
                    continue;
                }
                for (index, port) in container.ports.iter().enumerate() {
                    let wanted = (port.protocol, &port.host_ip, port.host_port);
                    if port.host_port != 0 && !host_ports.insert(wanted) {
                        invalid.refuse(
                            at.field("ports").index(index).field("hostPort"),
                            port.host_port,
                            "is taken by another container of the pod",
                            "give each its own, or leave host ports out and use a Service",
                        );
                    }
                }
            }
        }
    }

    fn check_names(&self, invalid: &mut Invalid, path: Path<'_>) {
        for (field, name) in [
            ("serviceAccountName", &self.service_account_name),
            ("nodeName", &self.node_name),
            ("priorityClassName", &self.priority_class_name),
            ("runtimeClassName", &self.runtime_class_name),
        ] {
            if !name.is_empty() {
                dns_subdomain(invalid, path.field(field), name);
            }
        }
        for (field, name) in [("hostname", &self.hostname), ("subdomain", &self.subdomain)] {
            if !name.is_empty() {
                dns_label(invalid, path.field(field), name);
            }
        }
        let gates = path.field("readinessGates");
        for (index, gate) in self.readiness_gates.iter().enumerate() {
            label_key(
                invalid,
                gates.index(index).field("conditionType"),
                &gate.condition_type,
            );
        }
        let gates = path.field("schedulingGates");
        for (index, gate) in self.scheduling_gates.iter().enumerate() {
            label_key(invalid, gates.index(index).field("name"), &gate.name);
        }
        unique(
            invalid,
            gates,
            "name",
            self.scheduling_gates.iter().map(|gate| gate.name.as_str()),
        );
        if !self.scheduling_gates.is_empty() && !self.node_name.is_empty() {
            let remedy = "remove the gates, or leave nodeName to the scheduler";
            invalid.refuse(
                path.field("nodeName"),
                &self.node_name,
                "is set behind gates",
                remedy,
            );
        }
        let claims = path.field("resourceClaims");
        for (index, claim) in self.resource_claims.iter().enumerate() {
            dns_label(invalid, claims.index(index).field("name"), &claim.name);
        }
        unique(
            invalid,
            claims,
            "name",
            self.resource_claims.iter().map(|it| it.name.as_str()),
        );
        if let Some(os) = &self.os
            && !matches!(os.name.as_str(), "linux" | "windows")
        {
            let at = path.field("os");
            invalid.refuse(
                at.field("name"),
                &os.name,
                "is unknown",
                "write linux or windows",
            );
        }
    }

    fn check_network(&self, invalid: &mut Invalid, path: Path<'_>) {
        let aliases = path.field("hostAliases");
        for (index, alias) in self.host_aliases.iter().enumerate() {
            let at = aliases.index(index);
            address(invalid, at.field("ip"), &alias.ip);
            let names = at.field("hostnames");
            for (index, name) in alias.hostnames.iter().enumerate() {
                dns_subdomain(invalid, names.index(index), name);
            }
        }
        let config = path.field("dnsConfig");
        let servers = config.field("nameservers");
        let nameservers = self
            .dns_config
            .as_ref()
            .map_or(&[][..], |config| &config.nameservers);
        for (index, server) in nameservers.iter().enumerate() {
            address(invalid, servers.index(index), server);
        }
        if self.dns_policy == DnsPolicy::None && nameservers.is_empty() {
            let remedy = "name at least one server, or choose another dnsPolicy";
            invalid.missing(servers, remedy);
        }
    }
}

fn address(invalid: &mut Invalid, path: Path<'_>, text: &str) {
    if text.parse::<IpAddr>().is_err() {
        invalid.refuse(
            path,
            text,
            "is not an IP address",
            "write one like 10.0.0.7",
        );
    }
}
