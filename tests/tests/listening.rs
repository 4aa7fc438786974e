//! Addresses at which the host listens for a plugin: to granted ones only, shared by its workers, kept over crashes and reloads. Native
//! code may ask hotcell or just bind; a component has `wasi:sockets`.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use hotcell::{CallError, Class, EventKind, Host, HostBuilder, Plugin, ReloadOptions};
use hotcell_tests::{Folders, Footprint, fixture};
use serde_json::json;

mod common;

/// An address of loopback where nobody listens.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.local_addr().expect("it is bound").to_string()
}

/// Profiles that grant these addresses.
fn builder(folders: &Folders, granted: &[&str]) -> HostBuilder {
    let grant =
        |address: &&str| format!("\n[[listen]]\naddress = \"{address}\"\nwhy = \"A test asks it.\"\n");
    let grants: String = granted.iter().map(grant).collect();
    let native = [("\"native-load\"]", "\"native-load\", \"connections\", \"listeners\"]")];
    let wasm = [
        ("runtime = [\"core\", \"component\"]", "runtime = \"component\""),
        ("\"seal\"]", "\"seal\", \"wasi-connections\", \"wasi-listeners\"]"),
    ];
    fixture::host(folders)
        .profile(common::profile("native-strict", "serve", &native, &grants))
        .profile(common::profile("pure-compute", "wasm-serve", &wasm, &grants))
}

fn native_package(folders: &Folders, name: &str, asked: &[&str]) -> PathBuf {
    let more = json!({
        "permissions": { "network": { "listen": asked } }, "security_policy": { "profile": "serve" },
    });
    common::native(folders, name, "crash-lab/native/crash_lab.so", more)
}

/// A native plugin that may listen at an address.
async fn server(folders: &Folders, name: &str, address: &str) -> (Host, Plugin) {
    let host = builder(folders, &[address]).build().await.expect("a host starts");
    let plugin = host.load(native_package(folders, name, &[address])).await;
    (host, plugin.unwrap_or_else(|error| panic!("{error}")))
}

async fn call(plugin: &Plugin, export: &str, input: &str) -> Result<String, String> {
    match plugin.call_raw(export, input.as_bytes().to_vec()).await {
        Ok(reply) => Ok(String::from_utf8_lossy(&reply).into_owned()),
        Err(CallError::Plugin(text)) => Err(text),
        Err(error) => panic!("{error}"),
    }
}

/// Says something to whoever listens, once somebody does, and all that it will.
fn say(address: &str, text: &str) -> TcpStream {
    let mut client = common::eventually(|| TcpStream::connect(address).ok());
    client.write_all(text.as_bytes()).expect("it is connected");
    client.shutdown(Shutdown::Write).expect("it is connected");
    client
}

fn hear(mut client: TcpStream) -> String {
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("text, and an end");
    heard
}

/// What the server returns, and what its client heard.
async fn served(
    plugin: &Plugin,
    export: &str,
    input: &str,
    address: &str,
) -> (Result<String, String>, String) {
    let at = address.to_owned();
    let client = tokio::task::spawn_blocking(move || hear(say(&at, "hello")));
    let said = call(plugin, export, input).await;
    (said, client.await.expect("it ends"))
}

fn nobody_listens(address: &str) -> bool {
    TcpStream::connect(address).is_err()
}

#[tokio::test]
async fn a_granted_address_is_served_and_told_of() {
    let (folders, address) = (Folders::new(), free());
    let (host, plugin) = server(&folders, "serves", &address).await;
    assert!(nobody_listens(&address), "the plugin has not asked");
    let mut events = host.events();
    let expected = (Ok("hello".to_owned()), "pong".to_owned());
    assert_eq!(served(&plugin, "net_serve", &address, &address).await, expected);
    assert_eq!(served(&plugin, "net_serve", &address, &address).await, expected, "more than once");
    let told: Vec<_> = std::iter::from_fn(|| events.try_next())
        .filter_map(|event| match event.kind {
            EventKind::Listening { address } => Some(address.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(told, [address.clone(), address.clone()]);
    plugin.unload().await;
    assert!(nobody_listens(&address), "the plugin is gone");
    host.shutdown().await;
}

/// Code that nobody wrote for hotcell: socket(2), bind(2), listen(2), poll(2), accept4(2).
#[tokio::test]
async fn a_plain_server_serves_as_it_would_anywhere() {
    let (folders, address) = (Folders::new(), free());
    let (host, plugin) = server(&folders, "plain", &address).await;
    let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    for input in [format!("{port}"), format!("-{port}"), format!("{port}")] {
        let (said, heard) = served(&plugin, "net_serve_plain", &input, &address).await;
        assert_eq!((said.as_deref(), heard.as_str()), (Ok("hello"), "pong"), "{input}");
    }
    let said = call(&plugin, "net_serve_plain", &(port ^ 1).to_string()).await;
    assert_eq!(said, Err("bind EACCES".to_owned()), "not granted");
    host.shutdown().await;
}

#[tokio::test]
async fn a_server_in_rust_listens_by_its_standard_library_or_by_the_sdk() {
    let (folders, address) = (Folders::new(), free());
    let host = builder(&folders, &[&address]).build().await.expect("a host starts");
    let more = json!({
        "permissions": { "network": { "listen": [address] } }, "security_policy": { "profile": "serve" },
    });
    let package = common::native(&folders, "rust", "crash-lab/rust/crash_lab_rust.so", more);
    let plugin = host.load(package).await.unwrap_or_else(|error| panic!("{error}"));
    for how in ["std", "sdk", "std"] {
        let (said, heard) = served(&plugin, "serve", &format!("{how} {address}"), &address).await;
        assert_eq!((said.as_deref(), heard.as_str()), (Ok("hello"), "pong"), "{how}");
    }
    let refused = call(&plugin, "serve", &format!("std {}", free())).await.expect_err("not granted");
    assert!(refused.contains("Permission denied"), "{refused}");
    host.shutdown().await;
}

#[tokio::test]
async fn no_other_address_is_and_the_refusal_says_which_lines_would_do() {
    let (folders, address) = (Folders::new(), free());
    let (host, plugin) = server(&folders, "asks", &address).await;
    let mut events = host.events();
    let port = address.rsplit(':').next().expect("a port");
    let others = [
        free(),
        format!("127.0.0.2:{port}"),
        format!("0.0.0.0:{port}"),
        "127.0.0.1:0".to_owned(),
        String::new(),
    ];
    for other in &others {
        assert_eq!(call(&plugin, "net_serve", other).await, Err("refused".to_owned()), "{other:?}");
        assert!(other.is_empty() || other.starts_with("0.0.0.0") || nobody_listens(other));
    }
    let told = common::violations(&mut events);
    assert_eq!(told.len(), others.len());
    let [first, _, all, ..] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(first.act, format!("listening at {}", others.first().map_or("", String::as_str)));
    let lines = first.remedy.join("; ");
    assert!(
        lines.contains("\"network\": { \"listen\": [") && lines.contains("profile: listen = "),
        "{lines}"
    );
    assert!(all.remedy.join("; ").contains("risk = "), "others could reach it: {all}");
    host.shutdown().await;
}

#[tokio::test]
async fn what_the_profile_does_not_grant_does_not_start() {
    let (folders, address) = (Folders::new(), free());
    let host = builder(&folders, &[&address]).build().await.expect("a host starts");
    let error = host.load(native_package(&folders, "wants", &[&free()])).await.expect_err("not granted");
    assert_eq!(error.class(), Class::Refused, "{error}");
    let silent = json!({ "security_policy": { "profile": "serve" } });
    let silent = common::native(&folders, "silent", "crash-lab/native/crash_lab.so", silent);
    let silent = host.load(silent).await.expect("it asks for nothing");
    assert_eq!(call(&silent, "net_serve", &address).await, Err("refused".to_owned()));
    assert!(nobody_listens(&address));
    host.shutdown().await;
}

#[tokio::test]
async fn a_listener_accepts_and_does_nothing_else() {
    let (folders, address) = (Folders::new(), free());
    let (host, plugin) = server(&folders, "tricks", &address).await;
    let said = call(&plugin, "net_listen_tricks", &address).await.expect("a reply");
    let expected = "bind EACCES connect EACCES fastopen EPERM send EPIPE reuseport EPERM transparent EPERM \
        getsockname EPERM listen done unbound listen EINVAL unbound accept EINVAL stderr listen ENOTSOCK \
        shutdown done then listen EINVAL then accept EINVAL then bind EACCES";
    assert_eq!(said, expected);
    let (said, heard) = served(&plugin, "net_serve", &address, &address).await;
    assert_eq!(
        (said.as_deref(), heard.as_str()),
        (Ok("hello"), "pong"),
        "what was shut down is opened again"
    );
    host.shutdown().await;
}

#[tokio::test]
async fn connections_wait_while_a_worker_is_replaced_and_end_when_an_update_does_not_ask_for_them() {
    let (folders, address) = (Folders::new(), free());
    let (host, plugin) = server(&folders, "stays", &address).await;
    assert_eq!(call(&plugin, "net_open", &address).await.as_deref(), Ok("done"));
    let before_crash = say(&address, "one");
    let crashed = plugin.call_raw("abort", Vec::new()).await;
    assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
    let after_crash = say(&address, "two");
    plugin.reload().await.unwrap_or_else(|error| panic!("{error}"));
    let after_reload = say(&address, "three");
    for (client, text) in [(before_crash, "one"), (after_crash, "two"), (after_reload, "three")] {
        assert_eq!(call(&plugin, "net_serve", &address).await.as_deref(), Ok(text));
        assert_eq!(hear(client), "pong");
    }
    let manifest = folders.join("stays/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("it is there");
    let without = text.replacen(&format!("\"listen\":[\"{address}\"]"), "", 1);
    assert_ne!(text, without);
    std::fs::write(&manifest, without).expect("writable");
    let for_good = ReloadOptions { probation: Duration::ZERO, ..ReloadOptions::default() };
    plugin.reload_with(for_good).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(call(&plugin, "net_serve", &address).await, Err("refused".to_owned()));
    common::eventually(|| nobody_listens(&address).then_some(()));
    host.shutdown().await;
}

#[test]
fn listening_leaves_the_host_nothing() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let (folders, address) = (Folders::new(), free());
        let (host, plugin) = server(&folders, "leaves", &address).await;
        plugin.unload().await;
        let before = Footprint::now();
        let plugin = host.load(folders.join("leaves")).await.expect("as before");
        for _ in 0..50 {
            assert_eq!(call(&plugin, "net_open", &address).await.as_deref(), Ok("done"));
        }
        plugin.unload().await;
        before.must_return();
        host.shutdown().await;
    });
}

/// The sample that is a server by `wasi:sockets`.
async fn answerer(host: &Host, folders: &Folders, name: &str, permissions: serde_json::Value) -> Plugin {
    let path = common::dial(folders, name, "wasm-serve", permissions);
    host.load(path).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_component_serves_by_wasi_sockets_where_it_is_granted_and_nowhere_else() {
    let (folders, address) = (Folders::new(), free());
    let host = builder(&folders, &[&address]).build().await.expect("a host starts");
    let asked = json!({ "network": { "listen": [address] } });
    let plugin = answerer(&host, &folders, "answers", asked).await;
    let silent = answerer(&host, &folders, "silent", json!({})).await;
    for _ in 0..3 {
        let input = json!([address, "pong"]).to_string();
        let (said, heard) = served(&plugin, "answer", &input, &address).await;
        assert_eq!((said.as_deref(), heard.as_str()), (Ok("\"hello\""), "pong"));
    }
    let denied = Err("\"access-denied\"".to_owned());
    for (plugin, other) in [(&plugin, free()), (&plugin, "0.0.0.0:0".to_owned()), (&silent, address.clone())]
    {
        let said = call(plugin, "answer", &json!([other, "pong"]).to_string()).await;
        assert_eq!(said, denied, "{other}");
    }
    let said = call(&plugin, "ask", &json!([address, "ping"]).to_string()).await;
    assert_eq!(said, denied, "listening at an address is not connecting to it");
    host.shutdown().await;
}
