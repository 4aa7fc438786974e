//! The worker's end of its channel: calls in, replies out, host calls in between.
//!
//! One call runs at a time. Calls that arrive while the plugin waits for a host call's answer are put aside. The host is
//! trusted here; this process is not, so nothing below protects the host.

use std::collections::VecDeque;

use hotcell_protocol::ring::{BULK_LEN, Corrupt, Frame, INLINE_MAX, Input, Receiver};
use hotcell_protocol::{
    AnswerStatus, CallId, ChannelError, CodecError, FromWorker, Generation, ReplyStatus, ToWorker, codec,
};

use crate::rings::Rings;
use crate::start::{Payload, Reply};

/// Why the channel cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The setup channel or a message on it is broken.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// A ring is broken.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A message cannot be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The host sent what has no place here.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
}

/// Why a host call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostCallError {
    /// Not requested by the manifest, not granted by the profile, or not known to the host.
    #[error("host call refused")]
    Refused,
    /// The handler failed, with this public text.
    #[error("host call failed: {0}")]
    Failed(String),
    /// The input is larger than the plan's `message` limit.
    #[error("host call input is larger than the message limit")]
    OverLimit,
}

/// A call as it arrived.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) call: CallId,
    pub(crate) export: String,
    pub(crate) input: Input,
}

/// A call that was put aside. Large inputs stay in the bulk ring, in the order of their calls.
#[derive(Debug)]
struct Aside {
    call: CallId,
    export: String,
    len: usize,
    inline: Vec<u8>,
    /// The host took it back: only its bulk bytes are still to be passed over.
    cancelled: bool,
}

/// The worker channel.
#[derive(Debug)]
pub struct Link {
    rings: Rings,
    generation: Generation,
    message_limit: u64,
    running: CallId,
    aside: VecDeque<Aside>,
    /// Bulk bytes of the running call's input that it sees in place.
    held: usize,
    given: Given,
    scratch: Vec<u8>,
}

/// What the plugin handed over as its reply so far.
#[derive(Debug)]
enum Given {
    Bytes(Vec<u8>),
    /// Already in the bulk ring, not yet published.
    Staged(usize),
}

impl Link {
    pub(crate) fn new(rings: Rings, generation: Generation, message_limit: u64) -> Link {
        Link {
            rings,
            generation,
            message_limit,
            running: CallId(0),
            aside: VecDeque::new(),
            held: 0,
            given: Given::Bytes(Vec::new()),
            scratch: Vec::new(),
        }
    }

    /// The plan's bound of one payload, in bytes.
    pub fn message_limit(&self) -> u64 {
        self.message_limit
    }

    /// Calls the host by name and waits for the answer.
    ///
    /// A broken channel ends the process: there is nobody left to report to.
    ///
    /// # Errors
    /// The host's broker refused, its handler failed, or the input is over the limit.
    pub fn host_call(&mut self, name: &str, input: &[u8]) -> Result<Vec<u8>, HostCallError> {
        if input.len() as u64 > self.message_limit {
            return Err(HostCallError::OverLimit);
        }
        match self.ask(name, input) {
            Ok(answer) => answer,
            Err(_) => crate::sys::exit_now(1),
        }
    }

    /// Takes the reply of the running call; a later one replaces it.
    ///
    /// # Errors
    /// The number of bytes, where they are over the limit or memory is short; no reply is kept then.
    pub fn give(&mut self, reply: &[u8]) -> Result<(), usize> {
        let len = reply.len();
        self.forget();
        if len as u64 > self.message_limit {
            return Err(len);
        }
        if len > INLINE_MAX && self.rings.sender.bulk_room().is_ok_and(|room| len <= room) {
            self.rings.sender.stage(reply);
            self.given = Given::Staged(len);
            return Ok(());
        }
        let Given::Bytes(bytes) = &mut self.given else { return Err(len) };
        bytes.try_reserve_exact(len).map_err(|_| len)?;
        bytes.extend_from_slice(reply);
        Ok(())
    }

    /// Forgets what the plugin gave.
    pub fn forget(&mut self) {
        match &mut self.given {
            Given::Bytes(bytes) if bytes.capacity() <= INLINE_MAX => bytes.clear(),
            given => *given = Given::Bytes(Vec::new()),
        }
    }

    /// What the plugin gave, as text.
    pub fn given_text(&mut self) -> String {
        self.unstage();
        let Given::Bytes(bytes) = &self.given else { return String::new() };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Makes the bulk ring free for another payload.
    fn unstage(&mut self) {
        if let Given::Staged(len) = self.given {
            self.given = Given::Bytes(self.rings.sender.staged(len));
        }
    }

    fn ask(&mut self, name: &str, input: &[u8]) -> Result<Result<Vec<u8>, HostCallError>, LinkError> {
        self.unstage();
        let message =
            FromWorker::HostCall { call: self.running, name: name.to_owned(), len: input.len() as u64 };
        self.tell_with(&message, input)?;
        let (outcome, payload) = self.answer()?;
        Ok(match outcome {
            AnswerStatus::Ok => Ok(payload),
            AnswerStatus::Refused => Err(HostCallError::Refused),
            AnswerStatus::Failed => {
                Err(HostCallError::Failed(String::from_utf8_lossy(&payload).into_owned()))
            }
        })
    }

    /// Waits for the answer to the running call's host call, and puts calls aside that come before it.
    fn answer(&mut self) -> Result<(AnswerStatus, Vec<u8>), LinkError> {
        let (outcome, len, mut payload) = loop {
            match self.receive()? {
                (ToWorker::Answer { call, outcome, len }, payload) if call == self.running => {
                    break (outcome, self.checked(len)?, payload);
                }
                (ToWorker::Call { call, export, len }, inline) => {
                    self.put_aside(call, export, len, inline)?
                }
                _ => return Err(LinkError::Unexpected("a host call is answered first")),
            }
        };
        payload.reserve_exact(len.saturating_sub(payload.len()));
        while payload.len() < len {
            match self.receive()? {
                (ToWorker::Data { call }, piece) if call == self.running => payload.extend_from_slice(&piece),
                (ToWorker::Call { call, export, len }, inline) => {
                    self.put_aside(call, export, len, inline)?
                }
                _ => return Err(LinkError::Unexpected("an answer is not finished")),
            }
        }
        Ok((outcome, payload))
    }

    fn put_aside(
        &mut self,
        call: CallId,
        export: String,
        len: u64,
        inline: Vec<u8>,
    ) -> Result<(), LinkError> {
        let len = self.checked(len)?;
        self.aside.push_back(Aside { call, export, len, inline, cancelled: false });
        Ok(())
    }

    fn checked(&self, len: u64) -> Result<usize, LinkError> {
        let fits = usize::try_from(len).ok().filter(|_| len <= self.message_limit);
        fits.ok_or(LinkError::Unexpected("a payload over the limit"))
    }

    /// Waits for exactly this message.
    pub(crate) fn expect(&mut self, wanted: &ToWorker) -> Result<(), LinkError> {
        if self.receive()?.0 == *wanted { Ok(()) } else { Err(LinkError::Unexpected("out of order")) }
    }

    /// Sends a message without a payload.
    pub(crate) fn tell(&mut self, message: &FromWorker) -> Result<(), LinkError> {
        self.tell_with(message, &[])
    }

    /// The next call.
    pub(crate) fn next_call(&mut self) -> Result<Incoming, LinkError> {
        let Aside { call, export, len, inline, .. } = loop {
            match self.aside.pop_front() {
                Some(cancelled) if cancelled.cancelled => self.pass_over(cancelled.len)?,
                Some(aside) => break aside,
                None => match self.receive()? {
                    (ToWorker::Call { call, export, len }, inline) => {
                        self.put_aside(call, export, len, inline)?
                    }
                    _ => return Err(LinkError::Unexpected("only calls come now")),
                },
            }
        };
        self.running = call;
        self.forget();
        let input = if len <= INLINE_MAX { inline.into() } else { self.bulk_input(len)? };
        Ok(Incoming { call, export, input })
    }

    /// Drops bulk bytes as they arrive.
    fn pass_over(&mut self, len: usize) -> Result<(), LinkError> {
        let mut left = len;
        while left > 0 {
            let there =
                self.rings.wait(|receiver| Ok(Some(receiver.bulk_there()?).filter(|there| *there > 0)))?;
            let count = there.min(left);
            self.rings.receiver.release(count);
            self.rings.tell_of_room();
            left -= count;
        }
        Ok(())
    }

    /// In place where it fits the ring, else copied out as it arrives.
    fn bulk_input(&mut self, len: usize) -> Result<Input, LinkError> {
        if len <= BULK_LEN {
            self.rings.wait(|receiver| Ok((receiver.bulk_there()? >= len).then_some(())))?;
            if let Some(input) = self.rings.receiver.in_place(len) {
                self.held = len;
                return Ok(input);
            }
        }
        let mut input = Vec::with_capacity(len);
        while input.len() < len {
            self.rings.wait(|receiver| Ok((receiver.bulk_there()? > 0).then_some(())))?;
            self.rings.receiver.bulk(len - input.len(), &mut input)?;
            self.rings.tell_of_room();
        }
        Ok(input.into())
    }

    /// Ends the running call. Its input is not seen any more.
    pub(crate) fn reply(&mut self, call: CallId, reply: Reply) -> Result<(), LinkError> {
        if self.held > 0 {
            self.rings.receiver.release(std::mem::take(&mut self.held));
            self.rings.tell_of_room();
        }
        let Reply { status, payload } = reply;
        let message = |status, len: usize| FromWorker::Reply { call, status, len: len as u64 };
        match (payload, &mut self.given) {
            (Payload::Given, Given::Staged(len)) => {
                let len = *len;
                self.rings.sender.commit(len);
                self.rings.frame(self.generation.0, &message(status, len), &[])?;
                self.rings.rouse();
                Ok(())
            }
            (Payload::Given, Given::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.tell_with(&message(status, bytes.len()), &bytes)?;
                self.given = Given::Bytes(bytes);
                Ok(())
            }
            (Payload::Bytes(bytes), _) if bytes.len() as u64 > self.message_limit => {
                let (size, limit) = (bytes.len(), self.message_limit);
                let text = format!("the reply of {size} bytes is over the limit of {limit} bytes");
                self.tell_with(&message(ReplyStatus::OverLimit, text.len()), text.as_bytes())
            }
            (Payload::Bytes(bytes), _) => self.tell_with(&message(status, bytes.len()), &bytes),
        }
    }

    /// Sends a message and its payload, and tells the host.
    fn tell_with(&mut self, message: &FromWorker, payload: &[u8]) -> Result<(), LinkError> {
        if payload.len() <= INLINE_MAX {
            self.rings.frame(self.generation.0, message, payload)?;
            self.rings.rouse();
            return Ok(());
        }
        let mut sent = self.rings.sender.bulk(payload)?;
        self.rings.frame(self.generation.0, message, &[])?;
        self.rings.rouse();
        while let Some(rest) = payload.get(sent..).filter(|rest| !rest.is_empty()) {
            sent +=
                self.rings.until_room(|sender| Ok(Some(sender.bulk(rest)?).filter(|count| *count > 0)))?;
            self.rings.rouse();
        }
        Ok(())
    }

    /// The next message with the payload in its frame.
    fn receive(&mut self) -> Result<(ToWorker, Vec<u8>), LinkError> {
        loop {
            let frame = self.rings.wait(Receiver::peek)?;
            let taken = self.rings.receiver.take(&frame);
            let message = self.read(&frame)?;
            self.rings.receiver.consume(&frame);
            self.rings.tell_of_room();
            match message {
                message if taken => return Ok(message),
                // The host took it back. Its bulk bytes lie behind those of the calls before it.
                (ToWorker::Call { call, export, len }, inline) if len > INLINE_MAX as u64 => {
                    let len = self.checked(len)?;
                    self.aside.push_back(Aside { call, export, len, inline, cancelled: true });
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, frame: &Frame) -> Result<(ToWorker, Vec<u8>), LinkError> {
        if frame.generation != self.generation.0 {
            return Err(LinkError::Unexpected("another generation"));
        }
        self.rings.receiver.head(frame, &mut self.scratch);
        let message = codec::decode(&self.scratch)?;
        let mut payload = Vec::new();
        self.rings.receiver.payload(frame, &mut payload);
        Ok((message, payload))
    }
}
