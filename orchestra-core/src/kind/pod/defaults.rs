//! What a pod means where it says nothing.

use super::{
    Container, EnvVar, HttpGetAction, Lifecycle, LifecycleHandler, Pod, PodSpec, Probe, PullPolicy,
    ResourceRequirements, Toleration, Volume,
};
use crate::kind::node::{Taint, TaintEffect};

/// How long a pod stays on a node that is not ready or not heard of, in seconds, unless it says
/// otherwise.
pub const DEFAULT_TOLERATION_SECONDS: i64 = 300;

/// Where containers leave their last words.
const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";
/// How long the token of a service account is good, in seconds.
const TOKEN_SECONDS: u64 = 3_600;

/// Lets a pod stay for [`DEFAULT_TOLERATION_SECONDS`] on a node that is not ready or not heard
/// of, unless it already says for how long. Idempotent. Called for pods that are created, and not
/// part of their defaults: a template stays as it was written.
pub fn add_default_tolerations(spec: &mut PodSpec) {
    for key in [Taint::NOT_READY, Taint::UNREACHABLE] {
        let taint = Taint::new(key, TaintEffect::NoExecute);
        let speaks_of_it = |own: &Toleration| {
            (own.key == key || own.key.is_empty())
                && own
                    .effect
                    .is_none_or(|effect| effect == TaintEffect::NoExecute)
        };
        if !spec.tolerations.iter().any(speaks_of_it) {
            let toleration = Toleration::exists(taint.key).effect(taint.effect);
            spec.tolerations
                .push(toleration.seconds(DEFAULT_TOLERATION_SECONDS));
        }
    }
}

impl PodSpec {
    /// Fills in what was left out. Idempotent.
    pub(crate) fn set_defaults(&mut self) {
        self.termination_grace_period_seconds
            .get_or_insert(Pod::GRACE_SECONDS);
        self.enable_service_links.get_or_insert(true);
        if self.scheduler_name.is_empty() {
            self.scheduler_name = Pod::DEFAULT_SCHEDULER.into();
        }
        if self.service_account_name.is_empty() {
            self.service_account_name.clone_from(&self.service_account);
        }
        if let Some(whole) = &mut self.resources {
            whole.set_defaults();
        }
        for volume in &mut self.volumes {
            volume.set_defaults();
        }
        let host_network = self.host_network;
        for container in self.init_containers.iter_mut().chain(&mut self.containers) {
            container.set_defaults(host_network);
        }
    }
}

impl Container {
    fn set_defaults(&mut self, host_network: bool) {
        let fresh = PullPolicy::for_image(&self.image);
        self.image_pull_policy.get_or_insert(fresh);
        if self.termination_message_path.is_empty() {
            self.termination_message_path = TERMINATION_MESSAGE_PATH.to_owned();
        }
        for port in self
            .ports
            .iter_mut()
            .filter(|port| host_network && port.host_port == 0)
        {
            port.host_port = port.container_port;
        }
        self.env.iter_mut().for_each(EnvVar::set_defaults);
        self.resources.set_defaults();
        for probe in [
            &mut self.liveness_probe,
            &mut self.readiness_probe,
            &mut self.startup_probe,
        ]
        .into_iter()
        .flatten()
        {
            probe.set_defaults();
        }
        if let Some(lifecycle) = &mut self.lifecycle {
            lifecycle.set_defaults();
        }
    }
}

impl PullPolicy {
    /// The policy where nothing is said: an image without a tag, or tagged `latest`, may change
    /// at any time and is fetched before every start.
    pub fn for_image(image: &str) -> Self {
        let last = image.rsplit('/').next().unwrap_or(image);
        if last.contains('@') {
            return Self::IfNotPresent;
        }
        match last.split_once(':') {
            None | Some((_, "latest")) => Self::Always,
            Some(_) => Self::IfNotPresent,
        }
    }
}

impl EnvVar {
    fn set_defaults(&mut self) {
        let field = self
            .value_from
            .as_mut()
            .and_then(|source| source.field_ref.as_mut());
        if let Some(field) = field
            && field.api_version.is_empty()
        {
            field.api_version = "v1".into();
        }
    }
}

impl ResourceRequirements {
    /// A limit without a request asks for as much.
    fn set_defaults(&mut self) {
        for (name, limit) in &self.limits {
            if !self.requests.contains_key(name) {
                self.requests.insert(name.clone(), *limit);
            }
        }
    }
}

impl Probe {
    fn set_defaults(&mut self) {
        for (number, default) in [
            (&mut self.timeout_seconds, 1),
            (&mut self.period_seconds, 10),
            (&mut self.success_threshold, 1),
            (&mut self.failure_threshold, 3),
        ] {
            if *number == 0 {
                *number = default;
            }
        }
        if let Some(get) = &mut self.http_get {
            get.set_defaults();
        }
    }
}

impl HttpGetAction {
    fn set_defaults(&mut self) {
        if self.path.is_empty() {
            self.path = "/".to_owned();
        }
    }
}

impl Lifecycle {
    fn set_defaults(&mut self) {
        let handlers = [&mut self.post_start, &mut self.pre_stop];
        for handler in handlers.into_iter().flatten() {
            let LifecycleHandler {
                http_get: Some(get),
                ..
            } = handler
            else {
                continue;
            };
            get.set_defaults();
        }
    }
}

impl Volume {
    fn set_defaults(&mut self) {
        if self.sources() == 0 {
            self.empty_dir = Some(Default::default());
        }
        let modes = [
            self.config_map
                .as_mut()
                .map(|source| &mut source.default_mode),
            self.secret.as_mut().map(|source| &mut source.default_mode),
            self.downward_api
                .as_mut()
                .map(|source| &mut source.default_mode),
            self.projected
                .as_mut()
                .map(|source| &mut source.default_mode),
        ];
        for mode in modes.into_iter().flatten() {
            mode.get_or_insert(Self::DEFAULT_MODE);
        }
        let projected = self
            .projected
            .iter_mut()
            .flat_map(|projected| &mut projected.sources);
        for token in projected.filter_map(|source| source.service_account_token.as_mut()) {
            token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::kind::{Resource, Toleration};

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        pod.set_defaults();
        let once = pod.clone();
        pod.set_defaults();
        assert_eq!(pod, once, "defaults are idempotent");
        pod
    }

    #[test]
    fn a_bare_pod_gets_the_documented_numbers() {
        let pod = pod(json!({
            "containers": [{
                "name": "web", "image": "web",
                "ports": [{"containerPort": 80}],
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [
                {"name": "scratch"},
                {"name": "config", "configMap": {"name": "config"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
            "serviceAccount": "web",
        }));
        let written = serde_json::to_value(&pod.spec).unwrap();
        assert_eq!(
            written,
            json!({
                "restartPolicy": "Always",
                "dnsPolicy": "ClusterFirst",
                "terminationGracePeriodSeconds": 30,
                "schedulerName": "default-scheduler",
                "enableServiceLinks": true,
                "serviceAccount": "web",
                "serviceAccountName": "web",
                "containers": [{
                    "name": "web", "image": "web", "imagePullPolicy": "Always",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "env": [{"name": "IP", "valueFrom":
                        {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
                    "resources": {
                        "limits": {"cpu": "1", "memory": "1Gi"},
                        "requests": {"cpu": "500m", "memory": "1Gi"},
                    },
                    "livenessProbe": {
                        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10,
                        "successThreshold": 1, "failureThreshold": 3,
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }],
                "volumes": [
                    {"name": "scratch", "emptyDir": {}},
                    {"name": "config", "configMap": {"name": "config", "defaultMode": 420}},
                    {"name": "token", "projected": {"defaultMode": 420, "sources":
                        [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}},
                ],
            })
        );
    }

    #[test]
    fn what_is_said_stays() {
        let pod = pod(json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "hostNetwork": true,
            "containers": [{
                "name": "web", "image": "web:1.2",
                "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}],
                "readinessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 3},
            }],
        }));
        assert_eq!(pod.spec.termination_grace_period_seconds, Some(0));
        let web = &pod.spec.containers[0];
        assert_eq!(web.image_pull_policy, Some(PullPolicy::IfNotPresent));
        assert_eq!(
            web.ports[0].host_port, 80,
            "on the host's network they are the same"
        );
        assert_eq!(web.readiness_probe.as_ref().unwrap().period_seconds, 3);
    }

    #[test]
    fn images_without_a_fixed_tag_are_fetched_each_time() {
        for (image, policy) in [
            ("nginx", PullPolicy::Always),
            ("nginx:latest", PullPolicy::Always),
            ("registry:5000/nginx", PullPolicy::Always),
            ("registry:5000/nginx:1.27", PullPolicy::IfNotPresent),
            ("nginx@sha256:0123", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(PullPolicy::for_image(image), policy, "{image}");
        }
    }

    #[test]
    fn default_tolerations_are_added_once_and_never_over_own_ones() {
        let mut spec = PodSpec::default();
        add_default_tolerations(&mut spec);
        add_default_tolerations(&mut spec);
        let keys: Vec<_> = spec
            .tolerations
            .iter()
            .map(|own| own.key.as_str())
            .collect();
        assert_eq!(keys, [Taint::NOT_READY, Taint::UNREACHABLE]);
        assert!(
            spec.tolerations
                .iter()
                .all(|own| own.toleration_seconds == Some(300))
        );

        let own = Toleration::exists(Taint::UNREACHABLE)
            .effect(TaintEffect::NoExecute)
            .seconds(5);
        let mut spec = PodSpec {
            tolerations: vec![own],
            ..PodSpec::default()
        };
        add_default_tolerations(&mut spec);
        assert_eq!(spec.tolerations.len(), 2);
        let mut spec = PodSpec {
            tolerations: vec![Toleration::exists("")],
            ..PodSpec::default()
        };
        add_default_tolerations(&mut spec);
        assert_eq!(
            spec.tolerations.len(),
            1,
            "it tolerates everything for ever already"
        );
    }
}
