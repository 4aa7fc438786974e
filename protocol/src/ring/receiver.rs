//! The reading end of one direction.

use std::sync::Arc;

use super::layout::{HEAD_MAX, HEADER_LEN, INLINE_MAX, Way, frame_len, part_len};
use super::map::{Input, Map};
use super::sender::state_offset;
use super::{Corrupt, Wake};

/// A frame that its reader has not begun with.
pub(super) const READY: u32 = 0;
/// A frame that its reader has begun with.
pub(super) const TAKEN: u32 = 1;
/// A frame that its writer has taken back.
pub(super) const CANCELLED: u32 = 2;

/// Reads frames and bulk bytes.
#[derive(Debug)]
pub struct Receiver {
    map: Arc<Map>,
    way: Way,
    tail: u64,
    bulk_tail: u64,
}

/// A frame's header, read once and checked: both parts lie in what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    position: u64,
    /// The generation that the writer believes it is.
    pub generation: u32,
    /// Bytes of the message.
    pub head_len: usize,
    /// Bytes of the payload behind it.
    pub payload_len: usize,
}

impl Receiver {
    pub(super) fn new(map: Arc<Map>, way: Way) -> Receiver {
        Receiver { map, way, tail: 0, bulk_tail: 0 }
    }

    /// The next frame, if one is there. It stays until [`Receiver::consume`].
    ///
    /// # Errors
    /// A cursor or a length that cannot be.
    pub fn peek(&self) -> Result<Option<Frame>, Corrupt> {
        let there = there(self.way.messages.len, self.map.published(self.way.head()), self.tail)?;
        if there == 0 {
            return Ok(None);
        }
        let header = state_offset(self.way, self.tail);
        let length = |offset: usize| self.map.load_word(header + offset) as usize;
        let (head_len, payload_len) = (length(8), length(12));
        if head_len > HEAD_MAX || payload_len > INLINE_MAX {
            return Err(Corrupt("a frame over the limit"));
        }
        if frame_len(head_len, payload_len) > there {
            return Err(Corrupt("a frame that is longer than what was published"));
        }
        let generation = self.map.load_word(header + 4);
        Ok(Some(Frame { position: self.tail, generation, head_len, payload_len }))
    }

    /// Marks a frame as begun, so that its writer cannot take it back any more; `false` if it already has.
    pub fn take(&self, frame: &Frame) -> bool {
        self.map.exchange(state_offset(self.way, frame.position), READY, TAKEN)
    }

    /// Copies the message out, into an emptied buffer.
    pub fn head(&self, frame: &Frame, into: &mut Vec<u8>) {
        into.clear();
        self.map.read(self.way.messages, frame.position + HEADER_LEN as u64, frame.head_len, into);
    }

    /// Appends the payload to a buffer.
    pub fn payload(&self, frame: &Frame, into: &mut Vec<u8>) {
        let position = frame.position + (HEADER_LEN + part_len(frame.head_len)) as u64;
        self.map.read(self.way.messages, position, frame.payload_len, into);
    }

    /// Gives the frame's room back.
    pub fn consume(&mut self, frame: &Frame) {
        self.tail += frame_len(frame.head_len, frame.payload_len) as u64;
        self.map.publish(self.way.tail(), self.tail);
    }

    /// Bulk bytes that are there.
    ///
    /// # Errors
    /// A cursor that cannot be.
    pub fn bulk_there(&self) -> Result<usize, Corrupt> {
        there(self.way.bulk.len, self.map.published(self.way.bulk_head()), self.bulk_tail)
    }

    /// Appends at most `most` bulk bytes to a buffer, gives their room back, and returns how many there were.
    ///
    /// # Errors
    /// A cursor that cannot be.
    pub fn bulk(&mut self, most: usize, into: &mut Vec<u8>) -> Result<usize, Corrupt> {
        let count = self.bulk_there()?.min(most);
        self.map.read(self.way.bulk, self.bulk_tail, count, into);
        self.release(count);
        Ok(count)
    }

    /// A worker's view of the next `len` bulk bytes, in place until [`Receiver::release`]. The caller knows that they are
    /// there.
    pub fn in_place(&self, len: usize) -> Option<Input> {
        self.map.input(self.bulk_tail, len)
    }

    /// Gives the room of bulk bytes back.
    pub fn release(&mut self, len: usize) {
        self.bulk_tail += len as u64;
        self.map.publish(self.way.bulk_tail(), self.bulk_tail);
    }

    /// How a writer that waits for room wants to be told. To be asked after room was given back.
    pub fn rouse(&self) -> Wake {
        Wake::of(self.map.rouse(self.way.stuck()))
    }

    /// Wakes a worker that sleeps in [`Sender::sleep`](super::Sender::sleep). Never blocks.
    pub fn wake_worker(&self) {
        self.map.futex_wake(self.way.stuck());
    }

    /// Asks to be told of what comes. To be followed by another look.
    pub fn want(&self, wake: Wake) {
        self.map.sleep(self.way.asleep(), wake as u32);
    }

    /// Takes back what [`Receiver::want`] asked for.
    pub fn awake(&self) {
        self.map.store_word(self.way.asleep(), Wake::Not as u32);
    }

    /// Whether a frame or bulk byte may be there. Reads one word, for a reader that polls.
    pub fn stirs(&self) -> bool {
        self.map.published(self.way.head()) != self.tail
    }

    /// Where the bulk bytes that come next will lie.
    #[cfg(not(hotcell_model))]
    pub fn ahead(&self) -> super::Ahead {
        super::Ahead::new(&self.map, self.way.bulk, self.bulk_tail)
    }

    /// Looks for frames behind those that were consumed so far, from elsewhere.
    pub fn watcher(&self) -> Watcher {
        Watcher { map: Arc::clone(&self.map), offset: self.way.head(), seen: self.tail }
    }

    /// A worker's sleep until something comes, after [`Receiver::want`].
    pub fn sleep(&self) {
        self.map.futex_wait(self.way.asleep(), Wake::First as u32);
    }
}

/// Looks for new frames.
#[derive(Debug)]
pub struct Watcher {
    map: Arc<Map>,
    offset: usize,
    seen: u64,
}

impl Watcher {
    /// Whether any has come.
    pub fn stirs(&self) -> bool {
        self.map.published(self.offset) != self.seen
    }
}

fn there(capacity: usize, head: u64, tail: u64) -> Result<usize, Corrupt> {
    let there = usize::try_from(head.wrapping_sub(tail)).map_err(|_| Corrupt("a head before its tail"))?;
    if there > capacity { Err(Corrupt("a head that is out of the ring")) } else { Ok(there) }
}
