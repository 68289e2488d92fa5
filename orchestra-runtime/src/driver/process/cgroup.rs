//! Control groups: limits, and the certainty that nothing gets away.
//!
//! Both versions are used as they are found at run time: where version 1 has a controller it is
//! taken there, else from version 2 if that is delegated to us.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orchestra_core::port::driver::Limits;
use rustix::process::{Pid, Signal, kill_process};

/// Where the kernel shows control groups.
const MOUNT: &str = "/sys/fs/cgroup";

/// The period in which a CPU limit is kept, in microseconds.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// The smallest quota that the kernel takes, in microseconds.
const CPU_QUOTA_MICROS_MIN: u64 = 1_000;

/// How often everything in a group is killed before what still comes new is given up.
const KILL_ROUNDS_MAX: usize = 100;

/// How often a group is tried to be removed while its last members end.
const REMOVE_TRIES_MAX: u32 = 100;
const REMOVE_EVERY: Duration = Duration::from_millis(2);

/// Directories, one a hierarchy, below which this driver makes its groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Cgroups {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    pids: Option<PathBuf>,
    unified: Option<PathBuf>,
    /// The controllers that version 2 gives us.
    unified_controllers: Vec<String>,
}

impl Cgroups {
    /// What may be used here, in a directory called `name` below our own group.
    pub(super) fn detect(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::detect_in(Path::new(MOUNT), &own, name)
    }

    fn detect_in(mount: &Path, own: &str, name: &str) -> Self {
        let v1 = |controller: &str| {
            let own = own.lines().find_map(|line| {
                let (_, line) = line.split_once(':')?;
                let (controllers, path) = line.split_once(':')?;
                controllers
                    .split(',')
                    .any(|found| found == controller)
                    .then_some(path)
            })?;
            usable(&mount.join(controller), own, name)
        };
        let unified = own
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .and_then(|own| {
                let root = [mount.to_owned(), mount.join("unified")];
                let root = root
                    .into_iter()
                    .find(|root| root.join("cgroup.controllers").exists())?;
                usable(&root, own, name)
            });
        let unified_controllers = unified.as_deref().map(delegated).unwrap_or_default();
        Self {
            memory: v1("memory"),
            cpu: v1("cpu"),
            pids: v1("pids"),
            unified,
            unified_controllers,
        }
    }

    /// Makes a group for one workload with those of its `limits` that can be kept here, and
    /// tells which. `None`: there are no groups here.
    pub(super) fn create(&self, name: &str, limits: &Limits) -> io::Result<Option<(Leaf, Kept)>> {
        let mut leaf = Leaf::default();
        let made = self.create_in(&mut leaf, name, limits);
        match made {
            Ok(_) if leaf.dirs.is_empty() => Ok(None),
            Ok(kept) => Ok(Some((leaf, kept))),
            Err(error) => {
                leaf.remove();
                Err(error)
            }
        }
    }

    fn create_in(&self, leaf: &mut Leaf, name: &str, limits: &Limits) -> io::Result<Kept> {
        let mut kept = Kept::default();
        if let Some(unified) = &self.unified {
            let dir = leaf.make(unified, name)?;
            let has = |controller: &str| self.unified_controllers.iter().any(|c| c == controller);
            if let Some(bytes) = limits
                .memory_bytes
                .filter(|_| self.memory.is_none() && has("memory"))
            {
                fs::write(dir.join("memory.max"), bytes.to_string())?;
                let _ = fs::write(dir.join("memory.swap.max"), "0"); // absent without swap
                let _ = fs::write(dir.join("memory.oom.group"), "1"); // since Linux 4.19
                kept.memory = true;
            }
            if let Some(milli) = limits
                .cpu_milli
                .filter(|_| self.cpu.is_none() && has("cpu"))
            {
                let line = format!("{} {CPU_PERIOD_MICROS}", quota(milli));
                fs::write(dir.join("cpu.max"), line)?;
                kept.cpu = true;
            }
            if let Some(pids) = limits.pids.filter(|_| self.pids.is_none() && has("pids")) {
                fs::write(dir.join("pids.max"), pids.to_string())?;
                kept.pids = true;
            }
        }
        if let (Some(bytes), Some(base)) = (limits.memory_bytes, &self.memory) {
            let dir = leaf.make(base, name)?;
            fs::write(dir.join("memory.limit_in_bytes"), bytes.to_string())?;
            let _ = fs::write(dir.join("memory.memsw.limit_in_bytes"), bytes.to_string());
            kept.memory = true;
        }
        if let (Some(milli), Some(base)) = (limits.cpu_milli, &self.cpu) {
            let dir = leaf.make(base, name)?;
            fs::write(dir.join("cpu.cfs_period_us"), CPU_PERIOD_MICROS.to_string())?;
            fs::write(dir.join("cpu.cfs_quota_us"), quota(milli).to_string())?;
            kept.cpu = true;
        }
        if let Some(base) = &self.pids
            && (limits.pids.is_some() || leaf.dirs.is_empty())
        {
            let dir = leaf.make(base, name)?;
            if let Some(pids) = limits.pids {
                fs::write(dir.join("pids.max"), pids.to_string())?;
                kept.pids = true;
            }
        }
        Ok(kept)
    }

    /// Removes our directories if nothing is left in them.
    pub(super) fn remove_if_empty(&self) {
        for base in [&self.memory, &self.cpu, &self.pids, &self.unified]
            .into_iter()
            .flatten()
        {
            let _ = fs::remove_dir(base); // refused by the kernel while it is in use
        }
    }
}

/// Makes `name` below our own group of one hierarchy, if we may.
fn usable(root: &Path, own: &str, name: &str) -> Option<PathBuf> {
    if !root.join("cgroup.procs").exists() {
        return None;
    }
    let own = root.join(own.trim_start_matches('/'));
    // In a container the path may be one that only the host sees.
    let base = if own.join("cgroup.procs").exists() {
        own
    } else {
        root.to_owned()
    };
    let dir = base.join(name);
    match fs::create_dir(&dir) {
        Ok(()) => Some(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(dir),
        Err(_) => None,
    }
}

/// Hands the controllers of version 2 down to the groups in `dir`, and tells which came.
fn delegated(dir: &Path) -> Vec<String> {
    let wanted = ["cpu", "memory", "pids"];
    for dir in [dir.parent().unwrap_or(dir), dir] {
        for controller in wanted {
            // Refused where it is not ours to hand down; the question below tells.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    enabled
        .split_whitespace()
        .filter(|name| wanted.contains(name))
        .map(str::to_owned)
        .collect()
}

fn quota(cpu_milli: u64) -> u64 {
    (cpu_milli.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(CPU_QUOTA_MICROS_MIN)
}

/// Which limits the kernel now keeps by group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) memory: bool,
    pub(super) cpu: bool,
    pub(super) pids: bool,
}

/// The groups of one workload, one a hierarchy.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    pub(super) dirs: Vec<PathBuf>,
}

impl Leaf {
    fn make(&mut self, base: &Path, name: &str) -> io::Result<PathBuf> {
        let dir = base.join(name);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => self.dirs.push(dir.clone()),
        }
        Ok(dir)
    }

    /// Moves a process in; what it starts from now on is in too.
    pub(super) fn enter(&self, pid: i32) -> io::Result<()> {
        self.dirs
            .iter()
            .try_for_each(|dir| fs::write(dir.join("cgroup.procs"), pid.to_string()))
    }

    /// Who is in.
    pub(super) fn members(&self) -> Vec<i32> {
        let mut members = self
            .dirs
            .iter()
            .flat_map(|dir| members_of(dir))
            .collect::<Vec<_>>();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Kills everything in it, and what that started meanwhile.
    pub(super) fn kill(&self) {
        for dir in &self.dirs {
            if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
                continue; // version 2 since Linux 5.14: all of them at one stroke
            }
            for _ in 0..KILL_ROUNDS_MAX {
                let members = members_of(dir);
                if members.is_empty() {
                    break;
                }
                for pid in members.into_iter().filter_map(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL); // it may have ended by itself
                }
                std::thread::yield_now();
            }
        }
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let texts = self.dirs.iter().flat_map(|dir| {
            ["memory.oom_control", "memory.events"].map(|file| fs::read_to_string(dir.join(file)))
        });
        texts.flatten().any(|text| {
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            count.is_some_and(|count| count.trim() != "0")
        })
    }

    /// Removes it. Whether it is gone: not while anything is in it. Blocks while what was killed
    /// is still ending.
    pub(super) fn remove(&self) -> bool {
        for _ in 0..REMOVE_TRIES_MAX {
            let left = self
                .dirs
                .iter()
                .filter(|dir| fs::remove_dir(dir).is_err() && dir.exists());
            if left.count() == 0 {
                return true;
            }
            std::thread::sleep(REMOVE_EVERY);
        }
        false
    }
}

fn members_of(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap()
    }

    const LIMITS: Limits = Limits {
        cpu_milli: Some(250),
        memory_bytes: Some(1 << 20),
        pids: Some(9),
    };

    #[test]
    fn version_2_is_used_as_far_as_it_is_delegated() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("user/app");
        file(&dir.path().join("cgroup.controllers"), "cpu memory pids");
        file(&dir.path().join("cgroup.procs"), "");
        file(&own.join("cgroup.procs"), "");
        // A kernel would answer so where memory and pids are ours to hand down.
        file(&own.join("ours/cgroup.subtree_control"), "");
        let mut cgroups = Cgroups::detect_in(dir.path(), "0::/user/app\n", "ours");
        cgroups.unified_controllers = vec!["memory".into(), "pids".into()];
        let (leaf, kept) = cgroups.create("w", &LIMITS).unwrap().unwrap();
        assert_eq!((kept.memory, kept.cpu, kept.pids), (true, false, true));
        assert_eq!(leaf.dirs, [own.join("ours/w")]);
        assert_eq!(read(own.join("ours/w/memory.max")), "1048576");
        assert_eq!(read(own.join("ours/w/pids.max")), "9");
        file(
            &own.join("ours/w/memory.events"),
            "oom 1\noom_kill 0\noom_group_kill 0\n",
        );
        assert!(!leaf.ran_out_of_memory());
        file(&own.join("ours/w/memory.events"), "oom 1\noom_kill 3\n");
        assert!(leaf.ran_out_of_memory());
    }

    #[test]
    fn version_1_has_a_directory_a_controller() {
        let dir = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu", "pids"] {
            file(&dir.path().join(controller).join("cgroup.procs"), "");
        }
        let own = "3:pids:/\n2:cpu,cpuacct:/\n1:memory:/elsewhere\n";
        let cgroups = Cgroups::detect_in(dir.path(), own, "ours");
        let (leaf, kept) = cgroups.create("w", &LIMITS).unwrap().unwrap();
        assert!(kept.memory && kept.cpu && kept.pids);
        assert_eq!(leaf.dirs.len(), 3);
        assert_eq!(
            read(dir.path().join("memory/ours/w/memory.limit_in_bytes")),
            "1048576"
        );
        assert_eq!(
            read(dir.path().join("cpu/ours/w/cpu.cfs_quota_us")),
            "25000"
        );
        let (leaf, _) = cgroups.create("free", &Limits::default()).unwrap().unwrap();
        assert_eq!(leaf.dirs, [dir.path().join("pids/ours/free")]);
    }

    #[test]
    fn without_groups_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let cgroups = Cgroups::detect_in(dir.path(), "0::/\n", "ours");
        assert!(cgroups.create("w", &LIMITS).unwrap().is_none());
    }
}
