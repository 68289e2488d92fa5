//! An endpoint slice: where a service answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smol_str::SmolStr;

use super::event::ObjectReference;
use super::rules::{Path, dns_label, is_dns_subdomain, port, unique};
use super::service::Protocol;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::meta::{Labels, ObjectMeta};

kind! {
    /// Where a service answers, or a part of that. The label `kubernetes.io/service-name` names
    /// the service.
    pub struct EndpointSlice {
        /// What the addresses are.
        pub address_type: AddressType,
        /// The places.
        pub endpoints: Vec<Endpoint>,
        /// The ports, the same at every place.
        pub ports: Vec<EndpointPort>,
    }
}

part! {
    /// One place where a service answers.
    pub struct Endpoint {
        /// Its addresses, 1 to 100, all of the slice's address type; they are the same place.
        pub addresses: Vec<SmolStr>,
        /// How it is.
        pub conditions: EndpointConditions,
        /// The host's name within the service, if it has one.
        pub hostname: SmolStr,
        /// The pod behind it.
        pub target_ref: Option<ObjectReference>,
        /// The node it runs on.
        pub node_name: SmolStr,
        /// The zone of that node.
        pub zone: SmolStr,
        /// Where its traffic should come from.
        pub hints: Option<EndpointHints>,
        /// An older form of `node_name`, `zone` and the like.
        pub deprecated_topology: Labels,
    }

    /// How a place is.
    pub struct EndpointConditions {
        /// It wants new connections. Not said counts as yes.
        pub ready: Option<bool>,
        /// It answers, even while it ends. Not said counts as `ready`.
        pub serving: Option<bool>,
        /// It is about to end. Not said counts as no.
        pub terminating: Option<bool>,
    }

    /// Where the traffic of a place should come from.
    pub struct EndpointHints {
        /// From these zones.
        pub for_zones: Vec<ForName>,
        /// From these nodes.
        pub for_nodes: Vec<ForName>,
    }

    /// Names a zone or a node.
    pub struct ForName {
        /// Its name.
        pub name: SmolStr,
    }

    /// A port of a slice.
    pub struct EndpointPort {
        /// The name of the service's port; empty for a single unnamed one.
        pub name: SmolStr,
        /// The protocol.
        pub protocol: Protocol,
        /// The number at the place itself.
        pub port: u16,
        /// What is spoken over it, for instance `kubernetes.io/h2c`.
        pub app_protocol: SmolStr,
    }
}

words! {
    /// What the addresses of a slice are.
    pub enum AddressType {
        /// IPv4 addresses.
        #[default]
        IPv4 = "IPv4",
        /// IPv6 addresses.
        IPv6 = "IPv6",
        /// Names to look up.
        Fqdn = "FQDN",
    }
}

impl EndpointConditions {
    /// Whether it wants new connections.
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(true)
    }

    /// Whether it answers, even while it ends.
    pub fn is_serving(&self) -> bool {
        self.serving.unwrap_or_else(|| self.is_ready())
    }

    /// Whether it is about to end.
    pub fn is_terminating(&self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

impl Endpoint {
    /// Its first address, if it is an IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }
}

impl Endpoint {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>, kind: AddressType) {
        let addresses = path.field("addresses");
        if self.addresses.is_empty() {
            invalid.missing(addresses, "write at least one address");
        } else if self.addresses.len() > EndpointSlice::ADDRESSES_MAX {
            let count = format!("{} entries", self.addresses.len());
            let problem = format!("has more than {}", EndpointSlice::ADDRESSES_MAX);
            invalid.refuse(
                addresses,
                count,
                problem,
                "keep the first: they are the same place",
            );
            return;
        }
        for (index, address) in self.addresses.iter().enumerate() {
            let fits = match kind {
                AddressType::IPv4 => address.parse::<Ipv4Addr>().is_ok(),
                AddressType::IPv6 => address.parse::<Ipv6Addr>().is_ok(),
                AddressType::Fqdn => is_dns_subdomain(address),
            };
            if !fits {
                let problem = format!("is not of the slice's address type, {kind}");
                let remedy = "write such an address, or put it into a slice of its own type";
                invalid.refuse(addresses.index(index), address, problem, remedy);
            }
        }
        if !self.hostname.is_empty() {
            dns_label(invalid, path.field("hostname"), &self.hostname);
        }
    }
}

impl EndpointSlice {
    /// The label that names the service of a slice.
    pub const SERVICE_NAME_LABEL: &'static str = "kubernetes.io/service-name";
    /// The most places in one slice.
    pub const ENDPOINTS_MAX: usize = 1_000;
    /// The most ports of one slice.
    pub const PORTS_MAX: usize = 100;
    /// The most addresses of one place.
    pub const ADDRESSES_MAX: usize = 100;

    /// The name of the service whose slice this is.
    pub fn service_name(&self) -> Option<&SmolStr> {
        self.metadata.labels.get(Self::SERVICE_NAME_LABEL)
    }
}

impl Resource for EndpointSlice {
    const API_VERSION: &'static str = "discovery.k8s.io/v1";
    const KIND: &'static str = "EndpointSlice";
    const PLURAL: &'static str = "endpointslices";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {}

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let (endpoints, ports) = (Path::root("endpoints"), Path::root("ports"));
        let bounds = [
            (endpoints, self.endpoints.len(), Self::ENDPOINTS_MAX),
            (ports, self.ports.len(), Self::PORTS_MAX),
        ];
        for (path, count, most) in bounds {
            if count > most {
                let remedy = "spread them over several slices";
                let problem = format!("has more than {most}");
                invalid.refuse(path, format!("{count} entries"), problem, remedy);
                return invalid.into_result();
            }
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.check(&mut invalid, endpoints.index(index), self.address_type);
        }
        for (index, slice_port) in self.ports.iter().enumerate() {
            let at = ports.index(index);
            if !slice_port.name.is_empty() {
                dns_label(&mut invalid, at.field("name"), &slice_port.name);
            }
            port(&mut invalid, at.field("port"), slice_port.port);
        }
        let names = self.ports.iter().map(|port| port.name.as_str());
        unique(&mut invalid, ports, "name", names);
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.address_type == other.address_type
            && self.endpoints == other.endpoints
            && self.ports == other.ports
    }
}
