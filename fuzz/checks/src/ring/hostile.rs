//! A host beside a worker that writes anything anywhere between what the host does.
//!
//! Beside the channel runs a model of it: the host's own cursors, and a copy of the memory. Whatever the worker wrote, the
//! host must answer as the model does: with the bytes that were published, or with `Corrupt` where that cannot be.

use std::fs::File;

use hotcell_protocol::ring::{
    BULK_LEN, Corrupt, Frame, HEAD_MAX, INLINE_MAX, Position, Receiver, Sender, Wake, create,
};

use super::memory::{BULK, DOWN, FILE, MESSAGES_LEN, Memory, UP, WATCHED, frame_len, payload_at};
use crate::input::Input;

/// Steps of one run.
const STEPS_MAX: usize = 300;

/// Whatever a worker writes, the host reads no more than was published, writes only its own words, and says `Corrupt` of
/// what cannot be.
pub fn ring(data: &[u8]) {
    let mut input = Input(data);
    let mut host = Host::new();
    for _ in 0..STEPS_MAX {
        let Some(step) = input.next() else { break };
        match step % 8 {
            0..=2 => host.suffer(step / 8, &mut input),
            3 | 4 => host.read(step / 8, &mut input),
            5 | 6 => host.write(step / 8, &mut input),
            _ => host.wake(step / 8, &mut input),
        }
    }
    host.memory.check();
}

/// The host's ends, and what the model knows of them.
struct Host {
    sender: Sender,
    receiver: Receiver,
    memory: Memory,
    /// The host's own cursors: of no worker's business.
    head: u64,
    bulk_head: u64,
    tail: u64,
    bulk_tail: u64,
    /// The frame that it has looked at and not yet consumed.
    frame: Option<Frame>,
    sent: Vec<(Position, u64)>,
}

impl Host {
    fn new() -> Host {
        let ((sender, receiver), file) = create().expect("memory for a channel");
        Host {
            sender,
            receiver,
            memory: Memory::new(File::from(file)),
            head: 0,
            bulk_head: 0,
            tail: 0,
            bulk_tail: 0,
            frame: None,
            sent: Vec::new(),
        }
    }

    /// The worker writes.
    fn suffer(&mut self, what: u8, input: &mut Input<'_>) {
        match what % 8 {
            0 => self.suffer_frame(input),
            1 | 2 => self.suffer_cursor(input),
            3 => {
                let words = [
                    UP.tail,
                    UP.bulk_tail,
                    UP.asleep,
                    UP.stuck,
                    DOWN.head,
                    DOWN.bulk_head,
                    DOWN.asleep,
                    DOWN.stuck,
                ];
                let word = words.get(input.below(words.len())).copied().unwrap_or_default();
                self.memory.scribble(word, &input.wide().to_ne_bytes());
            }
            4 => {
                let at = UP.messages + self.tail % MESSAGES_LEN + u64::from(input.byte() % 16);
                self.memory.scribble(at, &[input.byte()]);
            }
            5 => {
                let len = usize::from(input.byte());
                self.memory.scribble(input.wide() % FILE, input.bytes(len));
            }
            _ => {
                let at = input.below(WATCHED) as u64;
                self.memory.scribble(at, &input.wide().to_ne_bytes());
            }
        }
    }

    /// A frame where the host looks for the next one: its header, and a cursor that says how much of it is there.
    fn suffer_frame(&mut self, input: &mut Input<'_>) {
        let (state, generation) = (u32::from(input.byte() % 4), u32::from(input.byte()));
        let (head, payload) = (u32::from(input.short()), u32::from(input.short()));
        let header = [state, generation, head, payload].map(u32::to_ne_bytes).concat();
        self.memory.scribble(UP.messages + self.tail % MESSAGES_LEN, &header);
        let len = frame_len(head as usize, payload as usize);
        let published = self.tail.wrapping_add(len).wrapping_add(u64::from(input.byte() % 4).wrapping_sub(1));
        self.memory.scribble(UP.head, &published.to_ne_bytes());
    }

    /// A cursor near the host's own, or anywhere.
    fn suffer_cursor(&mut self, input: &mut Input<'_>) {
        let (word, own) = match input.byte() % 4 {
            0 => (UP.head, self.tail),
            1 => (UP.bulk_head, self.bulk_tail),
            2 => (DOWN.tail, self.head),
            _ => (DOWN.bulk_tail, self.bulk_head),
        };
        let cursor = match input.byte() % 4 {
            0 => own.wrapping_add(u64::from(input.short())),
            1 => own.wrapping_sub(u64::from(input.short())),
            2 => own.wrapping_add(u64::from(input.word())),
            _ => input.wide(),
        };
        self.memory.scribble(word, &cursor.to_ne_bytes());
    }

    /// The host reads.
    fn read(&mut self, what: u8, input: &mut Input<'_>) {
        match (what % 8, self.frame) {
            (0 | 1, _) => self.peek(),
            (2, Some(frame)) => self.take(&frame),
            (3, Some(frame)) => self.copy(&frame),
            (4, Some(frame)) => self.consume(&frame),
            (5, _) => self.bulk(input.word() as usize),
            (6, _) => self.bulk(input.below(5000)),
            _ => self.release(input.below(5000)),
        }
    }

    fn peek(&mut self) {
        let peeked = self.receiver.peek();
        match (&peeked, self.next_frame()) {
            (Ok(Some(frame)), Ok(Some(wanted))) => {
                assert_eq!((frame.generation, frame.head_len, frame.payload_len), wanted);
                assert!(frame.head_len <= HEAD_MAX && frame.payload_len <= INLINE_MAX);
            }
            (Ok(None), Ok(None)) | (Err(Corrupt(_)), Err(Impossible)) => {}
            (peeked, wanted) => unreachable!("peeked {peeked:?}, wanted {wanted:?}"),
        }
        self.frame = peeked.ok().flatten();
    }

    /// Generation and lengths of the next frame, as the memory says.
    fn next_frame(&self) -> Result<Option<(u32, usize, usize)>, Impossible> {
        let there = there(self.memory.wide(UP.head), self.tail, MESSAGES_LEN)?;
        if there == 0 {
            return Ok(None);
        }
        let at = UP.messages + self.tail % MESSAGES_LEN;
        let [generation, head, payload] = [4, 8, 12].map(|offset| self.memory.word(at + offset));
        let (head, payload) = (head as usize, payload as usize);
        if head > HEAD_MAX || payload > INLINE_MAX || frame_len(head, payload) > there {
            return Err(Impossible);
        }
        Ok(Some((generation, head, payload)))
    }

    fn take(&mut self, frame: &Frame) {
        let state = UP.messages + self.tail % MESSAGES_LEN;
        let ready = self.memory.word(state) == 0;
        assert_eq!(self.receiver.take(frame), ready);
        if ready {
            self.memory.expect(state, &1_u32.to_ne_bytes());
        }
    }

    /// The lengths are those of the first look, whatever the header says by now.
    fn copy(&self, frame: &Frame) {
        let (mut head, mut payload) = (vec![1, 2, 3], vec![1, 2, 3]);
        self.receiver.head(frame, &mut head);
        self.receiver.payload(frame, &mut payload);
        assert_eq!(head, self.memory.message(UP, self.tail + 16, frame.head_len));
        let wanted = self.memory.message(UP, self.tail + payload_at(frame.head_len), frame.payload_len);
        assert_eq!(payload, [&[1, 2, 3], wanted.as_slice()].concat());
    }

    fn consume(&mut self, frame: &Frame) {
        self.receiver.consume(frame);
        self.tail += frame_len(frame.head_len, frame.payload_len);
        self.memory.expect(UP.tail, &self.tail.to_ne_bytes());
        self.frame = None;
    }

    fn bulk(&mut self, most: usize) {
        let mut bytes = vec![7];
        let there = there(self.memory.wide(UP.bulk_head), self.bulk_tail, BULK);
        assert_eq!(self.receiver.bulk_there().ok().map(|there| there as u64), there.ok());
        let read = self.receiver.bulk(most, &mut bytes);
        let Ok(there) = there else {
            assert!(read.is_err() && bytes == [7], "a cursor that cannot be");
            return;
        };
        let wanted = usize::try_from(there).expect("64 bits").min(most);
        assert_eq!(read, Ok(wanted));
        assert!(wanted <= BULK_LEN);
        let (first, rest) = bytes.split_at(1);
        assert!(first == [7] && rest == self.memory.bulk(UP, self.bulk_tail, wanted), "the published bytes");
        self.released(wanted);
    }

    /// Bulk bytes of a call that nobody waits for are passed over.
    fn release(&mut self, most: usize) {
        if let Ok(there) = self.receiver.bulk_there() {
            self.receiver.release(there.min(most));
            self.released(there.min(most));
        }
    }

    fn released(&mut self, count: usize) {
        self.bulk_tail += count as u64;
        self.memory.expect(UP.bulk_tail, &self.bulk_tail.to_ne_bytes());
    }

    /// The host writes.
    fn write(&mut self, what: u8, input: &mut Input<'_>) {
        match what % 6 {
            0 | 1 => {
                let (head, payload) = (input.below(400), input.below(400));
                self.send(input.byte(), head, payload);
            }
            2 => {
                let (head, payload) = (input.below(HEAD_MAX + 2), input.below(INLINE_MAX + 2));
                self.send(input.byte(), head, payload);
            }
            3 => self.send_bulk(input.byte(), input.below(5000)),
            4 => self.send_bulk(input.byte(), input.scaled()),
            _ => self.cancel(usize::from(input.byte())),
        }
    }

    fn send(&mut self, byte: u8, head: usize, payload: usize) {
        let generation = u32::from(byte);
        let (message, bytes) = (vec![byte; head], vec![!byte; payload]);
        let sent = self.sender.send(generation, &message, &bytes);
        let room =
            there(self.head, self.memory.wide(DOWN.tail), MESSAGES_LEN).map(|used| MESSAGES_LEN - used);
        let len = frame_len(head, payload);
        match (sent, room) {
            (Err(_), _) if head > HEAD_MAX || payload > INLINE_MAX => {}
            (Err(_), Err(Impossible)) => {}
            (Ok(None), Ok(room)) => assert!(len > room, "there was room"),
            (Ok(Some(position)), Ok(room)) => {
                assert!(len <= room, "there was no room");
                let [head_len, payload_len] = [head, payload].map(|len| u32::try_from(len).expect("small"));
                let header = [0, generation, head_len, payload_len].map(u32::to_ne_bytes).concat();
                self.memory.expect_message(DOWN, self.head, &header);
                self.memory.expect_message(DOWN, self.head + 16, &message);
                self.memory.expect_message(DOWN, self.head + payload_at(head), &bytes);
                self.sent.push((position, self.head));
                self.head += len;
                self.memory.expect(DOWN.head, &self.head.to_ne_bytes());
            }
            (sent, room) => unreachable!("sent {sent:?}, room {room:?}"),
        }
    }

    fn send_bulk(&mut self, byte: u8, len: usize) {
        let room = there(self.bulk_head, self.memory.wide(DOWN.bulk_tail), BULK).map(|used| BULK - used);
        let bytes = vec![byte; len];
        let sent = self.sender.bulk(&bytes);
        let Ok(room) = room else {
            assert!(sent.is_err(), "a cursor that cannot be");
            return;
        };
        let wanted = len.min(usize::try_from(room).expect("64 bits"));
        assert_eq!(sent, Ok(wanted));
        let written = self.memory.bulk(DOWN, self.bulk_head, wanted);
        assert!(bytes.starts_with(&written), "the bytes that were sent");
        self.bulk_head += wanted as u64;
        self.memory.expect(DOWN.bulk_head, &self.bulk_head.to_ne_bytes());
    }

    fn cancel(&mut self, which: usize) {
        let Some((position, at)) = self.sent.get(which % self.sent.len().max(1)).copied() else { return };
        let passed = self.memory.wide(DOWN.tail) > at;
        assert_eq!(self.sender.passed(position), passed);
        let state = DOWN.messages + at % MESSAGES_LEN;
        let cancelled = !passed && self.memory.word(state) == 0;
        assert_eq!(self.sender.cancel(position), cancelled);
        if cancelled {
            self.memory.expect(state, &2_u32.to_ne_bytes());
        }
    }

    /// The host asks to be woken, or looks whether somebody wants to be.
    fn wake(&mut self, what: u8, input: &mut Input<'_>) {
        let (wake, word) = match input.byte() % 3 {
            0 => (Wake::Not, 0_u32),
            1 => (Wake::First, 1),
            _ => (Wake::Second, 2),
        };
        match what % 6 {
            0 => self.rouse(DOWN.asleep, self.sender.rouse()),
            1 => self.rouse(UP.stuck, self.receiver.rouse()),
            2 => {
                self.receiver.want(wake);
                self.memory.expect(UP.asleep, &word.to_ne_bytes());
            }
            3 => {
                self.receiver.awake();
                self.memory.expect(UP.asleep, &0_u32.to_ne_bytes());
            }
            4 => {
                self.sender.want_room(wake);
                self.memory.expect(DOWN.stuck, &word.to_ne_bytes());
            }
            _ => {
                let stirs = self.memory.wide(UP.head) != self.tail;
                assert_eq!((self.receiver.stirs(), self.receiver.watcher().stirs()), (stirs, stirs));
                self.receiver.wake_worker();
                self.sender.waker().wake();
            }
        }
    }

    fn rouse(&mut self, word: u64, roused: Wake) {
        let wanted = match self.memory.word(word) {
            0 => Wake::Not,
            2 => Wake::Second,
            _ => Wake::First,
        };
        assert_eq!(roused, wanted);
        self.memory.expect(word, &0_u32.to_ne_bytes());
    }
}

/// A cursor or a frame that cannot be.
#[derive(Clone, Copy, Debug)]
struct Impossible;

/// Bytes between two cursors of a ring.
fn there(head: u64, tail: u64, len: u64) -> Result<u64, Impossible> {
    let there = head.wrapping_sub(tail);
    if there > len { Err(Impossible) } else { Ok(there) }
}
