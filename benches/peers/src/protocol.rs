//! The questions and answers that cross standard input and output. They come from a driver that is trusted.

use serde::{Deserialize, Serialize};

use crate::peers::PeerName;

/// Largest payload of a call in bytes: the largest that hotcell is measured with.
pub(crate) const LARGEST: usize = 16 << 20;
/// Most calls of one question: their answer is some megabytes of JSON.
const MOST_CALLS: usize = 1_000_000;
/// Most calls in flight: what the gRPC server allows on one connection.
pub(crate) const MOST_OUTSTANDING: usize = 1024;

/// A number between two bounds, both included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "usize")]
pub(crate) struct Bounded<const LEAST: usize, const MOST: usize>(usize);

impl<const LEAST: usize, const MOST: usize> Bounded<LEAST, MOST> {
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

impl<const LEAST: usize, const MOST: usize> TryFrom<usize> for Bounded<LEAST, MOST> {
    type Error = String;

    fn try_from(number: usize) -> Result<Self, String> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not between {LEAST} and {MOST}"))
        }
    }
}

/// Bytes of a payload.
pub(crate) type Size = Bounded<0, LARGEST>;
/// How many calls.
pub(crate) type Count = Bounded<1, MOST_CALLS>;
/// How many calls are in flight at a time.
pub(crate) type Outstanding = Bounded<1, MOST_OUTSTANDING>;

/// What the driver asks for.
#[derive(Debug, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Question {
    /// Which peers there are.
    List {},
    /// Start a peer and check one call.
    Open { peer: PeerName },
    /// One call after the other.
    Call { peer: PeerName, size: Size, count: Count },
    /// Many calls at a time over one connection.
    Pipeline { peer: PeerName, size: Size, count: Count, outstanding: Outstanding },
    /// End a peer.
    Close { peer: PeerName },
}

/// One peer, as `list` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct About {
    pub(crate) name: PeerName,
    pub(crate) about: &'static str,
    /// Whether it answers from a process of its own. None has a sandbox around that process.
    pub(crate) isolated: bool,
}

/// What the driver gets.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Peers { peers: Vec<About> },
    Done { ok: bool },
    Nanos { nanos: Vec<u64> },
    Error { error: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_question(text: &str) -> bool {
        serde_json::from_str::<Question>(text).is_ok()
    }

    #[test]
    fn a_question_has_exactly_its_fields() {
        assert!(is_question(r#"{"ask":"list"}"#));
        assert!(is_question(r#"{"ask":"call","peer":"ipc-channel","size":0,"count":1}"#));
        for bad in [
            r#"{"ask":"list","peer":"grpc"}"#,
            r#"{"ask":"open"}"#,
            r#"{"ask":"open","peer":"other"}"#,
            r#"{"ask":"open","peer":"grpc","peer":"grpc"}"#,
            r#"{"ask":"call","peer":"grpc","size":1,"count":1,"outstanding":1}"#,
            r#"{"peer":"grpc"}"#,
            "[]",
        ] {
            assert!(!is_question(bad), "{bad}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        for (size, count, outstanding, expected) in [
            (LARGEST, 1, 1, true),
            (LARGEST + 1, 1, 1, false),
            (1, 0, 1, false),
            (1, 1, MOST_OUTSTANDING + 1, false),
        ] {
            let text = format!(
                r#"{{"ask":"pipeline","peer":"grpc","size":{size},"count":{count},"outstanding":{outstanding}}}"#
            );
            assert_eq!(is_question(&text), expected, "{text}");
        }
    }
}
