//! A plan: what the worker does, and where each line of it comes from.

use hotcell_protocol::{Filter, Orders};

use crate::policy::{ConnectGrant, ProgramGrant};
use crate::{Arch, Controller, ListenAddress, Platform};

/// A policy compiled for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What crosses to the worker.
    pub orders: Orders,
    /// What the host bounds by cgroups, in the order of [`Controller::ALL`].
    pub cgroups: Vec<CgroupLimit>,
    /// Where the host connects to for the plugin.
    pub connects: Vec<ConnectGrant>,
    /// Where it listens for the plugin.
    pub listens: Vec<ListenAddress>,
    /// Where paths are observed: what the plugin may call once it runs, for the host to decide by. The program in force asks the host
    /// about the calls that open, make, remove and rename.
    pub observed: Option<Filter>,
    /// What it runs for the plugin.
    pub programs: Option<Box<Programs>>,
    /// The platform that it is for.
    pub platform: Platform,
    /// What the plan says in words, in order.
    pub facts: Vec<Fact>,
}

impl Plan {
    /// Whether the plugin has connections, made for it or accepted.
    pub fn has_network(&self) -> bool {
        !self.connects.is_empty() || !self.listens.is_empty()
    }

    /// The architecture of its seccomp programs.
    pub fn arch(&self) -> Arch {
        self.platform.arch
    }

    /// Layers and bounds that this platform does not give, in words.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        self.facts.iter().filter(|fact| fact.topic == Topic::Absent).map(|fact| fact.text.as_str())
    }
}

/// Programs that the host runs for a plugin, each in a worker of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Which.
    pub granted: Vec<ProgramGrant>,
    /// What crosses to the worker that becomes one of them.
    pub orders: Orders,
    /// What the host bounds by cgroups.
    pub cgroups: Vec<CgroupLimit>,
}

/// A bound that the host puts on the cgroup of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupLimit {
    /// The controller.
    pub controller: Controller,
    /// Bytes, tasks, or percent of one processor.
    pub value: u64,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub topic: Topic,
    /// The fact.
    pub text: String,
    /// Profile or syscall set with its key, or `built-in`.
    pub source: String,
}

/// What a line of a plan is about, in the order of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Plugin, profile, runtime, platform.
    Plan,
    /// Bounds.
    Limit,
    /// setrlimit(2).
    Rlimit,
    /// cgroups(7).
    Cgroup,
    /// unshare(2), uid, dumpable.
    Process,
    /// Landlock rights.
    Landlock,
    /// Paths as a WASI guest sees them.
    File,
    /// Connections that the host makes.
    Connect,
    /// Where the host listens.
    Listen,
    /// Programs that the host runs, and how each is confined.
    Spawn,
    /// Host calls.
    HostCall,
    /// System calls.
    Syscall,
    /// What is not enforced here, and what carries it instead.
    Absent,
}
