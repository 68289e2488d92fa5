//! The rules of volumes and of what mounts them.

use std::collections::BTreeSet;

use super::container_rules::{Declared, exactly_one, resource_field};
use super::{Container, DownwardApiFile, KeyToPath, PodSpec, Volume, VolumeProjection};
use crate::kind::Invalid;
use crate::kind::rules::{Path, data_key, dns_label, dns_subdomain, unique};

impl PodSpec {
    pub(super) fn check_volumes(&self, invalid: &mut Invalid, path: Path<'_>) {
        let volumes = path.field("volumes");
        for (index, volume) in self.volumes.iter().enumerate() {
            volume.check(invalid, volumes.index(index));
        }
        unique(
            invalid,
            volumes,
            "name",
            self.volumes.iter().map(|volume| volume.name.as_str()),
        );
    }
}

impl Volume {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        dns_label(invalid, path.field("name"), &self.name);
        if self.sources() > 1 {
            let remedy = "keep one source, or put several into projected";
            invalid.refuse(path, &self.name, "has several sources", remedy);
        }
        if let Some(source) = &self.config_map {
            let at = path.field("configMap");
            dns_subdomain(invalid, at.field("name"), &source.name);
            items(invalid, at, &source.items);
            mode(invalid, at.field("defaultMode"), source.default_mode);
        }
        if let Some(source) = &self.secret {
            let at = path.field("secret");
            dns_subdomain(invalid, at.field("secretName"), &source.secret_name);
            items(invalid, at, &source.items);
            mode(invalid, at.field("defaultMode"), source.default_mode);
        }
        if let Some(source) = &self.host_path {
            let at = path.field("hostPath");
            if source.path.is_empty() {
                invalid.missing(at.field("path"), "write a path on the node");
            } else if source.path.split('/').any(|part| part == "..") {
                let remedy = "write the path without '..'";
                invalid.refuse(at.field("path"), &source.path, "goes up with '..'", remedy);
            }
        }
        if let Some(source) = &self.downward_api {
            let at = path.field("downwardAPI");
            files(invalid, at, &source.items);
            mode(invalid, at.field("defaultMode"), source.default_mode);
        }
        if let Some(source) = &self.projected {
            let at = path.field("projected");
            let sources = at.field("sources");
            for (index, projection) in source.sources.iter().enumerate() {
                projection.check(invalid, sources.index(index));
            }
            mode(invalid, at.field("defaultMode"), source.default_mode);
        }
        if let Some(source) = &self.persistent_volume_claim {
            let at = path.field("persistentVolumeClaim");
            dns_subdomain(invalid, at.field("claimName"), &source.claim_name);
        }
        if let Some(source) = &self.empty_dir
            && source.size_limit.is_some_and(|limit| limit.is_negative())
        {
            let at = path.field("emptyDir");
            let limit = source.size_limit.unwrap_or_default();
            invalid.refuse(
                at.field("sizeLimit"),
                limit,
                "is negative",
                "write 0 or more",
            );
        }
    }
}

impl VolumeProjection {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        let set = [
            self.config_map.is_some(),
            self.secret.is_some(),
            self.downward_api.is_some(),
            self.service_account_token.is_some(),
            self.cluster_trust_bundle.is_some(),
        ];
        let names = "configMap, secret, downwardAPI, serviceAccountToken, clusterTrustBundle";
        exactly_one(invalid, path, &set, names);
        for (field, source) in [("configMap", &self.config_map), ("secret", &self.secret)] {
            let Some(source) = source else { continue };
            let at = path.field(field);
            dns_subdomain(invalid, at.field("name"), &source.name);
            items(invalid, at, &source.items);
        }
        if let Some(source) = &self.downward_api {
            files(invalid, path.field("downwardAPI"), &source.items);
        }
        if let Some(token) = &self.service_account_token {
            relative(
                invalid,
                path.field("serviceAccountToken").field("path"),
                &token.path,
            );
        }
        if let Some(bundle) = &self.cluster_trust_bundle {
            relative(
                invalid,
                path.field("clusterTrustBundle").field("path"),
                &bundle.path,
            );
        }
    }
}

fn items(invalid: &mut Invalid, path: Path<'_>, items: &[KeyToPath]) {
    let path = path.field("items");
    for (index, item) in items.iter().enumerate() {
        let at = path.index(index);
        data_key(invalid, at.field("key"), &item.key);
        relative(invalid, at.field("path"), &item.path);
        mode(invalid, at.field("mode"), item.mode);
    }
}

fn files(invalid: &mut Invalid, path: Path<'_>, files: &[DownwardApiFile]) {
    let path = path.field("items");
    for (index, file) in files.iter().enumerate() {
        let at = path.index(index);
        relative(invalid, at.field("path"), &file.path);
        mode(invalid, at.field("mode"), file.mode);
        let set = [file.field_ref.is_some(), file.resource_field_ref.is_some()];
        exactly_one(invalid, at, &set, "fieldRef, resourceFieldRef");
        if let Some(resource) = &file.resource_field_ref {
            let at = at.field("resourceFieldRef");
            resource_field(invalid, at, &resource.resource);
            if resource.container_name.is_empty() {
                invalid.missing(at.field("containerName"), "name the container");
            }
        }
    }
}

fn mode(invalid: &mut Invalid, path: Path<'_>, mode: Option<u32>) {
    if let Some(mode) = mode.filter(|mode| *mode > 0o777) {
        let remedy = "write at most 0777 (511 in JSON)";
        invalid.refuse(path, format!("{mode:#o}"), "is no file mode", remedy);
    }
}

/// A path that stays below where it starts.
fn relative(invalid: &mut Invalid, path: Path<'_>, text: &str) {
    if text.is_empty() {
        invalid.missing(path, "write a relative path");
    } else if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let remedy = "write a relative path without '..'";
        invalid.refuse(path, text, "leaves its directory", remedy);
    }
}

impl Container {
    pub(super) fn check_mounts(&self, invalid: &mut Invalid, path: Path<'_>, pod: &Declared<'_>) {
        let mut taken = BTreeSet::new();
        let mounts = path.field("volumeMounts");
        for (index, mount) in self.volume_mounts.iter().enumerate() {
            let at = mounts.index(index);
            known_volume(invalid, at, pod, &mount.name);
            if mount.mount_path.is_empty() {
                invalid.missing(at.field("mountPath"), "write a path in the container");
            } else if !taken.insert(mount.mount_path.as_str()) {
                let remedy = "give each mount its own path";
                invalid.refuse(
                    at.field("mountPath"),
                    &mount.mount_path,
                    "is taken twice",
                    remedy,
                );
            }
            if !mount.sub_path.is_empty() && !mount.sub_path_expr.is_empty() {
                let remedy = "keep one of the two";
                let at = at.field("subPathExpr");
                invalid.refuse(at, &mount.sub_path_expr, "stands beside subPath", remedy);
            }
            for (field, text) in [
                ("subPath", &mount.sub_path),
                ("subPathExpr", &mount.sub_path_expr),
            ] {
                if !text.is_empty() {
                    relative(invalid, at.field(field), text);
                }
            }
        }
        let devices = path.field("volumeDevices");
        for (index, device) in self.volume_devices.iter().enumerate() {
            let at = devices.index(index);
            known_volume(invalid, at, pod, &device.name);
            if !taken.insert(device.device_path.as_str()) {
                let remedy = "give each its own path";
                invalid.refuse(
                    at.field("devicePath"),
                    &device.device_path,
                    "is taken",
                    remedy,
                );
            }
        }
    }
}

fn known_volume(invalid: &mut Invalid, path: Path<'_>, pod: &Declared<'_>, name: &str) {
    const NAMED_MAX: usize = 10;
    if pod.volumes.contains(name) {
        return;
    }
    let mut named: Vec<_> = pod.volumes.iter().take(NAMED_MAX).copied().collect();
    if pod.volumes.len() > NAMED_MAX {
        named.push("…");
    }
    let remedy = match named.as_slice() {
        [] => "declare it under spec.volumes, where none is yet".to_owned(),
        named => format!(
            "declare it under spec.volumes, or write one of {}",
            named.join(", ")
        ),
    };
    invalid.refuse(path.field("name"), name, "is no volume of the pod", remedy);
}
