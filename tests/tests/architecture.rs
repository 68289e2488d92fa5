//! The architecture invariants of `docs/architecture.md`, each a test.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_path_buf()
}

/// Every `.rs` file below a folder of the workspace, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(folder)];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).expect("readable");
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {folder}");
    found
}

/// The lines of code of a file: no comments, and nothing from its test module on.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or_default()))
}

/// Whether a file holds nothing but tests.
fn is_test(path: &Path) -> bool {
    let path = path.strip_prefix(root()).unwrap_or(path);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests"
        || name.ends_with("_test")
        || path
            .components()
            .skip(1)
            .any(|part| part.as_os_str() == "tests")
}

fn refuse(folder: &str, words: &[&str], except: impl Fn(&Path) -> bool) {
    let mut broken = Vec::new();
    for (path, text) in sources(folder) {
        if is_test(&path) || except(&path) {
            continue;
        }
        for (n, line) in code(&text) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{n}: {word}", path.display()));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "not allowed here:\n{}",
        broken.join("\n")
    );
}

/// The names of all crates that a package's normal build needs.
fn tree(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--offline",
            "-p",
        ])
        .arg(package)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect()
}

#[test]
fn sched_is_pure() {
    let all = tree("orchestra-sched");
    assert!(
        all.iter().any(|name| name == "orchestra-core"),
        "an empty tree proves nothing"
    );
    for name in [
        "tokio",
        "async-std",
        "smol",
        "dashmap",
        "tracing",
        "hyper",
        "rustls",
        "mio",
    ] {
        assert!(
            !all.iter().any(|found| found == name),
            "orchestra-sched needs {name}"
        );
    }
    refuse(
        "orchestra-sched/src",
        &["async fn", "async move", ".await"],
        |_| false,
    );
}

#[test]
fn pure_code_knows_no_clock_chance_or_environment() {
    let words = [
        "Instant::now",
        "SystemTime",
        "HashMap",
        "HashSet",
        "RandomState",
        "std::env",
        "thread::sleep",
        "thread::spawn",
        "std::fs",
        "std::net::Tcp",
        "std::process",
    ];
    refuse("orchestra-sched/src", &words, |_| false);
    // The suites stand in for a caller, who may do as they like.
    refuse("orchestra-core/src", &words, |path| {
        path.components()
            .any(|part| part.as_os_str() == "conformance")
    });
}

#[test]
fn backends_need_only_core() {
    let folder = root().join("orchestra-runtime/backends");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return; // there is no backend yet
    };
    for entry in entries {
        let manifest = entry.expect("an entry").path().join("Cargo.toml");
        if let Ok(text) = std::fs::read_to_string(&manifest) {
            assert!(
                !text.contains("orchestra-runtime"),
                "{manifest:?} needs orchestra-runtime"
            );
        }
    }
}

#[test]
fn core_has_no_runtime() {
    let all = tree("orchestra-core");
    assert!(
        all.iter().any(|name| name == "serde"),
        "an empty tree proves nothing"
    );
    for name in ["tokio", "tokio-util", "async-std", "smol", "tracing"] {
        assert!(
            !all.iter().any(|found| found == name),
            "orchestra-core needs {name}"
        );
    }
}

#[test]
fn one_module_writes() {
    let allowed = [
        "/src/api/",
        "/src/store/",
        "/src/agent/heartbeat.rs",
        "/src/sim/",
    ];
    refuse(
        "orchestra-runtime/src",
        &[".commit(Txn", ".commit(txn", "Txn::new()"],
        |path| {
            let path = path.to_string_lossy().replace('\\', "/");
            allowed.iter().any(|part| path.contains(part))
        },
    );
}

#[test]
fn every_port_is_dyn_compatible() {
    for (path, text) in sources("orchestra-core/src/port") {
        let traits = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("pub trait ")?;
            rest.split([':', '<', ' ']).next()
        });
        for name in traits.filter(|name| !name.ends_with("Ext")) {
            let held = [
                format!("Option<&dyn {name}>"),
                format!("Box<dyn {name}>"),
                format!("Arc<dyn {name}>"),
            ];
            let shown = held.iter().any(|shape| text.contains(shape.as_str()));
            assert!(shown, "{}: nothing holds {name} as dyn", path.display());
        }
    }
}

#[test]
fn unsafe_is_forbidden() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    for package in ["orchestra-core", "orchestra-sched", "orchestra-runtime"] {
        let text = std::fs::read_to_string(root().join(package).join("Cargo.toml"));
        let text = text.expect("readable");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{package} has lints of its own"
        );
        refuse(&format!("{package}/src"), &["allow(unsafe_code"], |_| false);
    }
}

#[test]
fn nothing_points_outside() {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let Ok(listed) = listed else {
        return; // not a checkout: nothing to look at
    };
    let words = [
        concat!("/wor", "k/"),
        concat!("../sha", "red"),
        concat!("/roo", "t/"),
    ];
    for name in listed
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let path = root().join(String::from_utf8_lossy(name).as_ref());
        if let Ok(text) = std::fs::read_to_string(&path) {
            for word in words {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}
