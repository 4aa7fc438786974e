//! What crosses a process border in hotcell: the message enums, their codec, the packet channel that carries them,
//! and the orders that a worker executes.
//!
//! A worker is hostile from the moment plugin code may run, so every type here is bounded and none is recursive.
//! Nothing in this crate decides anything: `hotcell-policy` makes [`Orders`], a worker executes them, the host checks
//! the [`Evidence`].

#![deny(unsafe_code)]

pub mod channel;
pub mod codec;
pub mod compile;
pub mod crash;
pub mod evidence;
pub mod launch;
pub mod message;
pub mod orders;
pub mod ring;

pub use channel::{Channel, ChannelError, PACKET_MAX};
pub use codec::CodecError;
pub use compile::{CompileFailure, CompileRequest, Description, FailureKind};
pub use evidence::{Evidence, Failure, Refusal, Statement, Step};
pub use launch::{FromLauncher, Image, ToLauncher, Usage, WaitStatus, WorkerId};
pub use message::{
    AnswerStatus, CallId, CommandLine, Envelope, FromWorker, Generation, ReplyStatus, Start, ToWorker,
    ToWorkerRef, TrapKind, hook,
};
pub use orders::{
    FileAccess, FileOrder, Filter, Filters, Instruction, Landlock, Launch, Limits, Namespace, Orders,
    PathRule, Place, Resource, Rlimit, Runtime,
};
