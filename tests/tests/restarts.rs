//! Crashes and starts that fail, again and again: what is tried again, when, and what it costs.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotcell::{CallError, Class, EventKind, Events, Host, LoadOptions, Plugin, Status};
use hotcell_tests::{Folders, fixture};
use serde_json::{Value, json};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host whose plugins ask it whether they may start.
struct Setup {
    host: Host,
    folders: Folders,
    starts: Arc<AtomicU32>,
    may_start: Arc<AtomicBool>,
}

impl Setup {
    async fn new() -> Setup {
        Setup::over(Folders::new()).await
    }

    /// A host that comes after this one.
    async fn next(self) -> Setup {
        self.host.shutdown().await;
        Setup::over(self.folders).await
    }

    async fn over(folders: Folders) -> Setup {
        let (starts, may_start) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(true)));
        let profile = common::profile(
            "native-strict",
            "native-asks",
            &[],
            "\n[[host-call]]\nname = \"test.start\"\nwhy = \"The test's.\"\n",
        );
        let (counted, allowed) = (Arc::clone(&starts), Arc::clone(&may_start));
        let builder = fixture::host(&folders).profile(profile).host_call("test.start", move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let may = allowed.load(Ordering::Relaxed);
            async move { if may { Ok(Vec::new()) } else { Err("not now".to_owned()) } }
        });
        let host = builder.build().await.expect("a host starts");
        Setup { host, folders, starts, may_start }
    }

    async fn load(&self, name: &str, restart: Value) -> Plugin {
        let more = json!({
            "config": { "fault": "asks-to-start" },
            "permissions": { "host_calls": ["test.start"] },
            "security_policy": { "profile": "native-asks", "restart": restart },
        });
        let path = common::native(&self.folders, name, "notebook/native/notebook.so", more);
        self.host.load(path).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

async fn crash(plugin: &Plugin) {
    let ended = plugin.call_raw("crash", Vec::new()).await;
    assert!(matches!(ended, Err(CallError::Crashed(_))), "{ended:?}");
}

async fn add(plugin: &Plugin) -> Result<Vec<u8>, CallError> {
    plugin.call_raw("add", Vec::new()).await
}

async fn quarantined(events: &mut Events) -> String {
    let told = async {
        loop {
            if let EventKind::Quarantined { reason } = events.next().await.expect("the host lives").kind {
                return reason;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told")
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_tried_ever_less_and_again_once_it_can() {
    let setup = Setup::new().await;
    let mut events = setup.host.events();
    let plugin = setup.load("storm", json!({ "backoff": "20 ms" })).await;
    assert_eq!(plugin.status(), Status::Ready);
    crash(&plugin).await;
    setup.may_start.store(false, Ordering::Relaxed);
    let before = setup.starts.load(Ordering::Relaxed);
    let (mut refused, mut failed) = (0_u32, 0_u32);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(plugin.status(), Status::Quarantined { .. }) {
        assert!(Instant::now() < deadline, "it is in quarantine at last: {}", plugin.status());
        match add(&plugin).await {
            Err(CallError::Down { reason, retry_after: Some(_), .. }) => {
                assert!(reason.contains("not now"), "{reason}");
                refused += 1;
            }
            Err(CallError::Start(error)) => {
                assert!(error.to_string().contains("not now"), "{error}");
                failed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let starts = setup.starts.load(Ordering::Relaxed) - before;
    assert_eq!((failed, starts), (5, 5), "five starts, for {refused} calls that were refused without one");
    assert!(refused > 5, "{refused}");
    assert!(quarantined(&mut events).await.contains("not now"));
    // Others notice nothing, and it comes back by itself.
    setup.may_start.store(true, Ordering::Relaxed);
    let other = setup.load("other", json!({})).await;
    assert_eq!(add(&other).await.expect("it answers"), b"1");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match add(&plugin).await {
            Ok(count) => break assert_eq!(count, b"1"),
            Err(CallError::Down { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "it is tried again: {}", plugin.status());
    }
    assert_eq!(plugin.status(), Status::Ready);
    setup.host.shutdown().await;
}

#[tokio::test]
async fn crashes_in_calls_are_replaced_without_a_bound_unless_the_manifest_has_one() {
    let setup = Setup::new().await;
    let mut events = setup.host.events();
    let unbounded = setup.load("unbounded", json!({})).await;
    for _ in 0..20 {
        crash(&unbounded).await;
        assert_eq!(add(&unbounded).await.expect("the next call starts another"), b"1");
    }
    let bounded = setup.load("bounded", json!({ "max_restarts": 3 })).await;
    for _ in 0..3 {
        crash(&bounded).await;
        assert_eq!(add(&bounded).await.expect("within the bound"), b"1");
    }
    crash(&bounded).await;
    let error = add(&bounded).await.expect_err("too many");
    assert!(matches!(error, CallError::Down { retry_after: Some(_), .. }), "{error}");
    assert_eq!(error.class(), Class::Crashed);
    assert!(error.to_string().contains("crashed 4 times"), "{error}");
    assert!(quarantined(&mut events).await.contains("crashed 4 times"));
    assert!(matches!(bounded.status(), Status::Quarantined { .. }));
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_plugin_that_is_not_to_be_restarted_stays_down_until_it_is_reloaded() {
    let setup = Setup::new().await;
    let plugin = setup.load("never", json!({ "mode": "never" })).await;
    crash(&plugin).await;
    for _ in 0..3 {
        let error = add(&plugin).await.expect_err("it stays down");
        assert!(matches!(error, CallError::Down { retry_after: None, .. }), "{error}");
    }
    plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plugin).await.expect("it is back"), b"1");
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_worker_is_replaced_at_once_where_the_manifest_says_so() {
    let setup = Setup::new().await;
    let (eager, lazy) =
        (setup.load("eager", json!({ "mode": "on-crash" })).await, setup.load("lazy", json!({})).await);
    for plugin in [&eager, &lazy] {
        crash(plugin).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while eager.status() != Status::Ready {
        assert!(Instant::now() < deadline, "{}", eager.status());
        tokio::task::yield_now().await;
    }
    assert_eq!(lazy.status(), Status::Idle, "control: this one waits for a call");
    assert_eq!(add(&lazy).await.expect("which starts it"), b"1");
    setup.host.shutdown().await;
}

#[tokio::test]
async fn an_unloaded_plugin_is_stopped() {
    let setup = Setup::new().await;
    let plugin = setup.load("stopped", json!({})).await;
    plugin.clone().unload().await;
    assert_eq!(plugin.status(), Status::Stopped);
    assert!(matches!(add(&plugin).await, Err(CallError::HostShutdown)));
    setup.host.shutdown().await;
}

#[tokio::test]
async fn a_quarantine_outlives_the_host_for_that_version_alone() {
    let setup = Setup::new().await;
    let plugin = setup.load("never", json!({ "mode": "never" })).await;
    let mut events = setup.host.events();
    crash(&plugin).await;
    assert!(quarantined(&mut events).await.contains("not to be restarted"));
    drop(plugin);

    let setup = setup.next().await;
    let path = setup.folders.join("never");
    let refused = setup.host.load(&path).await.expect_err("it is in quarantine");
    assert_eq!(refused.class(), Class::Crashed);
    assert!(refused.to_string().contains("quarantine"), "{refused}");
    let manifest = path.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("is there");
    std::fs::write(&manifest, text.replace("0.1.0", "0.1.1")).expect("is writable");
    setup.host.load(&path).await.expect("another version may start");
    std::fs::write(&manifest, text).expect("is writable");

    let setup = setup.next().await;
    let options = LoadOptions { retry: true, ..LoadOptions::default() };
    let plugin = setup.host.load_with(&path, options).await.expect("it was asked for");
    assert_eq!(add(&plugin).await.expect("it answers"), b"1");
    drop(plugin);
    let setup = setup.next().await;
    setup.host.load(&path).await.expect("its quarantine is over");
}
