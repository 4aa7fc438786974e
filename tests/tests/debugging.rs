//! A debugger at a plugin, in its real worker, where its profile says so.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use hotcell::{CallError, Class};
use hotcell_tests::command::Said;
use hotcell_tests::{Folders, command, fixture, package};
use serde_json::json;

mod common;

const LAB: &str = "crash-lab/native/crash_lab.so";

/// `hotcell plugin debug` with what gdb does by itself, under `native-strict` with these lines more.
fn debug(lines: &str, options: &[&str]) -> Said {
    let folders = Folders::new();
    let profile = folders.join("native-debug.toml");
    let text = format!("schema = 1\nsummary = \"For development.\"\nextends = \"native-strict\"\n{lines}\n");
    fs::write(&profile, text).expect("writable");
    let plugin =
        common::native(&folders, "lab", LAB, json!({ "security_policy": { "profile": "native-debug" } }));
    let mut command = command::command(&folders);
    command.arg("--profile").arg(profile).args(["plugin", "debug", "--raw"]).arg(plugin);
    command::run(command.args(["ok", "x"]).args(options))
}

#[test]
fn a_debugger_stops_a_plugin_where_it_is_told_to_and_the_call_goes_on() {
    let session =
        ["-ex", "break hotcell_export_ok", "-ex", "continue", "-ex", "backtrace 1", "-ex", "detach"];
    let options: Vec<_> = ["--", "-batch"].into_iter().chain(session).collect();
    let said = debug("debug = \"attach\"", &options);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("Breakpoint 1, ") && said.out.contains("#0 "), "{said:?}");
    assert!(said.out.ends_with('x'), "its reply comes after what the debugger said: {said:?}");
}

#[test]
fn without_its_profiles_word_nothing_is_attached_and_what_is_missing_is_named() {
    let refused = debug("", &["--", "-batch"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.err.contains("debug = \"attach\""), "{refused:?}");
    let none = debug("debug = \"attach\"", &["--debugger", "no-such-debugger"]);
    assert!(none.code == Some(2) && none.err.contains("--debugger"), "{none:?}");
    let blind = debug("debug = \"attach\"", &["--debugger", "true"]);
    assert!(blind.code == Some(2) && blind.err.contains("before it had attached"), "{blind:?}");
    let folders = Folders::new();
    let mut command = command::command(&folders);
    let wasm = command::run(command.args(["plugin", "debug"]).arg(package("crash-lab/wasm")).arg("ok"));
    assert!(wasm.code == Some(2) && wasm.err.contains("wasm plugin"), "{wasm:?}");
}

#[tokio::test]
async fn a_call_that_a_debugger_may_stop_may_have_more_time_than_its_profile_gives() {
    let folders = Folders::new();
    let short = ("call        = \"10 s\"", "call = \"100 ms\"");
    let debug = ("landlock = 1", "landlock = 1\ndebug = \"attach\"");
    let host = fixture::host(&folders)
        .profile(common::profile("native-strict", "native-debug", &[short, debug], ""))
        .profile(common::profile("native-strict", "native-short", &[short], ""))
        .build();
    let host = host.await.expect("a host starts");
    let mut took = Vec::new();
    for profile in ["native-debug", "native-short"] {
        let more = json!({ "security_policy": { "profile": profile } });
        let plugin = host.load(common::native(&folders, profile, LAB, more)).await.expect("it loads");
        let is_refused = plugin.debug_target().is_err_and(|error| error.class() == Class::Refused);
        assert_eq!(is_refused, profile == "native-short");
        let begun = Instant::now();
        let ended = plugin.request("spin").deadline(Duration::from_secs(2)).raw(Vec::new()).await;
        assert!(matches!(ended, Err(CallError::Timeout)), "{ended:?}");
        took.push(begun.elapsed());
    }
    assert!(took.is_sorted_by(|debugged, short| debugged > short), "{took:?}");
    host.shutdown().await;
}
