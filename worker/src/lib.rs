//! The only code that runs beside a plugin: confinement, the worker's end of its channels, and the serving loop.
//!
//! The order of a start is in [`start`] and [`confine`]; both read like the list of the design. Nothing here protects
//! the host: from the moment plugin code may run, this process is as hostile as the plugin, and whatever it sends is a
//! claim.

#![deny(unsafe_code)]

pub mod confine;
pub mod crash;
pub mod launcher;
pub mod link;
mod namespaces;
pub mod native;
mod program;
mod rings;
mod sockets;
pub mod start;
mod sys;

pub use confine::Confined;
pub use hotcell_protocol::ring::Input;
pub use link::{HostCallError, Link, LinkError};
pub use start::{Inherited, Payload, Reply, Runtime, Started, load_failure, no_hook, run, split_state};
