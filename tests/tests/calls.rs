//! What a caller may count on: every call ends exactly once, with its own reply or with the reason why there is none.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hotcell::{CallError, EventKind, ExitCause, Plugin};
use hotcell_tests::Footprint;
use hotcell_tests::footprint::descendants;

mod calls_host;
mod common;

use calls_host::{Calls, LONG, MESSAGE, bytes, ends};

/// Deadline of calls that must not be served.
const SHORT: Duration = Duration::from_millis(200);

const ASK_WAIT: &[u8] = b"test.wait\n";

fn spawn(
    plugin: &Plugin,
    export: &'static str,
    input: &[u8],
) -> tokio::task::JoinHandle<Result<Vec<u8>, CallError>> {
    let (plugin, input) = (plugin.clone(), input.to_vec());
    tokio::spawn(async move { plugin.call_raw(export, input).await })
}

#[tokio::test]
async fn every_reply_of_many_outstanding_calls_matches_its_input() {
    let calls = Calls::new().await;
    let plugin = calls.native("many", 1).await;
    for _ in 0..4 {
        let sent: Vec<_> = (0..256).map(|n| bytes(n, n * 37 % 9000)).collect();
        let replies: Vec<_> = sent.iter().map(|input| spawn(&plugin, "ok", input)).collect();
        for (input, reply) in sent.iter().zip(replies) {
            assert!(ends(reply).await.expect("a reply") == *input, "its own input");
        }
    }
}

#[test]
fn blocking_threads_and_tasks_share_one_worker_and_each_gets_its_own_reply() {
    let _alone = common::alone();
    let (host, plugin, _gates, _folders) = calls_host::blocking("shared");
    // Long enough that its caller sleeps: what it sleeps on is made for the first one.
    plugin.call_raw("busy", b"50".to_vec()).expect("it answers");
    let before = Footprint::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plugin = plugin.clone();
            scope.spawn(move || {
                for n in 0..300 {
                    let input = bytes(thread * 1000 + n, n * 61 % 9000);
                    assert!(plugin.call_raw("ok", input.clone()).expect("a reply") == input, "its own input");
                }
            });
        }
        let runtime = common::runtime();
        runtime.block_on(async {
            let sent: Vec<_> = (0..256).map(|n| bytes(n, n * 41 % 9000)).collect();
            let replies: Vec<_> = sent.iter().map(|input| spawn(plugin.as_async(), "ok", input)).collect();
            for (input, reply) in sent.iter().zip(replies) {
                assert!(ends(reply).await.expect("a reply") == *input, "its own input");
            }
        });
    });
    before.must_return();
    host.shutdown();
}

#[test]
fn what_is_larger_than_the_ring_reaches_and_leaves_a_worker_of_blocking_callers() {
    let (host, plugin, _gates, _folders) = calls_host::blocking("blocking-large");
    let echo = |plugin: &hotcell::blocking::Plugin, input: Vec<u8>| {
        let reply = plugin.call_raw("ok", input.clone()).expect("a reply");
        assert!(reply == input, "its own input of {} bytes", input.len());
    };
    // Alone first: nobody else's call has anybody look.
    for n in 0..5 {
        echo(&plugin, bytes(n, MESSAGE - n));
    }
    let zeros = plugin.call_raw("host_call", format!("test.zeros\n{MESSAGE}").into_bytes());
    assert_eq!(zeros.expect("a reply").len(), MESSAGE);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plugin = plugin.clone();
            scope.spawn(move || {
                for n in 0..20 {
                    let large = (thread + n) % 2 == 0;
                    echo(&plugin, bytes(thread + n, if large { MESSAGE / 2 + n } else { 64 * n }));
                }
            });
        }
        let runtime = common::runtime();
        runtime.block_on(async {
            for n in 0..20 {
                let input = bytes(n, MESSAGE / (n + 1));
                assert!(ends(spawn(plugin.as_async(), "ok", &input)).await.expect("a reply") == input);
            }
        });
    });
    host.shutdown();
}

#[tokio::test]
async fn calls_that_wait_end_at_their_deadline_and_do_not_punish_the_one_that_runs() {
    let calls = Calls::new().await;
    let plugin = calls.native("queued", 1).await;
    plugin.call_raw("ok", Vec::new()).await.expect("it answers");
    let workers = descendants(std::process::id());
    // While a plugin asks its host, its worker takes further calls out of the ring; while it is busy, it does not.
    for (export, input) in [("host_call", ASK_WAIT), ("busy", b"1500".as_slice())] {
        let running = spawn(&plugin, export, input);
        match export {
            "host_call" => calls.gates.asked(1).await,
            _ => tokio::task::yield_now().await,
        }
        let waiting = (0..20).map(|_| plugin.request("ok").deadline(SHORT).raw(vec![1; 20_000]));
        for ended in futures_of(waiting).await {
            assert!(matches!(ended, Err(CallError::Timeout)), "{export}: {ended:?}");
        }
        calls.gates.open(1);
        ends(running).await.expect("it goes on to its reply");
        assert_eq!(plugin.call_raw("ok", b"next".to_vec()).await.expect("so does the worker"), b"next");
    }
    assert_eq!(descendants(std::process::id()), workers, "the same processes");
}

/// Polls futures together.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut futures {
            if let Some(std::task::Poll::Ready(ready)) =
                future.as_mut().map(|future| future.as_mut().poll(context))
            {
                (*future, *output) = (None, Some(ready));
            }
        }
        if futures.iter().all(|(future, _)| future.is_none()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_cannot_keep_its_worker() {
    let calls = Calls::new().await;
    let plugin = calls.native("orphan", 1).await;
    let running = spawn(&plugin, "host_call", ASK_WAIT);
    calls.gates.asked(1).await;
    // Its worker has put it aside, so that it cannot be taken back; it spins when its turn comes.
    let spinning = plugin.request("spin").deadline(SHORT).raw(Vec::new()).await;
    assert!(matches!(spinning, Err(CallError::Timeout)), "{spinning:?}");
    calls.gates.open(1);
    ends(running).await.expect("it goes on to its reply");
    let next = plugin.call_raw("ok", b"next".to_vec()).await;
    assert_eq!(next.expect("the next call is served by whichever worker"), b"next");
}

#[tokio::test]
async fn calls_that_were_dropped_in_every_state_leave_the_others_their_replies() {
    let calls = Calls::new().await;
    let plugin = calls.native("dropped", 1).await;
    for round in 0..30_usize {
        let tasks: Vec<_> = (0..100).map(|n| spawn(&plugin, "ok", &bytes(n, n * 97 % 9000))).collect();
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let (dropped, kept): (Vec<_>, Vec<_>) = (0..).zip(tasks).partition(|(n, _)| n % 3 == round % 3);
        dropped.iter().for_each(|(_, task)| task.abort());
        for (n, task) in kept {
            assert!(ends(task).await.expect("a reply") == bytes(n, n * 97 % 9000), "its own input");
        }
    }
    // None of them is outstanding any more.
    let sent = (0..256).map(|n| plugin.call_raw("ok", bytes(n, 64)));
    assert!(futures_of(sent).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_call_that_was_dropped_is_told_as_failed() {
    let calls = Calls::new().await;
    let plugin = calls.native("told", 1).await;
    let mut events = calls.host.events();
    let dropped = spawn(&plugin, "host_call", ASK_WAIT);
    calls.gates.asked(1).await;
    dropped.abort();
    let told = async {
        while let Some(event) = events.next().await {
            if let EventKind::CallFailed { export, outcome } = event.kind {
                return (export, outcome);
            }
        }
        panic!("the host lives");
    };
    let (export, outcome) = tokio::time::timeout(LONG, told).await.expect("it is told");
    assert_eq!((export.as_str(), outcome), ("host_call", CallError::Cancelled.to_string()));
    calls.gates.open(1);
}

#[tokio::test]
async fn a_crash_costs_only_the_call_that_runs() {
    let calls = Calls::new().await;
    let plugin = calls.native("crashing", 1).await;
    for size in [10, 5000, 3 << 20] {
        let running = spawn(&plugin, "busy", b"200");
        let crashing = spawn(&plugin, "abort", b"");
        let behind: Vec<_> = (0..20).map(|n| spawn(&plugin, "ok", &bytes(n, size))).collect();
        ends(running).await.expect("it ended before");
        let crashed = ends(crashing).await;
        let named = matches!(&crashed, Err(CallError::Crashed(exit))
            if matches!(&exit.cause, ExitCause::Signal { name, .. } if name == "SIGABRT"));
        assert!(named, "{size}: {crashed:?}");
        for (n, call) in (0..).zip(behind) {
            let reply = ends(call).await.unwrap_or_else(|error| panic!("call {n} of {size} bytes: {error}"));
            assert!(reply == bytes(n, size), "its own input");
        }
    }
}

/// An export that asks the host, its input, and what comes of it.
type Asking<'t> = (&'t str, &'t [u8], Result<&'t [u8], &'t str>);

#[tokio::test]
async fn host_calls_of_every_kind_are_answered_under_pipelining() {
    let calls = Calls::new().await;
    let plugin = calls.native("asking", 1).await;
    let kinds: [Asking<'_>; 4] = [
        ("log", b"log me", Ok(b"")),
        ("host_call", b"test.echo\nquick", Ok(b"quick")),
        ("host_call", b"test.later\nslow", Ok(b"slow")),
        ("host_call", b"test.panic\n", Err("the host's handler failed")),
    ];
    let sent = (0..200_usize).map(|n| plugin.call_raw(kinds[n % 4].0, kinds[n % 4].1.to_vec()));
    let replies = tokio::time::timeout(LONG, futures_of(sent)).await.expect("all end");
    for (n, reply) in (0_usize..).zip(replies) {
        judge_host_call(kinds[n % 4].2, &reply);
    }
}

fn judge_host_call(expected: Result<&[u8], &str>, reply: &Result<Vec<u8>, CallError>) {
    match (expected, reply) {
        (Ok([]), Ok(_)) => {}
        (Ok(expected), Ok(reply)) => assert_eq!(reply, expected),
        (Err(expected), Err(CallError::Plugin(text))) => assert!(text.contains(expected), "{text}"),
        _ => panic!("expected {expected:?}, got {reply:?}"),
    }
}

#[test]
fn host_calls_of_blocking_callers_are_answered() {
    let (host, plugin, _gates, _folders) = calls_host::blocking("blocking-asking");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    judge_host_call(Ok(b""), &plugin.call_raw("log", b"log me".to_vec()));
                    let ask = |text: &[u8]| plugin.call_raw("host_call", text.to_vec());
                    judge_host_call(Ok(b"quick"), &ask(b"test.echo\nquick"));
                    judge_host_call(Ok(b"slow"), &ask(b"test.later\nslow"));
                    judge_host_call(Err("the host's handler failed"), &ask(b"test.panic\n"));
                }
            });
        }
    });
    host.shutdown();
}

#[test]
fn a_blocking_call_ends_at_its_deadline_whatever_runs_before_it() {
    let (host, plugin, gates, _folders) = calls_host::blocking("blocking-queued");
    let runtime = common::runtime();
    for (export, input) in [("host_call", ASK_WAIT), ("sleep_forever", b"")] {
        let running = {
            let _entered = runtime.enter();
            spawn(plugin.as_async(), export, input)
        };
        if export == "host_call" {
            runtime.block_on(gates.asked(1));
        }
        // The other one may not have entered yet, and then this one is served.
        let result = loop {
            match call_from_a_thread(&plugin) {
                Ok(Ok(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(result, Ok(Err(CallError::Timeout))), "{export}: {result:?}");
        gates.open(1);
        running.abort();
    }
    host.shutdown();
}

/// Calls with a short deadline from another thread, and waits far less than for the deadline of a call before it.
fn call_from_a_thread(
    plugin: &hotcell::blocking::Plugin,
) -> Result<Result<Vec<u8>, CallError>, std::sync::mpsc::RecvTimeoutError> {
    let (ended, end) = std::sync::mpsc::channel();
    let plugin = plugin.clone();
    std::thread::spawn(move || ended.send(plugin.call_within(SHORT, "ok", b"behind".to_vec())));
    end.recv_timeout(Duration::from_secs(5))
}

/// Bytes of payload around every border of the channel.
fn sizes() -> [usize; 10] {
    const MIB: usize = 1 << 20;
    let limit = MESSAGE;
    [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 5 * MIB, limit]
}

#[tokio::test]
async fn payloads_of_every_size_travel_both_ways_and_one_byte_more_than_the_limit_does_not() {
    let calls = Calls::new().await;
    for plugin in [calls.native("sizes", 1).await, calls.wasm("sizes-wasm").await] {
        for size in sizes() {
            let input = bytes(size, size);
            let reply = plugin.call_raw("ok", input.clone()).await;
            assert!(
                reply.unwrap_or_else(|error| panic!("{size}: {error}")) == input,
                "{size}: the same bytes"
            );
        }
        let over = plugin.call_raw("ok", vec![0; MESSAGE + 1]).await;
        assert!(matches!(over, Err(CallError::OverLimit { .. })), "an input: {:?}", over.map(|r| r.len()));
        let over = plugin.call_raw("giant_reply", (MESSAGE + 1).to_string().into_bytes()).await;
        assert!(matches!(over, Err(CallError::OverLimit { .. })), "a reply: {:?}", over.map(|r| r.len()));
        plugin.call_raw("ok", Vec::new()).await.expect("the worker serves on");
    }
}

#[tokio::test]
async fn host_calls_carry_payloads_of_every_size_both_ways() {
    let calls = Calls::new().await;
    let native = calls.native("asking-sizes", 1).await;
    let wasm = calls.wasm("asking-sizes-wasm").await;
    for size in sizes().into_iter().filter(|size| *size + 10 <= MESSAGE) {
        let input = bytes(size, size);
        let named = [b"test.echo\n".as_slice(), &input].concat();
        let answer = native.call_raw("host_call", named).await;
        assert!(answer.unwrap_or_else(|error| panic!("{size}: {error}")) == input, "{size}: native");
        let answer = wasm.call_raw("ask", input.clone()).await;
        assert!(answer.unwrap_or_else(|error| panic!("{size}: {error}")) == input, "{size}: wasm");
    }
    let answer = wasm.call_raw("ask", vec![7; MESSAGE]).await;
    assert!(answer.is_ok_and(|answer| answer.len() == MESSAGE), "just inside the limit");
    for (size, answers) in [(MESSAGE, true), (MESSAGE + 1, false)] {
        let text = format!("test.zeros\n{size}");
        let answer = native.call_raw("host_call", text.into_bytes()).await;
        assert_eq!(answer.is_ok(), answers, "an answer of {size} bytes");
    }
    let size = (MESSAGE + 1).to_string();
    let over = native.call_raw("giant_host_call", size.into_bytes()).await;
    // The lab tries a name of that size, too, which no frame holds.
    assert!(matches!(over, Err(CallError::Plugin(_) | CallError::Crashed(_))), "an input: {over:?}");
}

#[test]
fn calls_in_every_state_end_once_when_their_plugin_is_unloaded() {
    let _alone = common::alone();
    drop(common::runtime());
    let runtime = common::runtime();
    runtime.block_on(async {
        let calls = Calls::new().await;
        drop(calls.native("warm", 2).await);
        let before = Footprint::now();
        for round in 0..40_usize {
            let plugin = calls.native(&format!("unloaded-{round}"), 1 + round % 2).await;
            let exports: [(&str, &[u8]); 5] = [
                ("abort", b""),
                ("host_call", ASK_WAIT),
                ("sleep_forever", b""),
                ("ok", b"x"),
                ("busy", b"1"),
            ];
            let states = (0..300_usize).map(|n| exports[(n + round) % 5]);
            let tasks: Vec<_> = states.map(|(export, input)| spawn(&plugin, export, input)).collect();
            for _ in 0..round * 3 {
                tokio::task::yield_now().await;
            }
            plugin.unload().await;
            for (n, task) in (0_usize..).zip(tasks) {
                let end = tokio::time::timeout(LONG, task).await;
                let end = end.unwrap_or_else(|_| panic!("round {round}: call {n} has no end"));
                let _ = end.expect("no panic");
            }
        }
        before.must_return();
        calls.host.shutdown().await;
    });
}

#[test]
fn calls_in_every_state_end_once_when_the_host_is_shut_down() {
    let _alone = common::alone();
    drop(common::runtime());
    let before = Footprint::now();
    for round in 0..15_usize {
        let runtime = common::runtime();
        runtime.block_on(async {
            let calls = Calls::new().await;
            let plugin = calls.native("shut-down", 1).await;
            let exports: [(&str, &[u8]); 4] =
                [("abort", b""), ("host_call", ASK_WAIT), ("ok", b"x"), ("sleep_forever", b"")];
            let tasks: Vec<_> = (0..100_usize)
                .map(|n| exports[(n + round) % 4])
                .map(|(export, input)| spawn(&plugin, export, input))
                .collect();
            for _ in 0..round * 5 {
                tokio::task::yield_now().await;
            }
            calls.host.shutdown().await;
            for task in tasks {
                let end = tokio::time::timeout(LONG, task).await;
                let _ = end.unwrap_or_else(|_| panic!("round {round}: a call has no end")).expect("no panic");
            }
        });
    }
    before.must_return();
}

#[tokio::test]
async fn calls_that_were_taken_back_leave_nothing_of_their_input() {
    let calls = Calls::new().await;
    for plugin in [calls.native("taken-back", 1).await, calls.native("taken-back-asking", 1).await] {
        for (export, input) in [("busy", b"800".as_slice()), ("host_call", ASK_WAIT)] {
            let running = spawn(&plugin, export, input);
            tokio::task::yield_now().await;
            let taken_back = (0..5).map(|n| plugin.request("ok").deadline(SHORT).raw(bytes(n, 20_000)));
            for ended in futures_of(taken_back).await {
                assert!(matches!(ended, Err(CallError::Timeout)), "{export}");
            }
            let behind = spawn(&plugin, "ok", &bytes(99, 30_000));
            calls.gates.open(usize::from(export == "host_call"));
            ends(running).await.expect("it goes on to its reply");
            assert!(ends(behind).await.expect("a reply") == bytes(99, 30_000), "its own input");
            for size in [2 << 20, 5000] {
                let reply = plugin.call_raw("ok", bytes(size, size)).await.expect("a reply");
                assert!(reply == bytes(size, size), "its own input");
            }
        }
    }
}
