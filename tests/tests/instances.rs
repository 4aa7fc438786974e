//! Several workers of one plugin: side by side, each with a state and an end of its own.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use hotcell::{CallError, Host, Plugin};
use hotcell_tests::{Folders, Footprint, fixture};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};

mod common;

const LAB: &str = "crash-lab/native/crash_lab.so";

const GRANTS: &str = r#"
[[host-call]]
name = "test.meet"
why = "Answers when all instances ask."
[[host-call]]
name = "test.wait"
why = "Answers when the test says so."
"#;

/// What host calls of these tests wait for.
struct Gates {
    meeting: Arc<Barrier>,
    opened: Arc<Semaphore>,
}

async fn host(folders: &Folders, meet: usize) -> (Host, Gates) {
    let gates = Gates { meeting: Arc::new(Barrier::new(meet)), opened: Arc::new(Semaphore::new(0)) };
    let (meeting, opened) = (Arc::clone(&gates.meeting), Arc::clone(&gates.opened));
    let host = fixture::host(folders)
        .profile(common::profile("native-strict", "native-meeting", &[], GRANTS))
        .host_call("test.meet", move |_, _| {
            let meeting = Arc::clone(&meeting);
            async move {
                meeting.wait().await;
                Ok(b"met".to_vec())
            }
        })
        .host_call("test.wait", move |_, _| {
            let opened = Arc::clone(&opened);
            async move {
                opened.acquire().await.expect("never closed").forget();
                Ok(b"opened".to_vec())
            }
        });
    (host.build().await.expect("a host starts"), gates)
}

async fn load(host: &Host, folders: &Folders, artifact: &str, instances: usize) -> Plugin {
    let more = json!({
        "instances": instances,
        "permissions": { "host_calls": ["test.meet", "test.wait"] },
        "security_policy": { "profile": "native-meeting" },
    });
    let path = common::native(folders, &format!("of-{instances}"), artifact, more);
    host.load(path).await.unwrap_or_else(|error| panic!("{instances} instances load: {error}"))
}

#[tokio::test]
async fn each_instance_has_a_state_of_its_own() {
    let folders = Folders::new();
    let (host, _) = host(&folders, 1).await;
    for (instances, expected) in [(3, [1, 1, 1]), (1, [1, 2, 3])] {
        let plugin = load(&host, &folders, "counter/counter.so", instances).await;
        let add = async || {
            let value: Value = plugin.call("add", &json!({ "by": 1 })).await.expect("it counts");
            value["value"].as_i64().expect("a number")
        };
        // All three are entered before the first reply is taken: this runtime has one thread.
        let (first, second, third) = tokio::join!(add(), add(), add());
        let mut values = [first, second, third];
        values.sort_unstable();
        assert_eq!(values, expected, "{instances} instances");
    }
}

#[tokio::test]
async fn as_many_slow_calls_run_at_once_as_there_are_instances() {
    let folders = Folders::new();
    let (host, _) = host(&folders, 3).await;
    let plugin = load(&host, &folders, LAB, 3).await;
    for _ in 0..3 {
        let meet = || plugin.call_raw("host_call", b"test.meet\n".to_vec());
        let (first, second, third) = tokio::join!(meet(), meet(), meet());
        for reply in [first, second, third] {
            assert_eq!(reply.expect("all three run at once"), b"met");
        }
    }
}

#[tokio::test]
async fn an_instance_that_crashes_leaves_the_calls_of_the_others_alone() {
    let folders = Folders::new();
    let (host, gates) = host(&folders, 1).await;
    let plugin = load(&host, &folders, LAB, 3).await;
    let wait = || {
        let plugin = plugin.clone();
        tokio::spawn(async move { plugin.call_raw("host_call", b"test.wait\n".to_vec()).await })
    };
    let waiting = [wait(), wait()];
    for _ in 0..10 {
        let crashed = plugin.call_raw("abort", Vec::new()).await;
        assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
        let next = plugin.call_raw("ok", b"next".to_vec()).await;
        assert_eq!(next.expect("the third instance is replaced"), b"next");
    }
    assert!(waiting.iter().all(|call| !call.is_finished()), "control: two instances still wait");
    gates.opened.add_permits(2);
    for call in waiting {
        assert_eq!(call.await.expect("no panic").expect("its instance never ended"), b"opened");
    }
}

#[tokio::test]
async fn calls_that_are_given_up_at_once_cost_no_instance_its_place() {
    let folders = Folders::new();
    let (host, _) = host(&folders, 3).await;
    let plugin = load(&host, &folders, LAB, 3).await;
    for _ in 0..100 {
        // Entered, delivered, and taken back before the worker can have begun; or else it runs to its end.
        let given_up = plugin.call_raw("ok", b"given up".to_vec());
        let _ = tokio::time::timeout(std::time::Duration::ZERO, given_up).await;
    }
    let meet = || plugin.call_raw("host_call", b"test.meet\n".to_vec());
    let (first, second, third) = tokio::join!(meet(), meet(), meet());
    for reply in [first, second, third] {
        assert_eq!(reply.expect("all three run at once"), b"met");
    }
}

#[test]
fn unloading_ends_every_instance() {
    let _alone = common::alone();
    let folders = Folders::new();
    common::runtime().block_on(async {
        let (host, _) = host(&folders, 1).await;
        let one = load(&host, &folders, LAB, 1).await;
        one.call_raw("ok", Vec::new()).await.expect("it answers");
        let before = Footprint::now();
        let four = load(&host, &folders, LAB, 4).await;
        assert!(Footprint::now().descendants >= before.descendants + 4, "control: each has a process");
        let hang = || {
            let plugin = four.clone();
            tokio::spawn(async move { plugin.call_raw("sleep_forever", Vec::new()).await })
        };
        let hanging: Vec<_> = (0..6).map(|_| hang()).collect();
        four.clone().unload().await;
        for call in hanging {
            let ended = call.await.expect("no panic");
            assert!(matches!(ended, Err(CallError::HostShutdown)), "{ended:?}");
        }
        drop(four);
        before.must_return();
        assert_eq!(one.call_raw("ok", b"on".to_vec()).await.expect("the other plugin goes on"), b"on");
    });
}
