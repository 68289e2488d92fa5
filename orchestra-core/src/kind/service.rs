//! A service: a stable name and address before a changing set of pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use smol_str::SmolStr;

use super::pod::target_port;
use super::rules::{Path, dns_label, dns_subdomain, labels, port, unique};
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::int_or::IntOrString;
use crate::meta::{Condition, Labels, ObjectMeta};

kind! {
    /// A stable name and address before a changing set of pods.
    pub struct Service {
        /// What is asked for.
        pub spec: ServiceSpec,
        /// What is so.
        pub status: ServiceStatus,
    }
}

part! {
    /// What is asked of a service.
    pub struct ServiceSpec {
        /// The labels of the pods behind it; empty means that somebody else keeps its endpoints.
        pub selector: Labels,
        /// Its ports.
        pub ports: Vec<ServicePort>,
        /// Its address: empty to be given one, `None` for a service without one.
        #[serde(rename = "clusterIP")]
        pub cluster_ip: SmolStr,
        /// Its addresses, one per address family; the first is `cluster_ip`.
        #[serde(rename = "clusterIPs")]
        pub cluster_ips: Vec<SmolStr>,
        /// From where it can be reached.
        #[serde(rename = "type")]
        pub exposure: ServiceType,
        /// Further addresses that people route to it by themselves.
        #[serde(rename = "externalIPs")]
        pub external_ips: Vec<SmolStr>,
        /// Whether connections of one client stay with one pod.
        pub session_affinity: SessionAffinity,
        /// For how long.
        pub session_affinity_config: Option<SessionAffinityConfig>,
        /// The address asked of a load balancer.
        #[serde(rename = "loadBalancerIP")]
        pub load_balancer_ip: SmolStr,
        /// Which clients a load balancer lets through, as address ranges.
        pub load_balancer_source_ranges: Vec<SmolStr>,
        /// Which load balancer.
        pub load_balancer_class: SmolStr,
        /// The name that a service of the type `ExternalName` stands for.
        pub external_name: SmolStr,
        /// Where traffic from outside may go.
        pub external_traffic_policy: Option<TrafficPolicy>,
        /// Where traffic from inside may go.
        pub internal_traffic_policy: Option<TrafficPolicy>,
        /// The port at which nodes tell whether they have a pod of it.
        pub health_check_node_port: u16,
        /// Whether pods that are not ready are published too.
        pub publish_not_ready_addresses: bool,
        /// The address families, `IPv4` and `IPv6`, in order of preference.
        pub ip_families: Vec<SmolStr>,
        /// `SingleStack`, `PreferDualStack` or `RequireDualStack`.
        pub ip_family_policy: SmolStr,
        /// Whether a load balancer is given node ports.
        pub allocate_load_balancer_node_ports: Option<bool>,
        /// Which endpoints are preferred, for instance `PreferSameZone`.
        pub traffic_distribution: SmolStr,
    }

    /// A port of a service.
    pub struct ServicePort {
        /// Its name, unique within the service; may be empty if it is the only port.
        pub name: SmolStr,
        /// The protocol.
        pub protocol: Protocol,
        /// What is spoken over it, for instance `kubernetes.io/h2c`.
        pub app_protocol: SmolStr,
        /// The number at the service's address.
        pub port: u16,
        /// The number at the pods, or the name of a container port there. Not said is `port`.
        pub target_port: Option<IntOrString>,
        /// The number at every node; zero for none.
        pub node_port: u16,
    }

    /// How long connections of one client stay with one pod.
    pub struct SessionAffinityConfig {
        /// By the client's address.
        #[serde(rename = "clientIP")]
        pub client_ip: Option<ClientIpConfig>,
    }

    /// How long connections of one address stay with one pod.
    pub struct ClientIpConfig {
        /// In seconds, 1 to 86400.
        pub timeout_seconds: Option<u32>,
    }

    /// The state of a service.
    pub struct ServiceStatus {
        /// Where its load balancer can be reached.
        pub load_balancer: LoadBalancerStatus,
        /// Details.
        pub conditions: Vec<Condition>,
    }

    /// Where a load balancer can be reached.
    pub struct LoadBalancerStatus {
        /// Each way in.
        pub ingress: Vec<LoadBalancerIngress>,
    }

    /// A way in.
    pub struct LoadBalancerIngress {
        /// Its address.
        pub ip: Option<IpAddr>,
        /// Or its name.
        pub hostname: SmolStr,
    }
}

words! {
    /// What runs over a port.
    pub enum Protocol {
        /// TCP.
        #[default]
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
        /// SCTP.
        Sctp = "SCTP",
    }

    /// From where a service can be reached.
    pub enum ServiceType {
        /// From inside, at its own address.
        #[default]
        ClusterIp = "ClusterIP",
        /// Also at a port of every node.
        NodePort = "NodePort",
        /// Also through a load balancer.
        LoadBalancer = "LoadBalancer",
        /// It is only another name for something elsewhere.
        ExternalName = "ExternalName",
    }

    /// Whether connections of one client stay with one pod.
    pub enum SessionAffinity {
        /// They go anywhere.
        #[default]
        None = "None",
        /// Those of one address stay together.
        ClientIp = "ClientIP",
    }

    /// Where traffic may go.
    pub enum TrafficPolicy {
        /// To any pod.
        #[default]
        Cluster = "Cluster",
        /// Only to pods on the node where it arrives.
        Local = "Local",
    }
}

impl Service {
    /// What `cluster_ip` holds for a service without an address.
    pub const NO_CLUSTER_IP: &'static str = "None";

    /// A service of that name, without selector and ports yet.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            ..Self::default()
        }
    }

    /// In that namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.metadata.namespace = namespace.into();
        self
    }

    /// Only pods with that label; may be said several times.
    #[must_use]
    pub fn selector(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        self.spec.selector.insert(key.into(), value.into());
        self
    }

    /// An unnamed TCP port, and the pods' port that it leads to. The proxy listens on it: below 1024
    /// that takes root or `CAP_NET_BIND_SERVICE`.
    #[must_use]
    pub fn port(self, port: u16, target: impl Into<IntOrString>) -> Self {
        self.named_port("", port, target)
    }

    /// A TCP port of that name, and the pods' port that it leads to.
    #[must_use]
    pub fn named_port(
        mut self,
        name: impl Into<SmolStr>,
        port: u16,
        target: impl Into<IntOrString>,
    ) -> Self {
        let target_port = Some(target.into());
        let port = ServicePort {
            name: name.into(),
            port,
            target_port,
            ..ServicePort::default()
        };
        self.spec.ports.push(port);
        self
    }

    /// Without an address of its own: its name leads to the pods themselves.
    #[must_use]
    pub fn headless(mut self) -> Self {
        self.spec.cluster_ip = Self::NO_CLUSTER_IP.into();
        self
    }

    /// Whether it has no address of its own by its own wish.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == Self::NO_CLUSTER_IP
    }

    /// Its address, once it has one.
    pub fn cluster_ip(&self) -> Option<IpAddr> {
        self.spec.cluster_ip.parse().ok()
    }
}

impl ClientIpConfig {
    /// How long connections of one address stay together where nothing is said: three hours.
    pub const TIMEOUT_SECONDS: u32 = 10_800;
    /// The longest they may: a day.
    pub const TIMEOUT_SECONDS_MAX: u32 = 86_400;
}

impl ServiceSpec {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        labels(invalid, path.field("selector"), &self.selector);
        let elsewhere = self.exposure == ServiceType::ExternalName;
        if elsewhere {
            dns_subdomain(invalid, path.field("externalName"), &self.external_name);
        }
        let headless = self.cluster_ip == Service::NO_CLUSTER_IP;
        if self.ports.is_empty() && !headless && !elsewhere {
            invalid.missing(path.field("ports"), "write at least one port");
        }
        let at = path.field("clusterIP");
        if elsewhere && !self.cluster_ip.is_empty() {
            let remedy = "leave it out: an ExternalName has no address";
            invalid.refuse(at, &self.cluster_ip, "stands in an ExternalName", remedy);
        } else if headless && self.exposure != ServiceType::ClusterIp {
            let remedy = "leave it out, or write type: ClusterIP";
            invalid.refuse(
                at,
                &self.cluster_ip,
                "is only for the type ClusterIP",
                remedy,
            );
        } else if !headless
            && !self.cluster_ip.is_empty()
            && self.cluster_ip.parse::<IpAddr>().is_err()
        {
            let remedy = "leave it out to be given one, or write an address or None";
            invalid.refuse(
                at,
                &self.cluster_ip,
                "is neither an IP address nor None",
                remedy,
            );
        }
        self.check_ports(invalid, path.field("ports"));
        let by_address = self
            .session_affinity_config
            .as_ref()
            .and_then(|it| it.client_ip.as_ref());
        let span = 1..=ClientIpConfig::TIMEOUT_SECONDS_MAX;
        if let Some(seconds) = by_address.and_then(|it| it.timeout_seconds)
            && !span.contains(&seconds)
        {
            let at = path.field("sessionAffinityConfig");
            let at = at.field("clientIP");
            let remedy = "write 1 to 86400";
            invalid.refuse(
                at.field("timeoutSeconds"),
                seconds,
                "is out of range",
                remedy,
            );
        }
    }

    fn check_ports(&self, invalid: &mut Invalid, path: Path<'_>) {
        let on_nodes = matches!(
            self.exposure,
            ServiceType::NodePort | ServiceType::LoadBalancer
        );
        let mut taken = BTreeSet::new();
        for (index, service_port) in self.ports.iter().enumerate() {
            let at = path.index(index);
            if !service_port.name.is_empty() {
                dns_label(invalid, at.field("name"), &service_port.name);
            } else if self.ports.len() > 1 {
                let remedy = "name each port when there are several";
                invalid.missing(at.field("name"), remedy);
            }
            port(invalid, at.field("port"), service_port.port);
            if service_port.port != 0 && !taken.insert((service_port.protocol, service_port.port)) {
                let problem = format!("is taken twice for {}", service_port.protocol);
                let remedy = "give each its own number";
                invalid.refuse(at.field("port"), service_port.port, problem, remedy);
            }
            if let Some(target) = &service_port.target_port {
                target_port(invalid, at.field("targetPort"), target);
            }
            if service_port.node_port != 0 && !on_nodes {
                let remedy = "leave it out, or write type: NodePort";
                let problem = "is only for the types NodePort and LoadBalancer";
                invalid.refuse(
                    at.field("nodePort"),
                    service_port.node_port,
                    problem,
                    remedy,
                );
            }
        }
        unique(
            invalid,
            path,
            "name",
            self.ports.iter().map(|port| port.name.as_str()),
        );
    }
}

impl Resource for Service {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Service";
    const PLURAL: &'static str = "services";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        for port in &mut spec.ports {
            let number = port.port;
            let target = port.target_port.get_or_insert_default();
            if matches!(target, IntOrString::Int(0))
                || matches!(target, IntOrString::String(name) if name.is_empty())
            {
                *target = IntOrString::from(number);
            }
        }
        if spec.session_affinity == SessionAffinity::ClientIp {
            let config = spec.session_affinity_config.get_or_insert_default();
            let by_address = config.client_ip.get_or_insert_default();
            by_address
                .timeout_seconds
                .get_or_insert(ClientIpConfig::TIMEOUT_SECONDS);
        }
        if spec.exposure != ServiceType::ExternalName {
            spec.internal_traffic_policy.get_or_insert_default();
        }
        if matches!(
            spec.exposure,
            ServiceType::NodePort | ServiceType::LoadBalancer
        ) {
            spec.external_traffic_policy.get_or_insert_default();
        }
        if spec.exposure == ServiceType::LoadBalancer {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let name = &self.metadata.name;
        if !name.is_empty() {
            let path = Path::root("metadata");
            dns_label(&mut invalid, path.field("name"), name);
            if name.starts_with(|c: char| c.is_ascii_digit()) {
                let remedy = "start with a letter: the name becomes a host name";
                invalid.refuse(path.field("name"), name, "starts with a digit", remedy);
            }
        }
        self.spec.check(&mut invalid, Path::root("spec"));
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
