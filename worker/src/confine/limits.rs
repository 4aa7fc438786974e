//! Resource limits (setrlimit(2)) and the OOM score.

use hotcell_protocol::{Failure, Resource, Rlimit, Step};
use rustix::process;

use super::failed;

/// A worker is the first to go when the machine runs out of memory (proc_pid_oom_score_adj(5)).
const OOM_SCORE_ADJ: &str = "1000";

pub(super) fn apply(rlimits: &[Rlimit]) -> Result<(), Failure> {
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ).map_err(|error| Failure {
        step: Step::Limits,
        errno: error.raw_os_error().unwrap_or(0),
        detail: format!("failed to raise the OOM score: {error}"),
    })?;
    rlimits.iter().filter(|limit| !is_last(limit)).try_for_each(set)
}

/// The limit of processes, which counts threads: after those that the plan allows were started.
pub(super) fn apply_last(rlimits: &[Rlimit]) -> Result<(), Failure> {
    rlimits.iter().filter(|limit| is_last(limit)).try_for_each(set)
}

fn is_last(limit: &Rlimit) -> bool {
    limit.resource == Resource::NProc
}

fn set(Rlimit { resource, value }: &Rlimit) -> Result<(), Failure> {
    let limit = process::Rlimit { current: Some(*value), maximum: Some(*value) };
    process::setrlimit(to_kernel(*resource), limit)
        .map_err(failed(Step::Limits, format!("limit {resource:?} to {value}")))
}

fn to_kernel(resource: Resource) -> process::Resource {
    match resource {
        Resource::AddressSpace => process::Resource::As,
        Resource::Core => process::Resource::Core,
        Resource::Cpu => process::Resource::Cpu,
        Resource::Data => process::Resource::Data,
        Resource::FileSize => process::Resource::Fsize,
        Resource::Locks => process::Resource::Locks,
        Resource::MemLock => process::Resource::Memlock,
        Resource::MsgQueue => process::Resource::Msgqueue,
        Resource::Nice => process::Resource::Nice,
        Resource::NoFile => process::Resource::Nofile,
        Resource::NProc => process::Resource::Nproc,
        Resource::RtPrio => process::Resource::Rtprio,
        Resource::RtTime => process::Resource::Rttime,
        Resource::SigPending => process::Resource::Sigpending,
        Resource::Stack => process::Resource::Stack,
    }
}
