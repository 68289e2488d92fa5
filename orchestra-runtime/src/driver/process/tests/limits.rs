//! Limits, where the system lets us keep them.

use super::*;

fn limited(limits: Limits, command: &[&str]) -> Workload {
    Workload {
        limits,
        ..workload(command)
    }
}

/// The value that the kernel shows in `file` of the workload's control groups.
fn shown(bench: &Bench, want: &Workload, file: &str) -> Option<String> {
    let slot = bench.driver.shared.table.get(&want.id)?;
    let dirs = &slot.run.main.get()?.leaf()?.dirs;
    let text = dirs
        .iter()
        .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok())?;
    Some(text.trim().to_owned())
}

/// What must print the reason and be skipped where control groups are not ours.
fn skip(what: &str) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "skipped: no control group keeps {what} here"
    );
}

#[tokio::test]
async fn memory_by_control_group_ends_in_oomkilled() {
    let bench = Bench::new().await;
    let limits = Limits {
        memory_bytes: Some(32 << 20),
        ..Limits::default()
    };
    let probe = limited(limits, &["sleep", "1000"]);
    bench.driver.ensure(&probe).await.unwrap();
    let kept = shown(&bench, &probe, "memory.limit_in_bytes")
        .or_else(|| shown(&bench, &probe, "memory.max"));
    bench.stop(&probe).await;
    if kept.as_deref() != Some("33554432") {
        return skip("memory");
    }
    let hog = Workload {
        attempt: 1,
        ..limited(limits, &["tail", "/dev/zero"])
    };
    let exit = bench.run(&hog).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_by_rlimit_fails_the_allocation() {
    let bench = Bench::with(|builder| builder.cgroups(false)).await;
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        ..Limits::default()
    };
    let exit = bench.run(&limited(limits, &["tail", "/dev/zero"])).await;
    assert_ne!(exit.code, 0, "{exit:?}");
}

#[tokio::test]
async fn processes_and_cpu_by_control_group() {
    let bench = Bench::new().await;
    let limits = Limits {
        pids: Some(5),
        cpu_milli: Some(250),
        ..Limits::default()
    };
    // What it starts before it is confined is not counted: it begins once it is.
    let script = "until grep -q orchestra /proc/self/cgroup; do :; done; \
                  i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done; echo all; wait";
    let want = limited(limits, &["sh", "-c", script]);
    bench.driver.ensure(&want).await.unwrap();
    if shown(&bench, &want, "pids.max").is_none()
        && bench
            .driver
            .shared
            .table
            .get(&want.id)
            .unwrap()
            .is_running()
    {
        bench.driver.stop(&want.id, Duration::ZERO).await.unwrap();
        return skip("the number of processes");
    }
    let exit = within(bench.driver.wait(&want.id)).await.unwrap();
    assert_ne!(exit.code, 0, "it cannot start as many as it wants");
    assert!(!bench.log(&want).await.contains("all"));

    let want = Workload {
        attempt: 1,
        ..limited(limits, &["sleep", "1000"])
    };
    bench.driver.ensure(&want).await.unwrap();
    match shown(&bench, &want, "cpu.cfs_quota_us").or_else(|| shown(&bench, &want, "cpu.max")) {
        Some(quota) => assert!(quota.starts_with("25000"), "{quota}"),
        None => skip("CPU"),
    }
    bench.stop(&want).await;
}
