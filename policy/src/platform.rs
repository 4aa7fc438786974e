//! What a plan is made for: facts about a machine, as an argument.

use std::fmt;

/// A processor architecture with its system call numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of the architectures")]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The architecture that this library was built for, where hotcell knows it.
    pub const fn of_this_build() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else {
            None
        }
    }

    /// `AUDIT_ARCH_*`, as seccomp programs see it.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    /// The target of native artifacts, as a manifest's `artifacts` names it.
    pub const fn target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        })
    }
}

/// A cgroup controller that bounds a worker from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Controller {
    /// All memory that the kernel charges to the worker: private, shared, page tables, pipes and sockets.
    Memory,
    /// Processes and threads.
    Pids,
    /// Time on processors.
    Cpu,
}

impl Controller {
    /// All of them.
    pub const ALL: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
        }
    }
}

/// The facts of a machine that a plan depends on. The host probes them; tests make them up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The processor.
    pub arch: Arch,
    /// The Landlock ABI of the kernel; 0 where there is none.
    pub landlock_abi: u32,
    /// seccomp programs with the actions errno and kill-process.
    pub seccomp_filter: bool,
    /// seccomp user notification whose answer may be "continue".
    pub seccomp_listener: bool,
    /// The host is root, so that a worker can get a uid of its own.
    pub root: bool,
    /// Root may enter IPC, mount, network and UTS namespaces.
    pub namespaces: bool,
    /// An ordinary user may do the same through a user namespace.
    pub user_namespaces: bool,
    /// In a mount namespace of its own, this user may mount.
    pub mounting: bool,
    /// The cgroup controllers with which this host may bound its workers.
    pub cgroups: Vec<Controller>,
    /// Kernel version, for messages only: features decide.
    pub kernel: (u32, u32),
}
