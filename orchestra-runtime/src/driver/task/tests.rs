#![allow(clippy::unwrap_used)]

use super::*;
use orchestra_core::port::driver::RunState;
use std::sync::atomic::AtomicU32;

const LONG: Duration = Duration::from_secs(3600);

fn workload(image: &str) -> Workload {
    Workload {
        image: image.into(),
        pod_name: "default/it".into(),
        ..Workload::default()
    }
}

fn driver() -> TaskDriver {
    TaskDriver::builder()
        .task("polite", |context| async move {
            context.stopping().await;
            context.log("bye");
            Ok(())
        })
        .task("deaf", |_| async {
            std::future::pending::<()>().await;
            Ok(())
        })
        .task("panics", |_| async { panic!("no {}", "way") })
        .task("fails", |_| async { Err("not today".into()) })
        .task("three", |_| async { Err(ExitCode(3).into()) })
        .check("well", |_| async { Ok(()) })
        .check("ill", |context| async move {
            Err(context.args().join("+").into())
        })
        .check("hangs", |_| std::future::pending())
        .check("panics", |_| async { panic!("ouch") })
        .build()
}

async fn exit_of(image: &str) -> (i32, String, String) {
    let driver = driver();
    let want = workload(image);
    driver.ensure(&want).await.unwrap();
    let exit = driver.wait(&want.id).await.unwrap();
    (exit.code, exit.reason.to_string(), exit.message)
}

#[tokio::test(start_paused = true)]
async fn errors_codes_and_panics_are_exits() {
    assert_eq!(
        exit_of("fails").await,
        (1, "Error".into(), "not today".into())
    );
    assert_eq!(exit_of("three").await, (3, "Error".into(), String::new()));
    assert_eq!(
        exit_of("panics").await,
        (101, "Panicked".into(), "no way".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_polite_task_ends_by_itself_and_a_deaf_one_is_killed_after_its_grace() {
    let driver = driver();
    let start = Instant::now();
    for (image, grace, took) in [("polite", 30, 0), ("deaf", 30, 30), ("deaf", 0, 0)] {
        let want = workload(image);
        driver.ensure(&want).await.unwrap();
        let before = start.elapsed();
        driver
            .stop(&want.id, Duration::from_secs(grace))
            .await
            .unwrap();
        assert_eq!((start.elapsed() - before).as_secs(), took, "{image}");
        let exit = driver.wait(&want.id).await.unwrap();
        assert_eq!(exit.code, if image == "polite" { 0 } else { 137 });
        driver.remove(&want.id).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stop_still_stops() {
    let driver = driver();
    let want = workload("deaf");
    driver.ensure(&want).await.unwrap();
    let asked = tokio::time::timeout(
        Duration::from_secs(1),
        driver.stop(&want.id, Duration::from_secs(10)),
    );
    assert!(asked.await.is_err());
    assert_eq!(driver.wait(&want.id).await.unwrap().signal, Some(9));
}

#[tokio::test(start_paused = true)]
async fn checks_answer_for_exec_probes() {
    let driver = driver();
    let want = workload("deaf");
    driver.ensure(&want).await.unwrap();
    let exec = driver.exec().unwrap();
    let run = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(exec.exec(&want.id, &run("well")).await.unwrap().code, 0);
    let ill = exec.exec(&want.id, &run("ill a b")).await.unwrap();
    assert_eq!((ill.code, ill.output.as_str()), (1, "a+b"));
    assert_eq!(
        exec.exec(&want.id, &run("panics")).await.unwrap().output,
        "ouch"
    );
    let error = exec.exec(&want.id, &run("absent")).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Invalid);
    assert!(
        report(&error)
            .to_string()
            .contains("hangs, ill, panics, well")
    );
    assert!(
        tokio::time::timeout(LONG, exec.exec(&want.id, &run("hangs")))
            .await
            .is_err()
    );
    driver.stop(&want.id, Duration::ZERO).await.unwrap();
    let error = exec.exec(&want.id, &run("well")).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Unknown);
}

#[tokio::test(start_paused = true)]
async fn the_context_says_what_the_workload_is() {
    let driver = TaskDriver::builder()
        .task("tell", |context| async move {
            context.log(format_args!(
                "{} {:?} {:?} {:?} {}",
                context.pod_name(),
                context.pod_ip(),
                context.env("A"),
                context.args(),
                context.attempt()
            ));
            Ok(())
        })
        .build();
    let want = Workload {
        command: vec!["tell".into(), "x".into()],
        args: vec!["y".into()],
        env: [("A".to_owned(), "1".to_owned())].into(),
        pod_ip: "127.1.0.2".parse().ok(),
        attempt: 4,
        ..workload("ignored")
    };
    driver.ensure(&want).await.unwrap();
    driver.wait(&want.id).await.unwrap();
    let log = driver.logs().unwrap().tail(&want.id, 1000).await.unwrap();
    assert_eq!(
        String::from_utf8(log).unwrap(),
        "default/it Some(127.1.0.2) Some(\"1\") [\"x\", \"y\"] 4\n"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unregistered_task_is_refused_with_the_names_that_exist() {
    let error = driver().ensure(&workload("nope")).await.unwrap_err();
    assert_eq!(error.kind(), DriverErrorKind::Invalid);
    let text = report(&error).to_string();
    assert!(
        text.contains("\"nope\"") && text.contains("deaf, fails"),
        "{text}"
    );
}

/// A body that blocks its thread: the second worker gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_its_thread_is_abandoned_not_waited_for() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(Some(released)));
    let driver = TaskDriver::builder()
        .task("blocks", move |_| {
            let released = lock(&released).take();
            async move {
                let _ = released.map(|released| released.recv());
                Ok(())
            }
        })
        .build();
    let want = workload("blocks");
    driver.ensure(&want).await.unwrap();
    driver
        .stop(&want.id, Duration::from_millis(1))
        .await
        .unwrap();
    let exit = driver.wait(&want.id).await.unwrap();
    assert_eq!(exit.reason, "Abandoned");
    assert!(exit.message.contains("spawn_blocking"));
    release.send(()).unwrap();
    driver.shutdown(Duration::ZERO).await;
    assert!(
        driver.inner.tracker.is_empty(),
        "once released, it is joined like any other"
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_or_shutting_down_leaves_nothing_running() {
    let alive = Arc::new(AtomicU32::new(0));
    struct Alive(Arc<AtomicU32>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    for drop_it in [true, false] {
        let count = Arc::clone(&alive);
        let driver = TaskDriver::builder()
            .task("counted", move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                let held = Alive(Arc::clone(&count));
                async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                    Ok(())
                }
            })
            .build();
        for container in ["a", "b", "c"] {
            let mut want = workload("counted");
            want.id.container = container.into();
            driver.ensure(&want).await.unwrap();
        }
        while alive.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        let tracker = driver.inner.tracker.clone();
        if drop_it {
            drop(driver);
            tracker.wait().await;
        } else {
            driver.shutdown(Duration::from_secs(5)).await;
            assert!(tracker.is_empty());
            let error = driver.ensure(&workload("counted")).await.unwrap_err();
            assert_eq!(error.kind(), DriverErrorKind::Unavailable);
            let survey = driver.survey().await.unwrap();
            assert!(
                survey
                    .iter()
                    .all(|seen| matches!(seen.state, RunState::Ended(_)))
            );
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
}
