//! Checkpoints: a worker that replaces one that crashed takes over the state that was kept, if it is whole and it can.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hotcell::{CallError, Checkpoint, CheckpointError, EventKind, Events, Host, LoadOptions, Plugin};
use hotcell_tests::{Folders, fixture};
use serde_json::{Value, json};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const ID: &str = "dev.hotcell.test.kept";

struct Setup {
    host: Host,
    folders: Folders,
    events: Events,
}

impl Setup {
    async fn new() -> Setup {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let events = host.events();
        Setup { host, folders, events }
    }

    fn package(&self, more: Value) -> PathBuf {
        let _ = std::fs::remove_dir_all(self.folders.join("kept"));
        common::native(&self.folders, "kept", "notebook/native/notebook.so", more)
    }

    async fn load(&self, path: &Path, checkpoint: Checkpoint) -> Plugin {
        let options = LoadOptions { checkpoint, ..LoadOptions::default() };
        self.host.load_with(path, options).await.unwrap_or_else(|error| panic!("{error}"))
    }

    fn files(&self) -> PathBuf {
        self.folders.join("state").join("checkpoints").join(ID)
    }

    /// Whether an event came until now, and what it says.
    fn told(&mut self, wanted: impl Fn(&EventKind) -> Option<String>) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_next()).filter_map(|event| wanted(&event.kind)).collect()
    }

    fn restored(&mut self) -> Vec<String> {
        self.told(|kind| match kind {
            EventKind::StateRestored { bytes } => Some(bytes.to_string()),
            _ => None,
        })
    }

    fn refused(&mut self) -> Vec<String> {
        self.told(|kind| match kind {
            EventKind::StateRefused { reason } => Some(reason.clone()),
            _ => None,
        })
    }
}

async fn add(plugin: &Plugin) -> u64 {
    let count = plugin.call_raw("add", Vec::new()).await.unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(count).expect("text").parse().expect("a number")
}

async fn crash(plugin: &Plugin) {
    let ended = plugin.call_raw("crash", Vec::new()).await;
    assert!(matches!(ended, Err(CallError::Crashed(_))), "{ended:?}");
}

#[tokio::test]
async fn a_crashed_worker_is_replaced_with_the_state_that_was_kept() {
    let mut setup = Setup::new().await;
    let path = setup.package(json!({}));
    let plugin = setup.load(&path, Checkpoint::OnRequest).await;
    for _ in 0..3 {
        add(&plugin).await;
    }
    let bytes = plugin.checkpoint().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plugin).await, 4, "what comes after the checkpoint");
    crash(&plugin).await;
    assert_eq!(add(&plugin).await, 4, "is lost, and what came before is not");
    assert_eq!(setup.restored(), [bytes.to_string()], "and it is told");
    // A host that comes later takes it over, too.
    setup.host.clone().shutdown().await;
    let later = fixture::host(&setup.folders).build().await.expect("a host starts");
    let options = LoadOptions { checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
    let plugin = later.load_with(&path, options).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plugin).await, 4);
    plugin.unload().await;
    // The controls: without checkpoints nothing is taken over or kept.
    let plain = later.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plain).await, 1);
    assert!(matches!(plain.checkpoint().await, Err(CheckpointError::Off)));
    later.shutdown().await;
}

#[tokio::test]
async fn states_are_kept_after_so_many_calls_and_after_so_long() {
    let mut setup = Setup::new().await;
    let path = setup.package(json!({}));
    for checkpoint in [Checkpoint::Calls(5), Checkpoint::Every(Duration::from_millis(20))] {
        let _ = std::fs::remove_dir_all(setup.files());
        let plugin = setup.load(&path, checkpoint).await;
        let mut calls = 0;
        let deadline = Instant::now() + PATIENCE;
        while !setup.files().join("0").exists() {
            calls += 1;
            assert_eq!(add(&plugin).await, calls);
            assert!(Instant::now() < deadline, "it is kept at last: {checkpoint:?}");
        }
        crash(&plugin).await;
        let next = add(&plugin).await;
        assert!(next > 1 && next <= calls + 1, "{checkpoint:?}: {next} after {calls}");
        assert_eq!(setup.restored().len(), 1);
        plugin.unload().await;
    }
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_state_that_is_not_whole_gives_way_to_the_one_before() {
    let mut setup = Setup::new().await;
    let path = setup.package(json!({}));
    let plugin = setup.load(&path, Checkpoint::OnRequest).await;
    add(&plugin).await;
    plugin.checkpoint().await.expect("kept");
    add(&plugin).await;
    plugin.checkpoint().await.expect("kept");
    let newest = setup.files().join("0");
    let mut bytes = std::fs::read(&newest).expect("it is there");
    *bytes.last_mut().expect("it is not empty") ^= 1;
    std::fs::write(&newest, bytes).expect("the host may write it");
    crash(&plugin).await;
    assert_eq!(add(&plugin).await, 2, "of the first one");
    std::fs::write(&newest, "").expect("writable");
    std::fs::write(setup.files().join("0.before"), "").expect("writable");
    crash(&plugin).await;
    assert_eq!(add(&plugin).await, 1, "of none");
    assert_eq!(setup.restored().len(), 1);
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_state_that_crashes_its_plugin_is_forgotten() {
    let mut setup = Setup::new().await;
    let path = setup.package(json!({}));
    let plugin = setup.load(&path, Checkpoint::OnRequest).await;
    add(&plugin).await;
    plugin.checkpoint().await.expect("kept");
    plugin.checkpoint().await.expect("kept");
    plugin.unload().await;
    for (fault, words) in [("crashes-on-state", "SIGABRT"), ("takes-not", "state of version 1")] {
        let path = setup.package(json!({ "config": { "fault": fault } }));
        let folder = setup.files();
        let copies: Vec<_> =
            ["0", "0.before"].map(|name| std::fs::read(folder.join(name)).expect("kept")).into();
        let plugin = setup.load(&path, Checkpoint::OnRequest).await;
        assert_eq!(add(&plugin).await, 1, "it starts without");
        let refused = setup.refused();
        assert!(refused.len() == 2 && refused.iter().all(|why| why.contains(words)), "{refused:?}");
        assert!(!folder.join("0").exists() && !folder.join("0.before").exists(), "both are forgotten");
        plugin.unload().await;
        for (name, copy) in ["0", "0.before"].iter().zip(copies) {
            std::fs::write(folder.join(name), copy).expect("writable");
        }
    }
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_reload_and_checkpoints_go_together() {
    let setup = Setup::new().await;
    let path = setup.package(json!({}));
    let plugin = setup.load(&path, Checkpoint::OnRequest).await;
    add(&plugin).await;
    plugin.checkpoint().await.expect("kept");
    add(&plugin).await;
    setup.package(json!({ "version": "0.2.0" }));
    let options = hotcell::ReloadOptions { probation: Duration::ZERO, ..hotcell::ReloadOptions::default() };
    plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plugin).await, 3, "a reload takes the state of now");
    crash(&plugin).await;
    assert_eq!(add(&plugin).await, 2, "a crash the one that was kept");
    setup.host.shutdown().await;
}

#[tokio::test]
async fn two_plugins_of_one_id_do_not_share_checkpoints() {
    let setup = Setup::new().await;
    let path = setup.package(json!({}));
    let _first = setup.load(&path, Checkpoint::OnRequest).await;
    let options = LoadOptions { checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
    let error = setup.host.load_with(&path, options).await.expect_err("the first one keeps states there");
    assert!(error.to_string().contains("loaded already"), "{error}");
    setup.host.load(&path).await.expect("control: without checkpoints it loads");
    setup.host.shutdown().await;
}

/// Reads a line of the keeper: word, count, process id of its worker.
fn read_line(line: &str) -> Option<(String, u64, u32)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Whether a process has not ended. Who reaps it when its launcher is gone, and when, is the system's affair.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn a_host_that_is_killed_at_any_moment_leaves_whole_states_and_no_worker() {
    const KILLS: u32 = 200;
    let folders = Folders::new();
    common::native(&folders, "package", "notebook/native/notebook.so", json!({}));
    // The last count that was said to be kept, the last that was said at all, and how often a state was found.
    let (mut kept, mut said, mut begun) = (0, 0, 0);
    for kill in 0..KILLS {
        let mut keeper = std::process::Command::new(fixture::programs().join("keeper"))
            .arg(folders.join("package").parent().expect("it has one"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is built");
        let mut lines = BufReader::new(keeper.stdout.take().expect("it is piped")).lines();
        let first = lines.next().expect("it begins").expect("text");
        let (word, count, worker) = read_line(&first).unwrap_or_else(|| panic!("{first}"));
        assert_eq!(word, "began");
        // The host before may have kept one more than it had the time to say.
        assert!(
            count > kept && count <= said + 2,
            "round {kill}: {kept} was kept, {said} was said, and it goes on with {count}"
        );
        said = count;
        begun += u32::from(count > 1);
        // Each time somewhere else in its work: after another number of lines, and a piece of the next one.
        for _ in 0..kill % 4 {
            let line = lines.next().expect("it goes on").expect("text");
            kept = read_line(&line).unwrap_or_else(|| panic!("{line}")).1;
            said = kept;
        }
        for _ in 0..(kill % 50) * 1000 {
            std::hint::black_box(kill);
        }
        keeper.kill().expect("it lives");
        keeper.wait().expect("it ends");
        // What it has said before its end counts.
        for line in lines.map_while(Result::ok) {
            kept = read_line(&line).map_or(kept, |(_, count, _)| count);
            said = said.max(kept);
        }
        let deadline = Instant::now() + PATIENCE;
        while is_alive(worker) {
            assert!(Instant::now() < deadline, "round {kill}: worker {worker} lives on");
            std::thread::yield_now();
        }
    }
    assert!(begun > KILLS / 2, "most of them found a state: {begun}");
}
