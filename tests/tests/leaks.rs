//! What thousands of crashes, cancelled calls and reloads leave behind: nothing.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hotcell::CallError;
use hotcell_tests::Footprint;

mod common;

/// Crashes after which the footprint is taken, and after which it must be the same.
const FEW: usize = 100;
const MANY: usize = 10_000;

#[test]
fn ten_thousand_crashes_leave_what_a_hundred_did() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let setup = common::Setup::new().await;
        let plugin = setup.load("crash-lab/native").await;
        let crash = async |times: usize| {
            for _ in 0..times {
                let result = plugin.call_raw("abort", Vec::new()).await;
                assert!(matches!(result, Err(CallError::Crashed(_))), "{result:?}");
            }
            plugin.call_raw("ok", b"alive".to_vec()).await.expect("a fresh worker answers");
        };
        crash(FEW).await;
        let after_few = Footprint::now();
        crash(MANY - FEW).await;
        after_few.must_return();
    });
}

#[test]
fn a_host_that_is_shut_down_leaves_nothing() {
    let _alone = common::alone();
    // The first runtime of a process makes what all later ones share.
    drop(common::runtime());
    let before = Footprint::now();
    let runtime = common::runtime();
    runtime.block_on(async {
        let setup = common::Setup::new().await;
        let plugin = setup.load("crash-lab/native").await;
        plugin.call_raw("ok", Vec::new()).await.expect("it answers");
        let hanging = plugin.call_raw("sleep_forever", Vec::new());
        let ended = tokio::time::timeout(Duration::from_millis(200), hanging).await;
        assert!(ended.is_err(), "control: the call still runs");
        setup.host.shutdown().await;
    });
    drop(runtime);
    before.must_return();
}

#[test]
fn an_abandoned_call_is_ended_and_the_next_one_served() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let setup = common::Setup::new().await;
        let plugin = setup.load("crash-lab/native").await;
        plugin.call_raw("ok", Vec::new()).await.expect("it answers");
        let before = Footprint::now();
        for _ in 0..3 {
            let hanging = plugin.call_raw("spin", Vec::new());
            let ended = tokio::time::timeout(Duration::from_millis(50), hanging).await;
            assert!(ended.is_err(), "control: the call still runs");
            let next = plugin.call_raw("ok", b"next".to_vec()).await.expect("the next call is served");
            assert_eq!(next, b"next");
        }
        before.must_return();
    });
}

#[test]
fn a_quick_call_that_is_abandoned_does_not_cost_the_plugin_its_state() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let setup = common::Setup::new().await;
        let plugin = setup.load("counter").await;
        let add = serde_json::json!({ "by": 1 });
        let _: serde_json::Value = plugin.call("add", &add).await.expect("it counts");
        // Polled once, so that it is queued; then dropped.
        let abandoned = plugin.call::<_, serde_json::Value>("value", &serde_json::Value::Null);
        let _ = tokio::time::timeout(Duration::ZERO, abandoned).await;
        let value: serde_json::Value =
            plugin.call("value", &serde_json::Value::Null).await.expect("it answers");
        assert_eq!(value["value"], 1);
    });
}
