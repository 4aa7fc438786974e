//! Shared memory with a futex in each direction: no queue, no check, one message at a time.
//!
//! The least that two blocking processes can do. Nothing in it withstands a hostile other end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::thread::futex;

use super::{check_echo, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::peer::{Peer, Role};
use crate::sys::mapping::Mapping;

/// Offset of the word that counts messages to the peer, on a cache line of its own.
const REQUEST: usize = 0;
/// Offset of the word that counts messages back.
const REPLY: usize = 64;
/// Offset of the message to the peer; the one back follows.
const MESSAGE: usize = 4096;

struct Shared {
    memory: Mapping,
    turn: u32,
    sent: Vec<u8>,
    received: Vec<u8>,
    _peer: Peer,
}

pub(super) fn open(size: usize) -> Opened {
    let subject = |errno: Errno| Failure::io("make shared memory", errno.into());
    let file = memfd_create("hotcell-bench", MemfdFlags::CLOEXEC).map_err(subject)?;
    ftruncate(&file, length(size) as u64).map_err(subject)?;
    let memory = map(&file, size)?;
    let peer = Peer::start(Role::Shared, size, file)?;
    let mut shared = Shared { memory, turn: 0, sent: message(size), received: vec![0; size], _peer: peer };
    shared.sample(1, &mut Samples::default())?;
    check_echo(&shared.sent, &shared.received)?;
    Ok(Box::new(shared))
}

impl Case for Shared {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Shared { memory, turn, sent, received, .. } = self;
        for _ in 0..count {
            samples.time(|| {
                memory.write(MESSAGE, sent)?;
                *turn = turn.wrapping_add(1);
                hand_over(memory.word(REQUEST)?, *turn)?;
                await_turn(memory.word(REPLY)?, *turn)?;
                memory.read(MESSAGE + sent.len(), received)
            })?;
        }
        Ok(())
    }
}

pub(super) fn serve(size: usize) -> Result<(), Failure> {
    let memory = map(rustix::stdio::stdin(), size)?;
    let mut turn = 0u32;
    loop {
        turn = turn.wrapping_add(1);
        await_turn(memory.word(REQUEST)?, turn)?;
        memory.copy(MESSAGE, MESSAGE + size, size)?;
        hand_over(memory.word(REPLY)?, turn)?;
    }
}

fn length(size: usize) -> usize {
    MESSAGE + 2 * size
}

fn map(file: impl AsFd, size: usize) -> Result<Mapping, Failure> {
    Mapping::of(file, length(size))
}

fn hand_over(word: &AtomicU32, turn: u32) -> Result<(), Failure> {
    word.store(turn, Ordering::Release);
    futex::wake(word, futex::Flags::empty(), 1)
        .map(drop)
        .map_err(|errno| Failure::io("wake the other end", errno.into()))
}

fn await_turn(word: &AtomicU32, turn: u32) -> Result<(), Failure> {
    while word.load(Ordering::Acquire) != turn {
        match futex::wait(word, futex::Flags::empty(), turn.wrapping_sub(1), None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(Failure::io("wait for the other end", errno.into())),
        }
    }
    Ok(())
}
