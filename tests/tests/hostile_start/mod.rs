//! Misdeeds while a worker starts: its load fails with a reason, and nothing else does.

use hotcell::{Error, ExitCause};
use hotcell_tests::Footprint;
use serde_json::json;

use crate::common::{self, Bystander};
use crate::hostile_host::{Hostile, IMPATIENT};

/// What must become of a misdeed.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// The worker is killed for it.
    Breach(&'static str),
    /// It ended by itself.
    Exit,
    /// It is killed when its time is over.
    Deadline,
    /// Its own words, harmless to print, and no more of them than are kept.
    Failed,
}

use Verdict::{Breach, Deadline, Exit, Failed};

/// Before the library is loaded, when nothing but "loaded" or a failure may come; and before it is ready, when it may also
/// call its host, once at a time and in the name of no call.
const ROWS: &[(&str, &str, Verdict)] = &[
    ("loading", "reply", Breach("a reply while it loads")),
    ("loading", "ask", Breach("a host call while it loads")),
    ("loading", "ready", Breach("\"ready\" while it loads")),
    ("loading", "evidence", Breach("evidence while it loads")),
    ("loading", "listener", Breach("a listener while it loads")),
    ("loading", "garbage", Breach("bytes that are no message")),
    ("loading", "another generation", Breach("a message of generation")),
    ("loading", "payload", Breach("\"loaded\" while it loads")),
    ("loading", "cursor", Breach("a corrupt ring")),
    ("loading", "long failure", Failed),
    ("loading", "exit", Exit),
    ("loading", "silence", Deadline),
    ("starting", "reply", Breach("a reply while it starts")),
    ("starting", "ask for a call", Breach("a host call while it starts")),
    // The second one is looked at after the answer to the first, which does not come in time.
    ("starting", "ask twice", Deadline),
    ("starting", "loaded", Breach("\"loaded\" while it starts")),
    ("starting", "evidence", Breach("evidence while it starts")),
    ("starting", "listener", Breach("a listener while it starts")),
    ("starting", "garbage", Breach("bytes that are no message")),
    ("starting", "another generation", Breach("a message of generation")),
    ("starting", "cursor", Breach("a corrupt ring")),
    ("starting", "long failure", Failed),
    ("starting", "exit", Exit),
    ("starting", "silence", Deadline),
];

fn is_right(verdict: Verdict, error: &Error) -> bool {
    match (verdict, error) {
        (Breach(text), Error::Start { exit, .. }) => {
            matches!(&exit.cause, ExitCause::ProtocolViolation(what) if what.contains(text))
        }
        (Exit, Error::Start { exit, .. }) => exit.cause == ExitCause::Code(0),
        (Deadline, Error::Start { exit, .. }) => exit.cause == ExitCause::Deadline,
        (Failed, Error::Package { detail, .. }) => {
            detail.contains("[2J") && !detail.contains('\u{1b}') && detail.len() < 6 * 4096
        }
        _ => false,
    }
}

#[test]
fn every_misdeed_of_a_start_fails_its_load_and_nothing_else() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let hostile = Hostile::new().await;
        let bystander = Bystander::start(hostile.neighbour.clone(), "ok", b"well");
        bystander.must_answer().await;
        let honest =
            hostile.load_more("honest", json!({})).await.expect("control: the same worker can behave");
        assert_eq!(honest.call_raw("echo", b"well".to_vec()).await.expect("a reply"), b"well");
        honest.unload().await;
        let before = Footprint::now();
        for (number, (stage, misdeed, verdict)) in ROWS.iter().enumerate() {
            let mut more = json!({ "config": { *stage: *misdeed } });
            if matches!(verdict, Deadline) {
                more["security_policy"] = json!({ "profile": IMPATIENT });
            }
            let name = format!("row-{number}");
            let load = hostile.load_more(&name, more);
            let (loaded, ()) = tokio::join!(load, bystander.must_answer());
            let Err(error) = loaded else { panic!("{stage}, {misdeed}: it must not load") };
            assert!(is_right(*verdict, &error), "{stage}, {misdeed}: expected {verdict:?}, got {error:?}");
        }
        before.must_return();
        let honest = hostile.load_more("after", json!({})).await.expect("the next load works");
        assert_eq!(honest.call_raw("echo", b"well".to_vec()).await.expect("a reply"), b"well");
        bystander.finish().await;
        hostile.host.shutdown().await;
    });
}
