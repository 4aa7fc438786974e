//! Plugins that nobody calls, whose workers end and come back with the next call; and plugins that are asked for their health.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hotcell::{CallError, Checkpoint, EventKind, LoadOptions, Plugin, Status};
use tokio::time::timeout;

mod common;

use common::Setup;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const SOON: Duration = Duration::from_millis(30);

async fn load(setup: &Setup, checkpoint: Checkpoint) -> Plugin {
    let options = LoadOptions { checkpoint, idle_stop: Some(SOON), ..LoadOptions::default() };
    let package = hotcell_tests::package("notebook/native");
    setup.host.load_with(package, options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn add(plugin: &Plugin) -> String {
    let count = plugin.call_raw("add", Vec::new()).await.unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(count).expect("text")
}

/// Waits until the plugin's workers were ended for want of calls.
async fn rests(setup: &Setup, plugin: &Plugin) {
    let mut events = setup.host.events();
    let rested = async {
        while plugin.status() != Status::Idle {
            if events.next().await.is_some_and(|event| event.kind == EventKind::Idle) {
                break;
            }
        }
    };
    timeout(PATIENCE, rested).await.expect("its workers are ended");
}

#[tokio::test]
async fn a_plugin_that_nobody_calls_has_no_worker_and_keeps_its_state() {
    let setup = Setup::new().await;
    let plugin = load(&setup, Checkpoint::OnRequest).await;
    for count in ["1", "2", "3"] {
        assert_eq!(add(&plugin).await, count);
        rests(&setup, &plugin).await;
        assert_eq!(plugin.receipts().await.expect("nobody to ask").len(), 0, "no worker is there");
    }
    assert_eq!(setup.host.crashes().list().expect("is readable"), [], "it is no crash");
}

#[tokio::test]
async fn without_checkpoints_the_state_goes_with_the_worker() {
    let setup = Setup::new().await;
    let plugin = load(&setup, Checkpoint::Never).await;
    assert_eq!(add(&plugin).await, "1");
    rests(&setup, &plugin).await;
    assert_eq!(add(&plugin).await, "1");
}

#[tokio::test]
async fn a_plugin_that_is_called_is_left_alone() {
    let setup = Setup::new().await;
    let options = LoadOptions { idle_stop: Some(SOON), ..LoadOptions::default() };
    let package = hotcell_tests::package("crash-lab/native");
    let plugin = setup.host.load_with(package, options).await.unwrap_or_else(|error| panic!("{error}"));
    let long = plugin.request("sleep_forever").deadline(SOON * 10).raw(Vec::new()).await;
    assert!(matches!(long, Err(CallError::Timeout)), "its deadline ends it, and nothing before: {long:?}");
    let always = LoadOptions::default();
    let kept = setup.host.load_with(hotcell_tests::package("notebook/native"), always).await.expect("loads");
    rests(&setup, &plugin_that_rests(&setup).await).await;
    assert_eq!(kept.status(), Status::Ready, "control: without the option a worker waits");
}

async fn plugin_that_rests(setup: &Setup) -> Plugin {
    let plugin = load(setup, Checkpoint::Never).await;
    add(&plugin).await;
    plugin
}

#[tokio::test]
async fn a_plugin_that_says_that_it_is_unwell_is_ended_and_replaced() {
    let setup = Setup::new().await;
    let mut events = setup.host.events();
    let options = LoadOptions {
        checkpoint: Checkpoint::OnRequest,
        health_every: Some(SOON),
        // Well until it was called.
        config: Some(serde_json::json!({ "fault": "sickens" })),
        ..LoadOptions::default()
    };
    let package = hotcell_tests::package("notebook/native");
    let plugin = setup.host.load_with(package, options).await.unwrap_or_else(|error| panic!("{error}"));
    let first = plugin.evidence().expect("it runs").pid;
    assert_eq!(add(&plugin).await, "1");
    let unwell = async {
        loop {
            if let Some(EventKind::Unhealthy { reason }) = events.next().await.map(|event| event.kind) {
                return reason;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, unwell).await.expect("it is asked"), "not today");
    assert_eq!(add(&plugin).await, "1", "another worker");
    assert_ne!(plugin.evidence().expect("it runs").pid, first);
    assert_eq!(setup.host.crashes().list().expect("is readable"), [], "the host ended it");
}

/// Each has its own time: what comes more often does not put off what comes less often.
#[tokio::test]
async fn health_checks_and_checkpoints_do_not_put_off_the_rest() {
    let setup = Setup::new().await;
    let options = LoadOptions {
        checkpoint: Checkpoint::Every(SOON),
        health_every: Some(SOON / 2),
        idle_stop: Some(SOON * 5),
        ..LoadOptions::default()
    };
    let package = hotcell_tests::package("notebook/native");
    let plugin = setup.host.load_with(package, options).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(add(&plugin).await, "1");
    rests(&setup, &plugin).await;
    assert_eq!(add(&plugin).await, "2", "with its state");
}
