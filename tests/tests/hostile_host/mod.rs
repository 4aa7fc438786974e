//! A host whose native workers are the fake one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use hotcell::policy::Profile;
use hotcell::{CallError, Events, Host, HostBuilder, Plugin};
use hotcell_tests::{Folders, fixture, package};
use serde_json::{Value, json};

/// The hostile plugin's id.
pub(crate) const ID: &str = "dev.hotcell.fake";

/// A profile that gives a start little time.
pub(crate) const IMPATIENT: &str = "native-impatient";

/// Host calls of these tests: one that never answers, and one that answers more than a ring of messages holds.
const GRANTS: &str = r#"
[[host-call]]
name = "test.slow"
why = "Waits until it is dropped."
[[host-call]]
name = "test.large"
why = "Answers with 1 MiB."
"#;

/// The host, a hostile plugin, and an honest wasm plugin beside it, whose worker is the real one.
pub(crate) struct Hostile {
    pub(crate) host: Host,
    pub(crate) plugin: Plugin,
    pub(crate) neighbour: Plugin,
    pub(crate) events: Events,
    folders: Folders,
}

impl Hostile {
    pub(crate) async fn new() -> Hostile {
        let folders = Folders::new();
        let host = builder(&folders).build().await.expect("a host starts");
        let events = host.events();
        let neighbour = host.load(package("crash-lab/wasm")).await.expect("the neighbour loads");
        let plugin = host.load(fake(&folders, "fake", json!({}))).await;
        let plugin = plugin.unwrap_or_else(|error| panic!("the fake worker starts: {error}"));
        Hostile { host, plugin, neighbour, events, folders }
    }

    /// Loads another fake plugin, with more in its manifest.
    pub(crate) async fn load_more(&self, name: &str, more: Value) -> Result<Plugin, hotcell::Error> {
        self.host.load(fake(&self.folders, name, more)).await
    }

    /// Has the next call served by a worker that has done nothing yet, and forgets earlier events.
    pub(crate) async fn fresh_worker(&mut self) {
        // One that takes no call is replaced after a second.
        let exit = || self.plugin.request("exit").deadline(Duration::from_millis(1500)).raw(Vec::new());
        while !matches!(exit().await, Err(CallError::Crashed(_))) {}
        self.events = self.host.events();
    }
}

/// A host's builder with the fake worker among its programs.
pub(crate) fn builder(folders: &Folders) -> HostBuilder {
    let programs = folders.join("programs");
    fs::create_dir(&programs).expect("the folder is new");
    for (from, to) in [
        ("hotcell-launcher", "hotcell-launcher"),
        ("hotcell-compiler", "hotcell-compiler"),
        ("fake_worker", "hotcell-worker"),
    ] {
        let to = programs.join(to);
        fs::copy(fixture::programs().join(from), &to).expect("it is built");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("it is this user's");
    }
    let strict = fixture::root().join("sandbox-profiles/native-strict.toml");
    let text = fs::read_to_string(strict).expect("it ships");
    let profile = |name: &str, start: &str| {
        let text = text.replace(r#"start       = "10 s""#, &format!("start = \"{start}\""));
        let profile = Profile::parse(&format!("{name}.toml"), &format!("{text}{GRANTS}"));
        profile.unwrap_or_else(|error| panic!("{error}"))
    };
    fixture::host(folders)
        .worker(programs)
        .profile(profile("native-hostile", "60 s"))
        .profile(profile(IMPATIENT, "1 s"))
        .host_call("test.slow", async |_, _| std::future::pending().await)
        .host_call("test.large", async |_, _| Ok(vec![1; 1 << 20]))
}

/// A package whose artifact nobody looks into: the fake worker is the plugin. `more` goes into its manifest.
pub(crate) fn fake(folders: &Folders, name: &str, more: Value) -> PathBuf {
    let path = folders.join(name);
    fs::create_dir(&path).expect("new");
    let mut manifest = json!({
        "schema": 1, "id": ID, "name": "Fake", "version": "0.1.0",
        "plugin_type": "dylib", "dylib_path": "fake.so",
        "permissions": { "host_calls": ["log", "test.slow", "test.large"] },
        "security_policy": { "profile": "native-hostile" },
    });
    for (key, value) in more.as_object().expect("a table") {
        manifest[key] = value.clone();
    }
    fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    fs::write(path.join("fake.so"), "no library").expect("writable");
    path
}
