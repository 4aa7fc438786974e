//! Connections that the host makes for a plugin: to granted addresses only, and to nothing else by any detour. Native code may
//! ask hotcell or just connect; a component has `wasi:sockets`.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hotcell::{CallError, Class, EventKind, Host, HostBuilder, Plugin, Refuser};
use hotcell_tests::{Folders, Footprint, fixture};
use serde_json::json;

mod common;

use common::json;

/// Answers "pong" to whoever says "ping", on a port of its own, until it is dropped.
struct Server {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let port = listener.local_addr().expect("it is bound").port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let mut said = [0; 4];
                    let mut connection = connection?;
                    connection.read_exact(&mut said)?;
                    let answer: &[u8] = if said == *b"ping" { b"pong" } else { b"what?" };
                    connection.write_all(answer)
                });
            }
        });
        Server { port, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A profile that grants these addresses, each with whether those that are not public are meant, too.
fn builder(folders: &Folders, grants: &[(&str, bool)]) -> HostBuilder {
    let grant = |(address, private): &(&str, bool)| {
        let risk = if *private { "private = true\nrisk = \"A test's own server.\"\n" } else { "" };
        format!("\n[[connect]]\naddress = \"{address}\"\n{risk}why = \"A test asks its server.\"\n")
    };
    let grants: String = grants.iter().map(grant).collect();
    let native = [("\"native-load\"]", "\"native-load\", \"connections\"]")];
    let wasm = [
        ("runtime = [\"core\", \"component\"]", "runtime = \"component\""),
        ("\"seal\"]", "\"seal\", \"wasi-connections\"]"),
    ];
    fixture::host(folders)
        .profile(common::profile("native-strict", "net", &native, &grants))
        .profile(common::profile("pure-compute", "wasm-net", &wasm, &grants))
}

async fn load(host: &Host, folders: &Folders, name: &str, asked: &[&str]) -> Result<Plugin, hotcell::Error> {
    let more = json!({
        "permissions": { "network": { "connect": asked } }, "security_policy": { "profile": "net" },
    });
    host.load(common::native(folders, name, "crash-lab/native/crash_lab.so", more)).await
}

/// A plugin that may connect to what it asks for.
async fn talker(folders: &Folders, name: &str, address: &str) -> (Host, Plugin) {
    let host = builder(folders, &[(address, true)]).build().await.expect("a host starts");
    let plugin = load(&host, folders, name, &[address]).await.unwrap_or_else(|error| panic!("{error}"));
    (host, plugin)
}

async fn text(plugin: &Plugin, export: &str, input: &str) -> Result<String, String> {
    match plugin.call_raw(export, input.as_bytes().to_vec()).await {
        Ok(reply) => Ok(String::from_utf8_lossy(&reply).into_owned()),
        Err(CallError::Plugin(text)) => Err(text),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_granted_server_is_talked_to_and_told_of() {
    let (folders, server) = (Folders::new(), Server::start());
    let address = format!("127.0.0.1:{}", server.port);
    let (host, plugin) = talker(&folders, "talks", &address).await;
    let mut events = host.events();
    assert_eq!(text(&plugin, "net_talk", &address).await.as_deref(), Ok("pong"));
    assert_eq!(text(&plugin, "net_talk", &address).await.as_deref(), Ok("pong"), "more than once");
    let connected: Vec<_> = std::iter::from_fn(|| events.try_next())
        .filter_map(|event| match event.kind {
            EventKind::Connected { address, peer } => Some((address, peer.port())),
            _ => None,
        })
        .collect();
    assert_eq!(connected, [(address.clone(), server.port), (address, server.port)]);
    host.shutdown().await;
}

#[tokio::test]
async fn no_other_address_is_and_the_refusal_says_which_line_would_do() {
    let (folders, server) = (Folders::new(), Server::start());
    let granted = format!("127.0.0.1:{}", server.port);
    let (host, plugin) = talker(&folders, "asks", &granted).await;
    let mut events = host.events();
    let elsewhere = [
        format!("localhost:{}", server.port),
        format!("127.0.0.1:{}", server.port ^ 1),
        format!("127.0.0.2:{}", server.port),
        format!("[::1]:{}", server.port),
        format!("{granted}\n"),
        "169.254.169.254:80".to_owned(),
        String::new(),
    ];
    for address in &elsewhere {
        assert_eq!(text(&plugin, "net_talk", address).await, Err("refused".to_owned()), "{address:?}");
    }
    let told = common::violations(&mut events);
    assert_eq!(told.len(), elsewhere.len());
    assert!(told.iter().all(|violation| violation.layer == Refuser::Broker));
    assert!(told[0].remedy[0].contains("connect = [{ address = \"localhost:"), "{}", told[0]);
    assert_eq!(server.accepted(), 0);
    assert_eq!(text(&plugin, "net_talk", &granted).await.as_deref(), Ok("pong"), "control");
    host.shutdown().await;
}

#[tokio::test]
async fn what_the_profile_does_not_grant_does_not_start_and_nothing_is_asked_for_means_nothing() {
    let (folders, server) = (Folders::new(), Server::start());
    let address = format!("127.0.0.1:{}", server.port);
    let host = builder(&folders, &[(&address, true)]).build().await.expect("a host starts");
    let error = load(&host, &folders, "wants", &["example.org:443"]).await.expect_err("not granted");
    assert_eq!(error.class(), Class::Refused, "{error}");
    let silent = common::native(
        &folders,
        "silent",
        "crash-lab/native/crash_lab.so",
        json!({ "security_policy": { "profile": "net" } }),
    );
    let silent = host.load(silent).await.expect("it asks for nothing");
    let mut events = host.events();
    assert_eq!(text(&silent, "net_talk", &address).await, Err("refused".to_owned()));
    let told = common::violations(&mut events).into_iter().next().expect("it is told");
    assert_eq!(told.act, format!("connection to {address}"));
    assert!(told.remedy[0].contains("\"network\": { \"connect\""), "{told}");
    assert_eq!(server.accepted(), 0);
    host.shutdown().await;
}

#[tokio::test]
async fn a_name_must_lead_to_a_public_address_unless_it_is_granted_otherwise() {
    let (folders, server) = (Folders::new(), Server::start());
    let lookups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lookups);
    // First a public address where nobody answers here, or none at all; then this machine: rebinding.
    let port = server.port;
    let resolver = move |host: String, _: u16| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            match host.as_str() {
                "moves.example" if first => Ok(Vec::new()),
                _ => Ok(vec![
                    SocketAddr::from(([127, 0, 0, 1], port)),
                    SocketAddr::from(([10, 0, 0, 1], port)),
                ]),
            }
        }
    };
    let address = format!("moves.example:{port}");
    let host =
        builder(&folders, &[(&address, false)]).resolver(resolver).build().await.expect("a host starts");
    let plugin = load(&host, &folders, "rebinds", &[&address]).await.expect("it is granted");
    assert_eq!(text(&plugin, "net_talk", &address).await, Err("failed: the name has no address".to_owned()));
    for _ in 0..3 {
        let said = text(&plugin, "net_talk", &address).await;
        assert_eq!(said, Err("failed: the name has no public address".to_owned()));
    }
    assert_eq!((server.accepted(), lookups.load(Ordering::SeqCst)), (0, 4));
    host.shutdown().await;
    let folders = Folders::new();
    let (host, plugin) = talker(&folders, "private", &format!("localhost:{port}")).await;
    assert_eq!(
        text(&plugin, "net_talk", &format!("localhost:{port}")).await.as_deref(),
        Ok("pong"),
        "control"
    );
    host.shutdown().await;
}

#[tokio::test]
async fn a_connection_reads_and_writes_and_does_nothing_else() {
    let (folders, server) = (Folders::new(), Server::start());
    let address = format!("127.0.0.1:{}", server.port);
    let (host, plugin) = talker(&folders, "tricks", &address).await;
    let said = text(&plugin, "net_tricks", &address).await.expect("a reply");
    let expected = "connect EISCONN stderr ENOTSOCK bind EPERM listen EPERM accept EPERM sendto EPERM setsockopt EPERM oob EPERM \
        getsockname EPERM async EPERM udp EPERM unix EPERM mptcp EPERM \
        tcp done its bind EPERM its listen EPERM its fastopen EPERM its send EPIPE";
    assert_eq!(said, expected);
    host.shutdown().await;
}

#[test]
fn connections_without_end_fill_the_plugin_and_leave_the_host_nothing() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let (folders, server) = (Folders::new(), Server::start());
        let address = format!("127.0.0.1:{}", server.port);
        let (host, first) = talker(&folders, "floods", &address).await;
        assert_eq!(text(&first, "net_talk", &address).await.as_deref(), Ok("pong"));
        let before = Footprint::now();
        let plugin = host.load(folders.join("floods")).await.expect("as before");
        let got: u32 =
            text(&plugin, "net_flood", &address).await.expect("a reply").parse().expect("a number");
        // The profile's open-files, and what the worker's own descriptors leave.
        assert!((8..=32).contains(&got), "{got}");
        assert_eq!(text(&plugin, "ok", "still").await.as_deref(), Ok("still"));
        plugin.unload().await;
        // The server's ends close with the plugin's.
        before.must_return();
        host.shutdown().await;
    });
}

#[test]
fn connections_that_nobody_takes_are_closed() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let (folders, server) = (Folders::new(), Server::start());
        let address = format!("127.0.0.1:{}", server.port);
        let (host, plugin) = talker(&folders, "hoards", &address).await;
        let before = descriptors();
        assert_eq!(text(&plugin, "net_hoard", &address).await.as_deref(), Ok("done"));
        // One waits; the server's ends are this process's too, and close as the plugin's do.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while server.accepted() < 200 || descriptors() > before + 4 {
            let now = std::time::Instant::now();
            assert!(now < deadline, "{before} before, {} now", descriptors());
            tokio::task::yield_now().await;
        }
        host.shutdown().await;
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("there is a /proc").count()
}

#[tokio::test]
async fn a_resolver_that_never_answers_costs_the_call_its_deadline() {
    let folders = Folders::new();
    let host = builder(&folders, &[("slow.example:1", true)])
        .resolver(|_, _| std::future::pending::<std::io::Result<Vec<SocketAddr>>>())
        .build()
        .await
        .expect("a host starts");
    let plugin = load(&host, &folders, "waits", &["slow.example:1"]).await.expect("it is granted");
    let request = plugin.request("net_talk").deadline(Duration::from_millis(200));
    let ended = request.raw(b"slow.example:1".to_vec()).await;
    assert!(matches!(ended, Err(CallError::Timeout)), "{ended:?}");
    assert_eq!(text(&plugin, "ok", "next").await.as_deref(), Ok("next"));
    host.shutdown().await;
}

/// Code that nobody wrote for hotcell: socket(2), connect(2), send(2), poll(2), recv(2).
#[tokio::test]
async fn plain_sockets_reach_what_is_granted_and_nothing_else() {
    let (folders, server) = (Folders::new(), Server::start());
    let port = server.port;
    let (host, plugin) = talker(&folders, "plain", &format!("127.0.0.1:{port}")).await;
    let mut events = host.events();
    for (export, input) in [
        ("net_plain", format!("{port}")),
        ("net_plain", format!("-{port}")),
        ("net_plain6", format!("-{port}")),
    ] {
        assert_eq!(text(&plugin, export, &input).await.as_deref(), Ok("pong"), "{export} {input}");
    }
    assert_eq!(server.accepted(), 3);
    for (export, input) in [("net_plain", port ^ 1), ("net_plain6", port)] {
        let said = text(&plugin, export, &input.to_string()).await;
        assert_eq!(said, Err("connect EACCES".to_owned()), "{export} {input}");
    }
    let told: Vec<_> = common::violations(&mut events).into_iter().map(|violation| violation.act).collect();
    assert_eq!(
        told,
        [format!("connection to 127.0.0.1:{}", port ^ 1), format!("connection to [::1]:{port}")]
    );
    assert_eq!(server.accepted(), 3);
    host.shutdown().await;
}

#[tokio::test]
async fn why_a_connection_failed_is_told_as_the_kernel_tells_it() {
    let folders = Folders::new();
    let closed = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = closed.local_addr().expect("it is bound").port();
    drop(closed);
    let (host, plugin) = talker(&folders, "fails", &format!("127.0.0.1:{port}")).await;
    let said = text(&plugin, "net_plain", &port.to_string()).await;
    assert_eq!(said, Err("connect ECONNREFUSED".to_owned()));
    host.shutdown().await;
}

#[tokio::test]
async fn a_name_s_addresses_are_reached_by_plain_sockets_once_the_host_has_told_them() {
    let (folders, server) = (Folders::new(), Server::start());
    let port = server.port;
    let grants = [format!("db.example:{port}"), format!("cache.example:{port}")];
    let resolver = move |host: String, _: u16| async move {
        let last = if host == "db.example" { 1 } else { 2 };
        Ok(vec![SocketAddr::from(([127, 0, 0, last], port))])
    };
    let host = builder(&folders, &[(&grants[0], true), (&grants[1], true)]).resolver(resolver);
    let host = host.build().await.expect("a host starts");
    let plugin = load(&host, &folders, "asks-first", &[&grants[0]]).await.expect("it is granted");
    let mut events = host.events();
    let denied = Err("connect EACCES".to_owned());
    assert_eq!(text(&plugin, "net_plain", &port.to_string()).await, denied, "before it is told");
    assert_eq!(
        text(&plugin, "net_resolve", "cache.example").await,
        Err("refused".to_owned()),
        "not asked for"
    );
    assert_eq!(text(&plugin, "net_resolve", "db.example").await.as_deref(), Ok("127.0.0.1"));
    assert_eq!(text(&plugin, "net_plain", &port.to_string()).await.as_deref(), Ok("pong"));
    assert_eq!(server.accepted(), 1);
    let told = common::violations(&mut events);
    assert_eq!(told[1].act, "look-up of cache.example");
    assert_eq!(
        told[1].remedy,
        [
            "manifest: \"permissions\": { \"network\": { \"connect\": [\"cache.example:PORT\"] } }, and profile: connect = \
         [{ address = \"cache.example:PORT\", why = \"...\" }]"
        ]
    );
    host.shutdown().await;
}

/// The sample that talks by `wasi:sockets`, asking for this.
async fn dialer(host: &Host, folders: &Folders, name: &str, asked: &[&str]) -> Plugin {
    let permissions = if asked.is_empty() { json!({}) } else { json!({ "network": { "connect": asked } }) };
    let loaded = host.load(common::dial(folders, name, "wasm-net", permissions)).await;
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_component_talks_by_wasi_sockets_to_what_is_granted_and_to_nothing_else() {
    let (folders, server) = (Folders::new(), Server::start());
    let address = format!("127.0.0.1:{}", server.port);
    let host = builder(&folders, &[(&address, true)]).build().await.expect("a host starts");
    let plugin = dialer(&host, &folders, "dials", &[&address]).await;
    let mut events = host.events();
    for _ in 0..3 {
        assert_eq!(json(&plugin, "ask", json!([address, "ping"])).await, Ok(json!("pong")));
    }
    assert_eq!(server.accepted(), 3);
    let port = server.port;
    for (other, said) in [
        (format!("127.0.0.1:{}", port ^ 1), "access-denied"),
        (format!("127.0.0.2:{port}"), "access-denied"),
        (format!("[::1]:{port}"), "access-denied"),
        (format!("localhost:{port}"), "look-up: access-denied"),
        (format!("{}.example:{port}", "a".repeat(300)), "look-up: invalid-argument"),
    ] {
        assert_eq!(json(&plugin, "ask", json!([other, "ping"])).await, Err(said.to_owned()), "{other}");
    }
    for (how, said) in [
        ("udp", "access-denied"),
        ("bind", "access-denied"),
        ("listen", "invalid-state"),
        ("again", "invalid-state"),
        ("family", "invalid-argument"),
    ] {
        assert_eq!(json(&plugin, "misuse", json!([address, how])).await, Ok(json!(said)), "{how}");
    }
    assert_eq!(common::violations(&mut events).len(), 5, "each that the host refused");
    assert_eq!(server.accepted(), 4, "`again` connects once");
    host.shutdown().await;
}

#[tokio::test]
async fn a_component_without_the_permission_is_refused_and_lives() {
    let (folders, server) = (Folders::new(), Server::start());
    let address = format!("127.0.0.1:{}", server.port);
    let host = builder(&folders, &[(&address, true)]).build().await.expect("a host starts");
    let plugin = dialer(&host, &folders, "no-line", &[]).await;
    for _ in 0..2 {
        assert_eq!(json(&plugin, "ask", json!([address, "ping"])).await, Err("access-denied".to_owned()));
    }
    assert_eq!(json(&plugin, "misuse", json!([address, "udp"])).await, Ok(json!("access-denied")));
    assert_eq!(server.accepted(), 0);
    host.shutdown().await;
}

/// The worker has no socket(2) then, and would be ended by one.
#[tokio::test]
async fn an_application_s_own_host_call_of_that_name_gives_a_component_no_connection() {
    let folders = Folders::new();
    let grant = "\n[[host-call]]\nname = \"net.connect\"\nwhy = \"The test's own.\"\n";
    let host = fixture::host(&folders)
        .profile(common::profile("pure-compute", "wasm-net", &[], grant))
        .host_call("net.connect", async |_, _| Ok(Vec::new()));
    let host = host.build().await.expect("a host starts");
    let path = common::dial(&folders, "own-call", "wasm-net", json!({ "host_calls": ["net.connect"] }));
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..2 {
        let said = json(&plugin, "ask", json!(["127.0.0.1:1", "ping"])).await;
        assert_eq!(said, Err("access-denied".to_owned()));
    }
    host.shutdown().await;
}

/// One thread waits for several connections and a timer.
#[tokio::test]
async fn a_component_waits_for_several_connections_at_once() {
    let (folders, first, second) = (Folders::new(), Server::start(), Server::start());
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let last = format!("127.0.0.1:{}", silent.local_addr().expect("it is bound").port());
    let [one, two] = [first.port, second.port].map(|port| format!("127.0.0.1:{port}"));
    let grants = [(one.as_str(), true), (two.as_str(), true), (last.as_str(), true)];
    let host = builder(&folders, &grants).build().await.expect("a host starts");
    let asked = [last.as_str(), &one, &two];
    let plugin = dialer(&host, &folders, "races", &asked).await;
    // Nobody answers, and the time passes.
    assert_eq!(json(&plugin, "race", json!([[last], "ping", 50])).await, Ok(json!([])));
    let (early, _) = silent.accept().expect("it was connected to");
    drop(early);
    let race = json!([asked, "ping", 60_000]);
    let race = json(&plugin, "race", race);
    let closing = tokio::task::spawn_blocking(move || silent.accept().map(drop));
    let (said, closed) = tokio::join!(race, closing);
    closed.expect("no panic").expect("it was connected to");
    let mut said: Vec<String> = serde_json::from_value(said.expect("a reply")).expect("texts");
    said.sort();
    assert_eq!(said, ["", "pong", "pong"]);
    host.shutdown().await;
}
