#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orchestra_core::conformance::probe::{Cases, run};
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecOutput, ExecSource, Exit, LogSource, Observed, UsageSource,
    Workload, WorkloadId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn target() -> ProbeTarget {
    let workload = WorkloadId {
        pod: Uid(1),
        container: "main".into(),
    };
    ProbeTarget {
        workload,
        address: Some(LOCAL),
    }
}

fn tcp(port: u16) -> ProbeSpec {
    ProbeSpec::Tcp { host: None, port }
}

#[tokio::test]
async fn tcp_passes_when_it_opens_and_fails_by_name_when_it_does_not() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let probers = Probers::new().tcp(Arc::new(TcpProber));
    let open = probers.probe(&target(), &tcp(port)).await.unwrap();
    assert!(matches!(open, Verdict::Pass { .. }));
    drop(socket);
    let Verdict::Fail { reason } = probers.probe(&target(), &tcp(port)).await.unwrap() else {
        panic!("nobody listens")
    };
    assert!(reason.contains(&format!("127.0.0.1:{port}")), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error_with_a_remedy() {
    let probers = Probers::new().tcp(Arc::new(TcpProber));
    let grpc = ProbeSpec::Grpc {
        port: 1,
        service: String::new(),
    };
    let error = probers.probe(&target(), &grpc).await.unwrap_err();
    assert_eq!(error.kind(), ProbeErrorKind::Unsupported);
    let text = orchestra_core::error::report(&error).to_string();
    assert!(text.contains("gRPC") && text.contains("set one"), "{text}");
    let nowhere = ProbeTarget {
        address: None,
        ..target()
    };
    let error = probers.probe(&nowhere, &tcp(1)).await.unwrap_err();
    assert_eq!(error.kind(), ProbeErrorKind::Invalid);
}

/// A driver whose commands do what their first word says.
#[derive(Debug)]
struct Commands;

#[async_trait]
impl ExecSource for Commands {
    async fn exec(&self, id: &WorkloadId, command: &[String]) -> Result<ExecOutput, DriverError> {
        let fail = |kind| Err(DriverError::new(kind, "exec").about(id.to_string()));
        match command[0].as_str() {
            "true" => Ok(ExecOutput {
                code: 0,
                output: String::new(),
            }),
            "false" => Ok(ExecOutput {
                code: 3,
                output: format!(" disk full{}", "!".repeat(9_999)),
            }),
            "hang" => std::future::pending().await,
            "gone" => fail(DriverErrorKind::Unknown),
            "busy" => fail(DriverErrorKind::Exhausted),
            _ => fail(DriverErrorKind::Invalid),
        }
    }
}

#[async_trait]
impl WorkloadDriver for Commands {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        Err(DriverError::new(DriverErrorKind::Invalid, "ensure").about(want.id.to_string()))
    }
    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        Err(DriverError::new(DriverErrorKind::Unknown, "wait").about(id.to_string()))
    }
    async fn stop(&self, _: &WorkloadId, _: Duration) -> Result<(), DriverError> {
        Ok(())
    }
    async fn remove(&self, _: &WorkloadId) -> Result<(), DriverError> {
        Ok(())
    }
    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        Ok(Vec::new())
    }
    fn exec(&self) -> Option<&dyn ExecSource> {
        Some(self)
    }
    fn logs(&self) -> Option<&dyn LogSource> {
        None
    }
    fn usage(&self) -> Option<&dyn UsageSource> {
        None
    }
}

fn exec(program: &str) -> ProbeSpec {
    ProbeSpec::Exec {
        command: vec![program.into()],
    }
}

#[tokio::test]
async fn the_exec_prober_keeps_the_contract() {
    let cases = Cases {
        well: (target(), exec("true")),
        sick: ["false", "gone", "nonsense"]
            .map(|program| (target(), exec(program)))
            .into(),
        silent: Some((target(), exec("hang"))),
        unknown: Some((target(), tcp(1))),
    };
    let prober = Arc::new(ExecProber::new(Arc::new(Commands)));
    run(prober, cases, tokio::time::sleep).await.assert_passed();
}

#[tokio::test]
async fn a_command_says_why_it_failed_in_few_words_and_a_busy_host_is_no_failure() {
    let prober = ExecProber::new(Arc::new(Commands));
    let Verdict::Fail { reason } = prober.probe(&target(), &exec("false")).await.unwrap() else {
        panic!("exit code 3 is a failure")
    };
    assert!(
        reason.starts_with("false exited with 3: disk full!!"),
        "{reason}"
    );
    assert!(reason.len() < 300);
    let error = prober.probe(&target(), &exec("busy")).await.unwrap_err();
    assert_eq!(error.kind(), ProbeErrorKind::Exhausted);
}

/// Accepts and never answers.
async fn silent() -> (TcpListener, u16) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn the_tcp_prober_keeps_the_contract() {
    let (_open, port) = silent().await;
    let closed = silent().await.1;
    let cases = Cases {
        well: (target(), tcp(port)),
        sick: vec![(target(), tcp(closed))],
        silent: None,
        unknown: Some((target(), exec("true"))),
    };
    run(Arc::new(TcpProber), cases, tokio::time::sleep)
        .await
        .assert_passed();
}

/// Probers that each break one sentence.
#[derive(Clone, Copy, Debug)]
enum Bug {
    AlwaysPasses,
    NeverPasses,
    SickIsAnError,
    NoReason,
    GuessesUnknownKinds,
    OneAtATime,
    GivesUpByItself,
    KeepsWhatWasDropped,
    PassesTheSickNowAndThen,
    FailsTheWellNowAndThen,
    MixesUpWhoAsked,
}

/// Besides, how often it was asked and what it saw last.
#[derive(Debug)]
struct Broken(Bug, Semaphore, AtomicU32, Mutex<Option<Verdict>>);

#[async_trait]
impl Prober for Broken {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let inner = ExecProber::new(Arc::new(Commands));
        let hangs = *spec == exec("hang");
        let _permit = match self.0 {
            Bug::OneAtATime => Some(self.1.acquire().await.unwrap()),
            Bug::KeepsWhatWasDropped => {
                self.1.acquire().await.unwrap().forget();
                None
            }
            _ => None,
        };
        if matches!(self.0, Bug::GivesUpByItself) && hangs {
            return Ok(Verdict::Fail {
                reason: "too long".into(),
            });
        }
        let verdict = inner.probe(target, spec).await;
        if matches!(self.0, Bug::KeepsWhatWasDropped) {
            self.1.add_permits(1);
        }
        let rarely = || self.2.fetch_add(1, Ordering::Relaxed) % 50 == 25;
        if let (Bug::MixesUpWhoAsked, Ok(verdict)) = (self.0, &verdict) {
            *self.3.lock().unwrap() = Some(verdict.clone());
            tokio::task::yield_now().await;
            return Ok(self.3.lock().unwrap().clone().unwrap());
        }
        match (self.0, verdict) {
            (Bug::PassesTheSickNowAndThen, Ok(Verdict::Fail { .. })) if rarely() => {
                Ok(Verdict::Pass {
                    took: Duration::ZERO,
                })
            }
            (Bug::FailsTheWellNowAndThen, Ok(Verdict::Pass { .. })) if rarely() => {
                Ok(Verdict::Fail {
                    reason: "a whim".into(),
                })
            }
            (Bug::NeverPasses, Ok(_)) => Ok(Verdict::Fail {
                reason: "so it is".into(),
            }),
            (Bug::AlwaysPasses, Ok(_)) => Ok(Verdict::Pass {
                took: Duration::ZERO,
            }),
            (Bug::SickIsAnError, Ok(Verdict::Fail { .. })) => {
                Err(ProbeError::new(ProbeErrorKind::Invalid, "probe"))
            }
            (Bug::NoReason, Ok(Verdict::Fail { .. })) => Ok(Verdict::Fail { reason: " ".into() }),
            (Bug::GuessesUnknownKinds, Err(_)) => Ok(Verdict::Pass {
                took: Duration::ZERO,
            }),
            (_, verdict) => verdict,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_each_planted_bug() {
    let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
    for (bug, check) in [
        (Bug::NeverPasses, "well_passes"),
        (Bug::AlwaysPasses, "sick_fails_with_a_reason"),
        (Bug::SickIsAnError, "sick_fails_with_a_reason"),
        (Bug::NoReason, "sick_fails_with_a_reason"),
        (Bug::GuessesUnknownKinds, "unknown_is_unsupported"),
        (Bug::OneAtATime, "others_do_not_wait"),
        (Bug::GivesUpByItself, "a_silent_target_is_waited_for"),
        (Bug::KeepsWhatWasDropped, "dropped_probes_leave_nothing"),
        (
            Bug::PassesTheSickNowAndThen,
            "each_of_many_is_told_of_its_own",
        ),
        (
            Bug::FailsTheWellNowAndThen,
            "each_of_many_is_told_of_its_own",
        ),
        (Bug::MixesUpWhoAsked, "each_of_many_is_told_of_its_own"),
    ] {
        let cases = Cases {
            well: (target(), exec("true")),
            sick: vec![(target(), exec("false"))],
            silent: Some((target(), exec("hang"))),
            unknown: Some((target(), tcp(1))),
        };
        let slots = if matches!(bug, Bug::OneAtATime) {
            1
        } else {
            100
        };
        let prober = Arc::new(Broken(
            bug,
            Semaphore::new(slots),
            AtomicU32::new(0),
            Mutex::default(),
        ));
        let report = run(prober, cases, tokio::time::sleep).await;
        all.extend(report.checks.iter().map(|check| check.name));
        broken.extend(report.failed().map(|check| check.name));
        assert!(
            report.failed().any(|failed| failed.name == check),
            "{bug:?}\n{report}"
        );
    }
    assert_eq!(broken, all, "checks that no planted bug breaks");
}

#[cfg(feature = "http")]
mod http {
    use super::*;

    fn get(port: u16, path: &str) -> ProbeSpec {
        ProbeSpec::Http {
            host: None,
            port,
            path: path.into(),
            headers: Vec::new(),
        }
    }

    /// Answers each connection with what `answer` makes of the request's head.
    async fn server<A>(answer: A) -> u16
    where
        A: Fn(String) -> Vec<u8> + Send + Sync + 'static,
    {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = socket.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match client.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                // A prober that has seen enough may be gone.
                let _ = client
                    .write_all(&answer(String::from_utf8(head).unwrap()))
                    .await;
            }
        });
        port
    }

    async fn verdict(answer: impl Fn(String) -> Vec<u8> + Send + Sync + 'static) -> Verdict {
        let port = server(answer).await;
        HttpProber
            .probe(&target(), &get(port, "/healthz?full=1"))
            .await
            .unwrap()
    }

    fn passes(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Pass { .. })
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (status, well) in [
            (200, true),
            (204, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            let answer =
                move |_| format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").into_bytes();
            let verdict = verdict(answer).await;
            assert_eq!(passes(&verdict), well, "{status}: {verdict:?}");
        }
    }

    #[tokio::test]
    async fn the_request_says_what_it_should() {
        let port = server(|head| {
            let lower = head.to_ascii_lowercase();
            let fine = head.starts_with("GET /healthz?full=1 HTTP/1.1\r\n")
                && lower.contains("\r\nhost: example.test\r\n")
                && lower.contains("\r\nx-token: a\r\n")
                && lower.contains("\r\nx-token: b\r\n")
                && lower.contains("\r\nconnection: close\r\n")
                && lower.contains("\r\nuser-agent: orchestra-probe/");
            let status = if fine { 200 } else { 400 };
            format!("HTTP/1.1 {status} X\r\n\r\n").into_bytes()
        })
        .await;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = ProbeSpec::Http {
            host: None,
            port,
            path: "/healthz?full=1".into(),
            headers: vec![
                header("Host", "example.test"),
                header("X-Token", "a"),
                header("X-Token", "b"),
            ],
        };
        let verdict = HttpProber.probe(&target(), &spec).await.unwrap();
        assert!(passes(&verdict), "{verdict:?}");
    }

    #[tokio::test]
    async fn garbage_and_heads_without_end_fail() {
        for garbage in [
            b"220 smtp.example ESMTP\r\n\r\n".to_vec(),
            b"".to_vec(),
            [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat(),
            [
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                b"a: b\r\n".repeat(5_000),
                b"\r\n".to_vec(),
            ]
            .concat(),
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut".to_vec(),
        ] {
            let verdict = verdict(move |_| garbage.clone()).await;
            let Verdict::Fail { reason } = verdict else {
                panic!("{verdict:?}")
            };
            assert!(reason.starts_with("no valid HTTP answer: "), "{reason}");
            assert!(reason.len() < 500);
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_left_unread() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
        let body = vec![b'x'; 8 << 20];
        assert!(passes(
            &verdict(move |_| [head.clone(), body.clone()].concat()).await
        ));
    }

    fn redirect(to: &str) -> Vec<u8> {
        format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn a_redirect_is_followed_on_this_host_only() {
        let sick = |head: String| match head.split(' ').nth(1).unwrap() {
            "/healthz?full=1" => redirect("/sick"),
            _ => b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec(),
        };
        assert!(!passes(&verdict(sick).await), "judged by where it leads");
        let elsewhere = |_| redirect("http://192.0.2.1:9/never-asked");
        assert!(passes(&verdict(elsewhere).await));
        let endless = |_| redirect("again");
        let Verdict::Fail { reason } = verdict(endless).await else {
            panic!("a circle")
        };
        assert!(reason.contains("10 redirects"), "{reason}");
    }

    #[tokio::test]
    async fn a_bad_probe_is_invalid_and_does_not_repeat_a_header_value() {
        let spec = ProbeSpec::Http {
            host: None,
            port: 1,
            path: "/".into(),
            headers: vec![("Authorization".into(), "hush\n".into())],
        };
        let error = HttpProber.probe(&target(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ProbeErrorKind::Invalid);
        assert!(!format!("{error:?}").contains("hush"));
        for (host, path) in [(None, "/a b"), (Some("a b".to_owned()), "/")] {
            let spec = ProbeSpec::Http {
                host,
                port: 1,
                path: path.into(),
                headers: Vec::new(),
            };
            let error = HttpProber.probe(&target(), &spec).await.unwrap_err();
            assert_eq!(error.kind(), ProbeErrorKind::Invalid, "{path}");
        }
    }

    #[tokio::test]
    async fn a_dropped_probe_closes_its_connection() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (target, spec) = (target(), get(port, "/"));
        let probe = HttpProber.probe(&target, &spec);
        let mut client = tokio::select! {
            biased;
            verdict = probe => panic!("nobody answered, but {verdict:?}"),
            accepted = socket.accept() => accepted.unwrap().0,
        };
        let mut rest = Vec::new();
        let read = client.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(60), read)
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn the_http_prober_keeps_the_contract() {
        let well = server(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let sick = server(|_| b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let garbage = server(|_| b"hello\r\n\r\n".to_vec()).await;
        let closed = super::silent().await.1;
        let (_silent, silent) = super::silent().await;
        let case = |port| (target(), get(port, "/"));
        let cases = Cases {
            well: case(well),
            sick: vec![case(sick), case(garbage), case(closed)],
            silent: Some(case(silent)),
            unknown: Some((target(), tcp(1))),
        };
        run(Arc::new(HttpProber), cases, tokio::time::sleep)
            .await
            .assert_passed();
    }
}
