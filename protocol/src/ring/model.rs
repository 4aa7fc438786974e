//! The memory of a channel as loom sees it: in the place of `map.rs` under `--cfg hotcell_model`, with the same functions.
//!
//! Cursors, sleep words and states of frames are loom's atomics; every other byte is a cell in which loom finds a read or
//! write that nothing orders. A futex is a lock and a condition, as in the kernel. Each [`Map`] is memory of its own.

#![allow(unsafe_code, reason = "the cells of loom hand out pointers")]
#![allow(clippy::panic, reason = "a model fails by panicking")]

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use rustix::io::Errno;

use super::layout::{Area, DOWN, FILE_LEN, UP, Way};

/// The memory of one channel.
#[derive(Debug)]
pub(super) struct Map {
    /// `head`, `bulk_head`, `tail`, `bulk_tail` of both ways.
    cursors: [AtomicU64; 8],
    /// `asleep` and `stuck` of both ways.
    sleeps: [Sleep; 4],
    /// What lies behind the control page.
    bytes: Vec<Bytes>,
}

/// A word on which a worker may sleep.
#[derive(Debug)]
struct Sleep {
    word: AtomicU32,
    /// Wakes so far.
    bucket: Mutex<u32>,
    woken: Condvar,
}

impl Sleep {
    /// A swap, where `map.rs` stores: loom lets a later store slip between the two halves of an earlier swap (its issue 389),
    /// which no machine and no memory model does.
    fn set(&self, value: u32) {
        let _ = self.word.swap(value, Ordering::Relaxed);
    }
}

/// Four bytes.
#[derive(Debug)]
enum Bytes {
    /// Where a frame may start: its state.
    State(AtomicU32),
    Plain([UnsafeCell<u8>; 4]),
}

// SAFETY: loom checks every access to a cell against what orders it, and fails the test where nothing does.
unsafe impl Send for Map {}
// SAFETY: as for `Send`.
unsafe impl Sync for Map {}

impl Map {
    pub(super) fn new() -> Map {
        let behind = DOWN.messages.start..FILE_LEN;
        let states = DOWN.messages.start..DOWN.bulk.start;
        let bytes = |offset: usize| match offset.is_multiple_of(16) && states.contains(&offset) {
            true => Bytes::State(AtomicU32::new(0)),
            false => Bytes::Plain(std::array::from_fn(|_| UnsafeCell::new(0))),
        };
        Map {
            cursors: std::array::from_fn(|_| AtomicU64::new(0)),
            sleeps: std::array::from_fn(|_| Sleep {
                word: AtomicU32::new(0),
                bucket: Mutex::new(0),
                woken: Condvar::new(),
            }),
            bytes: behind.step_by(4).map(bytes).collect(),
        }
    }

    pub(super) fn shared(_: impl AsFd) -> Result<Map, Errno> {
        Ok(Map::new())
    }

    pub(super) fn with_inputs(_: BorrowedFd<'_>) -> Result<Map, Errno> {
        Ok(Map::new())
    }

    fn cursor(&self, offset: usize) -> &AtomicU64 {
        let of = |way: Way| [way.head(), way.bulk_head(), way.tail(), way.bulk_tail()];
        let place = of(DOWN).into_iter().chain(of(UP)).position(|known| known == offset);
        self.cursors.get(place.expect("an offset of a cursor")).expect("eight")
    }

    fn nap(&self, offset: usize) -> &Sleep {
        let of = |way: Way| [way.asleep(), way.stuck()];
        let place = of(DOWN).into_iter().chain(of(UP)).position(|known| known == offset);
        self.sleeps.get(place.expect("an offset of a sleep word")).expect("four")
    }

    fn at(&self, offset: usize) -> &Bytes {
        self.bytes.get((offset - DOWN.messages.start) / 4).expect("inside the file")
    }

    pub(super) fn published(&self, offset: usize) -> u64 {
        self.cursor(offset).load(Ordering::Acquire)
    }

    pub(super) fn publish(&self, offset: usize, cursor: u64) {
        self.cursor(offset).store(cursor, Ordering::Release);
    }

    pub(super) fn sleep(&self, offset: usize, wake: u32) {
        self.nap(offset).set(wake);
        fence(Ordering::SeqCst);
    }

    pub(super) fn rouse(&self, offset: usize) -> u32 {
        fence(Ordering::SeqCst);
        match self.nap(offset).word.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.nap(offset).word.swap(0, Ordering::Relaxed),
        }
    }

    pub(super) fn exchange(&self, offset: usize, from: u32, to: u32) -> bool {
        let Bytes::State(state) = self.at(offset) else { panic!("only states are exchanged") };
        state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn load_word(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|n| self.byte(offset + n)))
    }

    pub(super) fn store_word(&self, offset: usize, value: u32) {
        self.nap(offset).set(value);
    }

    pub(super) fn futex_wait(&self, offset: usize, value: u32) {
        let Sleep { word, bucket, woken } = self.nap(offset);
        let mut wakes = bucket.lock().expect("nobody panics");
        let before = *wakes;
        while *wakes == before && word.load(Ordering::Relaxed) == value {
            wakes = woken.wait(wakes).expect("nobody panics");
        }
    }

    pub(super) fn futex_wake(&self, offset: usize) {
        let Sleep { bucket, woken, .. } = self.nap(offset);
        *bucket.lock().expect("nobody panics") += 1;
        woken.notify_one();
    }

    pub(super) fn write(&self, area: Area, position: u64, bytes: &[u8]) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let offset = place(area, position + at as u64);
            match self.at(offset) {
                Bytes::State(state) => {
                    // A header is written in one piece; what else lies here is somebody's payload.
                    let mut word = [0; 4];
                    let count = rest.len().min(4);
                    word.get_mut(..count).expect("four").copy_from_slice(rest.get(..count).expect("there"));
                    state.store(u32::from_ne_bytes(word), Ordering::Relaxed);
                    at += count;
                }
                Bytes::Plain(cells) => {
                    let cell = cells.get(offset % 4).expect("four");
                    // SAFETY: loom checks that nothing else uses the cell now.
                    cell.with_mut(|byte| unsafe { *byte = *rest.first().expect("not empty") });
                    at += 1;
                }
            }
        }
    }

    pub(super) fn read(&self, area: Area, position: u64, len: usize, into: &mut Vec<u8>) {
        into.extend((position..).take(len).map(|position| self.byte(place(area, position))));
    }

    fn byte(&self, offset: usize) -> u8 {
        match self.at(offset) {
            Bytes::State(state) => {
                *state.load(Ordering::Relaxed).to_ne_bytes().get(offset % 4).expect("four")
            }
            Bytes::Plain(cells) => {
                // SAFETY: loom checks that nobody writes the cell now.
                cells.get(offset % 4).expect("four").with(|byte| unsafe { *byte })
            }
        }
    }

    /// Nothing is mapped twice.
    pub(super) fn input(self: &Arc<Self>, _: u64, _: usize) -> Option<Input> {
        None
    }
}

fn place(area: Area, position: u64) -> usize {
    area.start + usize::try_from(position).expect("short") % area.len
}

/// The input of a call.
#[derive(Debug)]
pub struct Input(Vec<u8>);

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Input {
        Input(bytes)
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
