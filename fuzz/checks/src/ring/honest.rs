//! Two honest ends: what one sends is what the other receives, as often as the rings wrap around.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use hotcell_protocol::ring::{
    BULK_LEN, HEAD_MAX, INLINE_MAX, Position, Receiver, Sender, Wake, attach, create,
};

use super::memory::{MESSAGES_LEN, frame_len};
use crate::input::{Input, SCALED_MAX};

/// Steps of one run.
const STEPS_MAX: usize = 300;

/// Frames and bulk bytes come out as they went in, each once and in order, and no room is lost.
pub fn ring_honest(data: &[u8]) {
    let ((host_sends, host_receives), file) = create().expect("memory for a channel");
    let (worker_sends, worker_receives) = attach(file.as_fd()).expect("maps it");
    let mut down = Direction::new(host_sends, worker_receives);
    let mut up = Direction::new(worker_sends, host_receives);
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        let Some(step) = input.next() else { break };
        let way = if step & 1 == 0 { &mut down } else { &mut up };
        way.step(step >> 1, &mut input);
    }
    down.finish();
    up.finish();
}

/// A frame on its way.
struct Sent {
    position: Position,
    generation: u32,
    head: &'static [u8],
    payload: &'static [u8],
    cancelled: bool,
}

/// One direction, and what is on its way there.
struct Direction {
    sender: Sender,
    receiver: Receiver,
    frames: VecDeque<Sent>,
    /// Bulk bytes that were ever sent, and received. Each byte says which one it is.
    bulk_sent: usize,
    bulk_received: usize,
}

impl Direction {
    fn new(sender: Sender, receiver: Receiver) -> Direction {
        Direction { sender, receiver, frames: VecDeque::new(), bulk_sent: 0, bulk_received: 0 }
    }

    fn step(&mut self, what: u8, input: &mut Input<'_>) {
        match what % 10 {
            0 | 1 => self.send(input.word(), input.below(300), input.below(300)),
            2 => self.send(input.word(), input.below(HEAD_MAX + 1), input.below(INLINE_MAX + 1)),
            3 | 4 => self.receive(input.byte() & 1 == 0),
            5 => self.cancel(usize::from(input.byte())),
            6 => self.send_bulk(input.scaled()),
            7 => self.receive_bulk(input.scaled()),
            8 => self.read_in_place(input.scaled()),
            _ => self.wake(),
        }
    }

    fn send(&mut self, generation: u32, head: usize, payload: usize) {
        let (head, payload) = (numbered(head, generation as usize), numbered(payload, !generation as usize));
        let used: u64 = self.frames.iter().map(|sent| frame_len(sent.head.len(), sent.payload.len())).sum();
        let fits = frame_len(head.len(), payload.len()) <= MESSAGES_LEN - used;
        let sent = self.sender.send(generation, head, payload).expect("honest");
        assert_eq!(sent.is_some(), fits);
        let frame = |position| Sent { position, generation, head, payload, cancelled: false };
        self.frames.extend(sent.map(frame));
    }

    fn receive(&mut self, take: bool) {
        let Some(frame) = self.receiver.peek().expect("honest") else {
            assert!(self.frames.is_empty() && !self.receiver.stirs());
            return;
        };
        let sent = self.frames.pop_front().expect("it was sent");
        if take {
            assert_eq!(self.receiver.take(&frame), !sent.cancelled);
            assert!(!self.sender.cancel(sent.position), "begun, or taken back before");
        }
        let (mut head, mut payload) = (Vec::new(), Vec::new());
        self.receiver.head(&frame, &mut head);
        self.receiver.payload(&frame, &mut payload);
        assert_eq!((frame.generation, head.as_slice()), (sent.generation, sent.head));
        assert_eq!(payload, sent.payload);
        self.receiver.consume(&frame);
        assert!(self.sender.passed(sent.position) && !self.sender.cancel(sent.position));
    }

    fn cancel(&mut self, which: usize) {
        let count = self.frames.len().max(1);
        if let Some(sent) = self.frames.get_mut(which % count) {
            assert_eq!(self.sender.cancel(sent.position), !sent.cancelled);
            sent.cancelled = true;
        }
    }

    fn send_bulk(&mut self, len: usize) {
        let room = BULK_LEN - (self.bulk_sent - self.bulk_received);
        let sent = self.sender.bulk(numbered(len, self.bulk_sent)).expect("honest");
        assert_eq!(sent, len.min(room));
        self.bulk_sent += sent;
    }

    fn receive_bulk(&mut self, most: usize) {
        let mut bytes = Vec::new();
        let there = self.bulk_sent - self.bulk_received;
        assert_eq!(self.receiver.bulk(most, &mut bytes), Ok(most.min(there)));
        assert!(bytes == numbered(most.min(there), self.bulk_received), "the bytes that were sent");
        self.bulk_received += bytes.len();
    }

    /// As a native worker sees its input: in one piece, around the end of the ring.
    fn read_in_place(&mut self, most: usize) {
        let len = self.receiver.bulk_there().expect("honest").min(most);
        let Some(bytes) = self.receiver.in_place(len) else { return };
        assert!(*bytes == *numbered(len, self.bulk_received), "the bytes that were sent");
        drop(bytes);
        self.receiver.release(len);
        self.bulk_received += len;
    }

    fn wake(&mut self) {
        self.receiver.want(Wake::Second);
        assert_eq!([self.sender.rouse(), self.sender.rouse()], [Wake::Second, Wake::Not]);
        self.sender.want_room(Wake::First);
        assert_eq!([self.receiver.rouse(), self.receiver.rouse()], [Wake::First, Wake::Not]);
    }

    fn finish(&mut self) {
        while !self.frames.is_empty() {
            self.receive(true);
        }
        self.receive_bulk(BULK_LEN);
        assert_eq!(self.bulk_received, self.bulk_sent);
    }
}

/// Bytes that say where in their stream they are.
fn numbered(len: usize, from: usize) -> &'static [u8] {
    /// Prime, so that no ring is a multiple of it.
    const PERIOD: usize = 251;
    static NUMBERS: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let period: Vec<u8> = (0..251).collect();
        period.repeat(SCALED_MAX / PERIOD + 2)
    });
    NUMBERS.get(from % PERIOD..).and_then(|numbers| numbers.get(..len)).expect("long enough")
}
