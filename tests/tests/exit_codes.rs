//! The exit codes that the help text promises, each from a plugin that earns it.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use hotcell_tests::footprint::descendants;
use hotcell_tests::{Folders, command, package};
use rustix::process::{Pid, Signal, kill_process};

/// Package, what follows it on the command line, exit code.
const ROWS: &[(&str, &[&str], i32)] = &[
    ("crash-lab/native", &["ok", "1"], 0),
    ("crash-lab/native", &["error", "1"], 1),
    ("crash-lab/native", &["no_such_export"], 2),
    ("crash-lab/modules/undeclared_import", &["ok"], 3),
    ("crash-lab/native", &["null_write"], 4),
    ("crash-lab/constructors/null_write", &["ok"], 4),
    ("crash-lab/native", &["spin", "--timeout", "500ms"], 5),
    ("crash-lab/native", &["giant_reply", "100000000"], 6),
    ("crash-lab/native", &["wrong_reply"], 7),
];

#[test]
fn every_outcome_has_its_exit_code_with_and_without_json() {
    for (name, arguments, code) in ROWS {
        let folders = Folders::new();
        let mut plain = command::command(&folders);
        let said = command::run(plain.arg("call").arg(package(name)).args(*arguments));
        assert_eq!(said.code, Some(*code), "{name} {arguments:?}: {said:?}");
        let mut json = command::command(&folders);
        let said = command::run(json.arg("call").arg("--json").arg(package(name)).args(*arguments));
        assert_eq!(said.code, Some(*code), "{name} {arguments:?}: {said:?}");
        let envelope: serde_json::Value = serde_json::from_str(&said.out).expect("an envelope");
        assert_eq!(envelope.get("exit_code"), Some(&(*code).into()), "{envelope}");
    }
}

#[test]
fn an_interrupted_call_exits_130() {
    let folders = Folders::new();
    let mut child = command::command(&folders)
        .arg("call")
        .arg(package("crash-lab/native"))
        .arg("sleep_forever")
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    // Launcher and worker.
    while descendants(child.id()).len() < 2 {
        assert!(Instant::now() < deadline, "no worker was started");
        std::thread::yield_now();
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::INT).expect("it is our own child, and not reaped");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
