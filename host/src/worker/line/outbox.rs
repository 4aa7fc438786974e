//! What is sent to a worker: orders, calls, answers, and the rest of what did not fit at once.

use std::sync::Arc;

use hotcell_protocol::ring::{INLINE_MAX, Position};
use hotcell_protocol::{AnswerStatus, CallId, ToWorker, ToWorkerRef, codec};
use serde::Serialize;

use super::{Broken, Errand, Line, breach};

/// An input on its way to the worker, and how many bytes of it the worker has.
#[derive(Debug)]
pub(super) struct Outgoing {
    position: Position,
    errand: Arc<dyn Errand>,
    sent: usize,
}

/// An answer that did not fit at once.
#[derive(Debug)]
pub(super) struct Answering {
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

impl Line {
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
        let len = input.len();
        if len <= INLINE_MAX {
            let position = self.frame_or_want(&message, &input)?;
            if position.is_some() {
                let beginning = self.calls.beginning(&input);
                self.calls.sent(errand.export(), len, beginning);
            }
            return Ok(position);
        }
        let beginning = self.calls.beginning(&input).to_vec();
        drop(input);
        let position = self.frame_or_want(&message, &[])?;
        if let Some(position) = position {
            self.calls.sent(errand.export(), len, &beginning);
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
        let generation = self.generation.0;
        let sent = codec::encoded(message, |head| self.sender.send(generation, head, payload));
        let position = sent.map_err(|error| Broken::Breach(error.to_string()))??;
        self.sent |= position.is_some();
        Ok(position)
    }
}
