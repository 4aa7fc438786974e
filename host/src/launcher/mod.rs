//! The host's side of the launcher: keep one alive, ask it for workers, hear how they ended.
//!
//! Both ends are trusted; nothing that a plugin sends arrives here.

mod link;
mod process;
mod program;
mod thread;

pub(crate) use link::{Launcher, SpawnRequest};
pub(crate) use process::{Killer, Process};
pub(crate) use program::Programs;
