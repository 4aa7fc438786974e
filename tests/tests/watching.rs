//! A plugin that is reloaded by itself when its package changes: what is on disk decides, and only what is whole is taken.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hotcell::{Event, EventKind, Events, Host, Plugin, ReloadOptions, Watching};
use hotcell_tests::{Folders, fixture, package};
use serde_json::{Value, json};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const ARTIFACT: &str = "plugin.so";

struct Watched {
    host: Host,
    folders: Folders,
    plugin: Plugin,
    events: Events,
    _watching: Watching,
}

impl Watched {
    async fn new() -> Watched {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let path = common::native(&folders, "watched", "notebook/native/notebook.so", json!({}));
        let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
        plugin.call_raw("set_state", b"kept".to_vec()).await.expect("it takes text");
        let events = host.events();
        let watching = plugin.watch(ReloadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        Watched { host, folders, plugin, events, _watching: watching }
    }

    fn folder(&self) -> PathBuf {
        self.folders.join("watched")
    }

    /// Writes the manifest with another version, and `more` in it.
    fn update(&self, version: &str, more: Value) {
        let path = self.folder().join("manifest.json");
        let text = std::fs::read_to_string(&path).expect("it is there");
        let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
        manifest["version"] = version.into();
        manifest["config"] = json!({ "fault": "none" });
        for (key, value) in more.as_object().expect("a table") {
            manifest[key] = value.clone();
        }
        replace(&path, manifest.to_string().as_bytes());
    }

    /// The next event that reloads tell.
    async fn told(&mut self) -> EventKind {
        let told = async {
            loop {
                let Event { kind, .. } = self.events.next().await.expect("the host lives");
                let wanted = matches!(
                    kind,
                    EventKind::Reloaded { .. }
                        | EventKind::ReloadFailed { .. }
                        | EventKind::RolledBack { .. }
                );
                if wanted {
                    return kind;
                }
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it is told")
    }

    async fn must_reload(&mut self, version: &str) {
        match self.told().await {
            EventKind::Reloaded { to, .. } => assert_eq!(to, version),
            other => panic!("{version}: {other:?}"),
        }
        assert_eq!(self.plugin.version(), version);
        assert_eq!(self.plugin.call_raw("get_state", Vec::new()).await.expect("it answers"), b"kept");
    }

    async fn must_refuse(&mut self, words: &str) {
        match self.told().await {
            EventKind::ReloadFailed { reason } => assert!(reason.contains(words), "{reason}"),
            other => panic!("{words}: {other:?}"),
        }
        assert_eq!(self.plugin.call_raw("get_state", Vec::new()).await.expect("it answers"), b"kept");
    }

    async fn finish(self) {
        self.host.shutdown().await;
    }
}

/// As editors and builds write: beside, and then into the place.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).expect("writable");
    std::fs::rename(&beside, path).expect("the same folder");
}

#[tokio::test]
async fn a_new_version_is_taken_by_itself_and_an_old_one_is_not_taken_again() {
    let mut watched = Watched::new().await;
    watched.update("0.2.0", json!({}));
    watched.must_reload("0.2.0").await;
    // Touched, and written with what it holds already: no new version. The next one is the next event.
    let path = watched.folder().join("manifest.json");
    let text = std::fs::read(&path).expect("it is there");
    std::fs::write(&path, &text).expect("writable");
    replace(&path, &text);
    replace(
        &watched.folder().join(ARTIFACT),
        &std::fs::read(package("notebook/native/notebook.so")).expect("built"),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    watched.update("0.3.0", json!({}));
    watched.must_reload("0.3.0").await;
    watched.finish().await;
}

#[tokio::test]
async fn what_is_half_written_is_never_served() {
    let mut watched = Watched::new().await;
    let whole = std::fs::read(package("notebook/native/notebook.so")).expect("built");
    let path = watched.folder().join(ARTIFACT);
    let mut file = std::fs::File::create(&path).expect("writable");
    // The worker has its own copy: it goes on while its file is written over.
    for piece in whole.chunks(whole.len() / 10 + 1) {
        std::io::Write::write_all(&mut file, piece).expect("writable");
        assert_eq!(watched.plugin.call_raw("get_state", Vec::new()).await.expect("it answers"), b"kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(file);
    watched.update("0.2.0", json!({}));
    loop {
        // On a busy machine a piece may have been the last for a long moment, and was tried.
        match watched.told().await {
            EventKind::Reloaded { to, .. } => break assert_eq!(to, "0.2.0"),
            EventKind::ReloadFailed { reason } => assert!(reason.contains("does not start"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watched.plugin.call_raw("get_state", Vec::new()).await.expect("it answers"), b"kept");
    // One that stays half.
    replace(&path, &whole[..whole.len() / 2]);
    watched.must_refuse("does not start").await;
    replace(&path, &whole);
    watched.update("0.3.0", json!({}));
    watched.must_reload("0.3.0").await;
    watched.finish().await;
}

#[tokio::test]
async fn the_same_size_and_time_with_other_bytes_is_another_version() {
    let mut watched = Watched::new().await;
    watched.update("0.2.0", json!({}));
    watched.must_reload("0.2.0").await;
    let path = watched.folder().join("manifest.json");
    let facts = std::fs::metadata(&path).expect("it is there");
    let text = std::fs::read_to_string(&path).expect("text").replace("0.2.0", "0.2.1");
    assert_eq!(text.len() as u64, facts.len());
    std::fs::write(&path, text).expect("writable");
    let file = std::fs::File::options().write(true).open(&path).expect("writable");
    file.set_modified(facts.modified().expect("it has a time")).expect("the owner may");
    watched.must_reload("0.2.1").await;
    watched.finish().await;
}

#[tokio::test]
async fn a_bad_version_is_told_once_and_a_better_one_is_taken() {
    let mut watched = Watched::new().await;
    watched.update("0.2.0", json!({ "config": { "fault": "unhealthy" } }));
    watched.must_refuse("is not healthy").await;
    watched.update("0.2.1", json!({ "permissions": { "host_calls": ["log"] } }));
    watched.must_refuse("host call `log`").await;
    std::fs::write(watched.folder().join("manifest.json"), "{ \"schema\": 1,").expect("writable");
    watched.must_refuse("manifest.json").await;
    std::fs::remove_file(watched.folder().join("manifest.json")).expect("it is there");
    common::native(&watched.folders, "other", "notebook/native/notebook.so", json!({}));
    let text = std::fs::read_to_string(watched.folders.join("other/manifest.json")).expect("it is there");
    replace(&watched.folder().join("manifest.json"), text.replace("test.other", "test.watched").as_bytes());
    loop {
        // The folder without a manifest may have been seen, too.
        match watched.told().await {
            EventKind::Reloaded { .. } => break,
            EventKind::ReloadFailed { reason } => assert!(reason.contains("no such file"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    watched.finish().await;
}

#[tokio::test]
async fn a_version_that_was_rolled_back_is_not_tried_again_unasked() {
    let mut watched = Watched::new().await;
    watched.update("0.2.0", json!({ "config": { "fault": "crashes-on-add" } }));
    watched.must_reload("0.2.0").await;
    watched.plugin.call_raw("add", Vec::new()).await.expect_err("it crashes");
    assert!(matches!(watched.told().await, EventKind::RolledBack { .. }));
    let bad = std::fs::read(watched.folder().join("manifest.json")).expect("it is there");
    watched.update("0.3.0", json!({}));
    watched.must_reload("0.3.0").await;
    replace(&watched.folder().join("manifest.json"), &bad);
    watched.must_refuse("rolled back before").await;
    assert_eq!(watched.plugin.version(), "0.3.0");
    watched.finish().await;
}

#[tokio::test]
async fn a_folder_that_is_swapped_for_a_link_is_refused_and_for_a_folder_it_is_taken() {
    let mut watched = Watched::new().await;
    let elsewhere = common::native(
        &watched.folders,
        "elsewhere",
        "notebook/native/notebook.so",
        json!({ "version": "0.9.0" }),
    );
    let aside = watched.folders.join("aside");
    std::fs::rename(watched.folder(), &aside).expect("the same folder");
    std::os::unix::fs::symlink(&elsewhere, watched.folder()).expect("links are there");
    loop {
        // Between the two, nothing was there.
        match watched.told().await {
            EventKind::ReloadFailed { reason } if reason.contains("symbolic link") => break,
            EventKind::ReloadFailed { reason } => assert!(reason.contains("no such file"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watched.plugin.version(), "0.1.0");
    std::fs::remove_file(watched.folder()).expect("the link");
    let manifest = aside.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("it is there").replace("0.1.0", "0.2.0");
    std::fs::write(&manifest, text).expect("writable");
    std::fs::rename(&aside, watched.folder()).expect("the same folder");
    loop {
        match watched.told().await {
            EventKind::Reloaded { to, .. } => break assert_eq!(to, "0.2.0"),
            EventKind::ReloadFailed { reason } => assert!(reason.contains("no such file"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    // The new folder is watched as the old one was.
    watched.update("0.3.0", json!({}));
    watched.must_reload("0.3.0").await;
    watched.finish().await;
}

#[tokio::test]
async fn a_manifest_may_ask_to_be_watched() {
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await.expect("a host starts");
    let mut events = host.events();
    let asks = json!({ "security_policy": { "profile": "native-strict", "reload": { "mode": "on-change", "drain": "2 s" } } });
    let path = common::native(&folders, "watched", "notebook/native/notebook.so", asks);
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plugin.call_raw("add", Vec::new()).await.expect("answers"), b"1");
    let manifest = path.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("is there");
    replace(&manifest, text.replace("0.1.0", "0.2.0").as_bytes());
    let reloaded = async {
        while plugin.version() != "0.2.0" {
            events.next().await.expect("the host lives");
        }
    };
    tokio::time::timeout(PATIENCE, reloaded).await.expect("it is reloaded by itself");
    assert_eq!(plugin.call_raw("add", Vec::new()).await.expect("answers"), b"2", "with its state");
}
