//! A service: a stable name and address before a changing set of pods.

use std::net::IpAddr;

use smol_str::SmolStr;

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

    /// An unnamed TCP port, and the pods' port that it leads to.
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

    /// What `cluster_ip` holds for a service without an address.
    pub const NO_CLUSTER_IP: &'static str = "None";

    /// Whether it has no address of its own by its own wish.
    pub fn is_headless(&self) -> bool {
        self.spec.cluster_ip == Self::NO_CLUSTER_IP
    }

    /// Its address, once it has one.
    pub fn cluster_ip(&self) -> Option<IpAddr> {
        self.spec.cluster_ip.parse().ok()
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
        for port in &mut self.spec.ports {
            let number = port.port;
            port.target_port
                .get_or_insert_with(|| IntOrString::from(number));
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}
