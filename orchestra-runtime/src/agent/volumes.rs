//! The directories behind a pod's volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use orchestra_core::kind::pod::{DownwardApiFile, KeyToPath, Volume};
use orchestra_core::kind::{Container, Pod};
use smol_str::SmolStr;

use super::env::{ConfigError, Facts, Sources, field, resource};

/// Prepared volumes of one pod: the directory of each, by the volume's name.
pub(crate) type Prepared = BTreeMap<SmolStr, PathBuf>;

/// Where volumes are kept on this host.
#[derive(Clone, Debug)]
pub(crate) struct VolumeHost {
    /// For all but secrets.
    pub(crate) disk: PathBuf,
    /// For secrets: a file system in memory, so that they never reach a disk.
    pub(crate) memory: Option<PathBuf>,
}

impl VolumeHost {
    /// Volumes below `folder`; secrets below `/dev/shm` where that exists.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let shm = Path::new("/dev/shm");
        let memory = shm
            .is_dir()
            // The same after a restart of the host program: what is adopted goes on reading there.
            .then(|| shm.join(format!("orchestra-{:016x}", name_of(&folder))));
        Self {
            disk: folder,
            memory,
        }
    }

    fn folders(&self, pod: &Pod) -> impl Iterator<Item = PathBuf> {
        let uid = pod.metadata.uid.to_string();
        [Some(&self.disk), self.memory.as_ref()]
            .into_iter()
            .flatten()
            .map(move |at| at.join(&uid))
    }

    /// Makes every volume of the pod. Idempotent; a repeated call writes the newest content.
    pub(crate) async fn prepare(
        &self,
        facts: Facts<'_>,
        sources: Sources<'_>,
    ) -> Result<Prepared, ConfigError> {
        let mut prepared = Prepared::new();
        let uid = facts.pod.metadata.uid.to_string();
        for volume in &facts.pod.spec.volumes {
            let secret = volume.secret.is_some()
                || volume
                    .projected
                    .as_ref()
                    .is_some_and(|p| p.sources.iter().any(|s| s.secret.is_some()));
            let in_memory = volume
                .empty_dir
                .as_ref()
                .is_some_and(|dir| dir.medium == "Memory" && self.memory.is_some());
            let base = if secret || in_memory {
                self.memory.as_ref().ok_or_else(|| {
                    ConfigError::new(
                        format!(
                            "volume {:?} holds secrets, and this host has no /dev/shm",
                            volume.name
                        ),
                        "pass the secret by environment instead",
                    )
                })?
            } else {
                &self.disk
            };
            if base != &self.disk {
                private(base).await.map_err(|error| failed(base, &error))?;
            }
            let at = base.join(&uid).join(volume.name.as_str());
            let at = fill(volume, at, facts, sources).await?;
            prepared.insert(volume.name.clone(), at);
        }
        Ok(prepared)
    }

    /// Removes what was made for the pod. Idempotent.
    pub(crate) async fn remove(&self, pod: &Pod) {
        for folder in self.folders(pod) {
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "a volume was left behind");
            }
        }
    }
}

/// A number for a path, the same in each run (FNV-1a).
fn name_of(folder: &Path) -> u64 {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// Makes a folder that only this user can look into, and refuses one that somebody else made.
async fn private(folder: &Path) -> io::Result<()> {
    let mut builder = tokio::fs::DirBuilder::new();
    #[cfg(unix)]
    builder.mode(0o700);
    match builder.create(folder).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = tokio::fs::symlink_metadata(folder).await?;
        let own = tokio::fs::metadata("/proc/self").await?.uid();
        if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others can reach it; remove it, or make it yours with mode 0700",
            ));
        }
    }
    Ok(())
}

/// Where each mount of a container leads.
pub(crate) fn mounts(
    container: &Container,
    prepared: &Prepared,
) -> Result<BTreeMap<PathBuf, PathBuf>, ConfigError> {
    container
        .volume_mounts
        .iter()
        .map(|mount| {
            let base = prepared.get(&mount.name).ok_or_else(|| {
                ConfigError::new(
                    format!("there is no volume {:?} to mount here", mount.name),
                    "add it to the pod's volumes, and give the agent a folder for volumes",
                )
            })?;
            Ok((
                PathBuf::from(&mount.mount_path),
                within(base, &mount.sub_path)?,
            ))
        })
        .collect()
}

/// The variable that tells a container without a mount namespace where a volume is.
pub(crate) fn mount_variable(volume: &str) -> String {
    format!("VOLUME_{}", volume.to_uppercase().replace(['-', '.'], "_"))
}

async fn fill(
    volume: &Volume,
    at: PathBuf,
    facts: Facts<'_>,
    sources: Sources<'_>,
) -> Result<PathBuf, ConfigError> {
    let namespace = &facts.pod.metadata.namespace;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if let Some(from) = &volume.host_path {
        let path = PathBuf::from(&from.path);
        if from.kind == "DirectoryOrCreate" {
            tokio::fs::create_dir_all(&path)
                .await
                .map_err(|error| failed(&path, &error))?;
        }
        return match tokio::fs::try_exists(&path).await {
            Ok(true) => Ok(path),
            _ if from.kind.is_empty() => Ok(path),
            _ => Err(ConfigError::new(
                format!("host path {} does not exist", path.display()),
                "create it, or use type DirectoryOrCreate",
            )),
        };
    }
    if volume.empty_dir.is_some() {
        // Made below, with nothing in it.
    } else if let Some(from) = &volume.config_map {
        let optional = from.optional.unwrap_or(false);
        config_map(
            &mut files,
            namespace,
            &from.name,
            &from.items,
            optional,
            sources,
        )
        .await?;
    } else if let Some(from) = &volume.secret {
        let optional = from.optional.unwrap_or(false);
        secret(
            &mut files,
            namespace,
            &from.secret_name,
            &from.items,
            optional,
            sources,
        )
        .await?;
    } else if let Some(from) = &volume.downward_api {
        downward(&mut files, &from.items, facts)?;
    } else if let Some(from) = &volume.projected {
        for source in &from.sources {
            if let Some(from) = &source.config_map {
                let optional = from.optional.unwrap_or(false);
                config_map(
                    &mut files,
                    namespace,
                    &from.name,
                    &from.items,
                    optional,
                    sources,
                )
                .await?;
            } else if let Some(from) = &source.secret {
                let optional = from.optional.unwrap_or(false);
                secret(
                    &mut files,
                    namespace,
                    &from.name,
                    &from.items,
                    optional,
                    sources,
                )
                .await?;
            } else if let Some(from) = &source.downward_api {
                downward(&mut files, &from.items, facts)?;
            } else {
                return Err(unsupported(volume));
            }
        }
    } else {
        return Err(unsupported(volume));
    }
    tokio::fs::create_dir_all(&at)
        .await
        .map_err(|error| failed(&at, &error))?;
    let first = |name: &String| Path::new(name).iter().next().map(ToOwned::to_owned);
    let kept: BTreeSet<OsString> = files.keys().filter_map(first).collect();
    for (name, bytes) in files {
        let path = within(&at, &name)?;
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent)
                .await
                .map_err(|error| failed(parent, &error))?;
        }
        if tokio::fs::read(&path).await.is_ok_and(|old| old == bytes) {
            continue;
        }
        // A reader sees the old content or the new, never half of it.
        let fresh = path.with_extension("orchestra-new");
        let write = async {
            tokio::fs::write(&fresh, &bytes).await?;
            tokio::fs::rename(&fresh, &path).await
        };
        write.await.map_err(|error| failed(&path, &error))?;
    }
    if volume.empty_dir.is_none() {
        prune(&at, &kept)
            .await
            .map_err(|error| failed(&at, &error))?;
    }
    Ok(at)
}

/// Removes what is not in the source any more.
async fn prune(at: &Path, kept: &BTreeSet<OsString>) -> io::Result<()> {
    let mut entries = tokio::fs::read_dir(at).await?;
    while let Some(entry) = entries.next_entry().await? {
        if kept.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type().await?.is_dir() {
            tokio::fs::remove_dir_all(entry.path()).await?;
        } else {
            tokio::fs::remove_file(entry.path()).await?;
        }
    }
    Ok(())
}

async fn config_map(
    files: &mut BTreeMap<String, Vec<u8>>,
    namespace: &SmolStr,
    name: &SmolStr,
    items: &[KeyToPath],
    optional: bool,
    sources: Sources<'_>,
) -> Result<(), ConfigError> {
    let Some(map) = sources.config_map(namespace, name, optional).await? else {
        return Ok(());
    };
    if items.is_empty() {
        let keys = map.data.keys().chain(map.binary_data.keys());
        for key in keys {
            files.insert(key.to_string(), map.bytes(key).unwrap_or_default().to_vec());
        }
    }
    for item in items {
        match map.bytes(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), bytes.to_vec());
            }
            None if optional => {}
            None => {
                return Err(ConfigError::new(
                    format!("config map {namespace}/{name} has no key {:?}", item.key),
                    "add the key, or mark the volume optional",
                ));
            }
        }
    }
    Ok(())
}

async fn secret(
    files: &mut BTreeMap<String, Vec<u8>>,
    namespace: &SmolStr,
    name: &SmolStr,
    items: &[KeyToPath],
    optional: bool,
    sources: Sources<'_>,
) -> Result<(), ConfigError> {
    let wanted: Vec<(SmolStr, String)> = if items.is_empty() {
        let keys = sources.secret_keys(namespace, name, optional).await?;
        keys.into_iter()
            .map(|key| (key.clone(), key.to_string()))
            .collect()
    } else {
        items
            .iter()
            .map(|item| (item.key.clone(), item.path.clone()))
            .collect()
    };
    for (key, path) in wanted {
        if let Some(bytes) = sources
            .secret_bytes(namespace, name, &key, optional)
            .await?
        {
            files.insert(path, bytes.expose().to_vec());
        }
    }
    Ok(())
}

fn downward(
    files: &mut BTreeMap<String, Vec<u8>>,
    items: &[DownwardApiFile],
    facts: Facts<'_>,
) -> Result<(), ConfigError> {
    let nobody = Container::default();
    for item in items {
        let text = if let Some(from) = &item.field_ref {
            field(from, facts)?
        } else if let Some(from) = &item.resource_field_ref {
            resource(from, &nobody, facts.pod)?
        } else {
            continue;
        };
        files.insert(item.path.clone(), text.into_bytes());
    }
    Ok(())
}

/// `name` below `base`; names that lead out of it are refused.
fn within(base: &Path, name: &str) -> Result<PathBuf, ConfigError> {
    let path = Path::new(name);
    if path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Ok(base.join(path));
    }
    Err(ConfigError::new(
        format!("path {name:?} leads out of its volume"),
        "use a relative path without \"..\"",
    ))
}

fn unsupported(volume: &Volume) -> ConfigError {
    ConfigError::new(
        format!(
            "volume {:?} is of a kind that this agent does not have",
            volume.name
        ),
        "use emptyDir, hostPath, configMap, secret, downwardAPI, or a projection of these",
    )
}

fn failed(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::new(
        format!("{}: {error}", path.display()),
        "check the disk and its rights",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_its_volume() {
        let base = Path::new("/v");
        assert_eq!(within(base, "a/b"), Ok(PathBuf::from("/v/a/b")));
        assert_eq!(within(base, ""), Ok(PathBuf::from("/v/")));
        for bad in ["../a", "a/../../b", "/etc/passwd"] {
            assert!(within(base, bad).is_err(), "{bad}");
        }
    }
}
