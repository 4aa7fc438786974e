//! Run plugins that nobody has to trust: each in a confined process of its own.
//!
//! A [`Host`] loads a plugin, WebAssembly or native shared library, into a worker process whose sandbox is derived from
//! the plugin's manifest and a reviewed profile; a [`Plugin`] is called through typed channels. Whatever the plugin does,
//! the host goes on, the caller gets an outcome that names the cause, and the next call gets a fresh worker.
//!
//! The host never loads plugin code, never parses its bytecode, and believes nothing that a worker sends. It does not
//! protect against bugs of the kernel behind an allowed system call, nor against speculative or shared-cache side
//! channels.
//!
//! `examples/embed.rs` is a complete application.

#![deny(unsafe_code)]

mod audit;
pub mod blocking;
mod broker;
mod budget;
mod builder;
mod cgroup;
mod checkpoint;
mod class;
mod compile;
mod contract;
mod crash;
mod doctor;
mod error;
mod event;
mod exit;
mod host;
mod identity;
mod launcher;
mod log;
mod network;
mod package;
mod places;
mod platform;
mod plugin;
mod prepare;
mod programs;
mod random;
mod receipt;
mod reentry;
mod secret;
mod spares;
mod start;
mod stdio;
mod surroundings;
mod sys;
mod text;
mod violation;
mod worker;

pub use audit::{AUDIT_RULES, Audit, AuditRule, Finding};
pub use broker::{HostCallContext, HostCallResult};
pub use builder::HostBuilder;
pub use checkpoint::Checkpoint;
pub use class::Class;
pub use crash::{CrashBacktrace, CrashFrame, CrashGroup, CrashModule, CrashReport, Crashes, LastCall};
pub use doctor::{Doctor, Layer, LayerStatus, ProfileStatus, doctor};
pub use error::{CallError, Error};
pub use event::{Event, EventKind, Events};
pub use exit::{Exit, ExitCause, Limit, Mechanism};
pub use host::{Host, Package};
pub use hotcell_package as packages;
pub use hotcell_policy as policy;
pub use hotcell_protocol::{Evidence, Runtime, Step, TrapKind};
pub use package::{
    BareUse, InstallOptions, InstalledPlugin, InstalledVersion, Packages, VerifiedPackage, pack,
    put_signatures, signatures, survey,
};
pub use platform::platform;
pub use plugin::{
    CheckpointError, CommandRequest, ConfigureError, DebugTarget, IncompatibleState, Plugin, ProfileOptions,
    ProfiledStack, ReloadError, ReloadOptions, Reloaded, Request, StackProfile, StateMove, Status, Watching,
};
pub use prepare::{LoadOptions, Waiting, plan};
pub use receipt::{Receipt, ReceiptError};
pub use stdio::{CommandIo, Sink, Source};
pub use surroundings::Surrounding;
pub use text::{escape, is_unsafe};
pub use violation::{Observer, Refuser, Severity, Violation};
