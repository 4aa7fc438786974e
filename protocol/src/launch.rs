//! Host and launcher: both trusted. One packet channel carries messages and descriptors together.

use serde::{Deserialize, Serialize};

use crate::orders::{Launch, Namespace};

/// The host's name for one worker process; never reused while a host lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

/// What a worker process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// wasmtime's runtime, which the launcher has warm: its own program.
    Wasm,
    /// The native runtime: `hotcell-worker`, or the same code in the launcher's program.
    Native,
    /// `hotcell-compiler`, which is always executed.
    Compiler,
}

/// Host to launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLauncher {
    /// Start a worker. Carries six descriptors: stdin, stdout, stderr, the two bells, the setup channel.
    Spawn {
        /// Its name.
        worker: WorkerId,
        /// What it runs.
        image: Image,
        /// How its process is made.
        launch: Launch,
    },
    /// Kill this process, too, when the host is gone. Carries one pidfd, of a worker that an earlier launcher started.
    Guard {
        /// Its name.
        worker: WorkerId,
    },
}

/// How a process ended (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WaitStatus {
    /// It called exit.
    Exited {
        /// The exit code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal number.
        signal: i32,
    },
}

/// What a process used (getrusage(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Largest resident set, in bytes.
    pub max_rss: u64,
    /// User and system CPU time, in microseconds.
    pub cpu_us: u64,
}

/// Launcher to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromLauncher {
    /// Warm and waiting. The host refuses a launcher of another build.
    Ready {
        /// [`build_id`] of the launcher.
        build: String,
        /// The namespaces that it has entered, and with it every worker.
        namespaces: Vec<Namespace>,
    },
    /// The worker runs. Carries its pidfd.
    Spawned {
        /// Its name.
        worker: WorkerId,
        /// Its process id, as launcher and host see it; only good together with the pidfd.
        pid: u32,
    },
    /// The worker could not be started.
    SpawnFailed {
        /// Its name.
        worker: WorkerId,
        /// The errno.
        errno: i32,
        /// The system call that failed.
        what: String,
    },
    /// The worker ended and was reaped.
    Exited {
        /// Its name.
        worker: WorkerId,
        /// How.
        status: WaitStatus,
        /// What it had used.
        usage: Usage,
    },
}

/// What host and worker binaries must have in common: the crate version and the wire revision.
pub fn build_id() -> String {
    format!("{}+wire.{}", env!("CARGO_PKG_VERSION"), WIRE_REVISION)
}

/// Raised with every change to a type of this crate.
const WIRE_REVISION: u32 = 8;
