//! A worker that breaks the protocol in every way: the host kills it and says how it cheated, the caller learns of it, the
//! next call is served, every other plugin goes on answering, and nothing is left behind.
//!
//! Rows are those of the threat model's list for the channel (`docs/threat-model.md`). The worker is real: launched, confined
//! and checked as any other; only what it does with its end of the rings is not (`src/bin/fake_worker`).

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hotcell::{CallError, Event, EventKind, Events, ExitCause};
use hotcell_tests::Footprint;

mod common;
mod hostile_host;
mod hostile_start;

use common::Bystander;
use hostile_host::Hostile;

/// What must become of a misdeed.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// The worker is killed for it during the call.
    Breach(&'static str),
    /// The call is replied to, and the worker killed for it no later than with the next call, which another one serves.
    Late(&'static str),
    /// The call ends at its deadline, with its worker.
    Timeout,
    /// The worker is killed for what it asked for, too often.
    Flood,
    /// The call ends at its deadline, unless the host happened to be awake.
    Unheard,
    /// The worker ended by itself.
    Exit,
    /// The reply, with this in it: it harms nobody.
    Reply(&'static str),
}

use Verdict::{Breach, Exit, Flood, Late, Reply, Timeout, Unheard};

/// Deadline of calls that never end by themselves.
const SHORT: Duration = Duration::from_millis(500);

/// How long anything else may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A length or cursor that no memory holds, as text.
const HUGE: &str = "70368744177664";

const NO_MESSAGE: Verdict = Breach("bytes that are no message");

/// Row, misdeed, parameter, verdict. The rows without a number are of this channel only.
const ROWS: &[(&str, &str, &str, Verdict)] = &[
    ("IP-01 huge declared length", "announce", HUGE, Breach("over the limit")),
    ("IP-02 length overflow", "announce", "9223372036854775808", Breach("over the limit")),
    ("IP-02 length overflow", "announce", "18446744073709551615", Breach("over the limit")),
    ("IP-03 length says more", "announce", "100 1", Breach("1 bytes in a message that announces 100")),
    ("IP-03 length says less", "announce", "1 100", Breach("100 bytes in a message that announces 1")),
    ("IP-03 two ways at once", "announce", "5000 1", Breach("1 bytes in a message that announces 5000")),
    ("IP-04 less than a header", "cursor", "8", Breach("longer than what was published")),
    ("IP-04 less than it says", "frame", "8192 4096", Breach("longer than what was published")),
    ("IP-05 half, then silence", "half", "silence", Timeout),
    ("IP-05 half a host call", "ask_wrongly", "with half an input", Timeout),
    ("IP-06 half, then exit", "half", "exit", Exit),
    ("IP-15 head far ahead", "cursor", "32769", Breach("out of the ring")),
    ("IP-15 head far ahead", "cursor", HUGE, Breach("out of the ring")),
    ("IP-15 head wraps", "cursor", "9223372036854775808", Breach("out of the ring")),
    ("IP-15 head moves back", "cursor", "back", Breach("out of the ring")),
    ("IP-15 bulk head ahead", "bulk_head", "2097153", Breach("out of the ring")),
    ("IP-15 bulk head wraps", "bulk_head", "18446744073709551615", Breach("out of the ring")),
    ("IP-15 tail ahead", "ask_wrongly", "and move a tail", Breach("tail")),
    ("IP-15 tail ahead", "answer", "and move a tail", Late("tail")),
    ("IP-15 bulk tail ahead", "answer", "and move a bulk tail", Late("tail")),
    ("IP-16 takes no answer", "ask_wrongly", "and be deaf", Timeout),
    ("IP-18 flood of host calls", "ask_for_ever", "log", Timeout),
    ("IP-18 flood of refused ones", "ask_for_ever", "test.undeclared", Flood),
    ("IP-20 double reply", "answer", "and once more", Late("while nothing was asked")),
    ("IP-22 a listener", "say", "listener", Breach("a listener while")),
    ("IP-22 evidence", "say", "evidence", Breach("evidence while")),
    ("IP-22 loaded again", "say", "loaded", Breach("\"loaded\" while")),
    ("IP-23 discriminant", "message", "discriminant", NO_MESSAGE),
    ("IP-23 wide discriminant", "message", "wide discriminant", NO_MESSAGE),
    ("IP-23 overlong number", "message", "overlong", NO_MESSAGE),
    ("IP-23 not UTF-8", "message", "text", NO_MESSAGE),
    ("IP-23 nothing", "message", "empty", NO_MESSAGE),
    ("IP-23 cut short", "message", "cut", NO_MESSAGE),
    ("IP-23 all ones", "message", "ones", NO_MESSAGE),
    // No type is recursive: the same byte, as deep as a frame allows.
    ("IP-24 deep recursion", "message", "nested", NO_MESSAGE),
    ("IP-25 sequence of 2^33", "message", "sequence", NO_MESSAGE),
    ("IP-26 text of 2^46 bytes", "message", "declared text", NO_MESSAGE),
    ("IP-26 name over its limit", "ask_wrongly", "by a long name", Breach("name is too long")),
    ("IP-26 name over its limit", "ask_wrongly", "by a huge name", Breach("name is too long")),
    ("IP-27 trailing byte", "message", "trailing", NO_MESSAGE),
    ("IP-28 message over a frame", "frame", "8193 0", Breach("a frame over the limit")),
    ("IP-28 payload over a frame", "frame", "0 4097", Breach("a frame over the limit")),
    ("IP-28 both wrap", "frame", "4294967295 4294967295", Breach("a frame over the limit")),
    ("IP-30 undeclared host call", "ask", "test.undeclared", Reply("Refused")),
    ("IP-31 confused deputy", "ask", "../../log", Reply("Refused")),
    ("IP-31 confused deputy", "ask", "LOG", Reply("Refused")),
    ("IP-30 control", "ask", "log", Reply("Ok")),
    // A message names no plugin: identity is the memory that it lies in. What can be forged is the incarnation.
    ("IP-33 another generation", "generation", "1", Breach("a message of generation")),
    ("IP-33 another generation", "generation", "4294967295", Breach("a message of generation")),
    ("IP-36 host call of an ended call", "ask_wrongly", "for an earlier call", Breach("a host call while")),
    ("IP-36 host call of a later call", "ask_wrongly", "for another call", Breach("a host call while")),
    ("IP-36 host call as at the start", "ask_wrongly", "as at the start", Breach("a host call while")),
    // A worker may have one host call: there is nothing to exhaust.
    ("IP-37 two host calls at once", "ask_wrongly", "twice", Breach("a host call while nothing was asked")),
    ("IP-38 exit(0)", "exit", "", Exit),
    ("IP-39 ready again", "say", "ready", Breach("\"ready\" while")),
    ("IP-39 failed while it serves", "say", "changed my mind", Breach("a failure while")),
    (
        "replies while it waits",
        "ask_wrongly",
        "and reply meanwhile",
        Breach("a reply while nothing was asked"),
    ),
    ("reply before its call", "answer", "and ahead", Late("while nothing was asked")),
    ("announcement without a call", "answer", "and announce", Late("while nothing was asked")),
    // They would be taken for the start of its own next large reply, if it sent one.
    ("bulk bytes without a call", "answer", "and send bulk bytes", Reply("and send")),
    ("doorbell storm", "bells", "storm", Timeout),
    // A full count rings no more: the reply lies there, and nobody knows.
    ("doorbell that is full", "bells", "full", Unheard),
    ("lies that it has not begun", "lie", "", Exit),
];

async fn exit_of(row: &str, events: &mut Events) -> ExitCause {
    let exited = async {
        loop {
            let Event { kind, plugin, .. } = events.next().await.expect("the host lives");
            if let (EventKind::Exited(exit), hostile_host::ID) = (kind, plugin.as_str()) {
                return exit.cause;
            }
        }
    };
    tokio::time::timeout(LONG, exited).await.unwrap_or_else(|_| panic!("{row}: no end is told"))
}

fn is_breach(cause: &ExitCause, text: &str) -> bool {
    matches!(cause, ExitCause::ProtocolViolation(what) if what.contains(text))
}

async fn judge(row: &str, verdict: Verdict, result: Result<Vec<u8>, CallError>, hostile: &mut Hostile) {
    let right = match (verdict, &result) {
        (Breach(text), Err(CallError::Crashed(exit))) => is_breach(&exit.cause, text),
        (Timeout | Unheard, Err(CallError::Timeout)) | (Unheard, Ok(_)) => true,
        (Flood, Err(CallError::Crashed(exit))) => matches!(exit.cause, ExitCause::Violation { .. }),
        (Exit, Err(CallError::Crashed(exit))) => exit.cause == ExitCause::Code(0),
        (Late(_), Ok(_)) => true,
        (Reply(text), Ok(reply)) => String::from_utf8_lossy(reply).contains(text),
        _ => false,
    };
    assert!(right, "{row}: expected {verdict:?}, got {result:?}");
    // Larger than a frame, so that every ring is used.
    let echo = || hostile.plugin.call_raw("echo", vec![7; 100_000]);
    let next = match (verdict, echo().await) {
        // Its reply was seen before its bell was full: that of the next call is not, and costs it its life.
        (Unheard, Err(CallError::Timeout)) => echo().await,
        (_, next) => next,
    };
    assert!(
        next.as_ref().is_ok_and(|reply| reply == &[7; 100_000]),
        "after {row}: {:?}",
        next.map(|r| r.len())
    );
    if let Late(text) = verdict {
        let cause = exit_of(row, &mut hostile.events).await;
        assert!(is_breach(&cause, text), "{row}: {cause:?}");
    }
}

#[test]
fn every_breach_ends_its_worker_and_nothing_else() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let mut hostile = Hostile::new().await;
        let bystander = Bystander::start(hostile.neighbour.clone(), "ok", b"well");
        hostile.plugin.call_raw("echo", vec![7; 100_000]).await.expect("control: it can behave");
        let by_hand = hostile.plugin.call_raw("answer", b"by hand".to_vec()).await;
        assert_eq!(by_hand.expect("control: what it writes by hand is understood"), b"by hand");
        bystander.must_answer().await;
        let before = Footprint::now();
        for (row, misdeed, parameter, verdict) in ROWS {
            hostile.fresh_worker().await;
            let request = hostile.plugin.request(misdeed);
            let request =
                if matches!(verdict, Timeout | Unheard) { request.deadline(SHORT) } else { request };
            let call = tokio::time::timeout(LONG, request.raw(parameter.as_bytes().to_vec()));
            let (result, ()) = tokio::join!(call, bystander.must_answer());
            let row = format!("{row}: {misdeed} {parameter}");
            judge(&row, *verdict, result.unwrap_or_else(|_| panic!("{row}: no end")), &mut hostile).await;
            before.must_return();
        }
        bystander.finish().await;
        hostile.host.shutdown().await;
    });
}

#[test]
fn bytes_that_change_while_they_are_read_are_a_breach_or_do_not_matter() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let mut hostile = Hostile::new().await;
        let bystander = Bystander::start(hostile.neighbour.clone(), "ok", b"well");
        for round in 0..2 {
            for what in ["lengths", "message", "payload"] {
                hostile.fresh_worker().await;
                let call = hostile.plugin.request("change").deadline(SHORT).raw(what.as_bytes().to_vec());
                let result = tokio::time::timeout(LONG, call).await.expect("it ends");
                let sound = match &result {
                    Ok(reply) => reply.len() == 2048,
                    Err(CallError::Crashed(exit)) => matches!(exit.cause, ExitCause::ProtocolViolation(_)),
                    // The header promised another call's reply, or less than was published.
                    Err(error) => matches!(error, CallError::Timeout | CallError::OverLimit { .. }),
                };
                assert!(sound, "round {round}: {what}: {:?}", result.map(|reply| reply.len()));
            }
            bystander.must_answer().await;
        }
        bystander.finish().await;
    });
}

#[test]
fn the_memory_cannot_be_resized_and_nothing_can_be_passed_to_the_host() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let hostile = Hostile::new().await;
        let text = async |export: &str| {
            let said = hostile.plugin.call_raw(export, Vec::new()).await.expect("a reply");
            String::from_utf8(said).expect("text")
        };
        // IP-11, IP-12: with every right of a process that is not confined, the seals stand; a hole only empties bytes.
        let tried = text("tried").await;
        for line in
            ["shrink: 1\n", "grow: 1\n", "seal: 1\n", "punch a hole: done\n", "pass a descriptor: done\n"]
        {
            assert!(tried.contains(line), "{line} of {tried}");
        }
        let before = Footprint::now();
        // IP-07, IP-08, IP-09, IP-28: there is no socket, so no packet, no truncation and no descriptor.
        let tried = text("try").await;
        assert!(tried.lines().count() > 50 && !tried.contains("done"), "{tried}");
        before.must_return();
    });
}

#[test]
fn a_worker_that_takes_no_more_calls_is_replaced() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let mut hostile = Hostile::new().await;
        let bystander = Bystander::start(hostile.neighbour.clone(), "ok", b"well");
        hostile.fresh_worker().await;
        let deaf = hostile.plugin.call_raw("answer", b"and be deaf".to_vec()).await;
        assert_eq!(deaf.expect("it answers once more"), b"and be deaf");
        let replaced = async {
            loop {
                let large = vec![7; 100_000];
                match hostile.plugin.request("echo").deadline(SHORT).raw(large).await {
                    Ok(reply) => return assert_eq!(reply.len(), 100_000),
                    Err(CallError::Timeout) => bystander.must_answer().await,
                    Err(error) => panic!("calls that it did not take end at their deadline or move: {error}"),
                }
            }
        };
        tokio::time::timeout(LONG, replaced).await.expect("another worker takes its place");
        bystander.finish().await;
    });
}

#[test]
fn a_reply_right_before_the_end_of_its_worker_counts() {
    let _alone = common::alone();
    let folders = hotcell_tests::Folders::new();
    let host = hostile_host::builder(&folders).build_blocking().expect("a host starts");
    let plugin = host.load(hostile_host::fake(&folders, "last", serde_json::json!({}))).expect("it loads");
    for round in 0..100 {
        // The caller itself waits for the reply; then the runtime does.
        let reply = match round % 2 {
            0 => plugin.call_within(LONG, "answer", b"and exit".to_vec()),
            _ => common::runtime().block_on(plugin.as_async().call_raw("answer", b"and exit".to_vec())),
        };
        assert_eq!(reply.unwrap_or_else(|error| panic!("round {round}: {error}")), b"and exit");
    }
    host.shutdown();
}

#[test]
fn calls_that_are_given_up_unbegun_cost_no_worker_its_place() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let hostile = Hostile::new().await;
        let plugin = hostile.load_more("two", serde_json::json!({ "instances": 2 })).await.expect("it loads");
        // Both workers reply, and take no call for a moment; unless the first was so quick that it got both calls.
        let mut unserved = 0;
        while unserved < 2 {
            let nap = || plugin.call_raw("answer", b"and nap".to_vec());
            let (first, second) = tokio::join!(nap(), nap());
            assert!(first.is_ok() && second.is_ok(), "both reply");
            unserved = 0;
            for _ in 0..2 {
                let given_up = plugin.call_raw("echo", b"given up".to_vec());
                unserved += u32::from(tokio::time::timeout(Duration::ZERO, given_up).await.is_err());
            }
        }
        let echo = || plugin.call_raw("echo", b"next".to_vec());
        let (first, second) = tokio::join!(echo(), echo());
        assert_eq!((first.expect("a reply"), second.expect("a reply")), (b"next".to_vec(), b"next".to_vec()));
    });
}

#[test]
fn a_reply_that_waits_for_the_budget_reaches_a_blocking_caller() {
    let _alone = common::alone();
    let folders = hotcell_tests::Folders::new();
    let host =
        hostile_host::builder(&folders).payload_budget(1 << 20).build_blocking().expect("a host starts");
    let load =
        |name: &str| host.load(hostile_host::fake(&folders, name, serde_json::json!({}))).expect("it loads");
    let (holding, over, waiting) = (load("holding"), load("over"), load("waiting"));
    let half = |plugin: &hotcell::blocking::Plugin| {
        let plugin = plugin.clone();
        std::thread::spawn(move || plugin.call_within(Duration::from_secs(2), "half", b"silence".to_vec()))
    };
    // One takes most of the budget, the other what may be over it.
    let halves = [half(&holding), half(&over)];
    // The host does not tell how much of it is taken. A caller that comes too early sees nothing of what is tested.
    std::thread::sleep(SHORT);
    let reply = waiting.call_within(LONG, "echo", vec![7; 500_000]);
    assert!(reply.as_ref().is_ok_and(|reply| reply.len() == 500_000), "{:?}", reply.map(|reply| reply.len()));
    for half in halves {
        let ended = half.join().expect("no panic");
        assert!(matches!(ended, Err(CallError::Timeout)), "{ended:?}");
    }
    host.shutdown();
}
