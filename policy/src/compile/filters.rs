//! seccomp programs: which sets are in force at which stage, and what everything else meets.

use hotcell_protocol::{Filter, Filters, Runtime};

use crate::seccomp::{
    Action, Alternative, Answer, Granted, Rule, Stage, SyscallSet, Table, assemble, syscall_number,
};
use crate::{Arch, Platform, Policy, PolicyError};

/// errno(3).
const EPERM: u16 = 1;

pub(super) fn compile(policy: &Policy, platform: &Platform) -> Result<Filters, PolicyError> {
    check_platform(policy, platform)?;
    let program = |stage: Stage, default: Action| {
        let rules: Vec<&Rule> = in_force(policy, stage).flat_map(|set| &set.rules).collect();
        // Only one program of a process can have a listener: that of the Load stage, which stays in force. What the Run
        // program allows there, the host still answers.
        let asked = match (policy.runtime, stage) {
            (Runtime::Native | Runtime::Program, _) | (_, Stage::Load) => Action::Notify,
            (_, Stage::Run) => Action::Allow,
        };
        let watched = if policy.observes.is_some() && stage == Stage::Run { &OBSERVED[..] } else { &[] };
        make(platform.arch, &rules, default, asked, watched)
    };
    match policy.runtime {
        Runtime::Native | Runtime::Program => Ok(Filters::Supervised {
            filter: program(Stage::Run, Action::Notify)?,
            judge: program(Stage::Load, Action::Notify)?,
        }),
        Runtime::Compiler => Ok(Filters::Staged {
            load: program(Stage::Load, Action::Errno(EPERM))?,
            listener: false,
            run: None,
        }),
        Runtime::Core | Runtime::Component | Runtime::Command => Ok(Filters::Staged {
            load: program(Stage::Load, Action::Errno(EPERM))?,
            listener: asks_the_host(policy),
            run: Some(program(Stage::Run, run_default(policy.runtime))?),
        }),
    }
}

/// The calls that Landlock refuses by their paths.
const OBSERVED: [&str; 10] = [
    "mkdir",
    "mkdirat",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "truncate",
    "unlink",
    "unlinkat",
];

/// The Run program as it is without observing, where paths are observed.
pub(super) fn observed(policy: &Policy, platform: &Platform) -> Result<Option<Filter>, PolicyError> {
    if policy.observes.is_none() {
        return Ok(None);
    }
    let rules: Vec<&Rule> = in_force(policy, Stage::Run).flat_map(|set| &set.rules).collect();
    make(platform.arch, &rules, Action::Notify, Action::Notify, &[]).map(Some)
}

/// What a call outside all sets meets after `seal`. A wasm guest without WASI makes no system call of its own, so one
/// that nobody expects is an escape; a command's runtime tries things, and copes.
pub(super) fn run_default(runtime: Runtime) -> Action {
    match runtime {
        Runtime::Native | Runtime::Program => Action::Notify,
        Runtime::Core | Runtime::Component => Action::KillProcess,
        Runtime::Command | Runtime::Compiler => Action::Errno(EPERM),
    }
}

fn check_platform(policy: &Policy, platform: &Platform) -> Result<(), PolicyError> {
    let unavailable = |feature: &str, since_kernel, advice: &str| {
        Err(PolicyError::Unavailable {
            layer: "seccomp",
            feature: feature.to_owned(),
            since_kernel,
            kernel: platform.kernel,
            advice: advice.to_owned(),
        })
    };
    if !platform.seccomp_filter {
        return unavailable(
            "seccomp programs with the actions errno and kill-process",
            (4, 14),
            "use a kernel with CONFIG_SECCOMP_FILTER, outside a sandbox that takes seccomp(2) away",
        );
    }
    let supervised = matches!(policy.runtime, Runtime::Native | Runtime::Program);
    if (supervised || asks_the_host(policy)) && !platform.seccomp_listener {
        return unavailable(
            "seccomp user notification",
            (5, 5),
            "native plugins need it, and plugins with connections or programs; an outer sandbox that has a listener of its own takes it away",
        );
    }
    Ok(())
}

/// Whether some system call is answered by the host.
fn asks_the_host(policy: &Policy) -> bool {
    in_force(policy, Stage::Load).flat_map(|set| &set.rules).any(|rule| rule.answer == Answer::Host)
}

/// The sets of a stage. What is allowed for ever is allowed while loading, so that the Run program, installed on top of
/// the Load program, never promises what the other refuses.
pub(crate) fn in_force(policy: &Policy, stage: Stage) -> impl Iterator<Item = &SyscallSet> {
    policy.sets.iter().filter(move |set| {
        let in_stage = set.stage == Stage::Run || stage == Stage::Load;
        let granted = |granted: Granted| match granted {
            Granted::Network => !policy.connects.is_empty() || !policy.listens.is_empty(),
            Granted::Listen => !policy.listens.is_empty(),
            Granted::Spawn => !policy.programs.is_empty(),
            _ => policy.files.iter().any(|file| granted.is_given(file.access, file.create, file.delete)),
        };
        in_stage && set.runtimes.contains(&policy.runtime) && set.when.is_none_or(granted)
    })
}

/// `asked` is what a call meets that the host answers, `watched` are calls that it is asked about although they are allowed.
fn make(
    arch: Arch,
    rules: &[&Rule],
    default: Action,
    asked: Action,
    watched: &[&str],
) -> Result<Filter, PolicyError> {
    let mut table = Table::new();
    for rule in rules {
        let known = rule.names.iter().filter_map(|name| Some((name.as_str(), syscall_number(arch, name)?)));
        for (name, number) in known {
            let action = match rule.answer {
                Answer::Allow if watched.contains(&name) => Action::Notify,
                Answer::Allow => Action::Allow,
                Answer::Errno(_, number) => Action::Errno(number),
                Answer::Host => asked,
                Answer::Worker => Action::Trap,
            };
            table.entry(number).or_default().push(Alternative { conditions: &rule.conditions, action });
        }
    }
    // Where one set allows what another answers by an errno, the call is allowed; the sort is stable.
    table.values_mut().for_each(|alternatives| alternatives.sort_by_key(|alternative| alternative.action));
    assemble(arch, &table, default).map_err(|error| PolicyError::Inexpressible {
        what: error.to_string(),
        advice: "name fewer syscall sets in the profile".to_owned(),
    })
}
