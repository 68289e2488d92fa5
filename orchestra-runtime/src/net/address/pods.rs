//! Where pods answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use super::plan::LoopbackSpan;
use super::pool::AddressPool;
use super::range::{AddressError, AddressRange};

/// How often a port is asked for before giving up: each time the system may offer one that is
/// already promised to another pod.
const PORT_ATTEMPTS_MAX: u32 = 64;

/// Where one pod answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodAddress {
    /// Its address.
    pub ip: IpAddr,
    /// The port to listen on for each port of the manifest, in the manifest's order. The same
    /// number twice where the pod has an address of its own.
    pub ports: Vec<(u16, u16)>,
}

impl PodAddress {
    /// What the workload must be told: `PORT` is its first port, `PORT_<n>` where it listens for
    /// port *n* of the manifest. A program that listens on `PORT` runs on every host.
    pub fn env(&self) -> BTreeMap<String, String> {
        let first = self
            .ports
            .first()
            .map(|(_, real)| ("PORT".to_owned(), real.to_string()));
        let each = self
            .ports
            .iter()
            .map(|(named, real)| (format!("PORT_{named}"), real.to_string()));
        first.into_iter().chain(each).collect()
    }

    /// Where the pod listens for port `named` of its manifest.
    pub fn port(&self, named: u16) -> Option<u16> {
        self.ports
            .iter()
            .find(|(wanted, _)| *wanted == named)
            .map(|(_, real)| *real)
    }
}

/// Hands out the addresses of one node's pods.
#[derive(Debug)]
pub struct PodAddresses {
    span: LoopbackSpan,
    pool: AddressPool,
    /// Ports promised on 127.0.0.1.
    promised: BTreeSet<u16>,
}

impl PodAddresses {
    /// The addresses of the node whose share is `range`.
    pub fn new(range: AddressRange, span: LoopbackSpan) -> Self {
        Self {
            span,
            pool: AddressPool::new(range),
            promised: BTreeSet::new(),
        }
    }

    /// Finds a place for a pod that wants to listen on `ports`. Where pods share an address each
    /// port is one that was free a moment ago and is promised to nobody else here; another
    /// program can still be quicker, which the workload sees when it binds.
    ///
    /// # Errors
    ///
    /// [`AddressError::Exhausted`] or [`AddressError::NoPort`]; then nothing is taken.
    pub fn assign(&mut self, ports: &[u16]) -> Result<PodAddress, AddressError> {
        match self.span {
            LoopbackSpan::Whole => {
                let ip = self.pool.allocate()?.into();
                Ok(PodAddress {
                    ip,
                    ports: ports.iter().map(|port| (*port, *port)).collect(),
                })
            }
            LoopbackSpan::Single => {
                let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let mut place = PodAddress {
                    ip,
                    ports: Vec::with_capacity(ports.len()),
                };
                for named in ports {
                    match self.promise_port(ip) {
                        Ok(real) => place.ports.push((*named, real)),
                        Err(error) => {
                            self.release(&place);
                            return Err(error);
                        }
                    }
                }
                Ok(place)
            }
        }
    }

    /// Takes exactly `place`: for a pod found running after a restart.
    ///
    /// # Errors
    ///
    /// [`AddressError::Taken`] or [`AddressError::Outside`].
    pub fn adopt(&mut self, place: &PodAddress) -> Result<(), AddressError> {
        match (self.span, place.ip) {
            (LoopbackSpan::Whole, IpAddr::V4(address)) => self.pool.claim(address),
            _ => {
                self.promised
                    .extend(place.ports.iter().map(|(_, real)| *real));
                Ok(())
            }
        }
    }

    /// Gives a place back. Idempotent.
    pub fn release(&mut self, place: &PodAddress) {
        match (self.span, place.ip) {
            (LoopbackSpan::Whole, IpAddr::V4(address)) => {
                self.pool.release(address);
            }
            _ => place.ports.iter().for_each(|(_, real)| {
                self.promised.remove(real);
            }),
        }
    }

    fn promise_port(&mut self, ip: IpAddr) -> Result<u16, AddressError> {
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = free_port(ip).map_err(|e| AddressError::NoPort {
                address: ip,
                reason: e.to_string(),
            })?;
            if self.promised.insert(port) {
                return Ok(port);
            }
        }
        let reason = format!("{PORT_ATTEMPTS_MAX} offers were promised already");
        Err(AddressError::NoPort {
            address: ip,
            reason,
        })
    }
}

/// A TCP port of `address` that nobody listens on at this moment.
///
/// # Errors
///
/// What the system says: no such address here, no port left, too many open files.
pub fn free_port(address: IpAddr) -> io::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::new(address, 0))?
        .local_addr()?
        .port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::plan::AddressPlan;
    use super::*;

    #[test]
    fn pods_on_a_whole_loopback_keep_their_ports() {
        let range = AddressPlan::default().of_node(3).unwrap();
        let mut pods = PodAddresses::new(range, LoopbackSpan::Whole);
        let (a, b) = (
            pods.assign(&[80, 9000]).unwrap(),
            pods.assign(&[80]).unwrap(),
        );
        assert_ne!(a.ip, b.ip);
        assert_eq!((a.port(9000), b.port(80)), (Some(9000), Some(80)));
        assert_eq!(a.env()["PORT"], "80");
        pods.release(&a);
        assert_eq!(pods.assign(&[80]).unwrap().ip, a.ip);
        assert!(matches!(pods.adopt(&b), Err(AddressError::Taken { .. })));
    }

    #[test]
    fn pods_on_a_single_address_get_ports_of_their_own() {
        let range = AddressPlan::default().of_node(0).unwrap();
        let mut pods = PodAddresses::new(range, LoopbackSpan::Single);
        let places: Vec<_> = (0..20).map(|_| pods.assign(&[80, 443]).unwrap()).collect();
        let ports: BTreeSet<_> = places
            .iter()
            .flat_map(|p| &p.ports)
            .map(|(_, real)| *real)
            .collect();
        assert_eq!(ports.len(), 40);
        let env = places[0].env();
        assert_eq!(env["PORT"], env["PORT_80"]);
        assert_eq!(env["PORT_443"], places[0].port(443).unwrap().to_string());
    }
}
