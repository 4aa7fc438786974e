//! What arrives from a worker: what may come when, and payloads that grow only as their bytes do.

use hotcell_protocol::ring::{BULK_LEN, Frame, INLINE_MAX, Wake};
use hotcell_protocol::{CallId, FromWorker, ReplyStatus, codec};

use super::{Broken, Incoming, Line, NAME_MAX, Reply, STARTING, Stage, breach};
use crate::budget::{FREE, Share};

/// Longest text of a worker's failure that is kept, in bytes.
const DETAIL_MAX: usize = 4096;

/// Bulk bytes that are taken at once, and the room in the host's budget that a payload takes as it grows. As many as a ring has: whoever
/// takes them after having asked to be woken has left none for which nobody rings.
const STEP: usize = BULK_LEN;

/// A payload that has not arrived in full.
#[derive(Debug)]
pub(super) struct Partial {
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

impl Line {
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
                // A trap is no reply.
                if !matches!(status, ReplyStatus::Trap(_)) {
                    self.calls.replied();
                }
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
