//! What a container sees in its environment, and in the variables of its command line.

use std::collections::BTreeMap;
use std::net::IpAddr;

use orchestra_core::error::report;
use orchestra_core::kind::pod::{EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};
use orchestra_core::kind::{ConfigMap, Container, Pod, Secret, Service};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::secret::{SecretErrorKind, SecretProvider, SecretRef};
use orchestra_core::quantity::Quantity;
use smol_str::SmolStr;

use crate::api::Client;

/// A container cannot be configured as its manifest asks: what is missing, and the remedy. Tried
/// again with back-off, for somebody may create it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub(crate) struct ConfigError {
    what: String,
    remedy: &'static str,
}

impl ConfigError {
    pub(crate) fn new(what: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            what: what.into(),
            remedy,
        }
    }
}

/// What the agent knows of a pod beyond its manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) host_ip: Option<IpAddr>,
    /// The services of the pod's namespace that have an address.
    pub(crate) services: &'a [std::sync::Arc<Service>],
}

/// Where configuration comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) client: &'a Client,
    pub(crate) secrets: &'a dyn SecretProvider,
}

/// The environment of a container: what services there are, then `envFrom`, then `env`, the later
/// over the earlier. `$(NAME)` in a value stands for what was set before it.
pub(crate) async fn environment(
    container: &Container,
    facts: Facts<'_>,
    sources: Sources<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    if facts.pod.spec.enable_service_links.unwrap_or(true) {
        for service in facts.services {
            link(service, &mut env);
        }
    }
    let namespace = &facts.pod.metadata.namespace;
    for source in &container.env_from {
        let mut add = |key: &str, value: String| {
            env.insert(format!("{}{key}", source.prefix), value);
        };
        if let Some(from) = &source.config_map_ref {
            let optional = from.optional.unwrap_or(false);
            if let Some(map) = sources.config_map(namespace, &from.name, optional).await? {
                for (key, value) in &map.data {
                    add(key, value.clone());
                }
            }
        }
        if let Some(from) = &source.secret_ref {
            let optional = from.optional.unwrap_or(false);
            for key in sources.secret_keys(namespace, &from.name, optional).await? {
                if let Some(text) = sources
                    .secret(namespace, &from.name, &key, optional)
                    .await?
                {
                    add(&key, text);
                }
            }
        }
    }
    for var in &container.env {
        let value = match &var.value_from {
            None => Some(expand(&var.value, &env)),
            Some(source) => resolve(source, container, facts, sources).await?,
        };
        if let Some(value) = value {
            env.insert(var.name.clone(), value);
        }
    }
    Ok(env)
}

/// `$(NAME)` becomes the value of NAME, if there is one, and `$$` becomes `$`.
pub(crate) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables by which a container finds a service without asking anybody.
fn link(service: &Service, env: &mut BTreeMap<String, String>) {
    let Some(address) = service.cluster_ip() else {
        return;
    };
    let name = service
        .metadata
        .name
        .to_uppercase()
        .replace(['-', '.'], "_");
    env.insert(format!("{name}_SERVICE_HOST"), address.to_string());
    for (n, port) in service.spec.ports.iter().enumerate() {
        if n == 0 {
            env.insert(format!("{name}_SERVICE_PORT"), port.port.to_string());
        }
        if !port.name.is_empty() {
            let port_name = port.name.to_uppercase().replace('-', "_");
            env.insert(
                format!("{name}_SERVICE_PORT_{port_name}"),
                port.port.to_string(),
            );
        }
    }
}

async fn resolve(
    source: &EnvVarSource,
    container: &Container,
    facts: Facts<'_>,
    sources: Sources<'_>,
) -> Result<Option<String>, ConfigError> {
    let namespace = &facts.pod.metadata.namespace;
    if let Some(from) = &source.config_map_key_ref {
        let optional = from.optional.unwrap_or(false);
        let Some(map) = sources.config_map(namespace, &from.name, optional).await? else {
            return Ok(None);
        };
        return match map.data.get(&from.key) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(ConfigError::new(
                format!(
                    "config map {namespace}/{} has no key {:?}",
                    from.name, from.key
                ),
                "add the key, or mark the reference optional",
            )),
        };
    }
    if let Some(from) = &source.secret_key_ref {
        let optional = from.optional.unwrap_or(false);
        return sources
            .secret(namespace, &from.name, &from.key, optional)
            .await;
    }
    if let Some(from) = &source.field_ref {
        return field(from, facts).map(Some);
    }
    if let Some(from) = &source.resource_field_ref {
        return resource(from, container, facts.pod).map(Some);
    }
    Ok(None)
}

impl Sources<'_> {
    pub(crate) async fn config_map(
        &self,
        namespace: &SmolStr,
        name: &SmolStr,
        optional: bool,
    ) -> Result<Option<std::sync::Arc<ConfigMap>>, ConfigError> {
        let key = ObjectKey::namespaced(namespace.clone(), name.clone());
        match self.client.api::<ConfigMap>().find(&key).await {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) if optional => Ok(None),
            Ok(None) => Err(ConfigError::new(
                format!("config map {key} does not exist"),
                "create it, or mark the reference optional",
            )),
            Err(error) => Err(ConfigError::new(
                format!("config map {key} cannot be read: {}", report(&error)),
                "it is tried again",
            )),
        }
    }

    pub(crate) async fn secret_keys(
        &self,
        namespace: &SmolStr,
        name: &SmolStr,
        optional: bool,
    ) -> Result<Vec<SmolStr>, ConfigError> {
        let key = ObjectKey::namespaced(namespace.clone(), name.clone());
        match self.client.api::<Secret>().find(&key).await {
            Ok(Some(found)) => Ok(found.data.keys().cloned().collect()),
            Ok(None) if optional => Ok(Vec::new()),
            Ok(None) => Err(ConfigError::new(
                format!("secret {key} does not exist"),
                "create it, or mark the reference optional",
            )),
            Err(error) => Err(ConfigError::new(
                format!("secret {key} cannot be read: {}", report(&error)),
                "it is tried again",
            )),
        }
    }

    /// The bytes of a secret, as text. Errors never hold them.
    async fn secret(
        &self,
        namespace: &SmolStr,
        name: &SmolStr,
        key: &SmolStr,
        optional: bool,
    ) -> Result<Option<String>, ConfigError> {
        let Some(value) = self.secret_bytes(namespace, name, key, optional).await? else {
            return Ok(None);
        };
        match std::str::from_utf8(value.expose()) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(ConfigError::new(
                format!("secret {namespace}/{name} holds bytes under {key:?} that are not text"),
                "mount it as a file instead",
            )),
        }
    }

    pub(crate) async fn secret_bytes(
        &self,
        namespace: &SmolStr,
        name: &SmolStr,
        key: &SmolStr,
        optional: bool,
    ) -> Result<Option<orchestra_core::port::secret::SecretBytes>, ConfigError> {
        let secret = SecretRef {
            namespace: namespace.clone(),
            name: name.clone(),
            key: key.clone(),
        };
        match self.secrets.fetch(&secret).await {
            Ok(value) => Ok(Some(value.bytes)),
            Err(error) if optional && error.kind() == SecretErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::new(
                report(&error).to_string(),
                "it is tried again",
            )),
        }
    }
}

/// A field of the pod itself, by its path.
pub(crate) fn field(from: &ObjectFieldSelector, facts: Facts<'_>) -> Result<String, ConfigError> {
    let meta = &facts.pod.metadata;
    let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
    let quoted = |prefix: &str| {
        let inner = from.field_path.strip_prefix(prefix)?.strip_prefix("['")?;
        inner.strip_suffix("']")
    };
    if let Some(key) = quoted("metadata.labels") {
        return Ok(meta
            .labels
            .get(key)
            .map(SmolStr::to_string)
            .unwrap_or_default());
    }
    if let Some(key) = quoted("metadata.annotations") {
        return Ok(meta
            .annotations
            .get(key)
            .map(SmolStr::to_string)
            .unwrap_or_default());
    }
    Ok(match from.field_path.as_str() {
        "metadata.name" => meta.name.to_string(),
        "metadata.namespace" => meta.namespace.to_string(),
        "metadata.uid" => meta.uid.to_string(),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" => facts.pod.spec.node_name.to_string(),
        "spec.serviceAccountName" => facts.pod.spec.service_account_name.to_string(),
        "status.hostIP" | "status.hostIPs" => ip(facts.host_ip),
        "status.podIP" | "status.podIPs" => ip(facts.pod_ip),
        other => {
            return Err(ConfigError::new(
                format!("there is no field {other:?} to refer to"),
                "use one of metadata.{name,namespace,uid,labels,annotations}, spec.nodeName, \
                 spec.serviceAccountName, status.{hostIP,podIP,podIPs}",
            ));
        }
    })
}

fn lines(map: &orchestra_core::meta::Labels) -> String {
    map.iter()
        .map(|(key, value)| format!("{key}={value:?}\n"))
        .collect()
}

/// A request or limit of a container, in units of the divisor, rounded up.
pub(crate) fn resource(
    from: &ResourceFieldSelector,
    container: &Container,
    pod: &Pod,
) -> Result<String, ConfigError> {
    let container = if from.container_name.is_empty() {
        container
    } else {
        let all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        all.into_iter()
            .find(|other| other.name == from.container_name)
            .ok_or_else(|| {
                ConfigError::new(
                    format!("there is no container {:?}", from.container_name),
                    "name one of the pod's containers",
                )
            })?
    };
    let unknown = || {
        ConfigError::new(
            format!("there is no resource {:?} to refer to", from.resource),
            "use requests. or limits. with cpu, memory, ephemeral-storage or another resource",
        )
    };
    let (side, name) = from.resource.split_once('.').ok_or_else(unknown)?;
    let list = match side {
        "requests" => &container.resources.requests,
        "limits" => &container.resources.limits,
        _ => return Err(unknown()),
    };
    let amount = list.get(name).copied().unwrap_or_default();
    let divisor = if from.divisor == Quantity::default() {
        Quantity::from_int(1)
    } else {
        from.divisor
    };
    let (amount, divisor) = (amount.as_milli(), divisor.as_milli().max(1));
    Ok(amount
        .div_euclid(divisor)
        .saturating_add(i64::from(amount.rem_euclid(divisor) > 0))
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_and_dollars_escape() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        for (text, expected) in [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("cost: 5$", "cost: 5$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn the_pod_tells_about_itself() {
        let mut pod = Pod::builder("web-1").namespace("shop").label("app", "web");
        pod.spec.node_name = "node-1".into();
        let facts = Facts {
            pod: &pod,
            pod_ip: Some([127, 128, 0, 1].into()),
            host_ip: None,
            services: &[],
        };
        let read = |path: &str| {
            field(
                &ObjectFieldSelector {
                    field_path: path.into(),
                    ..Default::default()
                },
                facts,
            )
        };
        assert_eq!(read("metadata.name").as_deref(), Ok("web-1"));
        assert_eq!(read("metadata.labels['app']").as_deref(), Ok("web"));
        assert_eq!(read("status.podIP").as_deref(), Ok("127.128.0.1"));
        assert_eq!(read("spec.nodeName").as_deref(), Ok("node-1"));
        let error = read("status.phase").expect_err("not a field one may refer to");
        assert!(error.to_string().contains("\"status.phase\""));
    }

    #[test]
    fn resources_are_told_in_units_of_the_divisor_rounded_up() {
        let container = Container::new("a", "a").cpu_milli(1_500).memory_mib(100);
        let pod = Pod::builder("p").container(container.clone());
        let read = |resource: &str, divisor: Quantity| {
            let from = ResourceFieldSelector {
                resource: resource.into(),
                divisor,
                ..Default::default()
            };
            super::resource(&from, &container, &pod)
        };
        assert_eq!(
            read("requests.cpu", Quantity::default()).as_deref(),
            Ok("2")
        );
        assert_eq!(
            read("requests.cpu", Quantity::from_milli(1)).as_deref(),
            Ok("1500")
        );
        assert_eq!(
            read("requests.memory", Quantity::from_int(1 << 20)).as_deref(),
            Ok("100")
        );
        assert_eq!(
            read("limits.memory", Quantity::default()).as_deref(),
            Ok("0")
        );
        assert!(read("cpu", Quantity::default()).is_err());
    }
}
