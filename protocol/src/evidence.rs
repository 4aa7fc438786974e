//! What is known of a worker's confinement before anything of the plugin may run: from itself, and from the kernel.

use serde::{Deserialize, Serialize};

/// A forbidden act that the worker tried after it confined itself, and how the kernel refused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The act, as a system call with its arguments in words.
    pub act: String,
    /// The errno that came back.
    pub errno: i32,
}

/// What a worker says of itself after `confine`: what only it can tell.
///
/// It runs no byte of the plugin before it sends this, so it can be believed as far as hotcell's own worker binary can.
/// Everything that the kernel tells about a process the host reads itself, and adds it to make [`Evidence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// [`build_id`](crate::launch::build_id) of the worker; the host refuses another build.
    pub build: String,
    /// The Landlock ABI of the plan, which the kernel said it enforced in full; it offers no other way to ask.
    pub landlock_abi: u32,
    /// Whether PR_GET_DUMPABLE says other than 0.
    pub dumpable: bool,
    /// The open descriptors, ascending.
    pub descriptors: Vec<u32>,
    /// The forbidden acts that were tried.
    pub refused: Vec<Refusal>,
}

/// The state of the process after `confine`, verified by the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The worker's own words.
    pub statement: Statement,
    /// Process id.
    pub pid: u32,
    /// The cgroup controllers that bound it by a group of its own.
    pub cgroups: Vec<String>,
    /// Real, effective, saved and file-system uid, all equal.
    pub uid: u32,
    /// The same of the gid.
    pub gid: u32,
    /// Number of supplementary groups.
    pub groups: u32,
    /// Union of the inheritable, permitted, effective and ambient capability sets, and with an identity of its own of the
    /// bounding set.
    pub capabilities: u64,
    /// The `NoNewPrivs:` line of `/proc/PID/status`.
    pub no_new_privs: bool,
    /// The `Seccomp:` line: 2 is filter mode.
    pub seccomp_mode: u32,
    /// The `Seccomp_filters:` line.
    pub seccomp_filters: u32,
    /// The `Threads:` line.
    pub threads: u32,
}

/// A step of a worker's start, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the name of its step")]
pub enum Step {
    Limits,
    Namespaces,
    Identity,
    Files,
    Dumpable,
    Landlock,
    Seccomp,
    SelfCheck,
    Load,
    Seal,
}

/// Why a worker stopped before it was ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// The errno, or 0 where the kernel gave none.
    pub errno: i32,
    /// What was attempted, in words, at most 4 KiB.
    pub detail: String,
}
