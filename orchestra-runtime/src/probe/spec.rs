//! What to probe of a container, out of its manifest.

use orchestra_core::int_or::IntOrString;
use orchestra_core::kind::Probe;
use orchestra_core::kind::pod::{Container, HttpGetAction, ProbeAction, UriScheme};
use orchestra_core::port::probe::{ProbeError, ProbeErrorKind, ProbeSpec};
use orchestra_sched::health::tracker::{HealthPolicy, ProbeKind, ProbePolicy};

/// One probe of a container: how to look, and how to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedProbe {
    /// How to look.
    pub spec: ProbeSpec,
    /// How often, how long, and how many results count.
    pub policy: ProbePolicy,
}

/// The probes of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchedProbes {
    /// Whether it has started; without one it has as soon as it runs.
    pub startup: Option<WatchedProbe>,
    /// Whether it works; without one it does as long as it runs.
    pub liveness: Option<WatchedProbe>,
    /// Whether it can serve; without one it can once it has started.
    pub readiness: Option<WatchedProbe>,
}

impl WatchedProbes {
    /// The probes of `container`. `port` tells where the pod listens for a port of its manifest:
    /// the same number, unless pods share an address and have ports assigned.
    ///
    /// # Errors
    ///
    /// [`ProbeErrorKind::Invalid`] if a probe names a port that the container does not have, or
    /// does not do exactly one thing; [`ProbeErrorKind::Unsupported`] for HTTPS.
    pub fn of(container: &Container, port: impl Fn(u16) -> u16) -> Result<Self, ProbeError> {
        let watched = |probe: &Option<Box<Probe>>| match probe.as_deref() {
            None => Ok(None),
            Some(probe) => Ok(Some(WatchedProbe {
                spec: spec_of(probe, container, &port)?,
                policy: ProbePolicy::from(probe),
            })),
        };
        Ok(Self {
            startup: watched(&container.startup_probe)?,
            liveness: watched(&container.liveness_probe)?,
            readiness: watched(&container.readiness_probe)?,
        })
    }

    pub(super) fn policy(&self) -> HealthPolicy {
        let policy = |probe: &Option<WatchedProbe>| probe.as_ref().map(|probe| probe.policy);
        HealthPolicy {
            startup: policy(&self.startup),
            liveness: policy(&self.liveness),
            readiness: policy(&self.readiness),
        }
    }

    pub(super) fn spec(&self, kind: ProbeKind) -> Option<&ProbeSpec> {
        let probe = match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Liveness => &self.liveness,
            ProbeKind::Readiness => &self.readiness,
        };
        probe.as_ref().map(|probe| &probe.spec)
    }
}

/// How to look, with its port's name resolved.
fn spec_of(
    probe: &Probe,
    container: &Container,
    port: &impl Fn(u16) -> u16,
) -> Result<ProbeSpec, ProbeError> {
    let refused = |kind, why: String| {
        ProbeError::new(kind, "read the probe")
            .about(container.name.as_str())
            .because(why)
    };
    let number = |wanted: &IntOrString| match resolve(wanted, container) {
        Some(number) => Ok(port(number)),
        None => Err(refused(
            ProbeErrorKind::Invalid,
            format!(
                "the container has no port {wanted}; declare it under `ports`, or use 1 to 65535"
            ),
        )),
    };
    let host = |host: &str| (!host.is_empty()).then(|| host.to_owned());
    match probe.action() {
        Some(ProbeAction::Http(HttpGetAction {
            scheme: UriScheme::Https,
            ..
        })) => Err(refused(
            ProbeErrorKind::Unsupported,
            "probes speak plain HTTP only; use scheme HTTP or tcpSocket".to_owned(),
        )),
        Some(ProbeAction::Http(get)) => Ok(ProbeSpec::Http {
            host: host(&get.host),
            port: number(&get.port)?,
            path: if get.path.is_empty() {
                "/".to_owned()
            } else {
                get.path.clone()
            },
            headers: get
                .http_headers
                .iter()
                .map(|h| (h.name.clone(), h.value.clone()))
                .collect(),
        }),
        Some(ProbeAction::Tcp(socket)) => Ok(ProbeSpec::Tcp {
            host: host(&socket.host),
            port: number(&socket.port)?,
        }),
        Some(ProbeAction::Exec(exec)) => Ok(ProbeSpec::Exec {
            command: exec.command.clone(),
        }),
        Some(ProbeAction::Grpc(grpc)) => Ok(ProbeSpec::Grpc {
            port: port(grpc.port),
            service: grpc.service.to_string(),
        }),
        _ => Err(refused(
            ProbeErrorKind::Invalid,
            "a probe does exactly one of httpGet, tcpSocket, exec and grpc".to_owned(),
        )),
    }
}

/// The number of a port, which may be given by its name.
fn resolve(wanted: &IntOrString, container: &Container) -> Option<u16> {
    match wanted {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|number| *number > 0),
        IntOrString::String(name) => {
            let named = container.ports.iter().find(|port| port.name == *name);
            named.map(|port| port.container_port)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use orchestra_core::kind::pod::ContainerPort;

    fn container(probe: Probe) -> Container {
        Container {
            name: "main".into(),
            ports: vec![ContainerPort {
                name: "web".into(),
                container_port: 8_080,
                ..Default::default()
            }],
            readiness_probe: Some(Box::new(probe)),
            ..Default::default()
        }
    }

    #[test]
    fn a_named_port_is_found_and_mapped_to_where_the_pod_listens() {
        let probes =
            WatchedProbes::of(&container(Probe::http("", "web")), |port| port + 1).unwrap();
        let spec = probes.spec(ProbeKind::Readiness).unwrap();
        let ProbeSpec::Http {
            host: None,
            port: 8_081,
            path,
            ..
        } = spec
        else {
            panic!("{spec:?}")
        };
        assert_eq!(path, "/");
        assert_eq!(probes.policy().liveness, None);
    }

    #[test]
    fn what_cannot_be_probed_says_why() {
        let mut https = Probe::http("/", 443_u16);
        https.http_get.as_mut().unwrap().scheme = UriScheme::Https;
        let two = Probe {
            exec: Probe::exec(["true"]).exec,
            ..Probe::tcp(1_u16)
        };
        for (probe, word) in [
            (Probe::tcp("admin"), "admin"),
            (Probe::tcp(0_u16), "1 to 65535"),
            (https, "plain HTTP"),
            (two, "exactly one"),
            (Probe::default(), "exactly one"),
        ] {
            let error = WatchedProbes::of(&container(probe), |port| port).unwrap_err();
            let text = orchestra_core::error::report(&error).to_string();
            assert!(text.contains(word) && text.contains("main"), "{text}");
        }
    }
}
