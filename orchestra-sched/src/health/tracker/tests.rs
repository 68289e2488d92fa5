//! Thresholds, gates and holds, one rule a test.
use orchestra_core::port::probe::ProbeErrorKind;
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

fn all() -> HealthPolicy {
    let probe = ProbePolicy::default();
    HealthPolicy {
        startup: Some(ProbePolicy {
            period: Duration::from_secs(2),
            ..probe
        }),
        liveness: Some(ProbePolicy {
            initial_delay: Duration::from_secs(5),
            ..probe
        }),
        readiness: Some(ProbePolicy {
            period: Duration::from_secs(1),
            ..probe
        }),
    }
}

/// Runs the probes due at that second, all with the same outcome.
fn probe(tracker: &mut HealthTracker, second: i64, sample: Sample) -> Vec<ProbeKind> {
    let mut ran = Vec::new();
    while let Some(ticket) = tracker.poll_probe(at(second)) {
        ran.push(ticket.kind);
        tracker.handle_result(ticket, sample, at(second));
    }
    ran
}

use ProbeKind::{Liveness, Readiness, Startup};

#[test]
fn startup_gates_the_others_which_then_run_at_their_own_pace() {
    let mut tracker = HealthTracker::new(all());
    assert_eq!(tracker.poll_timeout(), None);
    tracker.handle_started(at(0));
    assert_eq!(probe(&mut tracker, 0, Sample::Fail), [Startup]);
    assert_eq!(tracker.poll_timeout(), Some(at(2)));
    assert_eq!(probe(&mut tracker, 1, Sample::Pass), []);
    // With its success readiness is due at once, liveness after its initial delay.
    assert_eq!(probe(&mut tracker, 2, Sample::Pass), [Startup, Readiness]);
    assert_eq!(
        tracker.health(),
        Health {
            started: true,
            ready: true,
            restart: None
        }
    );
    assert_eq!(probe(&mut tracker, 3, Sample::Pass), [Readiness]);
    assert_eq!(probe(&mut tracker, 5, Sample::Pass), [Readiness, Liveness]);
    assert_eq!(probe(&mut tracker, 14, Sample::Pass), [Readiness]);
    assert_eq!(probe(&mut tracker, 15, Sample::Pass), [Liveness, Readiness]);
}

#[test]
fn liveness_asks_for_a_restart_once_and_holds_until_it_happened() {
    let policy = HealthPolicy {
        liveness: Some(ProbePolicy::default()),
        ..Default::default()
    };
    let mut tracker = HealthTracker::new(policy);
    tracker.handle_started(at(0));
    assert!(
        tracker.health().ready,
        "no readiness probe: ready once started"
    );
    for second in [0, 10, 20] {
        assert_eq!(tracker.health().restart, None);
        assert_eq!(probe(&mut tracker, second, Sample::Fail), [Liveness]);
    }
    assert_eq!(tracker.health().restart, Some(Liveness));
    assert!(tracker.on_hold(Liveness));
    assert_eq!(tracker.poll_timeout(), None);
    assert_eq!(
        tracker.handle_stopped(true).map(|health| health.restart),
        Some(None)
    );
    tracker.handle_started(at(30));
    assert_eq!(tracker.result(Liveness), Some(ProbeResult::Success));
    assert_eq!(tracker.streak(Liveness), 0);
    assert_eq!(tracker.poll_timeout(), Some(at(30)));
}

#[test]
fn a_late_result_of_an_earlier_life_is_nobodys() {
    let mut tracker = HealthTracker::new(all());
    tracker.handle_started(at(0));
    let late = tracker.poll_probe(at(0)).unwrap();
    tracker.handle_stopped(true);
    assert_eq!(tracker.handle_result(late, Sample::Pass, at(1)), None);
    tracker.handle_started(at(1));
    assert_eq!(tracker.handle_result(late, Sample::Pass, at(1)), None);
    assert_eq!(tracker.result(Startup), Some(ProbeResult::Unknown));
    assert_eq!(probe(&mut tracker, 1, Sample::Pass), [Startup, Readiness]);
}

#[test]
fn a_probe_in_flight_is_not_run_twice() {
    let mut tracker = HealthTracker::new(all());
    tracker.handle_started(at(0));
    let ticket = tracker.poll_probe(at(0)).unwrap();
    assert_eq!(tracker.poll_probe(at(100)), None);
    assert_eq!(tracker.poll_timeout(), None);
    tracker.handle_result(ticket, Sample::Error, at(100));
    assert_eq!(tracker.result(Startup), Some(ProbeResult::Unknown));
    assert_eq!(
        tracker.poll_timeout(),
        Some(at(2)),
        "an error is no sample, the pace stays"
    );
}

#[test]
fn deletion_ends_what_could_restart_and_a_stop_ends_readiness() {
    let mut tracker = HealthTracker::new(all());
    tracker.handle_started(at(0));
    probe(&mut tracker, 0, Sample::Pass);
    tracker.handle_deleted();
    assert!(!tracker.is_probing(Liveness) && !tracker.is_probing(Startup));
    assert!(tracker.is_probing(Readiness) && tracker.health().ready);
    assert_eq!(probe(&mut tracker, 1, Sample::Fail), [Readiness]);
    assert!(!tracker.handle_stopped(false).unwrap().ready);
    assert!(!tracker.is_probing(Readiness));
    assert_eq!(tracker.poll_timeout(), None);
}

#[test]
fn an_ended_pod_is_not_probed_and_not_ready() {
    let mut tracker = HealthTracker::new(all());
    tracker.handle_started(at(0));
    probe(&mut tracker, 0, Sample::Pass);
    assert_eq!(tracker.handle_ended(), Some(Health::default()));
    assert_eq!(tracker.result(Readiness), Some(ProbeResult::Success));
    assert_eq!(tracker.poll_timeout(), None);
    assert!(
        ![Startup, Liveness, Readiness]
            .iter()
            .any(|kind| tracker.is_probing(*kind))
    );
}

#[test]
fn a_probers_outcome_is_a_sample() {
    let pass = Ok(Verdict::Pass {
        took: Duration::ZERO,
    });
    let fail = Ok(Verdict::Fail {
        reason: "503".into(),
    });
    let error = Err(ProbeError::new(ProbeErrorKind::Exhausted, "probe"));
    assert_eq!(
        [&pass, &fail, &error].map(Sample::from),
        [Sample::Pass, Sample::Fail, Sample::Error]
    );
}

#[test]
fn a_manifests_zeros_are_defaults() {
    assert_eq!(
        ProbePolicy::from(&Probe::tcp(80_u16)),
        ProbePolicy::default()
    );
    let probe = Probe::tcp(80_u16)
        .initial_delay(3)
        .period(4)
        .timeout(5)
        .failures(6);
    assert_eq!(
        ProbePolicy::from(&probe),
        ProbePolicy {
            initial_delay: Duration::from_secs(3),
            timeout: Duration::from_secs(5),
            period: Duration::from_secs(4),
            success_threshold: 1,
            failure_threshold: 6,
        }
    );
}

proptest! {
    /// The slow plain twin of the thresholds: look back over all samples.
    #[test]
    fn readiness_is_the_last_run_that_was_long_enough(
        samples in proptest::collection::vec(0_u8..3, 0..60),
        success in 1_usize..4,
        failure in 1_usize..4,
    ) {
        let policy = ProbePolicy {
            success_threshold: success as u32,
            failure_threshold: failure as u32,
            ..ProbePolicy::default()
        };
        let readiness = HealthPolicy { readiness: Some(policy), ..Default::default() };
        let mut tracker = HealthTracker::new(readiness);
        tracker.handle_started(at(0));
        let mut seen = Vec::new();
        for (n, sample) in samples.iter().enumerate() {
            let sample = [Sample::Pass, Sample::Fail, Sample::Error][usize::from(*sample)];
            probe(&mut tracker, 10 * n as i64, sample);
            if sample != Sample::Error {
                seen.push(sample);
            }
            let run_ends_at = |end: usize, of: Sample, length: usize| {
                end >= length && seen[end - length..end].iter().all(|s| *s == of)
            };
            let expected = (1..=seen.len()).rev().find_map(|end| {
                let ready = run_ends_at(end, Sample::Pass, success);
                (ready || run_ends_at(end, Sample::Fail, failure)).then_some(ready)
            });
            prop_assert_eq!(tracker.health().ready, expected.unwrap_or(false));
        }
    }

    /// The slow plain twin of passing ahead: run each probe when it is due.
    #[test]
    fn passing_ahead_is_passing_one_by_one(
        before in proptest::collection::vec(any::<bool>(), 0..12),
        looks in proptest::collection::vec(0_i64..50, 1..8),
        periods in (1_u64..9, 1_u64..9),
        delay in 0_u64..20,
        success in 0_u32..3,
        deleted in any::<bool>(),
    ) {
        let policy = |period| ProbePolicy {
            period: Duration::from_secs(period),
            success_threshold: success,
            ..ProbePolicy::default()
        };
        let liveness = ProbePolicy {
            initial_delay: Duration::from_secs(delay),
            success_threshold: 1,
            ..policy(periods.0)
        };
        let mut ahead = HealthTracker::new(HealthPolicy {
            startup: Some(policy(1)),
            liveness: Some(liveness),
            readiness: Some(policy(periods.1)),
        });
        ahead.handle_started(at(0));
        let mut now = 0;
        for passes in before {
            let sample = if passes { Sample::Pass } else { Sample::Fail };
            probe(&mut ahead, now, sample);
            now += 1;
        }
        if deleted {
            ahead.handle_deleted();
        }
        let mut plain = ahead.clone();
        for step in looks {
            let (steady, until) = (ahead.is_steady(), now + step);
            let skipped = ahead.pass_before(at(until));
            let mut ran = 0;
            while steady && let Some(due) = plain.poll_timeout().filter(|due| *due < at(until)) {
                let ticket = plain.poll_probe(due).expect("it is due");
                prop_assert_eq!(plain.handle_result(ticket, Sample::Pass, due), None);
                ran += 1;
            }
            prop_assert_eq!(skipped, ran);
            prop_assert_eq!(format!("{ahead:?}"), format!("{plain:?}"));
            now = until;
            for tracker in [&mut ahead, &mut plain] {
                probe(tracker, now, Sample::Pass);
            }
        }
    }
}
