//! What `/proc` knows of processes. Where there is no `/proc`, everything is unknown.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of `/proc/PID/stat`, as far as it is needed here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    /// Its process group.
    pub(super) group: i32,
    /// It has ended and waits to be reaped.
    pub(super) zombie: bool,
    /// When it started, in ticks since boot: with the pid and the boot it names a process for
    /// good, for a pid is only reused later.
    pub(super) start: u64,
    /// CPU time, with that of its reaped children, in ticks.
    pub(super) cpu_ticks: u64,
    pub(super) rss_pages: u64,
}

/// Names this boot of the machine.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process that can be seen.
pub(super) fn all() -> Vec<Stat> {
    pids().filter_map(stat).collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parse(line: &[u8]) -> Option<Stat> {
    // The second field is the name in parentheses, which may itself hold any byte.
    let name_from = line.iter().position(|byte| *byte == b'(')?;
    let name_to = line.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(line.get(..name_from)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let rest = std::str::from_utf8(line.get(name_to + 1..)?).ok()?;
    let fields = rest.split_ascii_whitespace().collect::<Vec<_>>(); // from the third on
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        group: fields.get(2)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        start: number(19)?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        rss_pages: number(21)?,
    })
}

/// The processes whose standard output or error is the file at `path`.
pub(super) fn holders(path: &Path) -> Vec<i32> {
    holders_of(&[path.to_owned()])
        .into_values()
        .flatten()
        .collect()
}

/// For each path, the processes whose standard output or error it is.
pub(super) fn holders_of(paths: &[PathBuf]) -> BTreeMap<PathBuf, Vec<i32>> {
    let mut found = BTreeMap::<PathBuf, Vec<i32>>::new();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for pid in pids().filter(|pid| *pid != own) {
        for fd in [1, 2] {
            if let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{fd}"))
                && paths.contains(&target)
            {
                found.entry(target).or_default().push(pid);
                break;
            }
        }
    }
    found
}

/// What a process started and has not reaped.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .flat_map(str::parse)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The environment a process was started with.
pub(super) fn environment(pid: i32) -> Option<Vec<(OsString, OsString)>> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entries = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&entry[..equals], &entry[equals + 1..]);
        Some((
            OsString::from_vec(name.to_vec()),
            OsString::from_vec(value.to_vec()),
        ))
    });
    Some(entries.collect())
}

pub(super) fn working_dir(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse() {
        let line = b"42 (a) b (c) S 1 40 40 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 777 1 55 1\n";
        let stat = parse(line).unwrap();
        assert_eq!((stat.pid, stat.group, stat.zombie), (42, 40, false));
        assert_eq!((stat.cpu_ticks, stat.start, stat.rss_pages), (100, 777, 55));
        assert_eq!(parse(b"42 (cut) S 1"), None);
        assert_eq!(parse(b""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_very_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(stat(own).unwrap().start, stat(own).unwrap().start);
        assert!(all().iter().any(|stat| stat.pid == own && !stat.zombie));
        assert!(!boot().is_empty());
    }
}
