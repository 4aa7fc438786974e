//! The worker channel: one sealed memfd with two rings each way, one for messages and one for bulk bytes.
//!
//! Each side keeps its own cursors in private memory and only ever *publishes* them; what the other side published is
//! read once, compared with the capacity, and otherwise [`Corrupt`]. Bytes are copied out before they are looked at. The
//! host never holds a reference into this memory, and never waits on a word of it: a worker rings a bell (an eventfd)
//! instead, and only the worker itself sleeps on a futex here.
//!
//! This protects the reader of a ring from its writer, not the contents: everything in here is as hostile as the worker.

mod layout;
#[cfg_attr(hotcell_model, path = "model.rs")]
mod map;
mod receiver;
mod sender;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

pub use layout::{BULK_LEN, FILE_LEN, HEAD_MAX, INLINE_MAX};
use layout::{DOWN, UP};
#[cfg(not(hotcell_model))]
pub use map::Ahead;
pub use map::Input;
use map::Map;
pub use receiver::{Frame, Receiver, Watcher};
pub use sender::{Position, Sender, Waker};

/// A published cursor or a frame that cannot be: the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a corrupt ring: {0}")]
pub struct Corrupt(pub &'static str);

/// How a reader that goes to sleep wants to be woken. Written by the reader, taken by the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Wake {
    /// It is awake, or polls: nothing to do.
    Not = 0,
    /// Host: the bell that its runtime watches. Worker: its futex.
    First = 1,
    /// Host: the bell on which a blocking caller sleeps.
    Second = 2,
}

impl Wake {
    /// Whatever a hostile writer left there means something.
    fn of(word: u32) -> Wake {
        match word {
            0 => Wake::Not,
            2 => Wake::Second,
            _ => Wake::First,
        }
    }
}

/// Where a worker notes its end ([`crash`](crate::crash)), in the channel's memory but apart from the rings. Keeps it mapped.
#[cfg(not(hotcell_model))]
#[derive(Clone, Debug)]
pub struct NotesArea(Arc<Map>);

#[cfg(not(hotcell_model))]
impl NotesArea {
    /// For the worker: the first word of [`crash::layout::SIZE`](crate::crash::layout::SIZE) bytes.
    pub fn address(&self) -> *mut u64 {
        self.0.notes()
    }

    /// For the host: what is there now, whoever writes at the same time.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read(layout::NOTES, 0, layout::NOTES.len, &mut bytes);
        bytes
    }
}

/// Makes the memory of one channel: `(the host's ends, the descriptor for the worker)`.
///
/// Sealed against resizing and further seals before anybody else has it, so that no access can fault (memfd_create(2)).
///
/// # Errors
/// The errno of the step that the kernel refused.
pub fn create() -> Result<((Sender, Receiver), OwnedFd), Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(c"hotcell-channel", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3, where Landlock and seccomp alone keep a worker from executing it.
        Err(Errno::INVAL) => memfd_create(c"hotcell-channel", flags)?,
        other => other?,
    };
    ftruncate(&file, FILE_LEN as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let map = Arc::new(Map::shared(&file)?);
    Ok(((Sender::new(Arc::clone(&map), DOWN), Receiver::new(map, UP)), file))
}

/// Maps the worker's end. The descriptor is not needed afterwards.
///
/// # Errors
/// The errno of the mapping that the kernel refused.
pub fn attach(file: BorrowedFd<'_>) -> Result<(Sender, Receiver), Errno> {
    let map = Arc::new(Map::with_inputs(file)?);
    Ok((Sender::new(Arc::clone(&map), UP), Receiver::new(map, DOWN)))
}

#[cfg(all(test, hotcell_model))]
mod model_tests;
#[cfg(all(test, not(hotcell_model)))]
mod tests;
