//! Why a worker ended.
//!
//! The first cause wins: what the host saw or did before the process ended says more than its exit status. Exit codes
//! and signals come from the kernel; trap texts and failure details come from the worker, and are claims.

use std::fmt;
use std::time::Duration;

use hotcell_protocol::{Limits, Step, TrapKind, Usage, WaitStatus};
use serde::{Deserialize, Serialize};

use crate::class::Class;

/// The end of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The first cause.
    pub cause: ExitCause,
    /// The limit that explains it, where one does.
    pub limit: Option<Limit>,
    /// What held that limit.
    pub mechanism: Option<Mechanism>,
    /// Largest resident set, in bytes; 0 where nobody could reap the process.
    pub max_rss: u64,
    /// User and system CPU time; 0 where nobody could reap the process.
    pub cpu: Duration,
    /// Acts that the sandbox stopped, as far as it could see them.
    pub violations: u64,
}

/// What ended a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCause {
    /// It called exit with this code. In the middle of a call even code 0 is a crash.
    Code(i32),
    /// A signal that the host did not send.
    Signal {
        /// Its number.
        number: i32,
        /// Its name, such as `SIGSEGV`.
        name: String,
    },
    /// Guest code of a wasm plugin trapped.
    Trap {
        /// The kind, as the worker says.
        kind: TrapKind,
        /// The worker's explanation, escaped.
        text: String,
    },
    /// The host killed it when a call's or the start's deadline passed.
    Deadline,
    /// The host killed it for what it sent.
    ProtocolViolation(String),
    /// It was killed for an act that its sandbox forbids.
    Violation {
        /// The system call, where the layer that stopped it says so.
        syscall: Option<String>,
    },
    /// The host killed it for what its `${data}` and `${scratch}` hold.
    DiskFull(String),
    /// The host killed it for another reason: unload, shutdown, an abandoned call.
    KilledByHost(String),
    /// It could not start.
    StartFailed {
        /// The step that failed.
        step: Step,
        /// The errno, or 0.
        errno: i32,
        /// What it says was wrong, escaped.
        detail: String,
    },
    /// Nobody could tell: its launcher died first and the kernel keeps no exit code.
    Unknown,
}

/// A bound of the plan that ended a worker or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// `memory`.
    Memory,
    /// `cpu`.
    Cpu,
    /// `file-size`.
    FileSize,
    /// `disk`.
    Disk,
    /// `message`, or the host-wide budget of payload bytes.
    Message,
    /// `state`.
    State,
}

/// What held a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// setrlimit(2): the kernel's signal says so, or what the worker had used at its end.
    Rlimit,
    /// The worker's cgroup: the kernel counted a kill for want of memory there.
    Cgroup,
    /// The wasm runtime, as the worker says.
    Runtime,
    /// The host, which looked.
    Host,
}

/// What a worker used and did, beside how it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    /// The kernel killed in the worker's cgroup for want of memory.
    pub(crate) starved: bool,
    pub(crate) violations: u64,
}

/// A worker that ends abnormally with this share of its memory limit resident is taken to have run out of it.
const MEMORY_SHARE: (u64, u64) = (7, 8);

/// A worker killed with this share of its CPU limit used is taken to have used it up: the kernel counts in ticks.
const CPU_SHARE: (u64, u64) = (31, 32);

impl Exit {
    /// Judges an end: `noted` is the cause that the host recorded before, `status` what the kernel says.
    pub(crate) fn judge(
        noted: Option<ExitCause>,
        status: Option<WaitStatus>,
        used: Used,
        limits: &Limits,
    ) -> Exit {
        let Used { usage, violations, .. } = used;
        let (limit, mechanism) = limit_of(noted.as_ref(), status, used, limits).unzip();
        let cause = noted.unwrap_or_else(|| cause_of(status));
        let (max_rss, cpu) = (usage.max_rss, Duration::from_micros(usage.cpu_us));
        Exit { cause, limit, mechanism, max_rss, cpu, violations }
    }

    /// What this end means to the caller of a call that it cut off.
    pub fn class(&self) -> Class {
        if self.limit.is_some() {
            return Class::Resource;
        }
        match &self.cause {
            ExitCause::Deadline => Class::Deadline,
            ExitCause::ProtocolViolation(_) => Class::Protocol,
            ExitCause::KilledByHost(_) => Class::Interrupted,
            ExitCause::StartFailed { .. } => Class::Internal,
            _ => Class::Crashed,
        }
    }
}

fn cause_of(status: Option<WaitStatus>) -> ExitCause {
    match status {
        Some(WaitStatus::Exited { code }) => ExitCause::Code(code),
        Some(WaitStatus::Signaled { signal: libc::SIGSYS }) => ExitCause::Violation { syscall: None },
        Some(WaitStatus::Signaled { signal }) => {
            ExitCause::Signal { number: signal, name: signal_name(signal) }
        }
        None => ExitCause::Unknown,
    }
}

fn limit_of(
    noted: Option<&ExitCause>,
    status: Option<WaitStatus>,
    Used { usage, starved, .. }: Used,
    limits: &Limits,
) -> Option<(Limit, Mechanism)> {
    if let Some(ExitCause::Trap { kind, .. }) = noted {
        return (*kind == TrapKind::Limit).then_some((Limit::Memory, Mechanism::Runtime));
    }
    if let Some(ExitCause::DiskFull(_)) = noted {
        return Some((Limit::Disk, Mechanism::Host));
    }
    if noted.is_some() {
        return None;
    }
    let cpu_used = usage.cpu_us / 1000 >= limits.cpu_ms / CPU_SHARE.1 * CPU_SHARE.0;
    let memory_used = usage.max_rss >= limits.memory / MEMORY_SHARE.1 * MEMORY_SHARE.0;
    let limit = match status {
        Some(WaitStatus::Signaled { signal: libc::SIGKILL }) if starved => {
            return Some((Limit::Memory, Mechanism::Cgroup));
        }
        Some(WaitStatus::Signaled { signal: libc::SIGXCPU }) => Limit::Cpu,
        Some(WaitStatus::Signaled { signal: libc::SIGKILL }) if cpu_used => Limit::Cpu,
        Some(WaitStatus::Signaled { signal: libc::SIGXFSZ }) => Limit::FileSize,
        Some(_) if memory_used => Limit::Memory,
        _ => return None,
    };
    Some((limit, Mechanism::Rlimit))
}

/// The name of a signal number on this system, or its number in words.
fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match (self.limit, self.mechanism) {
            (Some(limit), Some(Mechanism::Cgroup)) => write!(f, " ({limit} limit, by its cgroup)")?,
            (Some(limit), _) => write!(f, " ({limit} limit)")?,
            (None, _) => {}
        }
        match self.violations {
            0 => Ok(()),
            1 => write!(f, ", after 1 violation"),
            many => write!(f, ", after {many} violations"),
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitCause::Code(code) => write!(f, "exited with code {code}"),
            ExitCause::Signal { number, name } => write!(f, "killed by {name} ({number})"),
            ExitCause::Trap { kind, text } => write!(f, "trapped ({kind:?}): {text}"),
            ExitCause::Deadline => f.write_str("killed at its deadline"),
            ExitCause::ProtocolViolation(what) => write!(f, "killed for a protocol violation: {what}"),
            ExitCause::Violation { syscall: Some(name) } => write!(f, "killed for a violation: {name}"),
            ExitCause::Violation { syscall: None } => f.write_str("killed by seccomp (SIGSYS)"),
            ExitCause::DiskFull(what) => write!(f, "killed by the host: {what}"),
            ExitCause::KilledByHost(reason) => write!(f, "killed by the host: {reason}"),
            ExitCause::StartFailed { step, errno: 0, detail } => write!(f, "failed at {step:?}: {detail}"),
            ExitCause::StartFailed { step, errno, detail } => {
                write!(f, "failed at {step:?}: {detail} (errno {errno})")
            }
            ExitCause::Unknown => f.write_str("ended for an unknown cause"),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory",
            Limit::Cpu => "cpu",
            Limit::FileSize => "file-size",
            Limit::Disk => "disk",
            Limit::Message => "message",
            Limit::State => "state",
        })
    }
}

#[cfg(test)]
mod tests {
    use hotcell_protocol::{Limits, Usage, WaitStatus};

    use super::{Class, Exit, ExitCause, Limit, Mechanism, Used};

    fn limits() -> Limits {
        Limits {
            memory: 64 << 20,
            cpu_ms: 10_000,
            cpu_share: 1000,
            start_ms: 1000,
            call_ms: 1000,
            message: 1 << 20,
            outstanding: 4,
            instances: 1,
            state: 0,
            open_files: 8,
            processes: 0,
            threads: 0,
            file_size: 0,
            disk: 0,
            log_rate: 1024,
        }
    }

    fn judge(noted: Option<ExitCause>, status: WaitStatus, max_rss: u64, cpu_us: u64) -> Exit {
        let usage = Usage { max_rss, cpu_us };
        Exit::judge(noted, Some(status), Used { usage, ..Used::default() }, &limits())
    }

    #[test]
    fn the_first_cause_wins_over_the_exit_status() {
        let exit = judge(Some(ExitCause::Deadline), WaitStatus::Signaled { signal: libc::SIGKILL }, 0, 0);
        assert_eq!((exit.cause.clone(), exit.class()), (ExitCause::Deadline, Class::Deadline));
    }

    #[test]
    fn a_clean_exit_code_is_still_a_crash() {
        let exit = judge(None, WaitStatus::Exited { code: 0 }, 0, 0);
        assert_eq!((exit.cause.clone(), exit.class()), (ExitCause::Code(0), Class::Crashed));
    }

    #[test]
    fn an_end_near_a_limit_names_the_limit() {
        let aborted = WaitStatus::Signaled { signal: libc::SIGABRT };
        assert_eq!(judge(None, aborted, 60 << 20, 0).limit, Some(Limit::Memory));
        assert_eq!(judge(None, aborted, 40 << 20, 0).limit, None, "just outside");
        let killed = WaitStatus::Signaled { signal: libc::SIGKILL };
        assert_eq!(judge(None, killed, 0, 9_990_000).limit, Some(Limit::Cpu));
        assert_eq!(judge(None, killed, 0, 1_000_000).limit, None, "just outside");
        assert_eq!(
            judge(None, WaitStatus::Signaled { signal: libc::SIGXFSZ }, 0, 0).limit,
            Some(Limit::FileSize)
        );
    }

    #[test]
    fn a_kill_for_want_of_memory_in_its_group_is_told_as_such() {
        let killed = Some(WaitStatus::Signaled { signal: libc::SIGKILL });
        let judged = |starved| Exit::judge(None, killed, Used { starved, ..Used::default() }, &limits());
        let exit = judged(true);
        assert_eq!((exit.limit, exit.mechanism), (Some(Limit::Memory), Some(Mechanism::Cgroup)));
        assert_eq!(exit.to_string(), "killed by SIGKILL (9) (memory limit, by its cgroup)");
        assert_eq!(judged(false).limit, None, "control");
    }

    #[test]
    fn an_unknown_end_is_said_to_be_unknown() {
        let exit = Exit::judge(None, None, Used { violations: 3, ..Used::default() }, &limits());
        assert_eq!(exit.to_string(), "ended for an unknown cause, after 3 violations");
    }
}
