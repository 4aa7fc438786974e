//! What is in force on a worker, as the kernel says, signed by the host.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use hotcell::{Receipt, ReceiptError};
use hotcell_tests::{Folders, command, fixture, package};
use serde_json::{Value, json};

mod common;

fn body(receipt: &Receipt) -> Value {
    serde_json::from_str(receipt.body()).expect("JSON")
}

fn at<'v>(value: &'v Value, pointer: &str) -> &'v Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[tokio::test]
async fn a_receipt_is_what_the_kernel_says_of_each_worker() {
    let setup = common::Setup::new().await;
    let path =
        common::native(&setup.folders, "two", "crash-lab/native/crash_lab.so", json!({ "instances": 2 }));
    let plugin = setup.host.load(&path).await.expect("it loads");
    let receipts = plugin.receipts().await.expect("they live");
    assert_eq!(receipts.len(), 2);
    let key = setup.host.receipt_key().await.expect("made");
    for receipt in &receipts {
        let verified = Receipt::verify(&receipt.to_string(), &key).expect("this host's");
        let body = body(&verified);
        let pid = at(&body, "/evidence/pid").as_u64().expect("a number");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        for key in ["Seccomp", "NoNewPrivs", "CapEff", "Threads"] {
            let said = at(&body, &format!("/in_force/status/{key}")).as_str().expect("text");
            assert!(
                status.lines().any(|line| line.split_whitespace().eq([&format!("{key}:"), said])),
                "{key} {said}"
            );
        }
        assert_eq!(at(&body, "/in_force/status/Seccomp"), "2");
        assert_eq!(at(&body, "/in_force/limits/Max core file size"), "0 0 bytes");
        for namespace in ["ipc", "net", "uts"] {
            assert_eq!(at(&body, &format!("/in_force/namespaces/{namespace}/apart")), true, "{namespace}");
        }
        assert_eq!(at(&body, "/plugin"), "dev.hotcell.test.two");
        assert_eq!(at(&body, "/digests/artifact"), at(&body, "/digests/loaded"), "nothing was compiled");
    }
    let pids: Vec<_> = receipts.iter().map(|receipt| body(receipt)["evidence"]["pid"].clone()).collect();
    assert_ne!(pids.first(), pids.last());
    plugin.call_raw("abort", Vec::new()).await.expect_err("it crashes");
    plugin.call_raw("ok", Vec::new()).await.expect("a worker");
    let later = plugin.receipts().await.expect("they live");
    assert!(later.iter().any(|receipt| !pids.contains(&body(receipt)["evidence"]["pid"])) || later.len() < 2);
}

#[tokio::test]
async fn a_receipt_of_wasm_names_module_and_native_code() {
    let setup = common::Setup::new().await;
    let plugin = setup.load("crash-lab/wasm").await;
    let receipts = plugin.receipts().await.expect("it lives");
    let [receipt] = receipts.as_slice() else { panic!("one worker") };
    let body = body(receipt);
    assert_ne!(at(&body, "/digests/artifact"), at(&body, "/digests/loaded"));
    let digits = |name: &str| at(&body, &format!("/digests/{name}")).as_str().map(str::len);
    assert!(["plan", "profile", "artifact", "loaded"].iter().all(|name| digits(name) == Some(64)));
    let other = Folders::new();
    let stranger = fixture::host(&other).build().await.expect("a host starts");
    let key = stranger.receipt_key().await.expect("made");
    assert!(matches!(Receipt::verify(&receipt.to_string(), &key), Err(ReceiptError::OtherKey(_))));
}

#[test]
fn the_command_shows_and_verifies_receipts() {
    let folders = Folders::new();
    let hotcell = |arguments: &[&str]| command::run(command::command(&folders).args(arguments));
    let plugin = package("crash-lab/native").display().to_string();
    let shown = hotcell(&["receipt", "show", &plugin]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    let file = folders.join("receipt.json");
    std::fs::write(&file, &shown.out).expect("writable");
    let file = file.display().to_string();
    let verified = hotcell(&["receipt", "verify", &file]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("dev.hotcell.crash-lab-native"));
    let key = hotcell(&["receipt", "key"]).out.trim().to_owned();
    assert_eq!(hotcell(&["receipt", "verify", &file, "--key", &key]).code, Some(0));
    std::fs::write(&file, shown.out.replace("crash-lab", "good-lab")).expect("writable");
    let changed = hotcell(&["receipt", "verify", &file, "--key", &key]);
    assert_eq!(changed.code, Some(3), "{}", changed.err);
    std::fs::write(&file, "{}").expect("writable");
    assert_eq!(hotcell(&["receipt", "verify", &file, "--key", &key]).code, Some(2));
}
