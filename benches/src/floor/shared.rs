//! Shared memory, one message at a time: no queue, no check, and a futex in each direction or none at all.
//!
//! With futexes it is the least that two blocking processes can do; with both ends spinning, the least that two cores
//! can. Nothing in it withstands a hostile other end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::thread::futex;

use super::{check_echo, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::{OtherEnd, Role};
use crate::sys::mapping::Mapping;

/// Offset of the word that counts messages to the peer, on a cache line of its own.
const REQUEST: usize = 0;
/// Offset of the word that counts messages back.
const REPLY: usize = 64;
/// Offset of the message to the peer; the one back follows.
const MESSAGE: usize = 4096;

/// Looks of a spinning other end, milliseconds of them: longer than a caller pauses between two calls.
const PATIENCE: u32 = 100_000;

/// Looks of a spinning caller, some ten microseconds of them, before it makes sure that the other end is awake.
const SUSPICION: u32 = 1_000;

/// How an end learns that it is its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It sleeps until the other end wakes it.
    Futex,
    /// It looks again and again; of use only where each end has a core of its own.
    Spinning,
}

struct Shared {
    memory: Mapping,
    waiting: Waiting,
    turn: u32,
    sent: Vec<u8>,
    received: Vec<u8>,
    _other_end: OtherEnd,
}

pub(super) fn open(size: usize, waiting: Waiting) -> Opened {
    let subject = |errno: Errno| Failure::io("make shared memory", errno.into());
    let file = memfd_create("hotcell-bench", MemfdFlags::CLOEXEC).map_err(subject)?;
    ftruncate(&file, length(size) as u64).map_err(subject)?;
    let memory = map(&file, size)?;
    let role = if waiting == Waiting::Futex { Role::Shared } else { Role::Spinning };
    let other_end = OtherEnd::start(role, size, file)?;
    let (sent, received) = (message(size), vec![0; size]);
    let mut shared = Shared { memory, waiting, turn: 0, sent, received, _other_end: other_end };
    shared.sample(1, &mut Samples::default())?;
    check_echo(&shared.sent, &shared.received)?;
    Ok(Box::new(shared))
}

impl Case for Shared {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Shared { memory, waiting, turn, sent, received, .. } = self;
        for _ in 0..count {
            samples.time(|| {
                memory.write(MESSAGE, sent)?;
                *turn = turn.wrapping_add(1);
                waiting.hand_over(memory.word(REQUEST)?, *turn)?;
                waiting.await_reply(memory, *turn)?;
                memory.read(MESSAGE + sent.len(), received)
            })?;
        }
        Ok(())
    }
}

pub(super) fn serve(size: usize, waiting: Waiting) -> Result<(), Failure> {
    let memory = map(rustix::stdio::stdin(), size)?;
    let mut turn = 0u32;
    loop {
        turn = turn.wrapping_add(1);
        waiting.await_request(&memory, turn)?;
        memory.copy(MESSAGE, MESSAGE + size, size)?;
        waiting.hand_over(memory.word(REPLY)?, turn)?;
    }
}

fn length(size: usize) -> usize {
    MESSAGE + 2 * size
}

fn map(file: impl AsFd, size: usize) -> Result<Mapping, Failure> {
    Mapping::of(file, length(size))
}

impl Waiting {
    fn hand_over(self, word: &AtomicU32, turn: u32) -> Result<(), Failure> {
        word.store(turn, Ordering::Release);
        if self == Waiting::Futex { wake(word) } else { Ok(()) }
    }

    /// Until it is the caller's turn. A spinning other end that has gone to sleep is woken when that takes long.
    fn await_reply(self, memory: &Mapping, turn: u32) -> Result<(), Failure> {
        if self == Waiting::Spinning {
            while !spin_until(memory.word(REPLY)?, turn, SUSPICION) {
                wake(memory.word(REQUEST)?)?;
            }
        }
        sleep_until(memory.word(REPLY)?, turn)
    }

    /// Until it is the other end's turn. It must not burn a core while others are measured, so it sleeps in the end.
    fn await_request(self, memory: &Mapping, turn: u32) -> Result<(), Failure> {
        let word = memory.word(REQUEST)?;
        if self == Waiting::Spinning && spin_until(word, turn, PATIENCE) {
            Ok(())
        } else {
            sleep_until(word, turn)
        }
    }
}

/// Whether the turn came within so many looks.
fn spin_until(word: &AtomicU32, turn: u32, looks: u32) -> bool {
    (0..looks).any(|_| {
        std::hint::spin_loop();
        word.load(Ordering::Acquire) == turn
    })
}

fn sleep_until(word: &AtomicU32, turn: u32) -> Result<(), Failure> {
    while word.load(Ordering::Acquire) != turn {
        wait(word, turn)?;
    }
    Ok(())
}

fn wake(word: &AtomicU32) -> Result<(), Failure> {
    futex::wake(word, futex::Flags::empty(), 1)
        .map(drop)
        .map_err(|errno| Failure::io("wake the other end", errno.into()))
}

/// Sleeps while the word has the value before this turn's.
fn wait(word: &AtomicU32, turn: u32) -> Result<(), Failure> {
    match futex::wait(word, futex::Flags::empty(), turn.wrapping_sub(1), None) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(errno) => Err(Failure::io("wait for the other end", errno.into())),
    }
}
