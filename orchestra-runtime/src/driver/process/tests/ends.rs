//! Starts, ends, and what is left.

use super::*;

#[tokio::test]
async fn codes_and_signals_are_told_and_nothing_stays_unreaped() {
    let bench = Bench::new().await;
    let cases = [
        ("exit 0", 0, None, "Completed"),
        ("exit 3", 3, None, "Error"),
        ("kill -KILL $$", 137, Some(9), "Error"),
        ("kill -TERM $$", 143, Some(15), "Error"),
    ];
    for (attempt, (script, code, signal, reason)) in (0..).zip(cases) {
        let want = Workload {
            attempt,
            ..sh(script)
        };
        let exit = bench.run(&want).await;
        assert_eq!(
            (exit.code, exit.signal, exit.reason.as_str()),
            (code, signal, reason)
        );
        assert_eq!(proc_fs::stat(bench.pid(&want)), None, "reaped");
    }
    bench.driver.remove(&sh("").id).await.unwrap();
    let left = std::fs::read_dir(bench.path("state")).unwrap();
    let left = left
        .map(|entry| entry.unwrap().file_name())
        .collect::<Vec<_>>();
    assert_eq!(left, ["lock"], "what is removed leaves nothing on disk");
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_it_starts_with_a_remedy() {
    let bench = Bench::new().await;
    let plain = bench.path("plain");
    std::fs::write(&plain, "no program").unwrap();
    let plain = plain.to_str().unwrap();
    let text = bench.refused(&workload(&["no-such-program"])).await;
    assert!(text.contains("PATH /usr/local/bin:/usr/bin:/bin"), "{text}");
    let text = bench.refused(&workload(&["/no/such/program"])).await;
    assert!(text.contains("/no/such/program does not exist"), "{text}");
    let text = bench.refused(&workload(&[plain])).await;
    assert!(text.contains(plain) && text.contains("chmod +x"), "{text}");
    let text = bench.refused(&workload(&["/tmp"])).await;
    assert!(text.contains("/tmp is not a file"), "{text}");
    let nowhere = Workload {
        working_dir: Some("/no/dir".into()),
        ..sh("true")
    };
    let text = bench.refused(&nowhere).await;
    assert!(
        text.contains("/no/dir") && text.contains("create it"),
        "{text}"
    );
    let text = bench.refused(&Workload::default()).await;
    assert!(text.contains("neither command nor image"), "{text}");
    let text = bench.refused(&workload(&["sh", "nul\0byte"])).await;
    assert!(text.contains("NUL"), "{text}");

    let script = bench.path("script");
    std::fs::write(&script, "#!/no/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let text = bench.refused(&workload(&[script.to_str().unwrap()])).await;
    assert!(text.contains("interpreter"), "{text}");
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_asked_for() {
    let bench = Bench::new().await;
    let want = Workload {
        image: "/usr/bin/env".into(),
        command: Vec::new(),
        env: [("A", "1"), ("b.c-d", "x=y z")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..sh("")
    };
    assert_eq!(bench.run(&want).await.code, 0);
    let mut lines = bench.lines(&want, 2).await;
    lines.sort();
    assert_eq!(lines, ["A=1", "b.c-d=x=y z"]);

    let dir = bench.dir.path().canonicalize().unwrap();
    let want = Workload {
        working_dir: Some(dir.clone()),
        args: words(&["say", "two words"]),
        attempt: 1,
        ..sh("pwd; echo \"$0 $1\"")
    };
    assert_eq!(bench.run(&want).await.code, 0);
    assert_eq!(
        bench.lines(&want, 2).await,
        [dir.to_str().unwrap(), "say two words"]
    );
}

/// Grandchildren that ignore SIGTERM, one of them in a session of its own.
const FAMILY: &str = "trap '' TERM; \
    sh -c 'echo $$; while :; do sleep 1000; done' & \
    setsid sh -c 'echo $$; while :; do sleep 1000; done' & \
    wait; wait; wait";

#[tokio::test]
async fn a_family_that_ignores_sigterm_is_killed_to_the_last_after_its_grace() {
    for cgroups in [true, false] {
        let bench = Bench::with(|builder| builder.cgroups(cgroups)).await;
        let want = sh(FAMILY);
        bench.driver.ensure(&want).await.unwrap();
        let pids = bench.lines(&want, 2).await;
        within(bench.driver.stop(&want.id, Duration::from_millis(50)))
            .await
            .unwrap();
        let exit = bench.driver.wait(&want.id).await.unwrap();
        assert_eq!((exit.code, exit.reason.as_str()), (137, "Killed"));
        for pid in pids {
            until("a grandchild ends", || is_gone(pid.parse().unwrap())).await;
        }
    }
}

#[tokio::test]
async fn what_the_main_process_leaves_behind_is_killed_at_its_end() {
    for cgroups in [true, false] {
        let bench = Bench::with(|builder| builder.cgroups(cgroups)).await;
        let want = sh("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; exit 0");
        assert_eq!(bench.run(&want).await.code, 0);
        for pid in bench.lines(&want, 2).await {
            until("a leftover ends", || is_gone(pid.parse().unwrap())).await;
        }
    }
}

#[tokio::test]
async fn a_polite_process_ends_within_its_grace_and_a_stopped_one_is_woken_for_it() {
    let bench = Bench::new().await;
    let want = sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    bench.driver.ensure(&want).await.unwrap();
    bench.lines(&want, 1).await;
    let exit = bench.stop(&want).await;
    assert_eq!((exit.code, exit.reason.as_str()), (7, "Error"));
    assert!(bench.log(&want).await.ends_with("bye\n"));

    let want = Workload {
        attempt: 1,
        ..sh("while :; do kill -STOP $$; done")
    };
    bench.driver.ensure(&want).await.unwrap();
    assert_eq!(bench.stop(&want).await.signal, Some(15));
}

#[tokio::test]
async fn dropped_calls_undo_nothing() {
    let bench = Bench::new().await;
    let want = sh("trap '' TERM; echo up; while :; do sleep 0.01; done");
    // Polled once and dropped, unless that was enough.
    let _ = tokio::time::timeout(Duration::ZERO, bench.driver.ensure(&want)).await;
    bench.driver.ensure(&want).await.unwrap();
    assert_eq!(bench.lines(&want, 1).await, ["up"], "started once");
    let grace = Duration::from_millis(20);
    assert!(
        tokio::time::timeout(Duration::ZERO, bench.driver.stop(&want.id, grace))
            .await
            .is_err()
    );
    assert_eq!(within(bench.driver.wait(&want.id)).await.unwrap().code, 137);
}

#[tokio::test]
async fn commands_run_in_the_surroundings_of_their_workload_and_end_with_their_call() {
    let bench = Bench::new().await;
    let dir = bench.dir.path().canonicalize().unwrap();
    let mut want = Workload {
        working_dir: Some(dir.clone()),
        ..sh("echo up; exec sleep 1000")
    };
    want.env.insert("A".into(), "1".into());
    bench.driver.ensure(&want).await.unwrap();
    bench.lines(&want, 1).await;
    let exec = WorkloadDriver::exec(&bench.driver).unwrap();
    let run = |script: &str| words(&["sh", "-c", script]);
    let done = exec
        .exec(&want.id, &run("pwd; echo $A >&2; sleep 1000 & exit 4"))
        .await
        .unwrap();
    assert_eq!(done.code, 4);
    assert_eq!(done.output, format!("{}\n1\n", dir.display()));
    let done = exec
        .exec(&want.id, &run("head -c 1000000 /dev/zero"))
        .await
        .unwrap();
    assert_eq!((done.code, done.output.len()), (0, 64 * 1024));
    let error = exec.exec(&want.id, &words(&["absent"])).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Invalid);

    let pid_file = bench.path("pid");
    let script = run("echo $$ > pid.new; mv pid.new pid; exec sleep 1000");
    tokio::select! {
        biased;
        done = exec.exec(&want.id, &script) => panic!("it sleeps: {done:?}"),
        () = until("it runs", || pid_file.exists()) => {}
    }
    let pid = std::fs::read_to_string(&pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    until("the dropped command ends and is reaped", || {
        proc_fs::stat(pid).is_none()
    })
    .await;
    assert!(!is_gone(bench.pid(&want)), "the workload itself goes on");

    let usage = bench.driver.usage().unwrap().usage(&want.id).await.unwrap();
    assert_eq!(usage.processes, 1);
    assert!(usage.memory_bytes > 0);
    bench.stop(&want).await;
    let error = exec.exec(&want.id, &run("true")).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Unknown);
}

#[tokio::test]
async fn stop_all_leaves_nothing() {
    let bench = Bench::new().await;
    let wants = ["a", "b", "c"].map(|container| {
        let mut want = sh("sleep 1000 & wait");
        want.id.container = container.into();
        want
    });
    for want in &wants {
        bench.driver.ensure(want).await.unwrap();
    }
    within(bench.driver.stop_all(GRACE)).await;
    for want in &wants {
        let main = Arc::clone(
            bench
                .driver
                .shared
                .table
                .get(&want.id)
                .unwrap()
                .run
                .main
                .get()
                .unwrap(),
        );
        assert_eq!(proc_fs::stat(bench.pid(want)), None);
        assert!(main.members().iter().all(|stat| stat.zombie));
        assert!(
            main.leaf()
                .is_none_or(|leaf| leaf.dirs.iter().all(|dir| !dir.exists()))
        );
    }
    bench.driver.shutdown().await;
    let error = bench.driver.ensure(&sh("true")).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Unavailable);
}
