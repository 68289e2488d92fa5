//! A probe: how to tell whether a container is well.

use std::time::Duration;

use smol_str::SmolStr;

use crate::int_or::IntOrString;
use crate::kind::wire::{part, words};

part! {
    /// How to tell whether a container is well. Exactly one of `http_get`, `tcp_socket`, `exec`
    /// and `grpc` is set. A number left at zero means its default.
    pub struct Probe {
        /// Call it.
        pub http_get: Option<HttpGetAction>,
        /// Open a connection.
        pub tcp_socket: Option<TcpSocketAction>,
        /// Run a command in the container.
        pub exec: Option<ExecAction>,
        /// Ask its gRPC health service.
        pub grpc: Option<GrpcAction>,
        /// How long after the container's start the first try waits, in seconds.
        pub initial_delay_seconds: u32,
        /// How long one try may take, in seconds; 1 by default.
        pub timeout_seconds: u32,
        /// From one try to the next, in seconds; 10 by default.
        pub period_seconds: u32,
        /// So many passes in a row make it well; 1 by default.
        pub success_threshold: u32,
        /// So many failures in a row make it unwell; 3 by default.
        pub failure_threshold: u32,
        /// The grace period if this probe ends the container, in seconds, instead of the pod's.
        /// Not for readiness.
        pub termination_grace_period_seconds: Option<u64>,
    }

    /// `GET` a path; 200 to 399 is success.
    pub struct HttpGetAction {
        /// The path with its query; `/` by default.
        pub path: String,
        /// The port, or its name in the container.
        pub port: IntOrString,
        /// The host to connect to; empty is the pod's address.
        pub host: SmolStr,
        /// What is spoken.
        pub scheme: UriScheme,
        /// Further headers, in order.
        pub http_headers: Vec<HttpHeader>,
    }

    /// A header of a request.
    pub struct HttpHeader {
        /// Its name.
        pub name: String,
        /// Its value.
        pub value: String,
    }

    /// Open a connection; success is that it opens.
    pub struct TcpSocketAction {
        /// The port, or its name in the container.
        pub port: IntOrString,
        /// The host to connect to; empty is the pod's address.
        pub host: SmolStr,
    }

    /// Run a command in the container; exit code 0 is success.
    pub struct ExecAction {
        /// The command; no shell reads it.
        pub command: Vec<String>,
    }

    /// Ask the gRPC health service.
    pub struct GrpcAction {
        /// The port.
        pub port: u16,
        /// The service to ask about; empty is the server as a whole.
        pub service: SmolStr,
    }
}

words! {
    /// What is spoken to a probed port.
    pub enum UriScheme {
        /// HTTP.
        #[default]
        Http = "HTTP",
        /// HTTPS; the certificate is not checked.
        Https = "HTTPS",
    }
}

/// What a probe does.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProbeAction<'a> {
    /// Call it.
    Http(&'a HttpGetAction),
    /// Open a connection.
    Tcp(&'a TcpSocketAction),
    /// Run a command.
    Exec(&'a ExecAction),
    /// Ask its gRPC health service.
    Grpc(&'a GrpcAction),
}

impl Probe {
    /// `GET` a path of a port.
    pub fn http(path: impl Into<String>, port: impl Into<IntOrString>) -> Self {
        let get = HttpGetAction {
            path: path.into(),
            port: port.into(),
            ..Default::default()
        };
        Self {
            http_get: Some(get),
            ..Self::default()
        }
    }

    /// Open a connection to a port.
    pub fn tcp(port: impl Into<IntOrString>) -> Self {
        let socket = TcpSocketAction {
            port: port.into(),
            ..Default::default()
        };
        Self {
            tcp_socket: Some(socket),
            ..Self::default()
        }
    }

    /// Run a command in the container.
    pub fn exec<T: Into<String>>(command: impl IntoIterator<Item = T>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self {
            exec: Some(ExecAction { command }),
            ..Self::default()
        }
    }

    /// Ask the gRPC health service at a port. The probers that come with the runtime cannot: without
    /// one of your own that can, the probe says nothing.
    pub fn grpc(port: u16) -> Self {
        Self {
            grpc: Some(GrpcAction {
                port,
                ..Default::default()
            }),
            ..Self::default()
        }
    }

    /// Waits so long after the container's start, in seconds.
    #[must_use]
    pub fn initial_delay(mut self, seconds: u32) -> Self {
        self.initial_delay_seconds = seconds;
        self
    }

    /// Tries so often, in seconds.
    #[must_use]
    pub fn period(mut self, seconds: u32) -> Self {
        self.period_seconds = seconds;
        self
    }

    /// Gives each try so long, in seconds.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout_seconds = seconds;
        self
    }

    /// So many failures in a row make it unwell.
    #[must_use]
    pub fn failures(mut self, threshold: u32) -> Self {
        self.failure_threshold = threshold;
        self
    }

    /// So many passes in a row make it well; readiness only.
    #[must_use]
    pub fn successes(mut self, threshold: u32) -> Self {
        self.success_threshold = threshold;
        self
    }

    /// What it does; `None` in a probe that breaks the rule of exactly one.
    pub fn action(&self) -> Option<ProbeAction<'_>> {
        let mut set = [
            self.http_get.as_ref().map(ProbeAction::Http),
            self.tcp_socket.as_ref().map(ProbeAction::Tcp),
            self.exec.as_ref().map(ProbeAction::Exec),
            self.grpc.as_ref().map(ProbeAction::Grpc),
        ]
        .into_iter()
        .flatten();
        let action = set.next();
        if set.next().is_some() { None } else { action }
    }

    /// How long after the container's start the first try waits.
    pub fn initial_delay_span(&self) -> Duration {
        Duration::from_secs(self.initial_delay_seconds.into())
    }

    /// From one try to the next.
    pub fn period_span(&self) -> Duration {
        Duration::from_secs(self.period_seconds.into())
    }

    /// How long one try may take.
    pub fn timeout_span(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}
