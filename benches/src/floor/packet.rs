//! A SEQPACKET socket pair, blocking, in packets as large as hotcell's.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, recv, sendmsg,
    socketpair,
};

use super::{check_echo, hung_up, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::{OtherEnd, Role};

/// The most that one packet holds: what hotcell's worker channel allows.
const PACKET: usize = 64 * 1024;

struct Packet {
    socket: OwnedFd,
    sent: Vec<u8>,
    received: Vec<u8>,
    _other_end: OtherEnd,
}

pub(super) fn open(size: usize) -> Opened {
    let (socket, peer) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Failure::io("make a socket pair", errno.into()))?;
    let other_end = OtherEnd::start(Role::Packet, size, peer)?;
    let mut packet = Packet { socket, sent: message(size), received: vec![0; size], _other_end: other_end };
    packet.sample(1, &mut Samples::default())?;
    check_echo(&packet.sent, &packet.received)?;
    Ok(Box::new(packet))
}

impl Case for Packet {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            samples.time(|| {
                send_all(&self.socket, &self.sent)?;
                if receive_all(&self.socket, &mut self.received)? {
                    Ok(())
                } else {
                    Err(Failure::other("the other end hung up"))
                }
            })?;
        }
        Ok(())
    }
}

pub(super) fn serve(size: usize) -> Result<(), Failure> {
    let socket = rustix::stdio::stdin();
    let mut bytes = vec![0; size];
    while receive_all(socket, &mut bytes)? {
        send_all(socket, &bytes)?;
    }
    Ok(())
}

fn send_all(socket: impl AsFd, bytes: &[u8]) -> Result<(), Failure> {
    for chunk in bytes.chunks(PACKET) {
        let parts = [IoSlice::new(chunk)];
        sendmsg(&socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
            .map_err(|errno| hung_up(errno.into()))?;
    }
    Ok(())
}

/// Fills `bytes` with as many packets as it takes. Returns whether the other end was there.
fn receive_all(socket: impl AsFd, bytes: &mut [u8]) -> Result<bool, Failure> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (received, _) =
            recv(&socket, &mut *rest, RecvFlags::empty()).map_err(|errno| hung_up(errno.into()))?;
        let Some((_, later)) = rest.split_at_mut_checked(received).filter(|_| received > 0) else {
            return Ok(false);
        };
        rest = later;
    }
    Ok(true)
}
