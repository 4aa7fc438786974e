//! The memory of a channel from outside: where the words lie, and what the control page and the messages must hold.
//!
//! Written a second time on purpose. If the layout changes, so that these numbers are no longer its own, the checks fail.

use std::fs::File;
use std::os::unix::fs::FileExt;

use hotcell_protocol::ring::{BULK_LEN, FILE_LEN};

/// Bytes of one ring of messages.
pub(crate) const MESSAGES_LEN: u64 = 32 << 10;

/// Bytes of one ring of bulk bytes.
pub(crate) const BULK: u64 = BULK_LEN as u64;

/// Bytes of the control page and both rings of messages.
pub(crate) const WATCHED: usize = 4096 + 2 * (32 << 10);

/// Bytes of the whole file.
pub(crate) const FILE: u64 = FILE_LEN as u64;

/// Where the words and rings of one direction begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) head: u64,
    pub(crate) bulk_head: u64,
    pub(crate) tail: u64,
    pub(crate) bulk_tail: u64,
    pub(crate) asleep: u64,
    pub(crate) stuck: u64,
    pub(crate) messages: u64,
    pub(crate) bulk: u64,
}

const fn way(control: u64, messages: u64, bulk: u64) -> Way {
    Way {
        head: control,
        bulk_head: control + 8,
        tail: control + 64,
        bulk_tail: control + 72,
        asleep: control + 128,
        stuck: control + 192,
        messages,
        bulk,
    }
}

/// Host to worker.
pub(crate) const DOWN: Way = way(0, 4096, 4096 + 2 * MESSAGES_LEN);

/// Worker to host.
pub(crate) const UP: Way = way(1024, 4096 + MESSAGES_LEN, 4096 + 2 * MESSAGES_LEN + BULK);

/// A channel's file, and a copy of what its first part holds if everybody writes only what they should.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
    copy: Vec<u8>,
}

impl Memory {
    pub(crate) fn new(file: File) -> Memory {
        Memory { file, copy: vec![0; WATCHED] }
    }

    /// Writes as a worker does: whatever it wants, wherever it wants.
    pub(crate) fn scribble(&mut self, offset: u64, bytes: &[u8]) {
        let room = usize::try_from(FILE.saturating_sub(offset)).unwrap_or(0);
        let (bytes, _) = bytes.split_at(bytes.len().min(room));
        self.file.write_all_at(bytes, offset).expect("the file is that long");
        self.expect(offset, bytes);
    }

    /// Notes what the host must have written.
    pub(crate) fn expect(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("64 bits").min(WATCHED);
        let (_, places) = self.copy.split_at_mut(start);
        let len = bytes.len().min(places.len());
        let (places, _) = places.split_at_mut(len);
        places.copy_from_slice(bytes.split_at(len).0);
    }

    /// The same, around the end of a ring of messages.
    pub(crate) fn expect_message(&mut self, way: Way, position: u64, bytes: &[u8]) {
        let (offset, until_end) = place(position, MESSAGES_LEN);
        let (first, second) = bytes.split_at(bytes.len().min(until_end));
        self.expect(way.messages + offset, first);
        self.expect(way.messages, second);
    }

    /// The bytes of a message at a position, around the end of its ring.
    pub(crate) fn message(&self, way: Way, position: u64, len: usize) -> Vec<u8> {
        let (offset, until_end) = place(position, MESSAGES_LEN);
        let first = self.watched(way.messages + offset, len.min(until_end));
        [first, self.watched(way.messages, len.saturating_sub(until_end))].concat()
    }

    /// The bulk bytes at a position, around the end of their ring, from the file.
    pub(crate) fn bulk(&self, way: Way, position: u64, len: usize) -> Vec<u8> {
        let (offset, until_end) = place(position, BULK);
        let mut bytes = vec![0; len];
        let (first, second) = bytes.split_at_mut(len.min(until_end));
        self.file.read_exact_at(first, way.bulk + offset).expect("the file is that long");
        self.file.read_exact_at(second, way.bulk).expect("the file is that long");
        bytes
    }

    pub(crate) fn wide(&self, offset: u64) -> u64 {
        self.watched(offset, 8).try_into().map(u64::from_ne_bytes).expect("eight bytes")
    }

    pub(crate) fn word(&self, offset: u64) -> u32 {
        self.watched(offset, 4).try_into().map(u32::from_ne_bytes).expect("four bytes")
    }

    /// The host wrote what it should, and nowhere else.
    pub(crate) fn check(&self) {
        let mut held = vec![0; WATCHED];
        self.file.read_exact_at(&mut held, 0).expect("the file is that long");
        if held != self.copy {
            let differs = held.iter().zip(&self.copy).position(|(held, wanted)| held != wanted);
            unreachable!("the byte at {differs:?} should not have been written");
        }
        assert_eq!(self.file.metadata().expect("facts").len(), FILE);
    }

    fn watched(&self, offset: u64, len: usize) -> &[u8] {
        let start = usize::try_from(offset).expect("64 bits");
        self.copy.get(start..start + len).expect("in the watched part")
    }
}

/// Offset of a position in its ring, and how many bytes follow it before the ring's end.
fn place(position: u64, len: u64) -> (u64, usize) {
    let offset = position % len;
    (offset, usize::try_from(len - offset).expect("64 bits"))
}

/// Bytes of a frame.
pub(crate) fn frame_len(head: usize, payload: usize) -> u64 {
    (payload_at(head) + payload as u64).next_multiple_of(16)
}

/// Where a frame's payload begins.
pub(crate) fn payload_at(head: usize) -> u64 {
    16 + (head as u64).next_multiple_of(8)
}
