//! The crate that plugin authors test with, on plugins of ours.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use hotcell::CallError;
use hotcell_test::{Trial, TrialPlugin};
use hotcell_tests::{Folders, fixture, package};
use serde_json::{Value, json};

mod common;

fn start(trial: Trial) -> TrialPlugin {
    trial.programs(fixture::programs()).start().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_call_and_its_error_are_what_the_plugin_says() {
    for kind in ["greet/native", "greet/core"] {
        let plugin = start(Trial::of(package(kind)));
        let reply: Value = plugin.call("greet", &json!({ "name": "Ada" })).expect("it greets");
        assert_eq!(reply, json!({ "greeting": "Hello, Ada!" }));
        match plugin.call::<_, Value>("greet", &json!({ "name": "" })) {
            Err(CallError::Plugin(text)) => assert!(text.contains("nobody to greet")),
            other => panic!("{other:?}"),
        }
        plugin.assert_no_violations();
    }
}

#[test]
fn host_calls_are_answered_where_they_are_requested_and_granted() {
    let folders = Folders::new();
    let grant = "\n[[host-call]]\nname = \"file.read\"\nwhy  = \"The test answers it.\"\n";
    let text = hotcell::policy::Profile::shipped_text("pure-compute").expect("it ships");
    let path = folders.join("notebook");
    std::fs::create_dir(&path).expect("new");
    let with = |calls: Value| {
        let manifest = json!({
            "schema": 1, "id": "dev.hotcell.test.trial", "name": "trial", "version": "0.1.0", "plugin_type": "wasm",
            "wasm_path": "notebook.wasm", "runtime": "core", "permissions": calls,
            "security_policy": { "profile": "trial" },
        });
        std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
        std::fs::copy(package("notebook/core/notebook.wasm"), path.join("notebook.wasm"))
            .expect("it is built");
        let trial = Trial::of(&path)
            .profile("trial", &format!("{text}{grant}"))
            .unwrap_or_else(|error| panic!("{error}"));
        start(trial.host_call("file.read", |name| Ok([b"read ", name].concat())))
    };
    let plugin = with(json!({ "host_calls": ["file.read"] }));
    assert_eq!(plugin.call_raw("read_file", "a.txt").expect("it reads"), b"read a.txt");
    assert_eq!(plugin.host_calls(), ["file.read"]);
    plugin.assert_no_violations();
    drop(plugin);
    let plugin = with(json!({}));
    plugin.call_raw("read_file", "a.txt").expect_err("it did not ask for it");
    assert!(plugin.host_calls().is_empty(), "it never reached the function");
    plugin.assert_violation("file.read");
}

#[test]
fn state_survives_a_reload_and_a_crash() {
    let folders = Folders::new();
    let text = |name: &str, version: &str| {
        common::native(
            &folders,
            name,
            "notebook/native/notebook.so",
            json!({ "id": "dev.hotcell.test.trial", "version": version }),
        )
    };
    let (old, new) = (text("old", "0.1.0"), text("new", "0.2.0"));
    let plugin = start(Trial::of(old));
    plugin.call_raw("set_state", "kept").expect("it keeps");
    plugin.checkpoint().expect("it saves");
    assert!(plugin.exits().is_empty(), "control: nothing has ended yet");
    match plugin.call_raw("crash", "") {
        Err(CallError::Crashed(exit)) => assert_eq!(plugin.exits(), [*exit]),
        other => panic!("{other:?}"),
    }
    assert_eq!(plugin.call_raw("get_state", "").expect("another worker"), b"kept");
    let reloaded = plugin.reload(new).expect("the new version takes it");
    assert_eq!(reloaded.to, "0.2.0");
    assert_eq!(plugin.call_raw("get_state", "").expect("it has it"), b"kept");
}

#[test]
fn a_package_that_does_not_load_says_why() {
    let error =
        Trial::of("no/such/package").programs(fixture::programs()).start().expect_err("there is none");
    assert!(error.to_string().contains("no such file"), "{error}");
    let error = Trial::of(package("greet/native")).programs("/nowhere").start().expect_err("there is none");
    assert!(error.to_string().contains("/nowhere"), "{error}");
}
