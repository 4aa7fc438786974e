//! The writing end of one direction.

use std::sync::Arc;

use super::layout::{HEAD_MAX, HEADER_LEN, INLINE_MAX, Way, frame_len, part_len};
use super::map::Map;
use super::receiver::{CANCELLED, READY, TAKEN};
use super::{Corrupt, Wake};

/// Where a frame lies, as bytes ever published before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// Writes frames and bulk bytes.
#[derive(Debug)]
pub struct Sender {
    map: Arc<Map>,
    way: Way,
    head: u64,
    bulk_head: u64,
}

impl Sender {
    /// Where the worker of this channel notes its end.
    #[cfg(not(hotcell_model))]
    pub fn notes(&self) -> super::NotesArea {
        super::NotesArea(Arc::clone(&self.map))
    }

    /// Where the bulk bytes that are written next will lie.
    #[cfg(not(hotcell_model))]
    pub fn ahead(&self) -> super::Ahead {
        super::Ahead::new(&self.map, self.way.bulk, self.bulk_head)
    }

    pub(super) fn new(map: Arc<Map>, way: Way) -> Sender {
        Sender { map, way, head: 0, bulk_head: 0 }
    }

    /// Writes one frame; `None` if there is no room for it now.
    ///
    /// # Errors
    /// The peer's cursor is impossible, or the frame is larger than any may be.
    pub fn send(
        &mut self,
        generation: u32,
        head: &[u8],
        payload: &[u8],
    ) -> Result<Option<Position>, Corrupt> {
        if head.len() > HEAD_MAX || payload.len() > INLINE_MAX {
            return Err(Corrupt("a frame over the limit"));
        }
        let len = frame_len(head.len(), payload.len());
        if len > self.room()? {
            return Ok(None);
        }
        let (messages, position) = (self.way.messages, self.head);
        self.map.write(messages, position, &header(generation, head.len(), payload.len()));
        self.map.write(messages, position + HEADER_LEN as u64, head);
        self.map.write(messages, position + (HEADER_LEN + part_len(head.len())) as u64, payload);
        self.head += len as u64;
        self.map.publish(self.way.head(), self.head);
        Ok(Some(Position(position)))
    }

    /// Bytes of messages that fit now.
    fn room(&self) -> Result<usize, Corrupt> {
        room(self.way.messages.len, self.head, self.map.published(self.way.tail()))
    }

    /// Bulk bytes that fit now.
    ///
    /// # Errors
    /// The peer's cursor is impossible.
    pub fn bulk_room(&self) -> Result<usize, Corrupt> {
        room(self.way.bulk.len, self.bulk_head, self.map.published(self.way.bulk_tail()))
    }

    /// Writes as many bulk bytes as fit now, and returns how many.
    ///
    /// # Errors
    /// The peer's cursor is impossible.
    pub fn bulk(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let count = bytes.len().min(self.bulk_room()?);
        self.stage(bytes.get(..count).unwrap_or_default());
        self.commit(count);
        Ok(count)
    }

    /// Writes bulk bytes that the peer does not see before [`Sender::commit`]; a later call overwrites them. The caller
    /// knows that they fit.
    pub fn stage(&mut self, bytes: &[u8]) {
        self.map.write(self.way.bulk, self.bulk_head, bytes);
    }

    /// Copies staged bytes back.
    pub fn staged(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.map.read(self.way.bulk, self.bulk_head, len, &mut bytes);
        bytes
    }

    /// Publishes staged bytes.
    pub fn commit(&mut self, len: usize) {
        self.bulk_head += len as u64;
        self.map.publish(self.way.bulk_head(), self.bulk_head);
    }

    /// Takes a frame back before the peer has begun with it; `false` if it has.
    pub fn cancel(&self, at: Position) -> bool {
        // What the peer has consumed may have been overwritten by a later frame.
        !self.passed(at) && self.map.exchange(state_offset(self.way, at.0), READY, CANCELLED)
    }

    /// Whether the peer has consumed a frame, as it says.
    pub fn passed(&self, Position(position): Position) -> bool {
        self.map.published(self.way.tail()) > position
    }

    /// How the reader wants to be told of what was written since it went to sleep. To be asked after writing.
    pub fn rouse(&self) -> Wake {
        Wake::of(self.map.rouse(self.way.asleep()))
    }

    /// Wakes a worker that sleeps, from elsewhere than where frames are written.
    pub fn waker(&self) -> Waker {
        Waker { map: Arc::clone(&self.map), offset: self.way.asleep() }
    }

    /// Asks to be told when the reader makes room. To be followed by another try.
    pub fn want_room(&self, wake: Wake) {
        self.map.sleep(self.way.stuck(), wake as u32);
    }

    /// A worker's sleep until the host has made room.
    pub fn sleep(&self) {
        self.map.futex_wait(self.way.stuck(), Wake::First as u32);
    }
}

/// Wakes a worker that sleeps in [`Receiver::sleep`](super::Receiver::sleep).
#[derive(Clone, Debug)]
pub struct Waker {
    map: Arc<Map>,
    offset: usize,
}

impl Waker {
    /// Wakes it. Never blocks.
    pub fn wake(&self) {
        self.map.futex_wake(self.offset);
    }
}

/// Where the state word of a frame lies.
pub(super) fn state_offset(way: Way, position: u64) -> usize {
    let within = position & (way.messages.len as u64 - 1);
    way.messages.start + usize::try_from(within).unwrap_or(0)
}

fn room(capacity: usize, head: u64, tail: u64) -> Result<usize, Corrupt> {
    let used = usize::try_from(head.wrapping_sub(tail)).map_err(|_| Corrupt("a tail before its head"))?;
    capacity.checked_sub(used).ok_or(Corrupt("a tail that is out of the ring"))
}

/// A frame's header; its state is ready.
fn header(generation: u32, head: usize, payload: usize) -> [u8; HEADER_LEN] {
    const _: () = assert!(READY == 0 && TAKEN != CANCELLED, "a header is written in one piece");
    let mut header = [0; HEADER_LEN];
    let lens =
        [generation, u32::try_from(head).unwrap_or(u32::MAX), u32::try_from(payload).unwrap_or(u32::MAX)];
    for (place, word) in header.chunks_exact_mut(4).skip(1).zip(lens) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    header
}
