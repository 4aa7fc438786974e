//! A worker's life: read the orders, confine, load, seal, serve.

use std::fs::File;
use std::os::fd::OwnedFd;

use hotcell_protocol::{Failure, ReplyStatus, Start, Step};

use crate::confine::Confined;
use crate::link::Link;

/// What the host sent to this worker, and to no other.
#[derive(Debug)]
pub struct Started {
    /// Orders, places, arguments.
    pub start: Start,
    /// The sealed memfd with the plugin (for the compiler: with the module); taken by [`Runtime::load`].
    pub artifact: Option<File>,
    /// The memfd that takes the compiler's output.
    pub output: Option<File>,
}

/// How a call ended, with its payload: reply bytes or text, as [`ReplyStatus`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How.
    pub status: ReplyStatus,
    /// Reply bytes, or explanation.
    pub payload: Vec<u8>,
}

/// One kind of plugin.
pub trait Runtime: Sized {
    /// Maps the artifact under the Load stage. Runs no guest code of a wasm module; a native library's constructors run
    /// here.
    ///
    /// # Errors
    /// What is wrong with the artifact, as [`Step::Load`].
    fn load(confined: &Confined, started: &mut Started) -> Result<Self, Failure>;

    /// Meets the plugin under the Run stage: instantiates it, asks its entry function, gives it its configuration.
    ///
    /// # Errors
    /// What the plugin refused, as [`Step::Load`].
    fn ready(&mut self, started: &Started, link: &mut Link) -> Result<(), Failure>;

    /// Runs one export. The host kills this process if it takes too long.
    fn call(&mut self, export: &str, input: Vec<u8>, link: &mut Link) -> Reply;
}

impl Reply {
    /// A plugin's error text, or hotcell's own explanation.
    pub fn text(status: ReplyStatus, text: impl Into<String>) -> Reply {
        Reply { status, payload: text.into().into_bytes() }
    }
}

/// A failure to load the artifact.
pub fn load_failure(detail: impl Into<String>) -> Failure {
    Failure { step: Step::Load, errno: 0, detail: detail.into() }
}

/// Runs a worker on its two channels, to the end of its life.
pub fn run<R: Runtime>(setup: OwnedFd, channel: OwnedFd) -> ! {
    let _ = (setup, channel);
    std::process::exit(1)
}
