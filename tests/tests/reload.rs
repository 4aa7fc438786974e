//! Hot reload: another version takes a plugin's place with its state, and no call is lost; a bad one never stays.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hotcell::{
    CallError, Class, EventKind, Events, Host, IncompatibleState, Plugin, ReloadError, ReloadOptions,
    StateMove,
};
use hotcell_tests::{Folders, command, fixture, package};
use serde_json::{Value, json};

mod common;

/// How long an event may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The packages of the notebook.
const KINDS: [(&str, &str); 3] =
    [("native", "notebook.so"), ("core", "notebook.wasm"), ("component", "notebook.wasm")];

struct Notebook {
    host: Host,
    folders: Folders,
    kind: (&'static str, &'static str),
    plugin: Plugin,
    events: Events,
}

impl Notebook {
    async fn new(kind: (&'static str, &'static str), more: Value) -> Notebook {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let events = host.events();
        let path = write(&folders, kind, "0.1.0", more);
        let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
        Notebook { host, folders, kind, plugin, events }
    }

    /// Replaces the package; the next reload sees it.
    fn update(&self, version: &str, more: Value) -> PathBuf {
        write(&self.folders, self.kind, version, more)
    }

    async fn set(&self, text: &str) {
        let (export, input) = match self.kind.0 {
            "component" => ("set-state", json!([text]).to_string()),
            _ => ("set_state", text.to_owned()),
        };
        self.plugin.call_raw(export, input.into()).await.expect("it takes text");
    }

    async fn get(&self) -> String {
        get(&self.plugin, self.kind.0).await
    }

    async fn add(&self) -> Result<u64, CallError> {
        add(&self.plugin).await
    }

    /// Waits until an event comes; its reason.
    async fn until(&mut self, wanted: impl Fn(&EventKind) -> Option<String>) -> String {
        let found = async {
            loop {
                let event = self.events.next().await.expect("the host lives");
                if let Some(found) = wanted(&event.kind) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the event comes")
    }

    async fn rolled_back(&mut self) -> String {
        self.until(|kind| match kind {
            EventKind::RolledBack { to, reason } => Some(format!("{to}: {reason}")),
            _ => None,
        })
        .await
    }

    async fn finish(self) {
        self.host.shutdown().await;
    }
}

async fn get(plugin: &Plugin, kind: &str) -> String {
    let export = if kind == "component" { "get-state" } else { "get_state" };
    let text = plugin.call_raw(export, Vec::new()).await.unwrap_or_else(|error| panic!("{error}"));
    match kind {
        "component" => serde_json::from_slice(&text).expect("a JSON text"),
        _ => String::from_utf8(text).expect("text"),
    }
}

async fn add(plugin: &Plugin) -> Result<u64, CallError> {
    let count = plugin.call_raw("add", Vec::new()).await?;
    Ok(String::from_utf8(count).expect("text").parse().expect("a number"))
}

/// A package of the notebook with another version, and `more` in its manifest.
fn write(folders: &Folders, (kind, artifact): (&str, &str), version: &str, more: Value) -> PathBuf {
    let folder = folders.join("notebook");
    std::fs::create_dir_all(&folder).expect("writable");
    let from = package("notebook").join(kind);
    let text = std::fs::read_to_string(from.join("manifest.json")).expect("it is there");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    manifest["version"] = version.into();
    for (key, value) in more.as_object().expect("a table") {
        manifest[key] = value.clone();
    }
    std::fs::copy(from.join(artifact), folder.join(artifact)).expect("it is built");
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("writable");
    folder
}

fn fault(name: &str) -> Value {
    json!({ "config": { "fault": name } })
}

#[tokio::test]
async fn test_hot_reload_state_preservation() {
    for kind in KINDS {
        let notebook = Notebook::new(kind, json!({})).await;
        notebook.set("kept over a reload").await;
        let before = notebook.plugin.evidence().expect("it runs").pid;
        notebook.update("0.2.0", json!({}));
        let reloaded = notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!((reloaded.from.as_str(), reloaded.to.as_str()), ("0.1.0", "0.2.0"));
        assert!(matches!(reloaded.states[..], [StateMove::Kept(bytes)] if bytes > 0), "{reloaded:?}");
        assert_eq!(notebook.plugin.version(), "0.2.0");
        assert_eq!(notebook.get().await, "kept over a reload");
        assert_ne!(notebook.plugin.evidence().expect("it runs").pid, before, "another process");
        // The control: a plugin that is loaded anew has nothing of it.
        let fresh = notebook.host.load(notebook.folders.join("notebook")).await.expect("it loads");
        assert_eq!(get(&fresh, kind.0).await, "");
        notebook.finish().await;
    }
}

#[tokio::test]
async fn no_call_is_lost_doubled_or_failed_while_versions_change() {
    const RELOADS: u32 = 20;
    for kind in KINDS {
        let notebook = Notebook::new(kind, json!({})).await;
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |plugin: Plugin, stop: Arc<AtomicBool>| async move {
            let mut counts = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                counts.push(add(&plugin).await.unwrap_or_else(|error| panic!("no call fails: {error}")));
            }
            counts
        };
        let callers: Vec<_> =
            (0..4).map(|_| tokio::spawn(caller(notebook.plugin.clone(), Arc::clone(&stop)))).collect();
        for reload in 0..RELOADS {
            notebook.update(&format!("0.2.{reload}"), json!({}));
            let options = ReloadOptions { probation: Duration::ZERO, ..ReloadOptions::default() };
            let reloaded = notebook.plugin.reload_with(options).await;
            reloaded.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        }
        stop.store(true, Ordering::Relaxed);
        let mut counts = BTreeSet::new();
        let mut calls = 0_u64;
        for caller in callers {
            let own = caller.await.expect("no caller fails");
            calls += own.len() as u64;
            counts.extend(own);
        }
        assert!(calls > u64::from(RELOADS), "callers were busy: {calls}");
        assert_eq!(
            (counts.len() as u64, counts.last()),
            (calls, Some(&calls)),
            "each counted once: {kind:?}"
        );
        notebook.finish().await;
    }
}

#[tokio::test]
async fn several_workers_keep_a_state_each() {
    let notebook = Notebook::new(KINDS[0], json!({ "instances": 2 })).await;
    for _ in 0..20 {
        notebook.add().await.expect("it counts");
    }
    notebook.update("0.2.0", json!({ "instances": 2 }));
    let reloaded = notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(reloaded.states[..], [StateMove::Kept(_), StateMove::Kept(_)]), "{reloaded:?}");
    let next = notebook.add().await.expect("it counts");
    assert!(next > 1, "one of them went on counting: {next}");
    notebook.finish().await;
}

/// What the reload to a bad version says, and that the old version goes on with its state.
async fn must_refuse(notebook: &Notebook, options: ReloadOptions, words: &str) -> ReloadError {
    notebook.set("before").await;
    let error = notebook.plugin.reload_with(options).await.expect_err("it is bad");
    let text = error.to_string();
    assert!(text.contains(words), "{text}");
    assert_eq!(
        (notebook.plugin.version().as_str(), notebook.get().await.as_str()),
        ("0.1.0", "before"),
        "{text}"
    );
    error
}

#[tokio::test]
async fn a_bad_version_never_takes_the_place() {
    for kind in KINDS {
        let notebook = Notebook::new(kind, json!({})).await;
        for (name, words) in [
            ("unhealthy", "is not healthy: the plugin returned an error: not today"),
            ("takes-not", "does not take the state"),
            ("crashes-on-state", "the new version"),
            ("no-such-fault", "does not start"),
        ] {
            notebook.update("0.2.0", fault(name));
            must_refuse(&notebook, ReloadOptions::default(), words).await;
        }
        std::fs::remove_file(notebook.folders.join("notebook").join(kind.1)).expect("it is there");
        must_refuse(&notebook, ReloadOptions::default(), "does not start").await;
        notebook.update("0.2.0", json!({ "id": "dev.hotcell.other" }));
        must_refuse(&notebook, ReloadOptions::default(), "differs in its id").await;
        notebook.update("0.2.0", json!({ "instances": 2 }));
        must_refuse(&notebook, ReloadOptions::default(), "differs in its instances").await;
        // The control: nothing of that kept the next one from being taken.
        notebook.update("0.2.0", json!({}));
        notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(notebook.get().await, "before");
        notebook.finish().await;
    }
}

#[tokio::test]
async fn a_state_that_nobody_takes_is_dropped_only_where_that_was_said() {
    let notebook = Notebook::new(KINDS[0], json!({ "api_contract": { "state_version": 7 } })).await;
    notebook.update("0.2.0", json!({}));
    must_refuse(&notebook, ReloadOptions::default(), "state of version 7: this notebook knows 1").await;
    let options =
        ReloadOptions { on_incompatible_state: IncompatibleState::Drop, ..ReloadOptions::default() };
    let reloaded = notebook.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        matches!(&reloaded.states[..], [StateMove::Dropped(why)] if why.contains("version 7")),
        "{reloaded:?}"
    );
    assert_eq!(notebook.get().await, "");
    notebook.finish().await;
}

#[tokio::test]
async fn more_rights_need_an_approval() {
    let notebook = Notebook::new(KINDS[0], json!({})).await;
    notebook.update("0.2.0", json!({ "permissions": { "host_calls": ["log"] } }));
    let error = must_refuse(&notebook, ReloadOptions::default(), "host call `log`").await;
    assert_eq!(error.class(), Class::Refused);
    let options = ReloadOptions { may_widen: true, ..ReloadOptions::default() };
    notebook.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
    // Back to less is no question.
    notebook.update("0.3.0", json!({}));
    notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    notebook.finish().await;
}

#[tokio::test]
async fn a_check_changes_nothing() {
    let notebook = Notebook::new(KINDS[0], json!({})).await;
    notebook.set("before").await;
    let pid = notebook.plugin.evidence().expect("it runs").pid;
    notebook.update("0.2.0", json!({}));
    let options = ReloadOptions { check_only: true, ..ReloadOptions::default() };
    let checked =
        notebook.plugin.reload_with(options.clone()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(checked.states[..], [StateMove::Kept(_)]), "{checked:?}");
    assert_eq!(notebook.plugin.evidence().expect("it runs").pid, pid);
    notebook.update("0.2.0", fault("takes-not"));
    must_refuse(&notebook, options, "does not take the state").await;
    notebook.finish().await;
}

#[tokio::test]
async fn an_old_version_that_keeps_its_state_keeps_its_place() {
    for (name, words) in [("saves-not", "the state is lost"), ("saves-forever", "deadline")] {
        let notebook = Notebook::new(KINDS[0], fault(name)).await;
        notebook.update("0.2.0", json!({}));
        let options = ReloadOptions { drain: Duration::from_millis(300), ..ReloadOptions::default() };
        let error = notebook.plugin.reload_with(options).await.expect_err("there is no state");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(notebook.plugin.version(), "0.1.0");
        assert!(notebook.add().await.is_ok(), "it goes on");
        notebook.finish().await;
    }
}

#[tokio::test]
async fn a_call_that_takes_longer_than_the_drain_is_not_cut_off() {
    let notebook = Notebook::new(KINDS[0], json!({})).await;
    notebook.update("0.2.0", json!({}));
    let busy = tokio::spawn({
        let plugin = notebook.plugin.clone();
        async move { plugin.call_raw("work", b"1500".to_vec()).await }
    });
    // Until the worker has it.
    while notebook
        .plugin
        .request("get_state")
        .deadline(Duration::from_millis(20))
        .raw(Vec::new())
        .await
        .is_ok()
    {
        tokio::task::yield_now().await;
    }
    let options = ReloadOptions { drain: Duration::from_millis(20), ..ReloadOptions::default() };
    let reloaded = notebook.plugin.reload_with(options).await;
    let finished = busy.is_finished();
    assert!(matches!(reloaded, Err(ReloadError::NotSaved(CallError::Timeout))) || finished, "{reloaded:?}");
    busy.await.expect("no panic").unwrap_or_else(|error| panic!("it was not cut off: {error}"));
    notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(notebook.plugin.version(), "0.2.0");
    notebook.finish().await;
}

#[tokio::test]
async fn a_version_that_crashes_on_probation_is_rolled_back_with_the_state() {
    for kind in KINDS {
        for (name, reason) in
            [("crashes-on-add", "a worker of it ended"), ("hangs-on-add", "killed at a deadline")]
        {
            let mut notebook = Notebook::new(kind, json!({})).await;
            notebook.set("before").await;
            assert_eq!(notebook.add().await.expect("it counts"), 1);
            let pid = notebook.plugin.evidence().expect("it runs").pid;
            notebook.update("0.2.0", fault(name));
            notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
            let ran =
                notebook.plugin.request("add").deadline(Duration::from_millis(500)).raw(Vec::new()).await;
            assert!(matches!(ran, Err(CallError::Crashed(_) | CallError::Timeout)), "{ran:?}");
            assert_eq!(notebook.add().await.expect("the old version is back"), 2, "with its state");
            assert_eq!(notebook.get().await, "before");
            assert_eq!(notebook.plugin.version(), "0.1.0");
            assert_eq!(notebook.plugin.evidence().expect("it runs").pid, pid, "the same process");
            let told = notebook.rolled_back().await;
            assert!(told.starts_with("0.1.0") && told.contains(reason), "{told}");
            let again = notebook.plugin.reload().await.expect_err("it failed before");
            assert!(matches!(again, ReloadError::FailedBefore), "{again}");
            let options = ReloadOptions { retry: true, ..ReloadOptions::default() };
            notebook.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("asked again: {error}"));
            notebook.finish().await;
        }
    }
}

#[tokio::test]
async fn calls_that_wait_behind_a_crash_on_probation_go_on_in_the_old_version() {
    let notebook = Notebook::new(KINDS[0], json!({})).await;
    notebook.update("0.2.0", fault("crashes-on-add"));
    notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    let calls: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn({
                let plugin = notebook.plugin.clone();
                async move { add(&plugin).await }
            })
        })
        .collect();
    let mut counts = BTreeSet::new();
    let mut crashed = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(count) => assert!(counts.insert(count), "{count} twice"),
            Err(CallError::Crashed(_)) => crashed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((crashed, counts.len()), (1, 49), "only the one that ran");
    notebook.finish().await;
}

#[tokio::test]
async fn a_version_that_sickens_on_probation_is_rolled_back_when_that_ends() {
    let mut notebook = Notebook::new(KINDS[0], json!({ "instances": 2 })).await;
    notebook.update("0.2.0", json!({ "instances": 2, "config": { "fault": "sickens" } }));
    let options = ReloadOptions { probation: Duration::from_millis(300), ..ReloadOptions::default() };
    notebook.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..8 {
        notebook.add().await.expect("it still counts");
    }
    let told = notebook.rolled_back().await;
    assert!(told.contains("not healthy: not today"), "{told}");
    notebook.add().await.expect("the old version counts");
    assert_eq!(notebook.plugin.version(), "0.1.0");
    notebook.finish().await;
}

#[tokio::test]
async fn a_version_that_returns_errors_to_most_calls_is_rolled_back() {
    let mut notebook = Notebook::new(KINDS[0], json!({})).await;
    notebook.update("0.2.0", json!({}));
    let lenient = ReloadOptions { max_error_rate: 1.0, ..ReloadOptions::default() };
    notebook.plugin.reload_with(lenient).await.unwrap_or_else(|error| panic!("{error}"));
    // Bytes that are no text: an error of the plugin's own.
    let err = async |notebook: &Notebook| {
        let ended = notebook.plugin.call_raw("set_state", vec![0xff]).await;
        assert!(matches!(ended, Err(CallError::Plugin(_))), "{ended:?}");
    };
    for _ in 0..40 {
        err(&notebook).await;
    }
    notebook.update("0.3.0", json!({}));
    notebook.plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(notebook.plugin.version(), "0.3.0", "control: without a bound it would have stayed");
    for _ in 0..10 {
        notebook.add().await.expect("it counts");
    }
    for _ in 0..40 {
        err(&notebook).await;
    }
    let told = notebook.rolled_back().await;
    assert!(told.contains("errors to too many"), "{told}");
    notebook.add().await.expect("the old version counts");
    assert_eq!(notebook.plugin.version(), "0.2.0");
    notebook.finish().await;
}

#[tokio::test]
async fn a_version_that_lasts_stays_and_the_old_one_ends() {
    let mut notebook = Notebook::new(KINDS[0], json!({})).await;
    let old = notebook.plugin.evidence().expect("it runs").pid;
    notebook.update("0.2.0", json!({}));
    let options = ReloadOptions { probation: Duration::from_millis(100), ..ReloadOptions::default() };
    notebook.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(Path::new(&format!("/proc/{old}")).exists(), "it waits");
    let ended = |kind: &EventKind| match kind {
        EventKind::Exited(exit) => Some(exit.to_string()),
        _ => None,
    };
    let exit = notebook.until(ended).await;
    assert!(exit.contains("a new version has its place"), "{exit}");
    // A crash after that is a crash of the new version, which is started anew.
    assert!(matches!(notebook.plugin.call_raw("crash", Vec::new()).await, Err(CallError::Crashed(_))));
    assert_eq!(notebook.add().await.expect("it is started anew"), 1);
    assert_eq!(notebook.plugin.version(), "0.2.0");
    notebook.finish().await;
}

#[tokio::test]
async fn a_state_is_bounded_and_what_it_says_is_its_plugins_affair() {
    let folders = Folders::new();
    let small = common::profile(
        "native-strict",
        "small-state",
        &[("state       = \"16 MiB\"", "state       = \"1 KiB\"")],
        "",
    );
    let host = fixture::host(&folders).profile(small).build().await.expect("a host starts");
    let path = write(&folders, KINDS[0], "0.1.0", json!({ "security_policy": { "profile": "small-state" } }));
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    let set = async |text: Vec<u8>| plugin.call_raw("set_state", text).await.expect("it takes text");
    // Text that means something to whoever reads it carelessly comes through as it was.
    let hostile = "\u{0}\"}],\u{1b}[31m{\"count\":18446744073709551616,\u{202e}\\";
    set(hostile.into()).await;
    plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plugin.call_raw("get_state", Vec::new()).await.expect("it answers"), hostile.as_bytes());
    set(vec![b'x'; 2000]).await;
    let error = plugin.reload().await.expect_err("it is over the limit");
    assert!(matches!(&error, ReloadError::NotSaved(CallError::OverLimit { .. })), "{error}");
    assert_eq!(error.class(), Class::Resource);
    assert_eq!(plugin.call_raw("get_state", Vec::new()).await.expect("it goes on").len(), 2000);
    set(vec![b'x'; 900]).await;
    plugin.reload().await.unwrap_or_else(|error| panic!("control, within the limit: {error}"));
    host.shutdown().await;
}

#[test]
fn the_command_tries_a_reload_and_says_what_would_come_of_it() {
    let folders = Folders::new();
    let old = write(&folders, KINDS[0], "0.1.0", json!({}));
    let try_it = |more: Value, arguments: &[&str]| {
        let other = Folders::new();
        let new = write(&other, KINDS[0], "0.2.0", more);
        let mut command = command::command(&folders);
        command::run(command.arg("reload").arg("--check").args(arguments).arg(&old).arg(&new))
    };
    let good = try_it(json!({}), &[]);
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(
        good.out.starts_with("0.1.0 -> 0.2.0: would be taken, ") && good.out.contains("bytes of state"),
        "{good:?}"
    );
    let read: Value = serde_json::from_str(&try_it(json!({}), &["--json"]).out).expect("JSON");
    assert_eq!((read["from"].as_str(), read["to"].as_str()), (Some("0.1.0"), Some("0.2.0")));
    let refused = try_it(fault("takes-not"), &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("does not take the state"), "{refused:?}");
    assert_eq!(try_it(fault("takes-not"), &["--drop-state"]).code, Some(0));
    let more = json!({ "permissions": { "host_calls": ["log"] } });
    assert_eq!(try_it(more.clone(), &[]).code, Some(3), "it may do more");
    assert_eq!(try_it(more, &["--may-widen"]).code, Some(0));
}
