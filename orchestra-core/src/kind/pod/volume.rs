//! The volumes of a pod, and where its containers see them.

use smol_str::SmolStr;

use super::container::{ObjectFieldSelector, ResourceFieldSelector};
use crate::kind::wire::{part, words};
use crate::meta::ObjectMeta;
use crate::quantity::{Quantity, ResourceList};
use crate::selector::LabelSelector;

part! {
    /// A directory that containers of a pod share. One source is set; none means an empty
    /// directory.
    pub struct Volume {
        /// Its name, unique within the pod.
        pub name: SmolStr,
        /// A directory that lives as long as the pod.
        pub empty_dir: Option<EmptyDirVolume>,
        /// The entries of a config map, as files.
        pub config_map: Option<ConfigMapVolume>,
        /// The entries of a secret, as files.
        pub secret: Option<SecretVolume>,
        /// A path on the node.
        pub host_path: Option<HostPathVolume>,
        /// Fields of the pod, as files.
        #[serde(rename = "downwardAPI")]
        pub downward_api: Option<DownwardApiVolume>,
        /// Several sources in one directory.
        pub projected: Option<ProjectedVolume>,
        /// A claim of storage.
        pub persistent_volume_claim: Option<PersistentVolumeClaimVolume>,
        /// A claim of storage that lives as long as the pod.
        pub ephemeral: Option<Box<EphemeralVolume>>,
        /// A directory on a file server.
        pub nfs: Option<NfsVolume>,
        /// Storage from a driver.
        pub csi: Option<Box<CsiVolume>>,
        /// The files of an image.
        pub image: Option<ImageVolume>,
        /// A source of another kind, as it was written. Nothing here provides it, and a pod that
        /// asks for it does not start: kept, so that it is not taken for an empty directory.
        #[serde(
            alias = "awsElasticBlockStore",
            alias = "azureDisk",
            alias = "azureFile",
            alias = "cephfs",
            alias = "cinder",
            alias = "fc",
            alias = "flexVolume",
            alias = "flocker",
            alias = "gcePersistentDisk",
            alias = "gitRepo",
            alias = "glusterfs",
            alias = "iscsi",
            alias = "photonPersistentDisk",
            alias = "portworxVolume",
            alias = "quobyte",
            alias = "rbd",
            alias = "scaleIO",
            alias = "storageos",
            alias = "vsphereVolume"
        )]
        pub other_source: Option<serde_json::Value>,
    }

    /// A directory that lives as long as the pod.
    pub struct EmptyDirVolume {
        /// `Memory` for memory, empty for disk.
        pub medium: SmolStr,
        /// How much it may hold.
        pub size_limit: Option<Quantity>,
    }

    /// The entries of a config map, as files.
    pub struct ConfigMapVolume {
        /// The config map.
        pub name: SmolStr,
        /// Which entries, and as which files; empty is all, named by their keys.
        pub items: Vec<KeyToPath>,
        /// The permissions of the files; 0644 by default.
        pub default_mode: Option<u32>,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
    }

    /// The entries of a secret, as files.
    pub struct SecretVolume {
        /// The secret.
        pub secret_name: SmolStr,
        /// Which entries, and as which files; empty is all, named by their keys.
        pub items: Vec<KeyToPath>,
        /// The permissions of the files; 0644 by default.
        pub default_mode: Option<u32>,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
    }

    /// An entry and its file.
    pub struct KeyToPath {
        /// The entry.
        pub key: SmolStr,
        /// The file, relative to the volume.
        pub path: String,
        /// Its permissions, instead of the volume's.
        pub mode: Option<u32>,
    }

    /// A path on the node.
    pub struct HostPathVolume {
        /// The path.
        pub path: String,
        /// What must be there: `Directory`, `DirectoryOrCreate`, `File`, `FileOrCreate`, `Socket`,
        /// `CharDevice`, `BlockDevice`; empty checks nothing.
        #[serde(rename = "type")]
        pub kind: SmolStr,
    }

    /// Fields of the pod, as files.
    pub struct DownwardApiVolume {
        /// The files.
        pub items: Vec<DownwardApiFile>,
        /// The permissions of the files; 0644 by default.
        pub default_mode: Option<u32>,
    }

    /// A field of the pod, as a file.
    pub struct DownwardApiFile {
        /// The file, relative to the volume.
        pub path: String,
        /// A field of the pod.
        pub field_ref: Option<ObjectFieldSelector>,
        /// Or a resource of a container.
        pub resource_field_ref: Option<ResourceFieldSelector>,
        /// Its permissions, instead of the volume's.
        pub mode: Option<u32>,
    }

    /// Several sources in one directory.
    pub struct ProjectedVolume {
        /// The sources.
        pub sources: Vec<VolumeProjection>,
        /// The permissions of the files; 0644 by default.
        pub default_mode: Option<u32>,
    }

    /// One of several sources. Exactly one is set.
    pub struct VolumeProjection {
        /// Entries of a config map.
        pub config_map: Option<SourceProjection>,
        /// Entries of a secret.
        pub secret: Option<SourceProjection>,
        /// Fields of the pod.
        #[serde(rename = "downwardAPI")]
        pub downward_api: Option<DownwardApiProjection>,
        /// A token of the service account.
        pub service_account_token: Option<ServiceAccountTokenProjection>,
        /// Certificates to trust.
        pub cluster_trust_bundle: Option<ClusterTrustBundleProjection>,
    }

    /// Entries of a config map or secret.
    pub struct SourceProjection {
        /// The config map or secret.
        pub name: SmolStr,
        /// Which entries, and as which files; empty is all, named by their keys.
        pub items: Vec<KeyToPath>,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
    }

    /// Fields of the pod.
    pub struct DownwardApiProjection {
        /// The files.
        pub items: Vec<DownwardApiFile>,
    }

    /// A token of the service account.
    pub struct ServiceAccountTokenProjection {
        /// For whom the token is.
        pub audience: String,
        /// How long it is good, in seconds.
        pub expiration_seconds: Option<u64>,
        /// The file, relative to the volume.
        pub path: String,
    }

    /// Certificates to trust.
    pub struct ClusterTrustBundleProjection {
        /// The bundle's name.
        pub name: SmolStr,
        /// Or whose bundles.
        pub signer_name: SmolStr,
        /// Which of the signer's.
        pub label_selector: Option<LabelSelector>,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
        /// The file, relative to the volume.
        pub path: String,
    }

    /// A claim of storage.
    pub struct PersistentVolumeClaimVolume {
        /// The claim.
        pub claim_name: SmolStr,
        /// Whether it is mounted read-only.
        pub read_only: bool,
    }

    /// A claim of storage that lives as long as the pod.
    pub struct EphemeralVolume {
        /// What the claim looks like.
        pub volume_claim_template: PersistentVolumeClaimTemplate,
    }

    /// What a claim of storage looks like.
    pub struct PersistentVolumeClaimTemplate {
        /// Its labels and annotations.
        pub metadata: ObjectMeta,
        /// What is claimed.
        pub spec: PersistentVolumeClaimSpec,
    }

    /// What is claimed of storage.
    pub struct PersistentVolumeClaimSpec {
        /// Who may use it at once: `ReadWriteOnce`, `ReadOnlyMany`, `ReadWriteMany`,
        /// `ReadWriteOncePod`.
        pub access_modes: Vec<SmolStr>,
        /// How much.
        pub resources: VolumeResources,
        /// Of which class.
        pub storage_class_name: Option<SmolStr>,
        /// `Filesystem` or `Block`.
        pub volume_mode: SmolStr,
        /// Which volume.
        pub volume_name: SmolStr,
        /// Which volumes.
        pub selector: Option<LabelSelector>,
    }

    /// How much storage.
    pub struct VolumeResources {
        /// At least.
        pub requests: ResourceList,
        /// At most.
        pub limits: ResourceList,
    }

    /// A directory on a file server.
    pub struct NfsVolume {
        /// The server.
        pub server: SmolStr,
        /// The directory there.
        pub path: String,
        /// Whether it is mounted read-only.
        pub read_only: bool,
    }

    /// Storage from a driver.
    pub struct CsiVolume {
        /// The driver.
        pub driver: SmolStr,
        /// Whether it is mounted read-only.
        pub read_only: Option<bool>,
        /// The file system.
        pub fs_type: SmolStr,
        /// What only the driver understands.
        pub volume_attributes: std::collections::BTreeMap<SmolStr, String>,
        /// The secret that it is given.
        pub node_publish_secret_ref: Option<LocalObjectReference>,
    }

    /// The files of an image.
    pub struct ImageVolume {
        /// The image.
        pub reference: SmolStr,
        /// When it is fetched: `Always`, `IfNotPresent`, `Never`.
        pub pull_policy: SmolStr,
    }

    /// Names an object in the same namespace.
    pub struct LocalObjectReference {
        /// Its name.
        pub name: SmolStr,
    }

    /// Where a container sees a volume.
    pub struct VolumeMount {
        /// The volume.
        pub name: SmolStr,
        /// Where it appears; unique within the container.
        pub mount_path: String,
        /// Which part of it: a relative path.
        pub sub_path: String,
        /// The same, in which `$(NAME)` stands for a variable.
        pub sub_path_expr: String,
        /// Whether it cannot be written to.
        pub read_only: bool,
        /// Whether that holds for mounts below it: `Disabled`, `IfPossible`, `Enabled`.
        pub recursive_read_only: SmolStr,
        /// Whether mounts made below it show elsewhere.
        pub mount_propagation: Option<MountPropagation>,
    }

    /// Where a container sees a raw volume.
    pub struct VolumeDevice {
        /// The volume.
        pub name: SmolStr,
        /// Where its device appears.
        pub device_path: String,
    }
}

words! {
    /// Whether mounts made below a volume show elsewhere.
    pub enum MountPropagation {
        /// They do not.
        #[default]
        None = "None",
        /// Those of the host show in the container.
        HostToContainer = "HostToContainer",
        /// They show both ways.
        Bidirectional = "Bidirectional",
    }
}

impl Volume {
    /// The permissions of files where nothing is said: `rw-r--r--`.
    pub const DEFAULT_MODE: u32 = 0o644;

    /// A directory that lives as long as the pod.
    pub fn empty_dir(name: impl Into<SmolStr>) -> Self {
        let empty_dir = Some(EmptyDirVolume::default());
        Self {
            name: name.into(),
            empty_dir,
            ..Self::default()
        }
    }

    /// The entries of a config map, as files.
    pub fn config_map(name: impl Into<SmolStr>, config_map: impl Into<SmolStr>) -> Self {
        let source = ConfigMapVolume {
            name: config_map.into(),
            ..ConfigMapVolume::default()
        };
        Self {
            name: name.into(),
            config_map: Some(source),
            ..Self::default()
        }
    }

    /// The entries of a secret, as files.
    pub fn secret(name: impl Into<SmolStr>, secret: impl Into<SmolStr>) -> Self {
        let source = SecretVolume {
            secret_name: secret.into(),
            ..SecretVolume::default()
        };
        Self {
            name: name.into(),
            secret: Some(source),
            ..Self::default()
        }
    }

    /// A path on the node.
    pub fn host_path(name: impl Into<SmolStr>, path: impl Into<String>) -> Self {
        let source = HostPathVolume {
            path: path.into(),
            ..HostPathVolume::default()
        };
        Self {
            name: name.into(),
            host_path: Some(source),
            ..Self::default()
        }
    }

    /// How many sources are set.
    pub(super) fn sources(&self) -> usize {
        [
            self.empty_dir.is_some(),
            self.config_map.is_some(),
            self.secret.is_some(),
            self.host_path.is_some(),
            self.downward_api.is_some(),
            self.projected.is_some(),
            self.persistent_volume_claim.is_some(),
            self.ephemeral.is_some(),
            self.nfs.is_some(),
            self.csi.is_some(),
            self.image.is_some(),
            self.other_source.is_some(),
        ]
        .into_iter()
        .filter(|set| *set)
        .count()
    }
}
