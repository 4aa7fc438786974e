//! The host's end of a worker channel: what may arrive and when, behind rings that a hostile process writes.
//!
//! Nothing here waits, and nothing that the worker does can make it: every function takes what is there and returns. A
//! breach of the protocol is answered by SIGKILL, never by a message. Payload memory grows only as bytes arrive, and only
//! after the announced length was checked against the plan and the host's budget.

use std::sync::{Arc, MutexGuard};

use hotcell_protocol::ring::{Corrupt, Frame, INLINE_MAX, Position, Receiver, Sender, Wake, Waker, Watcher};
use hotcell_protocol::{
    AnswerStatus, CallId, Failure, FromWorker, Generation, ReplyStatus, ToWorker, ToWorkerRef, codec,
};
use serde::Serialize;

use super::placement::Placement;
use crate::budget::{Budget, FREE, Share};

/// Longest name of a host call, in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// The call id of host calls that a plugin makes while it starts.
pub(crate) const STARTING: CallId = CallId(0);

/// Longest text of a worker's failure that is kept, in bytes.
const DETAIL_MAX: usize = 4096;

/// Bulk bytes that are taken at once, and the room in the host's budget that a payload takes as it grows.
const STEP: usize = 1 << 20;

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

#[derive(Debug)]
struct Partial {
    head: Head,
    left: usize,
    /// Bytes that the host has room for.
    room: usize,
    payload: Vec<u8>,
    share: Option<Share>,
    /// The host's budget has no room.
    stalled: bool,
}

#[derive(Debug)]
enum Head {
    Reply(ReplyStatus),
    HostCall(String),
}

/// A call as it is sent.
pub(crate) trait Errand: std::fmt::Debug + Send + Sync {
    /// The export to run.
    fn export(&self) -> &str;
    /// On what. Its memory serves the reply once the worker has all of it.
    fn input(&self) -> MutexGuard<'_, Vec<u8>>;
}

/// An input on its way to the worker, and how many bytes of it the worker has.
#[derive(Debug)]
struct Outgoing {
    position: Position,
    errand: Arc<dyn Errand>,
    sent: usize,
}

/// An answer that did not fit at once.
#[derive(Debug)]
struct Answering {
    call: CallId,
    announcement: ToWorker,
    payload: Vec<u8>,
    /// How much of the payload was sent; `None` before the announcement.
    sent: Option<usize>,
}

impl Answering {
    /// The next frame, and what has been sent after it.
    fn next(&self) -> (ToWorker, &[u8], usize) {
        match self.sent {
            None if self.payload.len() <= INLINE_MAX => {
                (self.announcement.clone(), self.payload.as_slice(), self.payload.len())
            }
            None => (self.announcement.clone(), &[], 0),
            Some(sent) => {
                let end = (sent + INLINE_MAX).min(self.payload.len());
                (ToWorker::Data { call: self.call }, self.payload.get(sent..end).unwrap_or_default(), end)
            }
        }
    }
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
        };
        line.receiver.want(Wake::First);
        line
    }

    /// Whom the worker wakes from now on. To be followed by another look at what has arrived.
    pub(crate) fn listen(&mut self, wake: Wake) {
        self.listening = wake;
        self.receiver.want(wake);
    }

    /// Where the worker runs.
    pub(crate) fn placement(&mut self) -> &mut Placement {
        &mut self.placement
    }

    /// Whether the worker is held on its caller's processor.
    pub(crate) fn is_held(&self) -> bool {
        self.placement.is_held()
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

    /// Looks for something new without touching this line.
    pub(crate) fn watcher(&self) -> Watcher {
        self.receiver.watcher()
    }

    /// Sends a message of the start.
    pub(crate) fn order(&mut self, message: &ToWorker) -> Result<(), Broken> {
        match self.frame(message, &[])? {
            Some(_) => Ok(()),
            // The ring is empty then, unless the worker claims otherwise.
            None => breach("a full ring before its first call"),
        }
    }

    /// Sends a call, or as much of it as fits now; `None` if none of it does.
    pub(crate) fn call<E: Errand + 'static>(
        &mut self,
        call: CallId,
        errand: &Arc<E>,
    ) -> Result<Option<Position>, Broken> {
        if self.outgoing.is_some() {
            return Ok(None);
        }
        let input = errand.input();
        let message = ToWorkerRef::Call { call, export: errand.export(), len: input.len() as u64 };
        if input.len() <= INLINE_MAX {
            return self.frame_or_want(&message, &input);
        }
        drop(input);
        let position = self.frame_or_want(&message, &[])?;
        if let Some(position) = position {
            let errand: Arc<dyn Errand> = Arc::<E>::clone(errand);
            self.outgoing = Some(Outgoing { position, errand, sent: 0 });
            self.flush()?;
        }
        Ok(position)
    }

    /// Answers the host call that the worker waits for.
    pub(crate) fn answer(
        &mut self,
        call: CallId,
        outcome: AnswerStatus,
        payload: Vec<u8>,
    ) -> Result<(), Broken> {
        self.stage = self.resumes;
        let message = ToWorker::Answer { call, outcome, len: payload.len() as u64 };
        let inline = if payload.len() <= INLINE_MAX { payload.as_slice() } else { &[] };
        if self.frame(&message, inline)?.is_none() {
            // While a plugin waits, its worker takes calls out of the ring: an honest one makes room.
            self.answering = Some(Answering { call, announcement: message, payload, sent: None });
        } else if inline.len() < payload.len() {
            self.answering = Some(Answering { call, announcement: message, payload, sent: Some(0) });
        }
        self.flush()
    }

    /// Sends what waits for room, as far as there is some.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        while let Some(mut answering) = self.answering.take() {
            let (message, piece, end) = answering.next();
            if self.frame_or_want(&message, piece)?.is_none() {
                self.answering = Some(answering);
                break;
            }
            if end < answering.payload.len() {
                answering.sent = Some(end);
                self.answering = Some(answering);
            }
        }
        for last in [false, true] {
            let Some(Outgoing { errand, sent, .. }) = &mut self.outgoing else { break };
            let bytes = errand.input();
            let count = self.sender.bulk(bytes.get(*sent..).unwrap_or_default())?;
            self.sent |= count > 0;
            *sent += count;
            let all = *sent >= bytes.len();
            drop(bytes);
            if all {
                self.outgoing = None;
            } else if !last {
                self.sender.want_room(self.listening);
            }
        }
        Ok(())
    }

    /// Takes a call back before the worker has begun with it; `false` if it has.
    pub(crate) fn cancel(&mut self, position: Position) -> bool {
        // What is being sent cannot be taken back: the worker passes over bytes that all come.
        let is_sent = self.outgoing.as_ref().is_none_or(|outgoing| outgoing.position != position);
        is_sent && self.sender.cancel(position)
    }

    /// Whether the worker has gone past a call that was taken back.
    pub(crate) fn has_passed(&self, position: Position) -> bool {
        self.sender.passed(position)
    }

    /// Sends no more of an input: its worker is gone, and the call may move to another.
    pub(crate) fn stop_sending(&mut self) {
        self.outgoing = None;
    }

    fn frame_or_want<M: Serialize>(
        &mut self,
        message: &M,
        payload: &[u8],
    ) -> Result<Option<Position>, Broken> {
        match self.frame(message, payload)? {
            None => {
                self.sender.want_room(self.listening);
                self.frame(message, payload)
            }
            sent => Ok(sent),
        }
    }

    fn frame<M: Serialize>(&mut self, message: &M, payload: &[u8]) -> Result<Option<Position>, Broken> {
        let mut head = [0; 256];
        let long;
        let head = match codec::encode_into(message, &mut head) {
            Ok(len) => head.get(..len).unwrap_or_default(),
            // A long export name.
            Err(_) => {
                long = codec::encode(message).map_err(|error| Broken::Breach(error.to_string()))?;
                &long
            }
        };
        let position = self.sender.send(self.generation.0, head, payload)?;
        self.sent |= position.is_some();
        Ok(position)
    }

    /// The next thing that arrived in full. `running` is the call that may be replied to.
    ///
    /// `recycled` gives the memory of an input that the worker has read, for its reply.
    pub(crate) fn next(
        &mut self,
        running: Option<CallId>,
        recycled: impl FnOnce() -> Vec<u8>,
    ) -> Result<Option<Incoming>, Broken> {
        if let Some(partial) = self.partial.take() {
            return self.fill(partial);
        }
        let Some(frame) = self.receiver.peek()? else { return Ok(None) };
        let message = self.read(&frame)?;
        let mut payload = match &message {
            // Unless an input is still being sent, or was much larger than the reply will be.
            FromWorker::Reply { call, len, .. } if Some(*call) == running && self.outgoing.is_none() => {
                Some(recycled()).filter(|memory| memory.capacity() as u64 / 4 <= *len).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        payload.clear();
        self.receiver.payload(&frame, &mut payload);
        self.receiver.consume(&frame);
        self.tell_of_room();
        self.accept(message, payload, running)
    }

    /// Whether anything has arrived since the last look: a message, or more of the payload that is on its way.
    pub(crate) fn stirs(&self) -> bool {
        let more = || self.receiver.bulk_there().map_or(true, |count| count > 0);
        self.receiver.stirs() || (self.partial.is_some() && more())
    }

    fn tell_of_room(&self) {
        if self.receiver.rouse() != Wake::Not {
            self.receiver.wake_worker();
        }
    }

    fn read(&mut self, frame: &Frame) -> Result<FromWorker, Broken> {
        if frame.generation != self.generation.0 {
            return breach(format!("a message of generation {}", frame.generation));
        }
        self.receiver.head(frame, &mut self.scratch);
        codec::decode(&self.scratch).map_err(|_| Broken::Breach("bytes that are no message".to_owned()))
    }

    fn accept(
        &mut self,
        message: FromWorker,
        payload: Vec<u8>,
        running: Option<CallId>,
    ) -> Result<Option<Incoming>, Broken> {
        match (message, self.stage) {
            (FromWorker::Loaded, Stage::Loading) if payload.is_empty() => {
                self.stage = Stage::Starting;
                Ok(Some(Incoming::Loaded))
            }
            (FromWorker::Ready, Stage::Starting) if payload.is_empty() => {
                (self.stage, self.resumes) = (Stage::Serving, Stage::Serving);
                Ok(Some(Incoming::Ready))
            }
            (FromWorker::Failed(mut failure), Stage::Loading | Stage::Starting) if payload.is_empty() => {
                self.stage = Stage::Silent;
                cut(&mut failure.detail);
                Ok(Some(Incoming::Failed(failure)))
            }
            (FromWorker::Reply { call, status, len }, Stage::Serving) if Some(call) == running => {
                self.announce(Head::Reply(status), len, payload)
            }
            (FromWorker::HostCall { call, name, len }, Stage::Serving) if Some(call) == running => {
                self.announce(Head::HostCall(name), len, payload)
            }
            (FromWorker::HostCall { call: STARTING, name, len }, Stage::Starting) => {
                self.announce(Head::HostCall(name), len, payload)
            }
            (message, stage) => breach(format!("{} while {}", kind(&message), state(stage))),
        }
    }

    fn announce(&mut self, head: Head, len: u64, payload: Vec<u8>) -> Result<Option<Incoming>, Broken> {
        if matches!(&head, Head::HostCall(name) if name.len() > NAME_MAX) {
            return breach("a host call's name is too long");
        }
        let Some(left) = usize::try_from(len).ok().filter(|_| len <= self.limit) else {
            return breach(format!("a payload of {len} bytes, over the limit of {}", self.limit));
        };
        let inline = if left <= INLINE_MAX { left } else { 0 };
        if payload.len() != inline {
            return breach(format!("{} bytes in a message that announces {len}", payload.len()));
        }
        let partial = Partial { head, left: left - inline, room: FREE, payload, share: None, stalled: false };
        if partial.left == 0 {
            return Ok(Some(self.complete(partial)));
        }
        if !self.budget.fits(len) {
            return Err(Broken::OverBudget(len));
        }
        self.fill(partial)
    }

    /// Takes the bulk bytes that are there. Some are left when this returns with nothing: the peer sends them later.
    fn fill(&mut self, mut partial: Partial) -> Result<Option<Incoming>, Broken> {
        let step = partial.left.min(STEP);
        let short = (partial.payload.len() + step).saturating_sub(partial.room);
        if short > 0 {
            let share = partial.share.get_or_insert_with(|| self.budget.share());
            partial.stalled = !share.try_grow(short as u64);
            if partial.stalled {
                self.partial = Some(partial);
                return Ok(Some(Incoming::Stalled(short as u64)));
            }
            partial.room += short;
        }
        let count = self.receiver.bulk(step, &mut partial.payload)?;
        partial.left -= count;
        if count > 0 {
            self.tell_of_room();
        }
        if partial.left == 0 {
            return Ok(Some(self.complete(partial)));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    /// Whether [`Line::grant`] must come before anything else.
    pub(crate) fn is_stalled(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.stalled)
    }

    /// Room in the host's budget for a payload that stalled.
    pub(crate) fn grant(&mut self, bytes: u64, share: Share) {
        if let Some(partial) = &mut self.partial {
            partial.stalled = false;
            partial.room = partial.room.saturating_add(usize::try_from(bytes).unwrap_or(0));
            match &mut partial.share {
                Some(known) => known.merge(share),
                empty => *empty = Some(share),
            }
        }
    }

    fn complete(&mut self, partial: Partial) -> Incoming {
        let Partial { head, payload, share, .. } = partial;
        match head {
            Head::Reply(status) => Incoming::Reply(Reply { status, payload, share }),
            Head::HostCall(name) => {
                // Nothing more may come until the host has answered.
                self.stage = Stage::Silent;
                Incoming::HostCall { name, input: payload }
            }
        }
    }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(DETAIL_MAX));
}

fn kind(message: &FromWorker) -> &'static str {
    match message {
        FromWorker::Listener => "a listener",
        FromWorker::Confined(_) => "evidence",
        FromWorker::Failed(_) => "a failure",
        FromWorker::Loaded => "\"loaded\"",
        FromWorker::Ready => "\"ready\"",
        FromWorker::Reply { .. } => "a reply",
        FromWorker::HostCall { .. } => "a host call",
    }
}

fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Loading => "it loads",
        Stage::Starting => "it starts",
        Stage::Serving => "another call runs, or none",
        Stage::Silent => "nothing was asked",
    }
}
