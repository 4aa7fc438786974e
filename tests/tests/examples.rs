//! What the documents show is run.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use hotcell_tests::{Folders, fixture, root};
use serde_json::json;

#[test]
fn a_shell_holds_the_host_in_its_state_and_gets_commands_and_gives_events() {
    let folders = Folders::new();
    let mut shell = Command::new(fixture::programs().join("examples/shell"))
        .arg(folders.join("shell"))
        .current_dir(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example is built");
    let mut stdin = shell.stdin.take().expect("is piped");
    let mut lines = BufReader::new(shell.stdout.take().expect("is piped")).lines();
    // Every line until the answer to this command, the answer last.
    let mut ask = |id: u64, command: serde_json::Value| {
        let mut message = command;
        message["id"] = id.into();
        writeln!(stdin, "{message}").expect("it reads");
        let mut told: Vec<serde_json::Value> = Vec::new();
        loop {
            let line = lines.next().expect("it answers").expect("is text");
            told.push(serde_json::from_str(&line).expect("is JSON"));
            if told[told.len() - 1]["id"] == id {
                return told;
            }
        }
    };
    let last = |told: &[serde_json::Value]| told[told.len() - 1].clone();
    let loaded = last(&ask(1, json!({ "command": "load", "path": "plugins/crash-lab/native" })));
    let lab = loaded["result"]["id"].clone();
    let loaded = last(&ask(2, json!({ "command": "load", "path": "plugins/greet/native" })));
    let greet = loaded["result"]["id"].clone();
    assert_eq!(last(&ask(3, json!({ "command": "list" })))["result"].as_array().map(Vec::len), Some(2));
    let call = |plugin: &serde_json::Value, export: &str| json!({ "command": "call", "plugin": plugin, "export": export, "input": { "name": "Ada" } });
    assert_eq!(last(&ask(4, call(&greet, "greet")))["result"]["greeting"], "Hello, Ada!");
    let told = ask(5, call(&lab, "abort"));
    assert_eq!(last(&told)["error"]["class"], "crashed", "{told:?}");
    assert_eq!(
        last(&ask(6, call(&greet, "greet")))["result"]["greeting"],
        "Hello, Ada!",
        "the shell goes on"
    );
    assert_eq!(last(&ask(7, call(&json!("no.such"), "greet")))["error"]["class"], "invalid");
    assert_eq!(last(&ask(8, json!({ "command": "unload", "plugin": greet })))["result"], json!(null));
    drop(stdin);
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(shell.wait().expect("it ends").success(), "{rest:?}");
}

#[test]
fn the_embedding_example_runs() {
    let folders = Folders::new();
    let output = Command::new(fixture::programs().join("examples/embed"))
        .arg(folders.join("embed"))
        .current_dir(root())
        .output()
        .expect("the example is built");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("Hello, Ada!"), "{out}");
}
