//! How workers come to be: copied from the launcher or executed afresh, when they are needed or ahead.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hotcell::{CallError, Host, LoadOptions, Package, Plugin};
use hotcell_tests::footprint::descendants;
use hotcell_tests::{Folders, Footprint, fixture, package};
use serde_json::json;

mod common;

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const LAB: &str = "crash-lab/native/crash_lab.so";

/// Where the kernel put a process's stack: the same in copies, by chance alone in others.
fn layout(pid: u32) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the worker lives and is ours");
    let stack = maps.lines().find(|line| line.ends_with("[stack]")).expect("it has a stack");
    // A stack grows down: its end stays where it is.
    let (_, end) = stack.split_whitespace().next().and_then(|range| range.split_once('-')).expect("a range");
    end.to_owned()
}

fn pid(plugin: &Plugin) -> u32 {
    plugin.evidence().expect("it was started").pid
}

/// The crash lab as a wasm module, or as a library, under a profile that says how it is launched.
fn lab(folders: &Folders, shipped: &str, launch: &str, number: u32) -> PathBuf {
    let profile = format!("{shipped}-{launch}");
    let name = format!("{profile}-{number}");
    let more = json!({ "security_policy": { "profile": profile } });
    if shipped == "native-strict" {
        return common::native(folders, &name, LAB, more);
    }
    let path = folders.join(&name);
    let sample = package("crash-lab/wasm");
    fs::create_dir(&path).expect("new");
    for file in fs::read_dir(&sample).expect("it is built") {
        let file = file.expect("readable");
        fs::copy(file.path(), path.join(file.file_name())).expect("writable");
    }
    let text = fs::read_to_string(path.join("manifest.json")).expect("the sample has one");
    let mut manifest: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    manifest["id"] = format!("dev.hotcell.test.{name}").into();
    manifest["security_policy"] = more["security_policy"].clone();
    fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    path
}

#[tokio::test]
async fn both_kinds_are_copied_or_executed_as_the_profile_says() {
    let folders = Folders::new();
    let mut builder = fixture::host(&folders);
    for shipped in ["native-strict", "pure-compute"] {
        for launch in ["fork", "exec"] {
            let replaced = [("schema = 1\n", format!("schema = 1\nlaunch = \"{launch}\"\n"))];
            let replaced = replaced.each_ref().map(|(from, to)| (*from, to.as_str()));
            let profile = common::profile(shipped, &format!("{shipped}-{launch}"), &replaced, "");
            builder = builder.profile(profile);
        }
    }
    let host = builder.build().await.expect("a host starts");
    for (shipped, ending) in [("native-strict", "abort"), ("pure-compute", "unreachable")] {
        for (launch, alike) in [("fork", true), ("exec", false)] {
            let mut plugins = Vec::new();
            for number in 0..3 {
                let plugin = host.load(lab(&folders, shipped, launch, number)).await;
                plugins.push(plugin.unwrap_or_else(|error| panic!("{shipped}, {launch}: {error}")));
            }
            let layouts: Vec<_> = plugins.iter().map(|plugin| layout(pid(plugin))).collect();
            let same = layouts.iter().all(|layout| *layout == layouts[0]);
            assert_eq!(same, alike, "{shipped}, {launch}: {layouts:?}");
            for plugin in &plugins {
                let reply = plugin.call_raw("ok", b"well".to_vec()).await;
                assert_eq!(reply.expect("it answers"), b"well", "{shipped}, {launch}");
                let crashed = plugin.call_raw(ending, Vec::new()).await;
                assert!(matches!(crashed, Err(CallError::Crashed(_))), "{shipped}, {launch}: {crashed:?}");
                let reply = plugin.call_raw("ok", b"again".to_vec()).await;
                assert_eq!(reply.expect("another answers"), b"again", "{shipped}, {launch}");
            }
        }
    }
    host.shutdown().await;
}

async fn prepared(host: &Host, path: &str, spares: usize) -> Package {
    let options = LoadOptions { spares, ..LoadOptions::default() };
    let package = host.prepare_with(package(path), options).await.expect("it is a package");
    until_spares(&package, spares).await;
    package
}

async fn until_spares(package: &Package, count: usize) {
    let waiting = async {
        while package.spares() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("spares are made");
}

/// Packages, and the export that ends their worker.
const LABS: [(&str, &str); 2] = [("crash-lab/native", "abort"), ("crash-lab/wasm", "unreachable")];

#[tokio::test]
async fn a_start_and_the_end_of_a_worker_take_a_spare_that_was_there_before() {
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await.expect("a host starts");
    for (path, ending) in LABS {
        let package = prepared(&host, path, 2).await;
        let before = descendants(std::process::id());
        let plugin = package.start().await.expect("it starts");
        assert!(before.contains(&pid(&plugin)), "{path}: a spare became its worker");
        until_spares(&package, 2).await;
        let (before, first) = (descendants(std::process::id()), pid(&plugin));
        let crashed = plugin.call_raw(ending, Vec::new()).await;
        assert!(matches!(crashed, Err(CallError::Crashed(_))), "{path}: {crashed:?}");
        assert_eq!(plugin.call_raw("ok", b"next".to_vec()).await.expect("a reply"), b"next");
        let second = pid(&plugin);
        assert!(second != first && before.contains(&second), "{path}: a spare took its place");
        until_spares(&package, 2).await;
        plugin.unload().await;
    }
    host.shutdown().await;
}

#[tokio::test]
async fn more_starts_than_spares_all_succeed() {
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await.expect("a host starts");
    for (path, _) in LABS {
        let package = prepared(&host, path, 1).await;
        let starts = async || {
            let plugin = package.start().await.expect("it starts");
            assert_eq!(plugin.call_raw("ok", b"well".to_vec()).await.expect("a reply"), b"well");
            (pid(&plugin), plugin)
        };
        let (one, two, three) = tokio::join!(starts(), starts(), starts());
        assert!(one.0 != two.0 && two.0 != three.0 && three.0 != one.0, "{path}: a worker each");
    }
    host.shutdown().await;
}

#[tokio::test]
async fn a_spare_has_run_nothing_of_its_plugin_and_one_that_died_is_not_used() {
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await.expect("a host starts");
    let without = descendants(std::process::id());
    let package = prepared(&host, "crash-lab/native", 1).await;
    let spare = *descendants(std::process::id())
        .iter()
        .find(|pid| !without.contains(pid))
        .expect("the spare is a process");
    let maps = |pid: u32| fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    assert!(!maps(spare).contains("hotcell-artifact"), "the library is not mapped");
    let plugin = package.start().await.expect("it starts");
    assert_eq!(pid(&plugin), spare);
    assert!(maps(spare).contains("hotcell-artifact"), "control: this is where it would be seen");
    plugin.unload().await;

    until_spares(&package, 1).await;
    let second =
        *descendants(std::process::id()).iter().find(|pid| !without.contains(pid)).expect("another waits");
    let number = rustix::process::Pid::from_raw(second.cast_signed()).expect("a number");
    rustix::process::kill_process(number, rustix::process::Signal::KILL).expect("it is this test's own");
    let gone = async {
        while descendants(std::process::id()).contains(&second) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("it ends");
    let plugin = package.start().await.expect("it starts without");
    assert_eq!(plugin.call_raw("ok", b"well".to_vec()).await.expect("a reply"), b"well");
    plugin.unload().await;
    host.shutdown().await;
}

#[test]
fn spares_leave_nothing_behind() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let cycle = async |path| {
            let package = prepared(&host, path, 3).await;
            let plugin = package.start().await.expect("it starts");
            drop(package);
            plugin.unload().await;
        };
        // The first ones also start what stays: the compiler's cache, threads of the runtime.
        cycle(LABS[0].0).await;
        cycle(LABS[1].0).await;
        let before = Footprint::now();
        for (path, _) in LABS {
            cycle(path).await;
            before.must_return();
        }
        // With some that wait, and one that is in the making.
        let package = prepared(&host, LABS[0].0, 2).await;
        let plugin = package.start().await.expect("it starts");
        host.shutdown().await;
        assert!(descendants(std::process::id()).is_empty(), "no process outlives its host");
        drop((package, plugin));
    });
}
