//! The orders of a plan: what a worker executes to confine itself, as plain data.
//!
//! A worker parses no policy. Everything here is already decided by `hotcell-policy`; the worker applies it in the
//! order of DESIGN 7 and stops at the first thing the kernel does not do in full.

use serde::{Deserialize, Serialize};

/// Which of the worker programs runs the artifact, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A shared library with the C ABI of `sdk/`.
    Native,
    /// A core wasm module with the same ABI.
    Core,
    /// A WASI 0.2 component, called with typed values.
    Component,
    /// A WASI command (`_start`), run once with arguments and stdio.
    Command,
    /// hotcell's own confined compiler.
    Compiler,
    /// A program that the host runs for a plugin.
    Program,
}

/// Every bound of a worker. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory that the plugin may hold.
    pub memory: u64,
    /// CPU time over the life of the worker.
    pub cpu_ms: u64,
    /// Share of CPU against other workers, in thousandths of one core.
    pub cpu_share: u32,
    /// Wall time from launch to ready.
    pub start_ms: u64,
    /// Wall time of one call.
    pub call_ms: u64,
    /// Size of one call's input, and of its reply.
    pub message: u64,
    /// Calls that may be queued or running.
    pub outstanding: u32,
    /// Workers that run the plugin side by side.
    pub instances: u32,
    /// Size of a saved state.
    pub state: u64,
    /// Open descriptors.
    pub open_files: u32,
    /// Processes beside the worker itself.
    pub processes: u32,
    /// Threads beside the worker's first.
    pub threads: u32,
    /// Size of one file that the plugin writes.
    pub file_size: u64,
    /// Bytes on disk over all files that the plugin writes.
    pub disk: u64,
    /// Log and stderr bytes per second that the host keeps.
    pub log_rate: u64,
}

/// One resource of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of setrlimit(2)")]
pub enum Resource {
    AddressSpace,
    Core,
    Cpu,
    Data,
    FileSize,
    Locks,
    MemLock,
    MsgQueue,
    Nice,
    NoFile,
    NProc,
    RtPrio,
    RtTime,
    SigPending,
    Stack,
}

/// A resource limit, soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which resource.
    pub resource: Resource,
    /// Its value in the unit of setrlimit(2): bytes, seconds or a count.
    pub value: u64,
}

/// A namespace apart from the host's (unshare(2)); the workers of one launcher share all but that of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// Needed by an ordinary user to create the others.
    User,
    /// System V and POSIX message queues.
    Ipc,
    /// Network devices, addresses, abstract sockets.
    Network,
    /// Host name.
    Uts,
    /// Of the worker's own: a file tree with the granted paths and nothing else.
    Mount,
}

/// How a worker's process comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// A copy of the warm launcher (fork(2)): quick, and its address layout and stack canary are those of every other copy.
    Fork,
    /// A program executed afresh (execve(2)), with an address layout of its own.
    Exec,
}

/// A base folder that the host fills in at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// `${plugin}`: the package, read-only.
    Plugin,
    /// `${data}`: private, kept over reloads.
    Data,
    /// `${scratch}`: private, emptied.
    Scratch,
    /// An absolute path.
    Root,
}

/// A path below which Landlock allows something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// Base folder.
    pub place: Place,
    /// Path below it, without a leading slash; empty for the folder itself.
    pub path: String,
    /// Landlock access rights, `LANDLOCK_ACCESS_FS_*`.
    pub access: u64,
}

/// The Landlock ruleset. All that it handles and no rule allows is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    /// The ABI that the plan was made for; the worker requires all of it.
    pub abi: u32,
    /// The allowed paths; empty denies every one.
    pub rules: Vec<PathRule>,
}

/// What a granted path may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAccess {
    /// Read files and list folders.
    Read,
    /// Also write existing files.
    Write,
}

/// A granted path, as a WASI runtime offers it to its guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOrder {
    /// Base folder.
    pub place: Place,
    /// Path below it, without a leading slash.
    pub path: String,
    /// The name under which the guest sees it.
    pub guest: String,
    /// Reading or writing.
    pub access: FileAccess,
    /// May create files and folders below.
    pub create: bool,
    /// May delete files and folders below.
    pub delete: bool,
}

/// One BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields of struct sock_filter")]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A seccomp program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The program.
    #[serde(with = "packed")]
    pub program: Vec<Instruction>,
    /// Instructions whose `k` the worker replaces by its own process id before it installs the program.
    pub self_pid: Vec<u16>,
}

/// Instructions as one piece of bytes, eight each: decoding them one by one would take most of a worker's start.
mod packed {
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    use super::Instruction;

    pub(super) fn serialize<S: Serializer>(
        program: &[Instruction],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(8 * program.len());
        for Instruction { code, jt, jf, k } in program {
            bytes.extend(code.to_le_bytes());
            bytes.extend([*jt, *jf]);
            bytes.extend(k.to_le_bytes());
        }
        serializer.serialize_bytes(&bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Instruction>, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Vec<Instruction>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("instructions of eight bytes each")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<Instruction>, E> {
                let (instructions, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
                    code: u16::from_le_bytes([*c0, *c1]),
                    jt: *jt,
                    jf: *jf,
                    k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
                };
                Ok(instructions.iter().map(instruction).collect())
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// The seccomp programs of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filters {
    /// Wasm and compiler: `load` is installed before the artifact is read, `run` on top of it before guest code.
    /// The compiler has no plugin code and so no `run`.
    Staged {
        /// Installed by `confine`.
        load: Filter,
        /// Whether `load` asks the host's listener about some calls: for connections only.
        listener: bool,
        /// Installed by `seal`.
        run: Option<Filter>,
    },
    /// Native: one program, installed before load, whose default is a user notification to the host's listener.
    /// `judge` stays with the host, which evaluates it on each notification until it has seen "loaded".
    Supervised {
        /// Installed by `confine`, with a listener.
        filter: Filter,
        /// Evaluated by the host while the library loads: what it allows may continue.
        judge: Filter,
    },
}

/// Everything a worker does to confine itself, and the bounds that its runtime enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// What will run.
    pub runtime: Runtime,
    /// The bounds.
    pub limits: Limits,
    /// How the process is made.
    pub launch: Launch,
    /// setrlimit(2), in this order.
    pub rlimits: Vec<Rlimit>,
    /// Namespaces that the launcher must have entered before it makes the worker.
    pub namespaces: Vec<Namespace>,
    /// The worker must switch to the uid and gid of its [`Start`](crate::Start); `false` only where the host is an
    /// ordinary user.
    pub distinct_uid: bool,
    /// PR_SET_DUMPABLE; `true` only for an ordinary user, whose host could read back nothing otherwise.
    pub dumpable: bool,
    /// Whether debuggers of the host's user may attach where the security module Yama lets only ancestors do that.
    pub debuggable: bool,
    /// The Landlock layer.
    pub landlock: Landlock,
    /// The seccomp programs.
    pub filters: Filters,
    /// Paths that the runtime offers to a WASI guest.
    pub files: Vec<FileOrder>,
    /// The working directory of a native plugin: base folder, and path below it. `/` without one.
    pub folder: Option<(Place, String)>,
    /// Host calls that the broker answers.
    pub host_calls: Vec<String>,
}
