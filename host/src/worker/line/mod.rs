//! The host's end of a worker channel: what may arrive and when, behind rings that a hostile process writes.
//!
//! Nothing here waits, and nothing that the worker does can make it: every function takes what is there and returns. A
//! breach of the protocol is answered by SIGKILL, never by a message. Payload memory grows only as bytes arrive, and only
//! after the announced length was checked against the plan and the host's budget.

mod inbox;
mod outbox;

use std::sync::MutexGuard;

use hotcell_protocol::ring::{Ahead, Corrupt, Receiver, Sender, Wake, Waker, Watcher};
use hotcell_protocol::{CallId, Failure, Generation, ReplyStatus};

use super::placement::Placement;
use crate::budget::{Budget, Share};
use crate::crash::RecentCalls;
use inbox::Partial;
use outbox::{Answering, Outgoing};

/// Longest name of a host call, in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// The call id of host calls that a plugin makes while it starts.
pub(crate) const STARTING: CallId = CallId(0);

/// Why a conversation with a worker cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It ended.
    Closed,
    /// It broke the protocol.
    Breach(String),
    /// It announced a payload that the host can never hold.
    OverBudget(u64),
}

impl From<Corrupt> for Broken {
    fn from(corrupt: Corrupt) -> Broken {
        Broken::Breach(corrupt.to_string())
    }
}

fn breach<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Breach(what.into()))
}

/// Something complete that arrived.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A step of the start failed; the worker exits.
    Failed(Failure),
    /// The artifact is mapped.
    Loaded,
    /// Calls may be sent.
    Ready,
    /// The running call ended.
    Reply(Reply),
    /// The plugin waits for an answer.
    HostCall {
        /// The host call's name.
        name: String,
        /// Its input.
        input: Vec<u8>,
    },
    /// The host's budget has no room for this many more bytes of a payload: [`Line::grant`] goes on.
    Stalled(u64),
}

/// A reply, with its part of the host's budget.
#[derive(Debug)]
pub(crate) struct Reply {
    /// How the call ended, as the worker claims.
    pub(crate) status: ReplyStatus,
    /// Reply or explanation.
    pub(crate) payload: Vec<u8>,
    /// `None` for a small one.
    pub(crate) share: Option<Share>,
}

/// What the worker may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `Loaded` or `Failed`. No host call: the plugin has not met its host yet.
    Loading,
    /// `Ready`, `Failed`, or a host call of the plugin's start.
    Starting,
    /// Replies and host calls of the running call.
    Serving,
    /// Nothing: it waits for the answer to its host call, or has failed.
    Silent,
}

/// A call as it is sent.
pub(crate) trait Errand: std::fmt::Debug + Send + Sync {
    /// The export to run.
    fn export(&self) -> &str;
    /// On what. Its memory serves the reply once the worker has all of it.
    fn input(&self) -> MutexGuard<'_, Vec<u8>>;
}

/// The host's end of one worker channel.
#[derive(Debug)]
pub(crate) struct Line {
    sender: Sender,
    receiver: Receiver,
    generation: Generation,
    limit: u64,
    budget: Budget,
    stage: Stage,
    /// The stage that an answer leads back to.
    resumes: Stage,
    listening: Wake,
    partial: Option<Partial>,
    outgoing: Option<Outgoing>,
    answering: Option<Answering>,
    scratch: Vec<u8>,
    /// Something was sent since the worker was last woken.
    sent: bool,
    placement: Placement,
    calls: RecentCalls,
}

impl Line {
    /// `limit` bounds every payload, in bytes.
    pub(crate) fn new(
        (sender, receiver): (Sender, Receiver),
        generation: Generation,
        limit: u64,
        budget: Budget,
    ) -> Line {
        let line = Line {
            sender,
            receiver,
            generation,
            limit,
            budget,
            stage: Stage::Loading,
            resumes: Stage::Starting,
            listening: Wake::First,
            partial: None,
            outgoing: None,
            answering: None,
            scratch: Vec::new(),
            sent: false,
            placement: Placement::default(),
            calls: RecentCalls::default(),
        };
        line.receiver.want(Wake::First);
        line
    }

    /// Has the beginnings of inputs kept, for a report of a crash.
    pub(crate) fn keep_inputs(&mut self) {
        self.calls.keep_inputs();
    }

    /// Whom the worker wakes from now on. To be followed by another look at what has arrived, and by [`Line::flush`].
    pub(crate) fn listen(&mut self, wake: Wake) {
        self.listening = wake;
        self.receiver.want(wake);
    }

    /// Whether whoever begins to listen must look first: something has arrived, or waits for room that may have been made.
    pub(crate) fn wants_look(&self) -> bool {
        self.stirs() || self.outgoing.is_some() || self.answering.is_some()
    }

    /// Where the worker runs.
    pub(crate) fn placement(&mut self) -> &mut Placement {
        &mut self.placement
    }

    /// Whether a call that takes long changes where the worker runs, or how much it weighs.
    pub(crate) fn is_favoured(&self) -> bool {
        self.placement.is_favoured()
    }

    /// Nobody listens until the next call: an idle worker may send nothing.
    pub(crate) fn rest(&mut self) {
        self.listening = Wake::Not;
    }

    /// Listens again before a call, if nobody does. What an idle worker has sent is a breach.
    pub(crate) fn attend(&mut self) -> Result<(), Broken> {
        if self.stirs() {
            return breach("a message while nothing was asked");
        }
        if self.listening == Wake::Not {
            self.listen(Wake::First);
        }
        Ok(())
    }

    /// What wakes the worker if it sleeps though something was sent; to be used outside of every lock. `depth` is how many
    /// calls it has.
    pub(crate) fn rouse(&mut self, depth: usize) -> Option<Waker> {
        if !std::mem::take(&mut self.sent) || self.sender.rouse() == Wake::Not {
            return None;
        }
        self.placement.wake(depth);
        Some(self.sender.waker())
    }

    /// What it was called for.
    pub(crate) fn into_calls(self) -> RecentCalls {
        self.calls
    }

    /// Where the payload that the worker sends next will lie.
    pub(crate) fn ahead_of_worker(&self) -> Ahead {
        self.receiver.ahead()
    }

    /// Where the payload that the host sends next will lie.
    pub(crate) fn ahead_of_host(&self) -> Ahead {
        self.sender.ahead()
    }

    /// Looks for something new without touching this line.
    pub(crate) fn watcher(&self) -> Watcher {
        self.receiver.watcher()
    }
}
