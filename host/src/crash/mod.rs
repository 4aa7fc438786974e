//! Crash reports: what is kept of a worker that ended abnormally, and who makes it.
//!
//! The worker's notes are hostile, and so is its plugin's file. The host looks into neither: a confined process reads them
//! and says what it found, and what it says is escaped and bounded before it is written.

pub(crate) mod backtrace;
mod report;
mod reporter;
mod store;
mod text;

use std::collections::VecDeque;
use std::sync::Arc;

use hotcell_protocol::ring::NotesArea;
use hotcell_protocol::{Evidence, Runtime};

use crate::exit::{Exit, ExitCause};
use crate::text::escape;
use crate::violation::Violation;
use crate::worker::Blueprint;
pub use report::{CrashBacktrace, CrashFrame, CrashGroup, CrashModule, CrashReport, LastCall};
pub(crate) use reporter::{Reporter, Wreck, serve};
pub use store::Crashes;

/// Calls that are remembered of a worker, and the longest name of one.
const CALLS: usize = 16;
const NAME_MAX: usize = 48;

/// Bytes of a call's input that are remembered, where a profile says so.
const INPUT_MAX: usize = 1024;

/// Log lines that are remembered of a worker.
pub(crate) const LINES: usize = 20;

/// What is left of a worker that ended.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) generation: u32,
    pub(crate) exit: Exit,
    pub(crate) notes: Option<NotesArea>,
    pub(crate) calls: RecentCalls,
    pub(crate) lines: VecDeque<String>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) evidence: Option<Arc<Evidence>>,
}

impl Remains {
    /// Whether this end is one to report. What the host did for its own reasons is not, nor is a failed start, whose error
    /// says everything; and the code of a command is its result.
    pub(crate) fn are_a_crash(&self) -> bool {
        match self.exit.cause {
            ExitCause::KilledByHost(_) | ExitCause::StartFailed { .. } => false,
            ExitCause::Code(_) => self.blueprint.orders.runtime != Runtime::Command,
            _ => true,
        }
    }
}

/// The calls that a worker got last, for as little as that costs: no allocation, and no payload is kept unless a profile says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentCalls {
    ring: [RecentCall; CALLS],
    /// The beginnings of their inputs.
    inputs: Option<Box<[Vec<u8>; CALLS]>>,
    sent: u64,
    replied: u64,
}

#[derive(Clone, Copy, Debug)]
struct RecentCall {
    name: [u8; NAME_MAX],
    name_len: usize,
    input_len: usize,
}

impl Default for RecentCall {
    fn default() -> RecentCall {
        RecentCall { name: [0; NAME_MAX], name_len: 0, input_len: 0 }
    }
}

impl RecentCalls {
    /// Has the beginnings of inputs kept from now on.
    pub(crate) fn keep_inputs(&mut self) {
        self.inputs = Some(Box::default());
    }

    /// Of an input what is to be kept.
    pub(crate) fn beginning<'i>(&self, input: &'i [u8]) -> &'i [u8] {
        let most = if self.inputs.is_some() { INPUT_MAX } else { 0 };
        input.get(..most).unwrap_or(input)
    }

    /// A call was sent, with an input of this length that begins so.
    pub(crate) fn sent(&mut self, name: &str, input_len: usize, beginning: &[u8]) {
        let at = usize::try_from(self.sent % CALLS as u64).unwrap_or_default();
        self.sent += 1;
        if let Some(input) = self.inputs.as_mut().and_then(|inputs| inputs.get_mut(at)) {
            input.clear();
            input.extend_from_slice(beginning);
        }
        let Some(call) = self.ring.get_mut(at) else { return };
        call.name_len = name.floor_char_boundary(NAME_MAX);
        call.input_len = input_len;
        if let (Some(to), Some(from)) =
            (call.name.get_mut(..call.name_len), name.as_bytes().get(..call.name_len))
        {
            to.copy_from_slice(from);
        }
    }

    /// The oldest call that had none got its reply.
    pub(crate) fn replied(&mut self) {
        self.replied += 1;
    }

    /// From the oldest to the newest.
    fn list(&self) -> Vec<LastCall> {
        let first = self.sent.saturating_sub(CALLS as u64);
        let call = |number: u64| {
            let at = usize::try_from(number % CALLS as u64).ok()?;
            let call = self.ring.get(at)?;
            let export = escape(call.name.get(..call.name_len)?);
            let input = self.inputs.as_ref().and_then(|inputs| inputs.get(at)).map(|input| escape(input));
            let replied = number < self.replied;
            Some(LastCall { export, input_bytes: call.input_len as u64, input, replied })
        };
        (first..self.sent).filter_map(call).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::{CALLS, INPUT_MAX, RecentCalls};

    #[test]
    fn the_last_calls_are_remembered_with_what_became_of_them() {
        let mut calls = RecentCalls::default();
        assert!(calls.list().is_empty());
        for number in 0..CALLS + 3 {
            calls.sent(&format!("export_{number}"), number, b"x");
        }
        (0..CALLS + 1).for_each(|_| calls.replied());
        let list = calls.list();
        assert_eq!((list.len(), list[0].export.as_str(), list[0].input_bytes), (CALLS, "export_3", 3));
        assert_eq!(list.iter().filter(|call| !call.replied).count(), 2, "one runs, one waits");
        calls.sent(&"ü".repeat(100), 0, b"");
        assert_eq!(calls.list().last().map(|call| call.export.clone()), Some("ü".repeat(24)));
        assert!(calls.list().iter().all(|call| call.input.is_none()), "nobody said that they are kept");
    }

    #[test]
    fn of_inputs_the_beginnings_are_kept_where_that_was_said() {
        let mut calls = RecentCalls::default();
        let long = vec![b'x'; INPUT_MAX + 1];
        assert!(calls.beginning(&long).is_empty());
        calls.keep_inputs();
        for input in [&long[..], b"\x1b[2J", b""] {
            calls.sent("export", input.len(), calls.beginning(input).to_vec().as_slice());
        }
        let kept: Vec<_> = calls.list().into_iter().filter_map(|call| call.input).collect();
        assert_eq!(kept, ["x".repeat(INPUT_MAX), "\\u{1b}[2J".to_owned(), String::new()]);
    }
}
