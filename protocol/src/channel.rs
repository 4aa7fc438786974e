//! A packet channel: one `SOCK_SEQPACKET` socket, one packet per message.
//!
//! Both ends are trusted: host and launcher, host and a worker that has not read a byte of its plugin. A packet that is
//! truncated or does not decode to exactly one message is an error all the same. What may be hostile talks through
//! [`ring`](crate::ring).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::codec::{self, CodecError};

/// Largest packet, in bytes. Far below the default send buffer, so that a packet never fails for its size.
pub const PACKET_MAX: usize = 64 * 1024;

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
    /// The packet is longer than [`PACKET_MAX`].
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

    /// Sends one message.
    pub fn send<M: Serialize>(&self, message: &M) -> Result<(), ChannelError> {
        self.send_with(message, &[])
    }

    /// Sends one message with descriptors, at most [`DESCRIPTORS_MAX`].
    pub fn send_with<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let bytes = codec::encode(message)?;
        if bytes.len() > PACKET_MAX {
            return Err(ChannelError::Malformed("the message does not fit one packet"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::Malformed("too many descriptors for one packet"));
        }
        let parts = [IoSlice::new(&bytes)];
        retry(|| sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)).map(|_| ())
    }

    /// Receives one message from a *trusted* peer, with its descriptors, close-on-exec.
    ///
    /// Fewer descriptors than were sent arrive where this process may open no more (`RLIMIT_NOFILE`, unix(7)).
    /// A packet that is longer than the buffer is malformed.
    pub fn receive<M: DeserializeOwned>(&self, buffer: &mut [u8]) -> Result<(M, Vec<OwnedFd>), ChannelError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = self.fill(buffer, &mut control)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let bytes = buffer.get(..length).ok_or(ChannelError::Malformed("longer than a packet"))?;
        Ok((codec::decode(bytes)?, descriptors))
    }

    /// Bytes of the packet that comes next; waits for it where the channel blocks.
    pub fn next_len(&self) -> Result<usize, ChannelError> {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        retry(|| recv(&self.socket, &mut [0_u8; 0], flags)).map(|(_, length)| length)
    }

    fn fill(&self, buffer: &mut [u8], control: &mut RecvAncillaryBuffer<'_>) -> Result<usize, ChannelError> {
        let received = retry(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::Malformed("truncated"));
        }
        if received.bytes == 0 {
            return Err(ChannelError::Closed);
        }
        Ok(received.bytes)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::{Channel, ChannelError, DESCRIPTORS_MAX, PACKET_MAX};
    use crate::message::{Envelope, FromWorker, Generation};

    const READY: Envelope<FromWorker> = Envelope { generation: Generation(1), message: FromWorker::Ready };

    fn receive(near: &Channel) -> Result<(Envelope<FromWorker>, Vec<OwnedFd>), ChannelError> {
        near.receive(&mut vec![0; PACKET_MAX])
    }

    #[test]
    fn an_empty_channel_would_block_and_a_closed_one_says_so() {
        let (near, far) = Channel::pair().expect("socketpair");
        assert!(matches!(receive(&near), Err(ChannelError::WouldBlock)));
        drop(far);
        assert!(matches!(receive(&near), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_packet_arrives_with_as_many_descriptors_as_fit_here() {
        const MANY: usize = 3 * DESCRIPTORS_MAX;
        let (near, far) = Channel::pair().expect("socketpair");
        let head = crate::codec::encode(&READY).expect("encodes");
        // More than the receiver has room for is cut by the kernel as a full descriptor table cuts it.
        let send = |count: usize| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MANY))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let many = vec![far.as_fd(); count];
            assert!(control.push(SendAncillaryMessage::ScmRights(&many)), "room for all");
            sendmsg(&far, &[IoSlice::new(&head)], &mut control, SendFlags::empty()).expect("sends");
        };
        for (sent, arrive) in [(MANY, DESCRIPTORS_MAX..MANY), (2, 2..3)] {
            send(sent);
            let (message, got) = receive(&near).expect("receives");
            assert_eq!(message, READY);
            assert!(arrive.contains(&got.len()), "{} of {sent}", got.len());
        }
    }

    #[test]
    fn an_oversized_packet_and_trailing_bytes_are_refused() {
        let (near, far) = Channel::pair().expect("socketpair");
        rustix::net::send(&far, &vec![0; PACKET_MAX + 1], SendFlags::empty()).expect("sends");
        assert!(matches!(receive(&near), Err(ChannelError::Malformed(_))));
        let mut bytes = crate::codec::encode(&READY).expect("encodes");
        rustix::net::send(&far, &bytes, SendFlags::empty()).expect("sends");
        assert_eq!(receive(&near).expect("control: the message alone").0, READY);
        bytes.push(0);
        rustix::net::send(&far, &bytes, SendFlags::empty()).expect("sends");
        assert!(matches!(receive(&near), Err(ChannelError::Codec(_))));
    }
}
