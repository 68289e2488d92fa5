//! What a driver finds of the one before it.

use super::*;
use crate::driver::process::record::{Record, State};

fn record_of(bench: &Bench, want: &Workload) -> (Place, Record) {
    let root = bench.path("state").canonicalize().unwrap();
    let place = Place::of(&root, &want.id, want.attempt);
    let bytes = std::fs::read(place.dir.join("record.json")).unwrap();
    (place, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn what_runs_goes_on_and_what_ended_is_remembered() {
    let bench = Bench::new().await;
    let flag = bench.path("flag");
    let mut runs = sh(&format!(
        "echo one; while [ ! -e {0} ]; do sleep 0.01; done; echo two; touch {0}.seen; \
         while :; do sleep 1000; done",
        flag.display()
    ));
    runs.env.insert("SECRET".into(), "hush".into());
    let mut ended = sh("echo done; exit 3");
    ended.id.container = "ended".into();
    bench.driver.ensure(&runs).await.unwrap();
    let exit = bench.run(&ended).await;
    bench.lines(&runs, 1).await;
    let pid = bench.pid(&runs);
    let before = bench.driver.survey().await.unwrap();
    let (place, _) = record_of(&bench, &runs);
    let text = std::fs::read_to_string(place.dir.join("record.json")).unwrap();
    assert!(
        !text.contains("hush"),
        "no value of the environment is written down"
    );

    bench.driver.shutdown().await;
    let error = bench.driver.wait(&runs.id).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Unavailable);
    // It prints while no driver is there.
    std::fs::write(&flag, "").unwrap();
    until("it went on", || bench.path("flag.seen").exists()).await;

    let bench = bench.restarted().await;
    assert_eq!(bench.driver.survey().await.unwrap(), before);
    assert_eq!(bench.driver.wait(&ended.id).await.unwrap(), exit);
    assert_eq!(bench.lines(&ended, 1).await, ["done"]);
    assert_eq!(bench.lines(&runs, 2).await, ["one", "two"]);
    bench.driver.ensure(&runs).await.unwrap();
    assert_eq!(bench.pid(&runs), pid, "not started twice");
    let exec = WorkloadDriver::exec(&bench.driver).unwrap();
    let done = exec
        .exec(&runs.id, &words(&["sh", "-c", "echo $SECRET"]))
        .await
        .unwrap();
    assert_eq!(done.output, "hush\n");
    assert!(
        bench
            .driver
            .usage()
            .unwrap()
            .usage(&runs.id)
            .await
            .unwrap()
            .memory_bytes
            > 0
    );

    // It is a child of this very program, so its end is known to the full.
    let exit = bench.stop(&runs).await;
    assert_eq!((exit.code, exit.signal), (143, Some(15)));
    assert_eq!(proc_fs::stat(pid), None, "reaped");
    bench.driver.remove(&runs.id).await.unwrap();
    let bench = bench.restarted().await;
    assert_eq!(
        bench.driver.survey().await.unwrap().len(),
        1,
        "only what was not removed"
    );
}

#[tokio::test]
async fn dropping_a_driver_without_a_word_is_enough() {
    let mut bench = Bench::new().await;
    let want = sh("echo up; exec sleep 1000");
    bench.driver.ensure(&want).await.unwrap();
    let pid = bench.pid(&want);
    bench.reopen().await;
    assert_eq!(bench.pid(&want), pid);
    assert_eq!(bench.stop(&want).await.signal, Some(15));
    assert_eq!(proc_fs::stat(pid), None, "reaped");
}

#[tokio::test]
async fn another_process_under_the_same_pid_is_left_alone() {
    let bench = Bench::new().await;
    let want = sh("exec sleep 1000");
    bench.driver.ensure(&want).await.unwrap();
    let (place, mut record) = record_of(&bench, &want);
    bench.stop(&want).await;
    bench.driver.shutdown().await;
    // The record names this very test, but with another start.
    let own = i32::try_from(std::process::id()).unwrap();
    let State::Running { since, .. } = record.state else {
        panic!("{record:?}")
    };
    let start = proc_fs::stat(own).unwrap().start + 1;
    record.state = State::Running {
        pid: own,
        start,
        since,
    };
    place.write(&record).unwrap();
    let bench = bench.restarted().await;
    let exit = bench.driver.wait(&want.id).await.unwrap();
    assert_eq!((exit.code, exit.reason.as_str()), (LOST_CODE, "Lost"));
    // And one of another boot is lost, whatever runs under its pid.
    record.boot = "another".into();
    record.state = State::Running {
        pid: own,
        start: start - 1,
        since,
    };
    place.write(&record).unwrap();
    let bench = bench.restarted().await;
    let exit = bench.driver.wait(&want.id).await.unwrap();
    assert!(exit.message.contains("restarted"), "{exit:?}");
}

#[tokio::test]
async fn an_end_that_nobody_saw_is_lost_and_its_rest_is_killed() {
    for cgroups in [true, false] {
        let bench = Bench::with(|builder| builder.cgroups(cgroups)).await;
        let want = sh("setsid sleep 1000 & echo $!; wait");
        bench.driver.ensure(&want).await.unwrap();
        let rest = bench.lines(&want, 1).await[0].parse().unwrap();
        let main = bench.driver.shared.table.get(&want.id).unwrap();
        bench.driver.shutdown().await;
        let main = main.run.main.get().unwrap();
        rustix::process::kill_process(main.pid, rustix::process::Signal::KILL).unwrap();
        within(main.gone()).await;
        main.reap(); // as init would
        assert!(!is_gone(rest));
        let bench = bench.restarted().await;
        let exit = bench.driver.wait(&want.id).await.unwrap();
        assert_eq!((exit.code, exit.reason.as_str()), (LOST_CODE, "Lost"));
        until("the rest ends", || is_gone(rest)).await;
    }
}

#[tokio::test]
async fn a_start_cut_short_is_recognised_by_its_pipe() {
    let bench = Bench::new().await;
    let want = sh("echo up; sleep 1000 & wait");
    bench.driver.ensure(&want).await.unwrap();
    bench.lines(&want, 1).await;
    let pid = bench.pid(&want);
    let (place, mut record) = record_of(&bench, &want);
    let never = Place::of(place.dir.parent().unwrap(), &want.id, 9);
    bench.driver.shutdown().await;
    record.state = State::Starting;
    place.write(&record).unwrap();
    record.attempt = 9;
    record.cgroups.clear();
    never.write(&record).unwrap(); // and one that never came to be
    let bench = bench.restarted().await;
    let survey = bench.driver.survey().await.unwrap();
    assert_eq!((survey.len(), survey[0].attempt), (1, 0));
    assert!(matches!(survey[0].state, RunState::Running { .. }));
    assert_eq!(bench.pid(&want), pid);
    assert!(!never.dir.exists());
    bench.stop(&want).await;
}
