//! A host for tests of calls: a profile with room for many, and host calls that the test controls.

use std::sync::Arc;
use std::time::Duration;

use hotcell::{CallError, Host, HostBuilder, Plugin, blocking};
use hotcell_tests::{Folders, fixture};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::common;

/// The profiles' `message` limit, in bytes.
pub(crate) const MESSAGE: usize = 6 << 20;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

const GRANTS: &str = r#"
[[host-call]]
name = "test.wait"
why = "Answers when the test says so."
[[host-call]]
name = "test.echo"
why = "Answers at once."
[[host-call]]
name = "test.later"
why = "Answers after a while."
[[host-call]]
name = "test.panic"
why = "Never answers."
[[host-call]]
name = "test.zeros"
why = "Answers with as many zeros as it is asked for."
"#;

const LAB: &str = "crash-lab/native/crash_lab.so";

/// A module that asks its host, and takes inputs of any size.
const MODULE: &str = r#"(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))
  (import "hotcell" "host_call" (func $host_call (param i32 i32 i32 i32) (result i64)))
  (import "hotcell" "host_take" (func $host_take (param i32 i32) (result i32)))
  (memory (export "memory") 2048)
  (data (i32.const 16) "test.echo")
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 0x10000))
  (func (export "hotcell_export_ok") (param i32 i32) (result i32)
    (call $reply (local.get 0) (local.get 1))
    (i32.const 0))
  (func (export "hotcell_export_giant_reply") (param i32 i32) (result i32)
    (call $reply (i32.const 0x10000) (i32.const 0x600001))
    (i32.const 0))
  (func (export "hotcell_export_ask") (param i32 i32) (result i32)
    (local $len i32)
    (local.set $len (i32.wrap_i64 (call $host_call (i32.const 16) (i32.const 9) (local.get 0) (local.get 1))))
    (call $reply (i32.const 0x4000000) (call $host_take (i32.const 0x4000000) (local.get $len)))
    (i32.const 0)))"#;

/// What `test.wait` waits for.
#[derive(Clone)]
pub(crate) struct Gates {
    opened: Arc<Semaphore>,
    asked: Arc<Semaphore>,
}

impl Gates {
    fn new() -> Gates {
        Gates { opened: Arc::new(Semaphore::new(0)), asked: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until so many host calls have come.
    pub(crate) async fn asked(&self, count: u32) {
        let asked = tokio::time::timeout(LONG, self.asked.acquire_many(count)).await;
        asked.expect("the plugin asks").expect("never closed").forget();
    }

    /// Lets so many of them be answered.
    pub(crate) fn open(&self, count: usize) {
        self.opened.add_permits(count);
    }
}

/// A host and what its host calls wait for.
pub(crate) struct Calls {
    pub(crate) host: Host,
    pub(crate) gates: Gates,
    folders: Folders,
}

impl Calls {
    pub(crate) async fn new() -> Calls {
        let (folders, gates) = (Folders::new(), Gates::new());
        let host = builder(&folders, &gates).build().await.expect("a host starts");
        Calls { host, gates, folders }
    }

    /// The native crash lab.
    pub(crate) async fn native(&self, name: &str, instances: usize) -> Plugin {
        let path = common::native(&self.folders, name, LAB, manifest("native-calls", instances));
        self.host.load(path).await.unwrap_or_else(|error| panic!("{name} loads: {error}"))
    }

    /// A wasm module with the exports `ok` and `ask`.
    pub(crate) async fn wasm(&self, name: &str) -> Plugin {
        let mut manifest = manifest("pure-calls", 1);
        let more = json!({
            "schema": 1, "id": format!("dev.hotcell.test.{name}"), "name": name, "version": "0.1.0",
            "plugin_type": "wasm", "wasm_path": "plugin.wat", "runtime": "core",
        });
        manifest.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        let path = self.folders.join(name);
        std::fs::create_dir(&path).expect("the folder is new");
        std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
        std::fs::write(path.join("plugin.wat"), MODULE).expect("writable");
        self.host.load(path).await.unwrap_or_else(|error| panic!("{name} loads: {error}"))
    }
}

/// A blocking host with the native crash lab.
pub(crate) fn blocking(name: &str) -> (blocking::Host, blocking::Plugin, Gates, Folders) {
    let (folders, gates) = (Folders::new(), Gates::new());
    let host = builder(&folders, &gates).build_blocking().expect("a host starts");
    let path = common::native(&folders, name, LAB, manifest("native-calls", 1));
    let plugin = host.load(path).unwrap_or_else(|error| panic!("{name} loads: {error}"));
    (host, plugin, gates, folders)
}

fn manifest(profile: &str, instances: usize) -> serde_json::Value {
    let host_calls = ["log", "test.wait", "test.echo", "test.later", "test.panic", "test.zeros"];
    json!({
        "instances": instances,
        "permissions": { "host_calls": host_calls },
        "security_policy": { "profile": profile },
    })
}

fn builder(folders: &Folders, gates: &Gates) -> HostBuilder {
    let native = [
        (r#"message     = "64 MiB""#, r#"message     = "6 MiB""#),
        ("outstanding = 64", "outstanding = 512"),
    ];
    let wasm = [
        (r#"message     = "16 MiB""#, r#"message     = "6 MiB""#),
        ("outstanding = 64", "outstanding = 512"),
    ];
    let Gates { opened, asked } = gates.clone();
    fixture::host(folders)
        .profile(common::profile("native-strict", "native-calls", &native, GRANTS))
        .profile(common::profile("pure-compute", "pure-calls", &wasm, GRANTS))
        .host_call("test.wait", move |_, _| {
            let opened = Arc::clone(&opened);
            asked.add_permits(1);
            async move {
                opened.acquire().await.expect("never closed").forget();
                Ok(b"opened".to_vec())
            }
        })
        .host_call("test.echo", async |_, input| Ok(input))
        .host_call("test.later", async |_, input| {
            later().await;
            Ok(input)
        })
        .host_call("test.panic", async |_, input: Vec<u8>| {
            if input.is_empty() {
                // A panic that prints nothing.
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            Ok(input)
        })
        .host_call("test.zeros", async |_, input: Vec<u8>| {
            let size = String::from_utf8_lossy(&input).parse().map_err(|_| "no number".to_owned())?;
            Ok(vec![0; size])
        })
}

/// Completes from another task, some turns later.
async fn later() {
    let notify = Arc::new(Notify::new());
    let told = Arc::clone(&notify);
    tokio::spawn(async move {
        tokio::task::yield_now().await;
        told.notify_one();
    });
    notify.notified().await;
}

/// Bytes that differ from one seed to the next.
pub(crate) fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from((n.wrapping_mul(31) ^ seed) % 251).expect("small")).collect()
}

/// The one end of a call that runs in a task.
pub(crate) async fn ends(task: JoinHandle<Result<Vec<u8>, CallError>>) -> Result<Vec<u8>, CallError> {
    tokio::time::timeout(LONG, task).await.expect("every call ends").expect("no panic")
}
