//! What a host writes down of a worker that ended abnormally, and that a storm of crashes cannot make it write much.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use hotcell::{CrashReport, EventKind, Events, ExitCause, Plugin, Receipt};
use hotcell_tests::command::{command, run};
use tokio::time::timeout;

mod common;

use common::Setup;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The report of the next crash that is reported.
async fn reported(setup: &Setup, events: &mut Events) -> CrashReport {
    let id = timeout(PATIENCE, async {
        loop {
            if let Some(EventKind::CrashReported { id, .. }) = events.next().await.map(|event| event.kind) {
                return id;
            }
        }
    });
    let id = id.await.expect("the crash is reported");
    setup.host.crashes().find(&id).unwrap_or_else(|error| panic!("{error}"))
}

async fn crash(setup: &Setup, plugin: &Plugin, export: &str) -> CrashReport {
    let mut events = setup.host.events();
    assert!(plugin.call_raw(export, Vec::new()).await.is_err(), "{export}");
    reported(setup, &mut events).await
}

#[tokio::test]
async fn a_native_crash_is_told_with_its_function_registers_and_calls() {
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    plugin.call_raw("ok", b"four".to_vec()).await.expect("replies");
    let report = crash(&setup, &plugin, "null_write").await;
    assert_eq!(report.title, "SIGSEGV in hotcell_export_null_write");
    assert!(matches!(report.exit.cause, ExitCause::Signal { number: libc::SIGSEGV, .. }), "{report:?}");
    let calls: Vec<_> =
        report.calls.iter().map(|call| (call.export.as_str(), call.input_bytes, call.replied)).collect();
    assert_eq!(calls, [("ok", 4, true), ("null_write", 0, false)]);
    assert_eq!((report.generation, report.unreported), (1, 0));
    assert!(report.confinement.is_some_and(|evidence| evidence.no_new_privs));

    let backtrace = report.backtrace.expect("it was noted");
    assert_eq!((backtrace.signal, backtrace.address.as_str()), (libc::SIGSEGV, "0x0"));
    let first = &backtrace.frames[0];
    assert_eq!(first.module.as_deref(), Some("plugin"));
    assert_eq!(first.function.as_deref(), Some("hotcell_export_null_write"));
    let outer = backtrace.frames.iter().any(|frame| frame.function.as_deref() == Some("main"));
    assert!(outer, "the stack is unwound to the program's main: {:?}", backtrace.frames);
    assert!(backtrace.registers.iter().any(|(name, _)| name == "rip" || name == "pc"));
    let plugin = backtrace.modules.iter().find(|module| module.name == "plugin").expect("is mapped");
    assert!(plugin.size > 0);
}

#[tokio::test]
async fn inputs_are_in_a_report_only_where_the_profile_says_so() {
    let folders = hotcell_tests::Folders::new();
    let told = [("landlock = 1", "landlock = 1\nreports = \"inputs\"")];
    let profile = common::profile("native-strict", "tells", &told, "");
    let host = hotcell_tests::fixture::host(&folders).profile(profile).build().await.expect("a host starts");
    let setup = Setup { host, folders };
    for (profile, kept) in [("tells", true), ("native-strict", false)] {
        let more = serde_json::json!({ "security_policy": { "profile": profile } });
        let path = common::native(&setup.folders, profile, "crash-lab/native/crash_lab.so", more);
        let plugin = setup.host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
        let long = vec![b'x'; 100_000];
        plugin.call_raw("ok", long).await.expect("replies");
        plugin.call_raw("ok", b"a secret\n".to_vec()).await.expect("replies");
        let report = crash(&setup, &plugin, "null_write").await;
        let inputs: Vec<_> = report.calls.iter().map(|call| call.input.clone()).collect();
        let expected = kept.then(|| ["x".repeat(1024), "a secret\\n".to_owned(), String::new()]);
        let expected = expected.map_or(vec![None; 3], |inputs| inputs.map(Some).to_vec());
        assert_eq!(inputs, expected, "{profile}");
        assert_eq!(report.to_string().contains("a secret"), kept, "{profile}");
    }
}

#[tokio::test]
async fn each_way_to_die_is_found_where_it_happened() {
    let setup = Setup::new().await;
    let native = setup.load("crash-lab/native").await;
    for (export, title) in [
        ("abort", "SIGABRT in hotcell_export_abort"),
        ("stack_overflow", "SIGSEGV in descend"),
        ("illegal_instruction", "SIGILL in hotcell_export_illegal_instruction"),
        ("bus_error", "SIGBUS in hotcell_export_bus_error"),
        ("division_trap", "SIGFPE in hotcell_export_division_trap"),
    ] {
        let report = crash(&setup, &native, export).await;
        assert_eq!(report.title, title);
        assert!(report.backtrace.is_some_and(|backtrace| !backtrace.frames.is_empty()), "{export}");
    }
    let rust = setup.load("crash-lab/rust").await;
    let report = crash(&setup, &rust, "double_panic").await;
    assert!(
        report.title.starts_with("SIGABRT in ") && report.title.contains("crash_lab"),
        "{}",
        report.title
    );
    let wasm = setup.load("crash-lab/wasm").await;
    let report = crash(&setup, &wasm, "unreachable").await;
    assert!(report.title.starts_with("trap Unreachable in "), "{}", report.title);
    assert!(report.backtrace.is_none() && report.no_backtrace.is_none(), "its trap says where");
}

#[tokio::test]
async fn what_ended_at_a_deadline_or_by_itself_is_reported_with_what_is_known() {
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    let report = crash(&setup, &plugin, "exit_zero").await;
    assert_eq!(report.title, "exited with code 0 in call exit_zero");
    assert!(report.backtrace.is_none() && report.no_backtrace.is_none());
    let mut events = setup.host.events();
    let late = plugin.request("spin").deadline(Duration::from_millis(300)).raw(Vec::new()).await;
    assert!(late.is_err());
    let report = reported(&setup, &mut events).await;
    assert_eq!(
        (&report.exit.cause, report.title.as_str()),
        (&ExitCause::Deadline, "killed at its deadline in hotcell_export_spin"),
        "it was asked where it is"
    );
    assert!(report.backtrace.is_some_and(|backtrace| backtrace.signal == libc::SIGABRT));
    let wasm = setup.load("crash-lab/wasm").await;
    let late = wasm.request("spin").deadline(Duration::from_millis(300)).raw(Vec::new()).await;
    assert!(late.is_err());
    let report = reported(&setup, &mut events).await;
    assert_eq!(report.title, "killed at its deadline in forever");
    let backtrace = report.backtrace.unwrap_or_else(|| panic!("{:?}", report.no_backtrace));
    let functions: Vec<_> = backtrace.frames.iter().filter_map(|frame| frame.function.as_deref()).collect();
    assert_eq!((backtrace.signal, functions.first()), (libc::SIGABRT, Some(&"forever")));
    assert_eq!(functions.get(1), Some(&"wasm[0]::function[20]"), "the module does not name its caller");
    assert!(functions.contains(&"main"), "the stack is unwound to the launcher's main: {functions:?}");
}

#[tokio::test]
async fn ends_that_are_no_crashes_have_no_reports() {
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    plugin.call_raw("ok", Vec::new()).await.expect("replies");
    plugin.unload().await;
    let counts = setup.load("wordcount").await;
    let code = counts.command().arguments(["/no/such/file"]).run().await;
    assert_ne!(code.expect("its code is its result"), 0);
    let crashes = setup.host.crashes();
    setup.host.shutdown().await;
    assert_eq!(crashes.list().expect("is readable"), []);
}

#[tokio::test]
async fn a_storm_of_crashes_leaves_few_reports_and_their_count() {
    const CRASHES: usize = 60;
    const MOST: usize = 12;
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    for _ in 0..CRASHES {
        assert!(plugin.call_raw("null_write", Vec::new()).await.is_err());
    }
    let crashes = setup.host.crashes();
    setup.host.shutdown().await;
    let reports = crashes.list().expect("is readable");
    assert!((1..=MOST).contains(&reports.len()), "{}", reports.len());
    let groups = hotcell::Crashes::group(&reports);
    assert_eq!((groups.len(), groups[0].reports), (1, reports.len()), "all have one signature");
}

#[tokio::test]
async fn reports_are_for_their_user_alone_and_the_command_shows_them() {
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    let report = crash(&setup, &plugin, "null_write").await;
    let folder = setup.host.crashes().folder(&report);
    let mode = |path: &std::path::Path| path.metadata().expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("report.json"))), (0o700, 0o600));
    let dump = std::fs::read(folder.join("minidump.dmp")).expect("there is one");
    assert_eq!(&dump[..4], b"MDMP");
    let receipt = std::fs::read_to_string(folder.join("receipt.json")).expect("there is one");
    let key = setup.host.receipt_key().await.expect("the host has one");
    let receipt = Receipt::verify(&receipt, &key).expect("this host signed it");
    let receipt: serde_json::Value = serde_json::from_str(receipt.body()).expect("is JSON");
    assert_eq!(receipt["plugin"], report.plugin);
    assert_eq!(receipt["generation"], report.generation);
    assert_eq!(receipt["digests"]["loaded"], report.artifact);
    assert_eq!(receipt["evidence"]["seccomp_mode"], 2);
    assert!(receipt["in_force"].is_null(), "nobody is there to be asked");

    let say = |more: &[&str]| run(command(&setup.folders).arg("crashes").args(more));
    let ask = |more: &[&str]| {
        let said = say(more);
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    };
    assert!(ask(&["list"]).contains(&report.title));
    assert!(ask(&["list", "--groups"]).contains(&report.signature));
    assert!(ask(&["show"]).contains("hotcell_export_null_write"));
    let json: serde_json::Value =
        serde_json::from_str(&ask(&["show", &report.id, "--json"])).expect("is JSON");
    assert_eq!(json["exit"]["cause"]["signal"]["name"], "SIGSEGV");
    let copy = setup.folders.join("copy");
    ask(&["export", "latest", &copy.display().to_string()]);
    assert_eq!(std::fs::read(copy.join("minidump.dmp")).expect("was copied"), dump);
    let missing = say(&["show", "a/../b"]);
    assert_eq!(missing.code, Some(2), "{}", missing.err);
}

/// The signal that somebody else sends ends a worker as if no handler stood in its way.
#[tokio::test]
async fn a_signal_from_outside_ends_a_worker() {
    let setup = Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    let mut events = setup.host.events();
    for signal in ["SEGV", "BUS", "ABRT"] {
        let receipts = plugin.receipts().await.expect("it lives");
        let body: serde_json::Value = serde_json::from_str(receipts[0].body()).expect("is JSON");
        let pid = body["evidence"]["pid"].to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
        let report = reported(&setup, &mut events).await;
        assert_eq!(report.title, format!("SIG{signal}"), "{report}");
        plugin.call_raw("ok", Vec::new()).await.expect("another one answers");
    }
}
