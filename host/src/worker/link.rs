//! The host's end of a worker channel. Nothing that the worker does can block it.

use hotcell_protocol::channel::PIECE_MAX;
use hotcell_protocol::{
    CallId, Channel, ChannelError, CodecError, Envelope, FromWorker, Generation, PACKET_MAX, ToWorker,
};
use tokio::io::Interest;

use super::inbox::{Breach, Expect, Inbox, Incoming};
use crate::launcher::Process;
use crate::sys::watch::{Watch, watch};

/// Packets that are taken from one worker before others get their turn.
const BURST: u32 = 16;

/// Why a conversation with a worker cannot go on.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The worker closed its end, or ended.
    Closed,
    /// It broke the protocol.
    Breach(Breach),
    /// It announced a payload that the host can never hold.
    OverBudget(u64),
}

/// The worker channel of one worker.
#[derive(Debug)]
pub(crate) struct Link {
    channel: Watch<Channel>,
    generation: Generation,
    inbox: Inbox,
    buffer: Box<[u8; PACKET_MAX]>,
    burst: u32,
}

impl Link {
    pub(crate) fn new(channel: Channel, generation: Generation, limit: u64) -> std::io::Result<Link> {
        Ok(Link {
            channel: watch(channel, Interest::READABLE | Interest::WRITABLE)?,
            generation,
            inbox: Inbox::new(generation, limit),
            buffer: Box::new([0; PACKET_MAX]),
            burst: BURST,
        })
    }

    /// Says what the worker may send from now on.
    pub(crate) fn expect(&mut self, expect: Expect) {
        self.inbox.expect(expect);
    }

    /// Sends a message and its payload; waits while the worker does not read.
    pub(crate) async fn send(&self, message: ToWorker, call: CallId, payload: &[u8]) -> Result<(), Broken> {
        self.packet(message, &[]).await?;
        for (count, piece) in (1_u32..).zip(payload.chunks(PIECE_MAX)) {
            let len = u32::try_from(piece.len()).map_err(|_| Broken::Closed)?;
            self.packet(ToWorker::Data { call, len }, piece).await?;
            if count.is_multiple_of(BURST) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn packet(&self, message: ToWorker, payload: &[u8]) -> Result<(), Broken> {
        let envelope = Envelope { generation: self.generation, message };
        loop {
            let mut guard = self.channel.writable().await.map_err(|_| Broken::Closed)?;
            match self.channel.get_ref().0.send(&envelope, payload) {
                Err(ChannelError::WouldBlock) => guard.clear_ready(),
                other => return other.map_err(broken),
            }
        }
    }

    /// The next thing that arrives in full. Safe to cancel.
    ///
    /// `process` tells a worker that is gone from one whose channel somebody else still holds.
    pub(crate) async fn next(&mut self, process: &Process) -> Result<Incoming, Broken> {
        loop {
            if self.burst == 0 {
                self.burst = BURST;
                tokio::task::yield_now().await;
            }
            let guard = tokio::select! {
                biased;
                guard = self.channel.readable() => Some(guard.map_err(|_| Broken::Closed)?),
                () = process.ended() => None,
            };
            match (self.channel.get_ref().0.receive::<Envelope<FromWorker>>(&mut self.buffer), guard) {
                (Ok(packet), _) => {
                    self.burst -= 1;
                    let incoming = self.inbox.accept(packet.message, packet.payload);
                    if let Some(incoming) = incoming.map_err(Broken::Breach)? {
                        return Ok(incoming);
                    }
                }
                (Err(ChannelError::WouldBlock), Some(mut guard)) => {
                    self.burst = BURST;
                    guard.clear_ready();
                }
                (Err(ChannelError::WouldBlock), None) => return Err(Broken::Closed),
                (Err(error), _) => return Err(broken(error)),
            }
        }
    }
}

fn broken(error: ChannelError) -> Broken {
    match error {
        ChannelError::Closed | ChannelError::WouldBlock => Broken::Closed,
        ChannelError::System(errno) => Broken::Breach(format!("its channel failed: {errno}")),
        ChannelError::Malformed(what) => Broken::Breach(format!("a malformed packet: {what}")),
        ChannelError::Codec(CodecError::Length { consumed, length, announced }) => Broken::Breach(format!(
            "a message of {consumed} bytes in a packet of {length} announces {announced}"
        )),
        ChannelError::Codec(_) => Broken::Breach("bytes that are no message".to_owned()),
    }
}
