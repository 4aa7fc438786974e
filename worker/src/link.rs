//! The worker's end of its channel: calls in, replies out, host calls in between.
//!
//! One call runs at a time, so whatever arrives has one place to go; anything else ends the worker.

use hotcell_protocol::channel::PIECE_MAX;
use hotcell_protocol::{
    AnswerStatus, CallId, Channel, ChannelError, Envelope, FromWorker, Generation, PACKET_MAX, ReplyStatus,
    ToWorker,
};

use crate::start::Reply;

/// Why the channel cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket or a message on it is broken.
    #[error(transparent)]
    Channel(#[from] ChannelError),
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
    pub(crate) input: Vec<u8>,
}

/// The worker channel.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    generation: Generation,
    message_limit: u64,
    running: CallId,
    buffer: Box<[u8; PACKET_MAX]>,
}

impl Link {
    pub(crate) fn new(channel: Channel, generation: Generation, message_limit: u64) -> Link {
        Link { channel, generation, message_limit, running: CallId(0), buffer: Box::new([0; PACKET_MAX]) }
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

    fn ask(&mut self, name: &str, input: &[u8]) -> Result<Result<Vec<u8>, HostCallError>, LinkError> {
        let call = self.running;
        self.tell(FromWorker::HostCall { call, name: name.to_owned(), len: input.len() as u64 })?;
        self.send_payload(input)?;
        let ToWorker::Answer { call: answered, outcome, len } = self.receive()? else {
            return Err(LinkError::Unexpected("a host call is answered first"));
        };
        if answered != call {
            return Err(LinkError::Unexpected("the answer to another call"));
        }
        let payload = self.receive_payload(call, len)?;
        Ok(match outcome {
            AnswerStatus::Ok => Ok(payload),
            AnswerStatus::Refused => Err(HostCallError::Refused),
            AnswerStatus::Failed => {
                Err(HostCallError::Failed(String::from_utf8_lossy(&payload).into_owned()))
            }
        })
    }

    /// Waits for exactly this message.
    pub(crate) fn expect(&mut self, wanted: &ToWorker) -> Result<(), LinkError> {
        if self.receive()? == *wanted { Ok(()) } else { Err(LinkError::Unexpected("out of order")) }
    }

    pub(crate) fn tell(&mut self, message: FromWorker) -> Result<(), LinkError> {
        Ok(self.channel.send(&Envelope { generation: self.generation, message }, &[])?)
    }

    /// The next call, or `None` when the host closed the channel.
    pub(crate) fn next_call(&mut self) -> Result<Option<Incoming>, LinkError> {
        match self.receive() {
            Ok(ToWorker::Call { call, export, len }) => {
                self.running = call;
                let input = self.receive_payload(call, len)?;
                Ok(Some(Incoming { call, export, input }))
            }
            Ok(_) => Err(LinkError::Unexpected("only calls come now")),
            Err(LinkError::Channel(ChannelError::Closed)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn reply(&mut self, call: CallId, reply: Reply) -> Result<(), LinkError> {
        let Reply { status, payload } = self.within_limit(reply);
        self.tell(FromWorker::Reply { call, status, len: payload.len() as u64 })?;
        self.send_payload(&payload)
    }

    fn within_limit(&self, reply: Reply) -> Reply {
        let (size, limit) = (reply.payload.len() as u64, self.message_limit);
        if size <= limit {
            return reply;
        }
        Reply::text(
            ReplyStatus::OverLimit,
            format!("the reply of {size} bytes is over the limit of {limit} bytes"),
        )
    }

    fn send_payload(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        for piece in payload.chunks(PIECE_MAX) {
            let len =
                u32::try_from(piece.len()).map_err(|_| LinkError::Unexpected("a piece fits a packet"))?;
            let message = FromWorker::Data { call: self.running, len };
            self.channel.send(&Envelope { generation: self.generation, message }, piece)?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<ToWorker, LinkError> {
        let packet = self.channel.receive::<Envelope<ToWorker>>(&mut self.buffer)?;
        if packet.message.generation != self.generation {
            return Err(LinkError::Unexpected("another generation"));
        }
        if packet.payload.is_empty() {
            Ok(packet.message.message)
        } else {
            Err(LinkError::Unexpected("stray data"))
        }
    }

    fn receive_payload(&mut self, call: CallId, len: u64) -> Result<Vec<u8>, LinkError> {
        if len > self.message_limit {
            return Err(LinkError::Unexpected("a payload over the limit"));
        }
        let len =
            usize::try_from(len).map_err(|_| LinkError::Unexpected("a payload over the address space"))?;
        let mut payload = Vec::with_capacity(len);
        while payload.len() < len {
            let packet = self.channel.receive::<Envelope<ToWorker>>(&mut self.buffer)?;
            match packet.message.message {
                ToWorker::Data { call: of, .. } if of == call => payload.extend_from_slice(packet.payload),
                _ => return Err(LinkError::Unexpected("a payload is not finished")),
            }
        }
        if payload.len() == len {
            Ok(payload)
        } else {
            Err(LinkError::Unexpected("more data than announced"))
        }
    }
}
