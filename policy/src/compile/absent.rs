//! What a plan does not enforce on its platform, and what carries it instead. Nothing weaker is silent.

use hotcell_protocol::{FileAccess, Namespace, Runtime};

use crate::{Controller, Platform, Policy};

const TRUNCATE: u32 = 3;
const NETWORK: u32 = 4;
const SCOPES: u32 = 6;

pub(super) fn lines(policy: &Policy, platform: &Platform) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(landlock(policy, platform).into_iter().map(str::to_owned));
    if !platform.root {
        lines.extend(IDENTITY.map(str::to_owned));
    }
    if policy.namespaces.is_empty() {
        lines.push(
            "namespaces: the profile asks for none; no set lets it make a socket or a queue, or set the host name"
                .to_owned(),
        );
    }
    let hides_files = policy.namespaces.iter().any(|(namespace, _)| *namespace == Namespace::Mount);
    if !hides_files {
        lines.push("mount namespace: the profile asks for none; Landlock decides about paths".to_owned());
    }
    lines.push(
        "PID namespace: a worker is one process, and no set holds kill, ptrace or pidfd_open".to_owned(),
    );
    lines.extend(files(policy, hides_files));
    lines.extend(cgroups(policy).map(str::to_owned));
    lines.push(violations(policy).to_owned());
    lines
}

fn landlock(policy: &Policy, platform: &Platform) -> Vec<&'static str> {
    let abi = platform.landlock_abi;
    let mut lines = Vec::new();
    if abi < TRUNCATE && policy.files.is_empty() {
        lines.push("Landlock truncation (ABI 3): no file can be opened, and no set holds truncate");
    }
    if abi < NETWORK {
        lines.push("Landlock TCP rules (ABI 4): no set lets it make a socket");
    }
    if abi < SCOPES {
        lines.push(
            "Landlock scopes (ABI 6): abstract sockets and signals; no set lets it make a socket or kill",
        );
    }
    lines
}

/// What an ordinary user's host cannot give.
const IDENTITY: [&str; 3] = [
    "distinct uid: the worker keeps the user's; no set holds chmod, kill, ptrace, setpriority or another process's prlimit, and Landlock decides about paths",
    "process count (RLIMIT_NPROC): it counts the user's other processes too; no set holds fork, clone or execve",
    "undumpable: the user's other processes may inspect the worker; the host reads it back that way",
];

fn files(policy: &Policy, hidden: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !policy.files.is_empty() && !hidden {
        lines.push("metadata outside the granted paths: names, sizes and times can be asked for (stat), since Landlock does not govern that".to_owned());
    }
    if policy.files.iter().any(|file| file.access == FileAccess::Write) {
        lines.push("disk quota: the host looks ten times a second and ends a worker whose ${data} and ${scratch} hold more than `disk`; other granted paths are bounded by `file-size` for each file".to_owned());
    }
    if policy.runtime == Runtime::Native && !hidden {
        lines.push("metadata while the library loads: names, sizes and times can be asked for (stat) until it is loaded".to_owned());
    }
    lines
}

/// What only a cgroup bounds, where the profile does not ask for it.
fn cgroups(policy: &Policy) -> impl Iterator<Item = &'static str> {
    let lines = [
        (
            Controller::Memory,
            "memory cgroup: rlimits bound private memory, and no set lets a plugin make shared memory, pipes or memfds",
        ),
        (
            Controller::Cpu,
            "cpu-share: no CPU cgroup; `cpu` and `call` bound the time, and the scheduler shares it",
        ),
    ];
    let asked: Vec<Controller> = policy.cgroups.iter().map(|(controller, _)| *controller).collect();
    lines.into_iter().filter(move |(controller, _)| !asked.contains(controller)).map(|(_, line)| line)
}

fn violations(policy: &Policy) -> &'static str {
    match policy.runtime {
        Runtime::Native if policy.observes.is_some() => {
            "violations: what Landlock refuses is told by the path that the host read, which the plugin may have changed since"
        }
        Runtime::Native | Runtime::Program => {
            "violations: what Landlock refuses is not seen by the host; what seccomp refuses is"
        }
        Runtime::Core | Runtime::Component => {
            "violations: a refused system call is seen as the end of the worker by SIGSYS, without its number"
        }
        Runtime::Command | Runtime::Compiler => {
            "violations: refusals by Landlock and seccomp are not seen by the host"
        }
    }
}
