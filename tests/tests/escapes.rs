//! Attempts to get out of a native worker. Each has its control: the same attempt without the sandbox succeeds.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::process::Command;

use hotcell::{CallError, EventKind, Observer, Plugin, Refuser, Severity};
use hotcell_tests::{Folders, fixture, package};
use serde_json::{Value, json};

mod common;

const LAB: &str = "crash-lab/native";

/// The same export of the same library in a process without a sandbox.
fn bare(library: &str, export: &str, input: &str) -> String {
    let output = Command::new(fixture::programs().join("bare"))
        .arg(package(library))
        .args([export, input])
        .env("HOTCELL_CANARY", "sings")
        .output()
        .expect("the control runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn text(plugin: &Plugin, export: &str, input: &str) -> Result<String, CallError> {
    let reply = plugin.call_raw(export, input.as_bytes().to_vec()).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[tokio::test]
async fn a_constructor_gets_nothing_before_any_call() {
    let setup = common::Setup::new().await;
    let plugin = setup.load("crash-lab/constructors/attack").await;
    let report: Value =
        serde_json::from_str(&text(&plugin, "report", "").await.expect("it loads")).expect("JSON");
    for (attempt, result) in report.as_object().expect("an object") {
        match attempt.as_str() {
            "environment" => assert_eq!(result, 0, "{report}"),
            _ => assert_ne!(result, "done", "{attempt}: {report}"),
        }
    }
    let control: Value =
        serde_json::from_str(&bare("crash-lab/constructors/attack/plugin.so", "report", "")).expect("JSON");
    for attempt in ["open", "memfd_create", "socket", "connect", "fork", "execve", "kill", "ptrace"] {
        assert_eq!(control[attempt], "done", "control: {control}");
    }
    assert_ne!(control["environment"], 0, "control: {control}");
}

#[tokio::test]
async fn the_environment_and_the_arguments_hold_nothing_of_the_host() {
    let setup = common::Setup::new().await;
    let said = text(&setup.load(LAB).await, "env", "").await.expect("a reply");
    assert!(!said.contains("HOTCELL_CANARY") && !said.contains("PATH="), "{said}");
    let control = bare("crash-lab/native/crash_lab.so", "env", "");
    assert!(control.contains("HOTCELL_CANARY"), "control: {control}");
}

/// The bytes whose complement `search` of the lab is asked for: the question must not hold what it looks for.
fn complement(bytes: &str) -> String {
    bytes.bytes().map(|byte| format!("{:02x}", !byte)).collect()
}

#[tokio::test]
async fn the_memory_of_a_copied_worker_holds_nothing_of_the_host_or_of_another_plugin() {
    let folders = Folders::new();
    // A search reads tens of MiB one byte at a time: on an emulated processor that takes longer than a call may by default.
    let copied = [
        ("landlock = 1", "landlock = 1\nlaunch = \"fork\""),
        ("call        = \"10 s\"", "call        = \"2 min\""),
    ];
    let profile = common::profile("native-strict", "copied", &copied, "");
    let secret = |of: &str| format!("{of} keeps {}", std::process::id());
    let (of_host, of_neighbour) = (secret("the host"), secret("a neighbour"));
    let answer = of_host.clone();
    let host = fixture::host(&folders)
        .profile(profile)
        .host_call("test.secret", move |_, _| std::future::ready(Ok(answer.clone().into_bytes())));
    let host = host.build().await.expect("a host starts");
    let lab = |name| {
        let more = json!({ "security_policy": { "profile": "copied" } });
        common::native(&folders, name, "crash-lab/native/crash_lab.so", more)
    };
    let neighbour = host.load(lab("neighbour")).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(text(&neighbour, "ok", &of_neighbour).await.expect("a reply"), of_neighbour);
    let plugin = host.load(lab("searches")).await.unwrap_or_else(|error| panic!("{error}"));
    for what in [&of_host, &of_neighbour] {
        assert_eq!(text(&plugin, "search", &complement(what)).await.expect("a reply"), "0", "{what}");
    }
    // What it has of the launcher is found: the names of programs.
    let inherited = text(&plugin, "search", &complement("hotcell-compiler")).await.expect("a reply");
    assert_ne!(inherited, "0", "control");
    let control = bare("crash-lab/native/crash_lab.so", "search", &complement("HOTCELL_CANARY=sings"));
    assert_ne!(control.trim(), "0", "control");
    host.shutdown().await;
}

#[tokio::test]
async fn a_worker_holds_only_its_descriptors() {
    // One that every careless child of this process would inherit.
    let leaked = std::fs::File::open("/dev/null").expect("there is a /dev/null");
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).expect("a descriptor can be inheritable");
    let setup = common::Setup::new().await;
    let said = text(&setup.load(LAB).await, "fds", "").await.expect("a reply");
    let numbers: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"], "stdio and the two bells");
    let control = bare("crash-lab/native/crash_lab.so", "fds", "");
    assert!(control.split_whitespace().count() >= 4, "control: {control}");
}

#[tokio::test]
async fn no_file_can_be_read() {
    let setup = common::Setup::new().await;
    let plugin = setup.load(LAB).await;
    let own = package("crash-lab/native/manifest.json");
    for path in ["/etc/passwd", "/proc/self/environ", "/proc/self/maps", own.to_str().expect("UTF-8")] {
        let result = text(&plugin, "read_file", path).await;
        assert!(
            matches!(&result, Err(CallError::Plugin(said)) if said.contains("EPERM")),
            "{path}: {result:?}"
        );
        assert!(!bare("crash-lab/native/crash_lab.so", "read_file", path).is_empty(), "control: {path}");
    }
}

#[tokio::test]
async fn no_connection_can_be_made() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port().to_string();
    let setup = common::Setup::new().await;
    let result = text(&setup.load(LAB).await, "connect", &port).await;
    assert!(matches!(&result, Err(CallError::Plugin(_))), "{result:?}");
    assert_eq!(bare("crash-lab/native/crash_lab.so", "connect", &port), "connected", "control");
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_call_and_what_would_allow_it() {
    let setup = common::Setup::new().await;
    let mut events = setup.host.events();
    let plugin = setup.load(LAB).await;
    let rows = [
        ("connect", "1", "socket", Refuser::Seccomp, Severity::Low, "permissions.network.connect"),
        ("read_file", "/etc/passwd", "openat", Refuser::Seccomp, Severity::Low, "permissions.filesystem"),
        ("host_call", "clock\n", "host call clock", Refuser::Broker, Severity::Low, "host-call = [{ name"),
    ];
    for (export, input, act, layer, severity, remedy) in rows {
        text(&plugin, export, input).await.expect_err("it is refused");
        let violation = violation(&mut events).await;
        assert_eq!((violation.act.as_str(), violation.layer), (act, layer), "{violation}");
        assert_eq!((violation.severity, violation.observer), (severity, Observer::Host), "{violation}");
        assert_eq!(violation.call.as_deref(), Some(export), "{violation}");
        assert!(violation.remedy.iter().any(|line| line.contains(remedy)), "{violation}");
    }
    // What the plugin may do is told to nobody.
    text(&plugin, "log", "hello").await.expect("it is granted");
    assert!(
        !std::iter::from_fn(|| events.try_next()).any(|event| matches!(event.kind, EventKind::Violation(_)))
    );
}

async fn violation(events: &mut hotcell::Events) -> hotcell::Violation {
    let violation = async {
        loop {
            if let EventKind::Violation(violation) = events.next().await.expect("the host lives").kind {
                return violation;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), violation).await.expect("it is told")
}

/// System calls that no native worker may make: name, number and arguments, and whether an ordinary process may.
const FORBIDDEN: &[(&str, libc::c_long, [i64; 3], bool)] = &[
    ("io_uring_setup", libc::SYS_io_uring_setup, [4, 0, 0], false),
    ("bpf", libc::SYS_bpf, [0, 0, 0], false),
    ("add_key", libc::SYS_add_key, [0, 0, 0], false),
    ("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0], false),
    ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0], true),
    ("ptrace traceme", libc::SYS_ptrace, [0, 0, 0], true),
    ("prctl dumpable", libc::SYS_prctl, [4, 1, 0], true),
    ("setpriority", libc::SYS_setpriority, [0, 0, 19], true),
    ("shmget", libc::SYS_shmget, [0, 4096, 0o1600], true),
    ("memfd_create", libc::SYS_memfd_create, [0, 0, 0], false),
    ("unshare", libc::SYS_unshare, [0, 0, 0], true),
    ("inotify_init1", libc::SYS_inotify_init1, [0, 0, 0], true),
    ("setsid", libc::SYS_setsid, [0, 0, 0], true),
    ("sched_setaffinity", libc::SYS_sched_setaffinity, [0, 0, 0], false),
    ("kill 0 of itself", libc::SYS_kill, [0, 0, 0], true),
    ("umask", libc::SYS_umask, [0o22, 0, 0], true),
    ("timer_create", libc::SYS_timer_create, [1, 0, 0], false),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, [0, 0, 1], true),
    ("pidfd_open", libc::SYS_pidfd_open, [1, 0, 0], true),
    ("syslog", libc::SYS_syslog, [10, 0, 0], false),
    ("an unknown number", 9999, [0, 0, 0], false),
];

/// What `try_syscall` says of a refusal: the result, and EPERM.
const REFUSED: &str = "-1 1";

#[tokio::test]
async fn forbidden_system_calls_are_refused_where_an_ordinary_process_may_make_them() {
    let setup = common::Setup::new().await;
    let plugin = setup.load(LAB).await;
    for (name, number, [a, b, c], ordinary) in FORBIDDEN {
        let line = format!("{number} {a} {b} {c} 0 0 0");
        let said =
            text(&plugin, "try_syscall", &line).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(said.trim(), REFUSED, "{name}");
        if *ordinary {
            let control = bare("crash-lab/native/crash_lab.so", "try_syscall", &line);
            assert_ne!(control.trim(), REFUSED, "control: {name}");
        }
    }
}
