//! A packet channel: one `SOCK_SEQPACKET` socket, one packet per message.
//!
//! A packet that is truncated, that carries descriptors nobody asked for, or that does not decode to exactly one message
//! is an error, and the caller kills the peer. Sequenced packets ignore an address given to sendmsg(2) (unix(7)), so a
//! worker that holds one can reach nobody else through it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};
use crate::message::Message;

/// Largest packet, in bytes. Far below the default send buffer, so that a packet never fails for its size.
pub const PACKET_MAX: usize = 64 * 1024;

/// Largest piece of a payload in one `Data` packet: leaves room for the message before it.
pub const PIECE_MAX: usize = PACKET_MAX - 256;

/// Descriptors that one packet may carry.
pub const DESCRIPTORS_MAX: usize = 8;

/// Why a packet could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed its end.
    #[error("the peer closed the channel")]
    Closed,
    /// A non-blocking channel has nothing to read, or no room.
    #[error("the channel would block")]
    WouldBlock,
    /// The packet is longer than [`PACKET_MAX`], or carries descriptors that were not asked for.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// The bytes are not a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The system call failed.
    #[error("failed to use a channel: {0}")]
    System(#[from] Errno),
}

/// One end of a packet channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A received message and the payload bytes behind it.
#[derive(Debug)]
pub struct Packet<'b, M> {
    /// The message.
    pub message: M,
    /// The payload in the same packet, as long as the message announces.
    pub payload: &'b [u8],
}

impl Channel {
    /// Two connected ends, close-on-exec. The first is non-blocking (the host's), the second blocks.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&near, true)?;
        Ok((Channel { socket: near }, Channel { socket: far }))
    }

    /// Takes over a socket that the other side of a process border made.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Gives the socket up, to be passed on.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends one message with the payload that it announces.
    pub fn send<M: Message + Serialize>(&self, message: &M, payload: &[u8]) -> Result<(), ChannelError> {
        self.send_with(message, payload, &[])
    }

    /// Sends one message with descriptors, at most [`DESCRIPTORS_MAX`].
    pub fn send_with<M: Message + Serialize>(
        &self,
        message: &M,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let head = codec::encode(message)?;
        if message.payload_len() != payload.len() || head.len() + payload.len() > PACKET_MAX {
            return Err(ChannelError::Malformed("message and payload do not fit one packet"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::Malformed("too many descriptors for one packet"));
        }
        let parts = [IoSlice::new(&head), IoSlice::new(payload)];
        retry(|| sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)).map(|_| ())
    }

    /// Receives one message. The kernel installs no descriptor: there is no control buffer, and a packet that carries
    /// one is malformed.
    pub fn receive<'b, M: Message + DeserializeOwned>(
        &self,
        buffer: &'b mut [u8; PACKET_MAX],
    ) -> Result<Packet<'b, M>, ChannelError> {
        let (length, flags) = self.fill(buffer, &mut RecvAncillaryBuffer::default())?;
        if flags.contains(ReturnFlags::CTRUNC) {
            return Err(ChannelError::Malformed("carries descriptors"));
        }
        parse(buffer.get(..length).ok_or(ChannelError::Malformed("longer than a packet"))?)
    }

    /// Receives one message from a *trusted* peer, with its descriptors, close-on-exec.
    ///
    /// Fewer descriptors than were sent arrive where this process may open no more (`RLIMIT_NOFILE`, unix(7)).
    pub fn receive_with<'b, M: Message + DeserializeOwned>(
        &self,
        buffer: &'b mut [u8; PACKET_MAX],
    ) -> Result<(Packet<'b, M>, Vec<OwnedFd>), ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let (length, _) = self.fill(buffer, &mut control)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let packet = parse(buffer.get(..length).ok_or(ChannelError::Malformed("longer than a packet"))?)?;
        Ok((packet, descriptors))
    }

    fn fill(
        &self,
        buffer: &mut [u8; PACKET_MAX],
        control: &mut RecvAncillaryBuffer<'_>,
    ) -> Result<(usize, ReturnFlags), ChannelError> {
        let received = retry(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Malformed("truncated"));
        }
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        Ok((received.bytes, received.flags))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn parse<M: Message + DeserializeOwned>(bytes: &[u8]) -> Result<Packet<'_, M>, ChannelError> {
    let (message, consumed) = codec::decode_prefix::<M>(bytes)?;
    let payload = bytes.get(consumed..).unwrap_or_default();
    if message.payload_len() != payload.len() {
        let announced = message.payload_len();
        return Err(CodecError::Length { consumed, length: bytes.len(), announced }.into());
    }
    Ok(Packet { message, payload })
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, ChannelError> {
    loop {
        match call() {
            Ok(value) => return Ok(value),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(ChannelError::WouldBlock),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(ChannelError::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::{Channel, ChannelError, DESCRIPTORS_MAX, PACKET_MAX, PIECE_MAX};
    use crate::message::{CallId, Envelope, FromWorker, Generation};

    fn data(len: u32) -> Envelope<FromWorker> {
        Envelope { generation: Generation(1), message: FromWorker::Data { call: CallId(9), len } }
    }

    fn receive(near: &Channel) -> Result<(Envelope<FromWorker>, Vec<u8>), ChannelError> {
        let mut buffer = Box::new([0; PACKET_MAX]);
        let packet = near.receive::<Envelope<FromWorker>>(&mut buffer)?;
        Ok((packet.message, packet.payload.to_vec()))
    }

    #[test]
    fn a_message_arrives_with_its_payload() {
        let (near, far) = Channel::pair().expect("socketpair");
        let piece = u32::try_from(PIECE_MAX).expect("a piece is small");
        let bytes = vec![7; PIECE_MAX];
        far.send(&data(piece), &bytes).expect("sends");
        assert_eq!(receive(&near).expect("receives"), (data(piece), bytes));
    }

    #[test]
    fn an_empty_channel_would_block_and_a_closed_one_says_so() {
        let (near, far) = Channel::pair().expect("socketpair");
        assert!(matches!(receive(&near), Err(ChannelError::WouldBlock)));
        drop(far);
        assert!(matches!(receive(&near), Err(ChannelError::Closed)));
    }

    #[test]
    fn descriptors_from_a_worker_are_malformed_and_never_installed() {
        let (near, far) = Channel::pair().expect("socketpair");
        far.send_with(&data(0), &[], &[far.as_fd()]).expect("sends");
        assert!(matches!(receive(&near), Err(ChannelError::Malformed(_))));
        far.send(&data(0), &[]).expect("sends");
        assert!(receive(&near).is_ok(), "control: the same message without a descriptor");
    }

    #[test]
    fn a_trusted_packet_arrives_with_as_many_descriptors_as_fit_here() {
        const MANY: usize = 3 * DESCRIPTORS_MAX;
        let (near, far) = Channel::pair().expect("socketpair");
        let head = crate::codec::encode(&data(0)).expect("encodes");
        // More than the receiver has room for is cut by the kernel as a full descriptor table cuts it.
        let send = |count: usize| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MANY))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let many = vec![far.as_fd(); count];
            assert!(control.push(SendAncillaryMessage::ScmRights(&many)), "room for all");
            sendmsg(&far, &[IoSlice::new(&head)], &mut control, SendFlags::empty()).expect("sends");
        };
        let mut buffer = Box::new([0; PACKET_MAX]);
        for (sent, arrive) in [(MANY, DESCRIPTORS_MAX..MANY), (2, 2..3)] {
            send(sent);
            let (packet, got) = near.receive_with::<Envelope<FromWorker>>(&mut buffer).expect("receives");
            assert_eq!(packet.message, data(0));
            assert!(arrive.contains(&got.len()), "{} of {sent}", got.len());
        }
        send(MANY);
        assert!(matches!(receive(&near), Err(ChannelError::Malformed(_))), "strict where nobody is trusted");
    }

    #[test]
    fn an_oversized_packet_is_malformed() {
        let (near, far) = Channel::pair().expect("socketpair");
        rustix::net::send(&far, &vec![0; PACKET_MAX + 1], SendFlags::empty()).expect("sends");
        assert!(matches!(receive(&near), Err(ChannelError::Malformed(_))));
    }

    #[test]
    fn a_payload_that_was_not_announced_is_an_error() {
        let (near, far) = Channel::pair().expect("socketpair");
        let mut bytes = crate::codec::encode(&data(4)).expect("encodes");
        bytes.extend_from_slice(b"five!");
        rustix::net::send(&far, &bytes, SendFlags::empty()).expect("sends");
        assert!(matches!(receive(&near), Err(ChannelError::Codec(_))));
    }
}
