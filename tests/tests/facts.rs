//! The sample facts hold, and the runner tells what does not.

use std::path::{Path, PathBuf};

use orchestra_tests::facts::Report;
use serde_json::json;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/facts")
}

#[test]
fn the_sample_facts_hold() {
    let report = Report::of(&[samples()]);
    assert_eq!(report.failed, 0, "\n{report}");
    assert!(report.passed >= 88, "\n{report}");
    for file in [
        "lifecycle_semantics.json",
        "rolling_update.json",
        "further_rows.json",
    ] {
        let report = Report::of(&[samples().join(file)]);
        assert_eq!((report.failed, report.skipped), (0, 0), "\n{report}");
    }
}

#[test]
fn a_wrong_an_unreadable_and_an_unknown_row_are_told_apart() {
    let mut report = Report::default();
    report.run(
        "made-up.json",
        &json!({
            "about": "prose",
            "conventions": {"prose": true},
            "max_unavailable": [
                {"name": "right", "replicas": 4, "maxUnavailable": 1, "expect": 1},
                {"name": "wrong", "replicas": 4, "maxUnavailable": 1, "expect": 2},
                {"name": "broken", "replicas": "four", "expect": 2},
            ],
            "telepathy": [{}, {}],
        }),
    );
    assert_eq!((report.passed, report.failed, report.skipped), (1, 2, 2));
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "made-up.json max_unavailable[1] \"wrong\": expected 2, got 1"
    );
    assert!(lines[1].starts_with("made-up.json max_unavailable[2] \"broken\": unreadable: "));
    assert_eq!(lines[2], "made-up.json telepathy: skipped, 2 rows");
    assert_eq!(lines[3], "1 passed, 2 failed, 2 skipped");
}

#[test]
fn what_cannot_be_read_fails() {
    let report = Report::of(&[samples().join("nowhere.json")]);
    assert_eq!((report.passed, report.failed), (0, 1), "\n{report}");
}
