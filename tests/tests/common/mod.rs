//! A host with folders of its own, for each test.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell::{EventKind, Events, Host, Plugin, Violation};
use hotcell_tests::{Folders, fixture, package};

/// A host and its folders, which are removed with it.
pub(crate) struct Setup {
    pub(crate) host: Host,
    pub(crate) folders: Folders,
}

impl Setup {
    pub(crate) async fn new() -> Setup {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        Setup { host, folders }
    }

    pub(crate) async fn load(&self, name: &str) -> Plugin {
        match self.host.load(package(name)).await {
            Ok(plugin) => plugin,
            Err(error) => panic!("{name} must load: {error}"),
        }
    }
}

/// One at a time: tests that count what this process holds, or that need the machine's attention.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime for a test that holds a guard across it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
}

/// Another plugin that is called without end while a test does its worst.
pub(crate) struct Bystander {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Bystander {
    /// Calls `export`, which must always reply with `reply`, on that as its input.
    pub(crate) fn start(plugin: Plugin, export: &'static str, reply: &'static [u8]) -> Bystander {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let said = plugin.call_raw(export, reply.to_vec()).await;
                    assert_eq!(said.expect("the bystander always answers"), reply);
                    answers.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        Bystander { stop, answers, task }
    }

    /// Waits for an answer to a call that began after this moment.
    pub(crate) async fn must_answer(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        let answered = async {
            while self.answers.load(Ordering::Relaxed) < before + 2 && !self.task.is_finished() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answered).await.expect("the bystander answers in time");
        assert!(!self.task.is_finished(), "the bystander failed");
    }

    pub(crate) async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the bystander never failed");
    }
}

/// A copy of a native sample with a manifest of its own; `more` goes into it.
pub(crate) fn native(
    folders: &Folders,
    name: &str,
    artifact: &str,
    more: serde_json::Value,
) -> std::path::PathBuf {
    let path = folders.join(name);
    std::fs::create_dir(&path).expect("the folder is new");
    let mut manifest = serde_json::json!({
        "schema": 1, "id": format!("dev.hotcell.test.{name}"), "name": name, "version": "0.1.0",
        "plugin_type": "dylib", "dylib_path": "plugin.so", "security_policy": { "profile": "native-strict" },
    });
    for (key, value) in more.as_object().expect("a table") {
        manifest[key] = value.clone();
    }
    std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    std::fs::copy(package(artifact), path.join("plugin.so")).expect("it is built");
    path
}

/// The sample that talks by `wasi:sockets` and `wasi:http`, with these permissions under this profile.
pub(crate) fn dial(
    folders: &Folders,
    name: &str,
    profile: &str,
    permissions: serde_json::Value,
) -> std::path::PathBuf {
    let path = folders.join(name);
    std::fs::create_dir(&path).expect("the folder is new");
    let manifest = serde_json::json!({
        "schema": 1, "id": format!("dev.hotcell.test.{name}"), "name": name, "version": "0.1.0",
        "plugin_type": "wasm", "wasm_path": "dial.wasm", "runtime": "component", "permissions": permissions,
        "security_policy": { "profile": profile },
    });
    std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    std::fs::copy(package("dial/component/dial.wasm"), path.join("dial.wasm")).expect("it is built");
    path
}

/// Calls a component.
pub(crate) async fn json(
    plugin: &Plugin,
    export: &str,
    arguments: serde_json::Value,
) -> Result<serde_json::Value, String> {
    match plugin.call_raw(export, arguments.to_string().into_bytes()).await {
        Ok(reply) => Ok(serde_json::from_slice(&reply).expect("JSON")),
        Err(hotcell::CallError::Plugin(text)) => Err(text.trim_matches('"').to_owned()),
        Err(error) => panic!("{error}"),
    }
}

/// A shipped profile under another name, with lines replaced and tables added.
pub(crate) fn profile(
    shipped: &str,
    name: &str,
    replaced: &[(&str, &str)],
    more: &str,
) -> hotcell::policy::Profile {
    let path = hotcell_tests::root().join("sandbox-profiles").join(format!("{shipped}.toml"));
    let mut text = std::fs::read_to_string(path).expect("it ships");
    for (from, to) in replaced {
        assert!(text.contains(from), "{shipped} has {from}");
        text = text.replace(from, to);
    }
    let profile = hotcell::policy::Profile::parse(&format!("{name}.toml"), &format!("{text}{more}"));
    profile.unwrap_or_else(|error| panic!("{error}"))
}

/// The grants of [`native_files`], below a folder of the test.
const GRANTS: &str = r#"
[[file]]
path   = "FOLDER/granted"
access = "read"
why    = "The test's."

[[file]]
path   = "${data}"
access = "write"
create = true
delete = true
why    = "The test's."

[[connect]]
address = "example.invalid:443"
why     = "The test's."

[[listen]]
address = "127.0.0.1:65535"
why     = "The test's."

[[spawn]]
program = "${plugin}/tool"
why     = "The test's."
risk    = "It makes any system call that it can."
"#;

/// A profile for [`filer`]: `granted/` can be read, `beside/` cannot, and the plugin's own folder is its own. Nobody answers at the one
/// address, and nobody listens at the other.
pub(crate) fn native_files(folders: &Folders, disk: &str) -> hotcell::policy::Profile {
    for folder in ["granted", "beside"] {
        std::fs::create_dir(folders.join(folder)).expect("the folder is new");
        std::fs::write(folders.join(folder).join("text"), folder).expect("writable");
    }
    let disk = format!("disk        = \"{disk}\"");
    let replaced = [
        (
            "\"native-load\"]",
            "\"native-load\", \"connections\", \"listeners\", \"program-load\", \"programs\", \"program-pipes\", \"files-read\", \"files-write\", \"files-create\", \"files-delete\"]",
        ),
        ("landlock = 1", "landlock = 3"),
        ("processes   = 0", "processes   = 1"),
        ("file-size   = \"0 B\"", "file-size   = \"1 MiB\""),
        ("disk        = \"0 B\"", disk.as_str()),
    ];
    let grants = GRANTS.replace("FOLDER", &base(folders));
    profile("native-strict", "native-files", &replaced, &grants)
}

/// The crash lab, as a plugin that is granted all that [`native_files`] has.
pub(crate) fn filer(folders: &Folders) -> std::path::PathBuf {
    let more = serde_json::json!({
        "security_policy": { "profile": "native-files" },
        "permissions": { "filesystem": {
            "read_paths": [format!("{}/granted", base(folders))],
            "write_paths": ["${data}"], "create_files": true, "delete_files": true,
        }, "network": { "connect": ["example.invalid:443"], "listen": ["127.0.0.1:65535"] }, "process": { "spawn": ["${plugin}/tool"] } },
    });
    let path = native(folders, "filer", "crash-lab/native/crash_lab.so", more);
    std::fs::copy(package("crash-lab/program/tool"), path.join("tool")).expect("it is built");
    path
}

fn base(folders: &Folders) -> String {
    folders.join("").display().to_string().trim_end_matches('/').to_owned()
}

/// What was refused until now.
pub(crate) fn violations(events: &mut Events) -> Vec<Violation> {
    let kinds = std::iter::from_fn(|| events.try_next()).map(|event| event.kind);
    let refused = kinds.filter_map(|kind| match kind {
        EventKind::Violation(violation) => Some(violation),
        _ => None,
    });
    refused.collect()
}

/// Waits for what comes with nobody telling; fails after half a minute.
pub(crate) fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}
