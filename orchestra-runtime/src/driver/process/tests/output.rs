//! What is printed, and how much of it is kept.

use super::*;
use std::io::Write;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn both_streams_come_in_order_and_any_byte_is_carried() {
    let bench = Bench::new().await;
    let want = sh("printf 'a\\377b\\n'; echo c >&2; echo d");
    assert_eq!(bench.run(&want).await.code, 0);
    let log = bench
        .driver
        .logs()
        .unwrap()
        .tail(&want.id, 100)
        .await
        .unwrap();
    assert_eq!(log, b"a\xffb\nc\nd\n");
    assert_eq!(
        bench
            .driver
            .logs()
            .unwrap()
            .tail(&want.id, 4)
            .await
            .unwrap(),
        b"c\nd\n"
    );
    assert_eq!(bench.log(&want).await, "a\u{fffd}b\nc\nd\n");
}

#[tokio::test]
async fn a_flood_is_kept_within_its_bounds() {
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let bench = Bench::with(|builder| builder.log_bytes_max(1000, FILE_BYTES_MAX)).await;
    let want = sh("head -c 200000000 /dev/zero; echo end");
    assert_eq!(bench.run(&want).await.code, 0);
    let slot = bench.driver.shared.table.get(&want.id).unwrap();
    let place = slot.run.place.clone().unwrap();
    let size = |path: PathBuf| std::fs::metadata(path).unwrap().len();
    assert!(size(place.log()) + size(place.log_before()) <= FILE_BYTES_MAX);
    let log = bench
        .driver
        .logs()
        .unwrap()
        .tail(&want.id, usize::MAX)
        .await
        .unwrap();
    assert!(log.len() as u64 <= FILE_BYTES_MAX && log.len() > 1000);
    assert!(log.ends_with(b"\0end\n"));
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_survived_and_told() {
    let driver = ProcessDriver::builder("/dev/null/state")
        .open()
        .await
        .unwrap();
    let want = sh("echo out; exit 2");
    driver.ensure(&want).await.unwrap();
    let exit = within(driver.wait(&want.id)).await.unwrap();
    assert_eq!(exit.code, 2);
    assert!(exit.message.contains("memory only"), "{}", exit.message);
    let log = driver.logs().unwrap().tail(&want.id, 1000).await.unwrap();
    let log = String::from_utf8(log).unwrap();
    assert!(
        log.ends_with("out\n") && log.matches("memory only").count() == 1,
        "{log}"
    );
    driver.remove(&want.id).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_survived_and_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place {
        dir: dir.path().to_owned(),
    };
    std::os::unix::fs::symlink("/dev/full", place.log()).unwrap();
    let log = Arc::new(Log::new(Some(place), 1000, 1000));
    let ends = capture::plain_pipe().unwrap();
    let (mut output, error) = (File::from(ends.output), ends.error);
    let pump = tokio::spawn(capture::pump(
        ends.reader,
        Arc::clone(&log),
        CancellationToken::new(),
        CancellationToken::new(),
    ));
    for line in ["one\n", "two\n"] {
        output.write_all(line.as_bytes()).unwrap();
        until("the line is kept", || {
            log.tail(1000).windows(4).any(|w| w == line.as_bytes())
        })
        .await;
    }
    drop((output, error));
    within(pump).await.unwrap();
    let text = String::from_utf8(log.tail(1000)).unwrap();
    assert_eq!(text.matches("[orchestra: ").count(), 1, "{text}");
    assert!(log.degraded().unwrap().contains("No space left"), "{text}");
}

#[tokio::test]
async fn each_attempt_has_a_log_of_its_own() {
    let bench = Bench::new().await;
    for attempt in 0..3 {
        let want = Workload {
            attempt,
            ..sh(&format!("echo {attempt}"))
        };
        bench.run(&want).await;
        assert_eq!(bench.lines(&want, 1).await, [attempt.to_string()]);
    }
    let dirs = std::fs::read_dir(bench.path("state")).unwrap().count();
    assert_eq!(dirs, 2, "the lock, and the newest attempt");
}
