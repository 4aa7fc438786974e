//! Another configuration for a plugin that runs: taken between two calls, or refused, and then the old one stays.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use hotcell::{CallError, ConfigureError, Host, Plugin};
use hotcell_tests::{Folders, fixture, package};
use serde_json::json;

mod common;

async fn host(folders: &Folders) -> Host {
    fixture::host(folders).build().await.expect("a host starts")
}

/// Whether the plugin has been told to be unhealthy.
async fn is_sick(plugin: &Plugin) -> bool {
    match plugin.health().await {
        Ok(()) => false,
        Err(CallError::Plugin(_)) => true,
        Err(error) => panic!("{error}"),
    }
}

async fn add(plugin: &Plugin) -> Vec<u8> {
    plugin.call_raw("add", Vec::new()).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_running_plugin_takes_another_configuration_and_keeps_its_state() {
    let folders = Folders::new();
    let host = host(&folders).await;
    for kind in ["notebook/native", "notebook/core"] {
        let plugin = host.load(package(kind)).await.unwrap_or_else(|error| panic!("{error}"));
        add(&plugin).await;
        let pid = plugin.evidence().expect("it runs").pid;
        assert!(!is_sick(&plugin).await);
        plugin.configure(&json!({ "fault": "unhealthy" })).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(is_sick(&plugin).await, "{kind}");
        assert_eq!(
            (add(&plugin).await.as_slice(), plugin.evidence().expect("it runs").pid),
            (b"2".as_slice(), pid)
        );
        // A worker that comes later has it, too.
        plugin.call_raw("crash", Vec::new()).await.expect_err("it crashes");
        assert_eq!(add(&plugin).await, b"1");
        assert!(is_sick(&plugin).await, "{kind}");
        plugin.unload().await;
    }
    host.shutdown().await;
}

#[tokio::test]
async fn what_a_plugin_refuses_leaves_the_configuration_that_it_had() {
    let folders = Folders::new();
    let host = host(&folders).await;
    let more = json!({ "instances": 3, "config": { "fault": "none" } });
    let path = common::native(&folders, "configured", "notebook/native/notebook.so", more);
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    let refused = plugin.configure(&json!({ "fault": "no-such-fault" })).await.expect_err("it knows none");
    assert!(matches!(&refused, ConfigureError::NotTaken(CallError::Plugin(_))), "{refused}");
    let large = plugin.configure(&json!({ "fault": "x".repeat(30_000) })).await.expect_err("it is too large");
    assert!(matches!(&large, ConfigureError::Unfit(_)), "{large}");
    for _ in 0..6 {
        assert!(!is_sick(&plugin).await);
    }
    // Every instance takes a good one.
    plugin.configure(&json!({ "fault": "unhealthy" })).await.unwrap_or_else(|error| panic!("{error}"));
    let (first, second, third) = tokio::join!(is_sick(&plugin), is_sick(&plugin), is_sick(&plugin));
    assert!(first && second && third);
    // And a new version, which refuses it by its health; with another one it comes.
    plugin.reload().await.expect_err("it is not healthy with it");
    plugin.configure(&json!({ "fault": "none" })).await.unwrap_or_else(|error| panic!("{error}"));
    plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    host.shutdown().await;
}

#[tokio::test]
async fn a_version_that_comes_back_gets_what_was_given_meanwhile() {
    let folders = Folders::new();
    let host = host(&folders).await;
    let path = common::native(&folders, "returns", "notebook/native/notebook.so", json!({}));
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    let old = plugin.evidence().expect("it runs").pid;
    plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    plugin.configure(&json!({ "fault": "unhealthy" })).await.unwrap_or_else(|error| panic!("{error}"));
    plugin.call_raw("crash", Vec::new()).await.expect_err("it crashes on probation");
    assert_eq!(plugin.evidence().expect("it runs").pid, old, "the old worker is back");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !is_sick(&plugin).await {
        assert!(std::time::Instant::now() < deadline, "it gets the new configuration");
    }
    host.shutdown().await;
}

#[tokio::test]
async fn a_plugin_without_a_function_for_it_says_so() {
    let folders = Folders::new();
    let host = host(&folders).await;
    for name in ["thumbnail", "greet/core", "greet/component"] {
        let plugin = host.load(package(name)).await.unwrap_or_else(|error| panic!("{error}"));
        let error = plugin.configure(&json!({})).await.expect_err("it has none");
        assert!(matches!(&error, ConfigureError::NotTaken(CallError::NoSuchExport(_))), "{name}: {error}");
    }
    let command = host.load(package("wordcount")).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(command.configure(&json!({})).await, Err(ConfigureError::Unfit(_))));
    host.shutdown().await;
}
