//! Every way to die or misbehave, native and wasm: the caller learns the cause, every other plugin goes on answering,
//! the next call succeeds, and nothing is left behind.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hotcell::{CallError, Class, ExitCause};
use hotcell_tests::Footprint;

mod common;

use common::Bystander;

/// What the caller of one row must be told.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// A reply.
    Reply,
    /// The plugin's own error, with this in its text.
    Error(&'static str),
    /// The worker was killed by this signal.
    Signal(&'static str),
    /// The worker exited with this code.
    Code(i32),
    /// Guest code trapped, with this in the text.
    Trap(&'static str),
    /// The deadline passed.
    Timeout,
    /// A resource limit, whatever else ended the worker.
    Resource,
    /// The protocol was broken.
    Protocol,
    /// One of these classes: where the C library or the kernel may end it in more than one way.
    AnyOf(&'static [Class]),
}

use Expected::{AnyOf, Code, Error, Protocol, Reply, Resource, Signal, Timeout, Trap};

/// Calls that never return get this long; all others have the deadline of the profile.
const SHORT: Duration = Duration::from_millis(700);

const NATIVE: &[(&str, &str, Expected)] = &[
    ("ok", "hello", Reply),
    ("error", "my own words", Error("my own words")),
    ("no_reply", "", Reply),
    ("double_reply", "", Reply),
    ("null_write", "", Signal("SIGSEGV")),
    ("stack_overflow", "", Signal("SIGSEGV")),
    ("abort", "", Signal("SIGABRT")),
    ("illegal_instruction", "", Signal("SIGILL")),
    ("bus_error", "", Signal("SIGBUS")),
    ("division_trap", "", Signal("SIGFPE")),
    ("double_free", "", Signal("SIGABRT")),
    ("int80", "", AnyOf(&[Class::Crashed])),
    ("heap_corruption", "", AnyOf(&[Class::Plugin, Class::Crashed, Class::Protocol])),
    ("exit_zero", "", Code(0)),
    ("exit_with", "77", Code(77)),
    ("kill_self", "", Error("EPERM")),
    ("stop_self", "", Error("EPERM")),
    ("unwind", "", AnyOf(&[Class::Crashed, Class::Plugin])),
    ("long_jump", "", Signal("SIGSEGV")),
    ("catch_fault", "", Error("sigaction: EPERM")),
    ("spin", "", Timeout),
    ("sleep_forever", "", Timeout),
    ("deadlock", "", Timeout),
    ("fd_flood", "", AnyOf(&[Class::Plugin])),
    ("thread_bomb", "", Error("")),
    ("fork_bomb", "", Error("")),
    ("daemonise", "", Error("")),
    ("stdout_flood", "", Timeout),
    ("stderr_flood", "", Timeout),
    ("memory_malloc", "", AnyOf(&[Class::Plugin, Class::Resource])),
    ("memory_mmap", "", AnyOf(&[Class::Plugin, Class::Resource])),
    ("memory_memfd", "", Error("")),
    ("memory_shared", "", Error("")),
    ("page_table_bomb", "", AnyOf(&[Class::Plugin, Class::Resource])),
    ("mapping_flood", "", AnyOf(&[Class::Plugin, Class::Resource])),
    ("executable_memory", "", Error("EPERM")),
    ("log_flood", "", Timeout),
    ("host_call_bomb", "", AnyOf(&[Class::Crashed])),
    ("giant_host_call", "1073741824", AnyOf(&[Class::Plugin, Class::Crashed, Class::Resource])),
    ("giant_reply", "100000000", Resource),
    ("lying_reply", "1073741824", Resource),
    ("null_reply", "", Signal("SIGSEGV")),
    ("ring_search", "", Reply),
    ("wrong_reply", "", Protocol),
    ("wrong_cursor", "", Protocol),
    ("wrong_cursor", "0x8000000000000000", Protocol),
    ("bell_storm", "", Timeout),
    ("close_all", "", AnyOf(&[Class::Crashed, Class::Deadline])),
    ("abuse_descriptors", "", AnyOf(&[Class::Plugin, Class::Crashed, Class::Protocol])),
];

const RUST: &[(&str, &str, Expected)] = &[
    ("ok", "hello", Reply),
    ("panic_payload", "", AnyOf(&[Class::Plugin, Class::Crashed])),
    ("borrow_twice", "", Error("already")),
    ("panic_into_worker", "", AnyOf(&[Class::Crashed])),
    ("panic", "on purpose", Error("on purpose")),
    ("double_panic", "", Signal("SIGABRT")),
    ("out_of_memory", "", Signal("SIGABRT")),
    ("panic_in_thread", "", Error("")),
    ("panic_uncaught", "", Signal("SIGABRT")),
];

const WASM: &[(&str, &str, Expected)] = &[
    ("ok", "hello", Reply),
    ("error", "my own words", Error("my own words")),
    ("unreachable", "", Trap("unreachable")),
    ("stack_overflow", "", Trap("stack")),
    ("division", "", Trap("zero")),
    ("overflow", "", Trap("overflow")),
    ("conversion", "", Trap("conversion")),
    ("oob", "", Trap("out of bounds")),
    ("null_write", "", Reply),
    ("bulk_fill", "", Trap("out of bounds")),
    ("wrong_type", "", Trap("indirect call")),
    ("no_element", "", Trap("element")),
    ("spin", "", Timeout),
    ("memory_grow", "", Error("refused")),
    ("giant_reply", "", Resource),
    ("bad_reply", "", Trap("")),
    ("long_reply", "", Trap("")),
    ("bad_name", "", Trap("")),
    ("bad_input", "", Trap("")),
    ("bad_take", "", AnyOf(&[Class::Crashed, Class::Plugin])),
    ("early_take", "", Reply),
    ("wrong_name", "", AnyOf(&[Class::Crashed, Class::Plugin])),
    ("undeclared", "", Error("refused")),
    ("log_garbage", "", Reply),
    ("log_flood", "", Timeout),
    ("host_call_bomb", "", AnyOf(&[Class::Crashed])),
];

fn judge(row: &str, expected: Expected, result: &Result<Vec<u8>, CallError>) {
    let right = match (expected, result) {
        (Reply, Ok(_)) => true,
        (Error(text), Err(CallError::Plugin(said))) => said.contains(text),
        (Timeout, Err(CallError::Timeout)) => true,
        (Resource, Err(error)) => error.class() == Class::Resource,
        (Protocol, Err(error)) => error.class() == Class::Protocol,
        (AnyOf(classes), Err(error)) => classes.contains(&error.class()),
        (AnyOf(classes), Ok(_)) => classes.contains(&Class::Plugin),
        (Signal(name), Err(CallError::Crashed(exit))) => {
            matches!(&exit.cause, ExitCause::Signal { name: signal, .. } if signal == name)
        }
        (Code(code), Err(CallError::Crashed(exit))) => exit.cause == ExitCause::Code(code),
        (Trap(text), Err(CallError::Crashed(exit))) => {
            matches!(&exit.cause, ExitCause::Trap { text: said, .. } if said.contains(text))
        }
        _ => false,
    };
    assert!(right, "{row}: expected {expected:?}, got {result:?}");
}

/// qemu's software emulation, of which only scripts/kernels knows, raises SIGSEGV for the fault of a stack segment.
fn is_emulated_wrongly(export: &str) -> bool {
    let emulated =
        std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.contains("hotcell.emulated"));
    emulated && export == "bus_error"
}

/// Runs every row against one plugin, with another one answering all the while.
fn every_row(name: &str, rows: &[(&str, &str, Expected)]) {
    let _alone = common::alone();
    let runtime = common::runtime();
    runtime.block_on(async {
        let setup = common::Setup::new().await;
        let bystander = Bystander::start(setup.load("counter").await, "value", br#"{"value":0}"#);
        let plugin = setup.load(name).await;
        plugin.call_raw("ok", b"warm".to_vec()).await.expect("the plugin answers");
        bystander.must_answer().await;
        let before = Footprint::now();
        for (export, input, expected) in rows.iter().filter(|(export, ..)| !is_emulated_wrongly(export)) {
            let mut request = plugin.request(export);
            if matches!(expected, Timeout) {
                request = request.deadline(SHORT);
            }
            let call = request.raw(input.as_bytes().to_vec());
            let (result, ()) = tokio::join!(call, bystander.must_answer());
            judge(&format!("{name} {export}"), *expected, &result);
            let next = plugin.call_raw("ok", b"again".to_vec()).await;
            assert_eq!(
                next.unwrap_or_else(|error| panic!("after {export}: {error}")),
                b"again",
                "after {export}"
            );
            before.must_return();
        }
        bystander.finish().await;
        setup.host.shutdown().await;
    });
}

#[test]
fn native_rows() {
    every_row("crash-lab/native", NATIVE);
}

#[test]
fn rust_rows() {
    every_row("crash-lab/rust", RUST);
}

#[test]
fn wasm_rows() {
    every_row("crash-lab/wasm", WASM);
}
