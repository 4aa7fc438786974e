//! Resource limits (setrlimit(2)).
//!
//! They miss memfds, pipes, page tables and shared memory. Syscall sets let a plugin make none of these but page tables,
//! which the address space bounds.

use hotcell_protocol::{Resource, Rlimit, Runtime};

use crate::{Platform, Policy};

/// Address space that a wasm runtime reserves without using it: 4 GiB of linear memory with guards, more than once.
const WASM_RESERVATION: u64 = 16 << 30;

/// Private writable memory of the wasm runtime itself and of the module's data.
pub(super) const WASM_RUNTIME: u64 = 64 << 20;

/// Descriptors of the worker itself: three standard ones, two channels, artifact, output, its status, the ruleset and a
/// path while it confines itself, and the event loop of a WASI runtime.
const OWN_DESCRIPTORS: u64 = 16;

/// The stack that programs expect (ulimit -s on common systems).
const STACK: u64 = 8 << 20;

/// Signals that may wait, so that libc's own still arrive.
const PENDING_SIGNALS: u64 = 16;

/// Each limit with the profile key that it comes from, or `None` where it is built in.
pub(super) type Source = Option<&'static str>;

pub(super) fn compile(policy: &Policy, platform: &Platform) -> Vec<(Rlimit, Source)> {
    let limits = &policy.limits;
    let mut rlimits = memory(policy);
    let cpu_seconds = limits.cpu_ms.div_ceil(1000);
    let descriptors = u64::from(limits.open_files) + OWN_DESCRIPTORS;
    rlimits.extend([
        (Resource::Stack, STACK, None),
        (Resource::Cpu, cpu_seconds, Some("cpu")),
        (Resource::FileSize, limits.file_size, Some("file-size")),
        (Resource::NoFile, descriptors, Some("open-files")),
        (Resource::Core, 0, None),
        (Resource::MemLock, 0, None),
        (Resource::MsgQueue, 0, None),
        (Resource::Nice, 0, None),
        (Resource::RtPrio, 0, None),
        (Resource::SigPending, PENDING_SIGNALS, None),
    ]);
    // The count is per uid: it would hold the user's other processes against the plugin, and execve(2) looks at it, too.
    if platform.root && policy.runtime != Runtime::Program {
        rlimits.push((Resource::NProc, 0, None));
    }
    rlimits.into_iter().map(|(resource, value, source)| (Rlimit { resource, value }, source)).collect()
}

fn memory(policy: &Policy) -> Vec<(Resource, u64, Source)> {
    let memory = policy.limits.memory;
    let (address_space, data) = match policy.runtime {
        Runtime::Native | Runtime::Compiler | Runtime::Program => (memory, memory),
        Runtime::Core | Runtime::Component | Runtime::Command => {
            (memory.saturating_add(WASM_RESERVATION), memory.saturating_add(WASM_RUNTIME))
        }
    };
    vec![(Resource::AddressSpace, address_space, Some("memory")), (Resource::Data, data, Some("memory"))]
}
