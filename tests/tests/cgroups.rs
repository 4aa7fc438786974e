//! Profiles that ask for cgroups: each worker is bounded by a group of its own, or the plugin does not start.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hotcell::{CallError, Class, Host, LoadOptions, Plugin};
use hotcell_tests::{Folders, fixture, package};
use serde_json::json;

mod common;

/// Of memory, where it is 256 MiB in the shipped profiles.
const MEMORY: &str = "48 MiB";

struct Bounded {
    host: Host,
    folders: Folders,
}

impl Bounded {
    async fn new() -> Bounded {
        let folders = Folders::new();
        let limits = [("= \"256 MiB\"", format!("= \"{MEMORY}\"")), ("= \"100 %\"", "= \"50 %\"".to_owned())];
        let limits: Vec<_> = limits.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let mut replaced = vec![("message     = \"64 MiB\"", "message     = \"1 MiB\"")];
        replaced.extend(limits);
        let with = |shipped: &str, name: &str, replaced: &[(&str, &str)]| {
            let first = ("schema = 1", "schema = 1\ncgroups = [\"memory\", \"pids\", \"cpu\"]");
            let replaced: Vec<_> = replaced.iter().copied().chain([first]).collect();
            common::profile(shipped, name, &replaced, "")
        };
        let builder = fixture::host(&folders)
            .profile(with("native-strict", "native-group", &replaced))
            .profile(with("pure-compute", "wasm-group", &[]));
        Bounded { host: builder.build().await.expect("a host starts"), folders }
    }

    fn native(&self) -> PathBuf {
        let more = json!({ "security_policy": { "profile": "native-group" } });
        common::native(&self.folders, "grouped", "crash-lab/native/crash_lab.so", more)
    }

    async fn load(&self, path: &Path) -> Option<Plugin> {
        match self.host.load(path).await {
            Ok(plugin) => Some(plugin),
            Err(error) => {
                assert!(!rustix::process::geteuid().is_root(), "root has cgroups here: {error}");
                assert_eq!(error.class(), Class::Unavailable, "{error}");
                let text = error.to_string();
                assert!(text.contains("cgroups") && text.contains("--cgroup"), "{text}");
                None
            }
        }
    }
}

/// The groups of a process, each with its hierarchy's controllers.
fn groups_of(pid: u32) -> Vec<(String, PathBuf)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), PathBuf::from(parts.next()?)))
    };
    text.lines().filter_map(line).collect()
}

#[tokio::test]
async fn each_worker_has_a_group_of_its_own_that_ends_with_it() {
    let setup = Bounded::new().await;
    let path = setup.native();
    let Some(first) = setup.load(&path).await else { return };
    let second = setup.load(&path).await.expect("the first one started");
    let of = |plugin: &Plugin| {
        let evidence = plugin.evidence().expect("it is confined");
        assert_eq!(evidence.cgroups, ["memory", "pids", "cpu"]);
        groups_of(evidence.pid)
    };
    let (one, other) = (of(&first), of(&second));
    let own = groups_of(std::process::id());
    let apart = |a: &[(String, PathBuf)], b: &[(String, PathBuf)]| {
        a.iter().zip(b).filter(|((_, a), (_, b))| a != b).count()
    };
    assert!(apart(&one, &other) > 0 && apart(&one, &own) > 0, "{one:?} {other:?} {own:?}");
    let folders: Vec<PathBuf> = one.iter().flat_map(|(names, path)| mounted(names, path)).collect();
    assert!(folders.iter().any(|folder| folder.exists()), "{folders:?}");
    first.unload().await;
    second.unload().await;
    setup.host.shutdown().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let hotcells = |folder: &&PathBuf| folder.to_string_lossy().contains("hotcell-") && folder.exists();
    while let Some(folder) = folders.iter().find(hotcells) {
        assert!(std::time::Instant::now() < deadline, "{} is left", folder.display());
        tokio::task::yield_now().await;
    }
}

/// Where a group may be seen: mount points are where every system has them.
fn mounted(names: &str, path: &Path) -> Vec<PathBuf> {
    let below = path.strip_prefix("/").expect("absolute");
    let v1 = Path::new("/sys/fs/cgroup").join(names);
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(PathBuf::from)
        .into_iter()
        .chain([v1])
        .map(|point| point.join(below))
        .collect()
}

#[tokio::test]
async fn a_plugin_under_cgroups_computes_crashes_and_comes_back() {
    let setup = Bounded::new().await;
    let Some(plugin) = setup.load(&setup.native()).await else { return };
    let echo = |input: &'static [u8]| plugin.call_raw("ok", input.to_vec());
    assert_eq!(echo(b"one").await.expect("a reply"), b"one");
    let crashed = plugin.call_raw("abort", Vec::new()).await;
    assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
    assert_eq!(echo(b"two").await.expect("a fresh worker"), b"two");
    setup.host.shutdown().await;
}

#[tokio::test]
async fn wasm_workers_and_spares_are_bounded_too() {
    let setup = Bounded::new().await;
    let folder = setup.folders.join("wasm");
    std::fs::create_dir(&folder).expect("new");
    let from = package("crash-lab/wasm");
    let manifest = std::fs::read_to_string(from.join("manifest.json")).expect("readable");
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    *manifest.pointer_mut("/security_policy/profile").expect("it names one") = json!("wasm-group");
    let artifact = manifest["wasm_path"].as_str().expect("it has one").to_owned();
    std::fs::copy(from.join(&artifact), folder.join(&artifact)).expect("copied");
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("written");
    if setup.load(&folder).await.is_none() {
        return;
    }
    let options = LoadOptions { spares: 1, ..LoadOptions::default() };
    let plugin = setup.host.load_with(&folder, options).await.expect("it started before");
    for _ in 0..3 {
        assert_eq!(plugin.evidence().expect("confined").cgroups, ["memory", "pids", "cpu"]);
        plugin.call_raw("unreachable", Vec::new()).await.expect_err("it ends");
        plugin.call_raw("ok", b"x".to_vec()).await.expect("a spare, or a fresh one");
    }
    setup.host.shutdown().await;
}
