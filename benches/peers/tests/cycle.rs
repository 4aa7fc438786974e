//! Drives the program as the benchmark does. Needs what `scripts/build-plugins crash-lab` builds.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "that is how a test fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const MEBIBYTE: usize = 1 << 20;
const LARGEST: usize = 16 << 20;
const PEERS: [&str; 6] = ["extism", "wasmtime", "dlopen", "grpc", "ipc-channel", "jsonrpc"];

struct Program {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start() -> Program {
        let library =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/crash-lab/native/crash_lab.so");
        assert!(library.exists(), "run scripts/build-plugins crash-lab first");
        let mut child = Command::new(env!("CARGO_BIN_EXE_hotcell-peers"))
            .arg("--library")
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Program { child, questions, answers }
    }

    fn ask(&mut self, question: &Value) -> Value {
        self.ask_line(&question.to_string())
    }

    fn ask_line(&mut self, question: &str) -> Value {
        writeln!(self.questions.as_mut().unwrap(), "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn open(&mut self, peer: &str) {
        assert_eq!(self.ask(&json!({"ask": "open", "peer": peer})), json!({"ok": true}), "{peer}");
    }

    fn close(&mut self, peer: &str) {
        assert_eq!(self.ask(&json!({"ask": "close", "peer": peer})), json!({"ok": true}), "{peer}");
    }

    fn call(&mut self, peer: &str, size: usize, count: usize) -> Value {
        self.ask(&json!({"ask": "call", "peer": peer, "size": size, "count": count}))
    }

    fn children(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn assert_all_end(pids: &[u32]) {
    for _ in 0..500 {
        if !pids.iter().any(|pid| is_running(*pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("still running: {pids:?}");
}

fn assert_nanos(answer: &Value, count: usize, subject: &str) {
    let nanos = answer["nanos"].as_array().unwrap_or_else(|| panic!("{subject}: {answer}"));
    assert_eq!(nanos.len(), count, "{subject}");
    assert!(nanos.iter().all(|nanos| nanos.as_u64().is_some_and(|nanos| nanos > 0)), "{subject}: {answer}");
}

#[test]
fn list_names_every_peer() {
    let mut program = Program::start();
    let answer = program.ask(&json!({"ask": "list"}));
    let names: Vec<_> = answer["peers"].as_array().unwrap().iter().map(|peer| &peer["name"]).collect();
    assert_eq!(names, PEERS);
    assert!(program.children().is_empty(), "nothing is started before it is opened");
}

#[test]
fn every_peer_sends_back_every_size() {
    for peer in PEERS {
        let mut program = Program::start();
        program.open(peer);
        for (size, count) in
            [(0, 2), (1, 2), (64, 100), (1001, 3), (MEBIBYTE, 3), (MEBIBYTE + 7, 1), (LARGEST, 1)]
        {
            assert_nanos(&program.call(peer, size, count), count, &format!("{peer}, {size} bytes"));
        }
        program.close(peer);
        assert!(program.children().is_empty(), "{peer} leaves nothing behind");
        assert!(program.call(peer, 64, 1)["error"].is_string(), "{peer} is closed");
    }
}

#[test]
fn peers_can_be_open_together_and_again() {
    let mut program = Program::start();
    for _ in 0..2 {
        PEERS.iter().for_each(|peer| program.open(peer));
        for _ in 0..3 {
            for peer in PEERS {
                assert_nanos(&program.call(peer, 64, 5), 5, peer);
            }
        }
        PEERS.iter().for_each(|peer| program.close(peer));
    }
}

#[test]
fn only_grpc_pipelines() {
    let mut program = Program::start();
    for peer in PEERS {
        program.open(peer);
        let answer = program
            .ask(&json!({"ask": "pipeline", "peer": peer, "size": 64, "count": 2000, "outstanding": 256}));
        if peer == "grpc" {
            assert_nanos(&answer, 1, peer);
        } else {
            assert_eq!(answer, json!({"error": "does not pipeline"}), "{peer}");
        }
    }
}

#[test]
fn a_bad_question_gets_an_error_and_the_next_one_an_answer() {
    let mut program = Program::start();
    program.open("wasmtime");
    for bad in [
        "",
        "{",
        "\u{1}",
        r#"{"ask":"other"}"#,
        r#"{"ask":"list","more":1}"#,
        r#"{"ask":"open","peer":"wasmtime"}"#,
        r#"{"ask":"call","peer":"grpc","size":64,"count":1}"#,
        r#"{"ask":"call","peer":"wasmtime","size":16777217,"count":1}"#,
        r#"{"ask":"call","peer":"wasmtime","size":64,"count":0}"#,
        r#"{"ask":"close","peer":"grpc"}"#,
    ] {
        assert!(program.ask_line(bad)["error"].is_string(), "{bad}");
    }
    assert_nanos(&program.call("wasmtime", 64, 1), 1, "wasmtime");
}

#[test]
fn a_missing_library_is_an_error() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hotcell-peers"))
        .args(["--library", "/nowhere.so"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(b"{\"ask\":\"open\",\"peer\":\"dlopen\"}").unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["error"].as_str().unwrap().starts_with("failed to load the library: "), "{answer}");
}

#[test]
fn a_server_that_was_killed_is_an_error() {
    for peer in ["grpc", "ipc-channel", "jsonrpc"] {
        let mut program = Program::start();
        program.open(peer);
        let children = program.children();
        assert_eq!(children.len(), 1, "{peer}");
        assert!(Command::new("kill").args(["-9", &children[0].to_string()]).status().unwrap().success());
        assert_all_end(&children);
        assert!(program.call(peer, 64, 1)["error"].is_string(), "{peer}");
        program.close(peer);
        program.open(peer);
    }
}

#[test]
fn nothing_outlives_the_program() {
    for is_killed in [false, true] {
        let mut program = Program::start();
        PEERS.iter().for_each(|peer| program.open(peer));
        let children = program.children();
        assert_eq!(children.len(), 3);
        if is_killed {
            program.child.kill().unwrap();
        } else {
            drop(program.questions.take());
            assert!(program.child.wait().unwrap().success());
        }
        assert_all_end(&children);
    }
}
