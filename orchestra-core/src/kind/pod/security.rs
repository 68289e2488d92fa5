//! What a pod and its containers may do on their host.

use smol_str::SmolStr;

use crate::kind::wire::part;

part! {
    /// What all containers of a pod may do. A container's own context wins.
    pub struct PodSecurityContext {
        /// The user they run as.
        pub run_as_user: Option<i64>,
        /// The group they run as.
        pub run_as_group: Option<i64>,
        /// Whether running as root is refused.
        pub run_as_non_root: Option<bool>,
        /// Further groups.
        pub supplemental_groups: Vec<i64>,
        /// `Merge` or `Strict`: whether the image's groups count too.
        pub supplemental_groups_policy: SmolStr,
        /// The group that owns the volumes.
        pub fs_group: Option<i64>,
        /// `OnRootMismatch` or `Always`: when that ownership is set.
        pub fs_group_change_policy: SmolStr,
        /// Kernel settings.
        pub sysctls: Vec<Sysctl>,
        /// The system calls they may make.
        pub seccomp_profile: Option<SecurityProfile>,
        /// The AppArmor profile.
        pub app_armor_profile: Option<SecurityProfile>,
        /// The SELinux labels.
        pub se_linux_options: Option<SeLinuxOptions>,
        /// How volumes are labelled: `MountOption` or `Recursive`.
        #[serde(rename = "seLinuxChangePolicy")]
        pub se_linux_change_policy: SmolStr,
        /// For Windows.
        pub windows_options: Option<WindowsOptions>,
    }

    /// What a container may do.
    pub struct SecurityContext {
        /// The user it runs as.
        pub run_as_user: Option<i64>,
        /// The group it runs as.
        pub run_as_group: Option<i64>,
        /// Whether running as root is refused.
        pub run_as_non_root: Option<bool>,
        /// Whether it may do all that its host may.
        pub privileged: Option<bool>,
        /// Whether it may gain more rights than its parent.
        pub allow_privilege_escalation: Option<bool>,
        /// Whether its own files are read-only.
        pub read_only_root_filesystem: Option<bool>,
        /// The kernel's capabilities.
        pub capabilities: Option<Capabilities>,
        /// How `/proc` is shown: `Default` or `Unmasked`.
        pub proc_mount: SmolStr,
        /// The system calls it may make.
        pub seccomp_profile: Option<SecurityProfile>,
        /// The AppArmor profile.
        pub app_armor_profile: Option<SecurityProfile>,
        /// The SELinux labels.
        pub se_linux_options: Option<SeLinuxOptions>,
        /// For Windows.
        pub windows_options: Option<WindowsOptions>,
    }

    /// The kernel's capabilities.
    pub struct Capabilities {
        /// To add.
        pub add: Vec<SmolStr>,
        /// To drop.
        pub drop: Vec<SmolStr>,
    }

    /// A setting of the kernel.
    pub struct Sysctl {
        /// Its name.
        pub name: SmolStr,
        /// Its value.
        pub value: SmolStr,
    }

    /// A seccomp or AppArmor profile.
    pub struct SecurityProfile {
        /// `RuntimeDefault`, `Localhost` or `Unconfined`.
        #[serde(rename = "type")]
        pub kind: SmolStr,
        /// Which, for `Localhost`.
        pub localhost_profile: String,
    }

    /// SELinux labels.
    pub struct SeLinuxOptions {
        /// The user.
        pub user: SmolStr,
        /// The role.
        pub role: SmolStr,
        /// The type.
        #[serde(rename = "type")]
        pub kind: SmolStr,
        /// The level.
        pub level: SmolStr,
    }

    /// What Windows asks for.
    pub struct WindowsOptions {
        /// The name of the credential spec.
        pub gmsa_credential_spec_name: String,
        /// The credential spec itself.
        pub gmsa_credential_spec: String,
        /// The user.
        pub run_as_user_name: SmolStr,
        /// Whether the container runs on the host itself.
        pub host_process: Option<bool>,
    }
}
