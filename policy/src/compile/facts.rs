//! The plan in words: each order with the line of a profile or set that it comes from.

use hotcell_protocol::{Launch, Namespace, Orders, Resource, Rlimit, Runtime};

use super::process::namespace_name;
use super::{absent, filters, landlock, rlimits};
use crate::error::runtime_name;
use crate::plan::{CgroupLimit, Fact, Programs, Topic};
use crate::policy::{BUILT_IN, rights};
use crate::profile::written;
use crate::render::word;
use crate::seccomp::{Action, Answer, Rule, Stage, SyscallSet, syscall_number};
use crate::units::{Share, Size};
use crate::{Arch, Controller, Platform, Policy};

pub(super) fn write(
    policy: &Policy,
    platform: &Platform,
    orders: &Orders,
    cgroups: &[CgroupLimit],
    programs: Option<&Programs>,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    head(&mut facts, policy, platform);
    limits(&mut facts, policy);
    rlimit_facts(&mut facts, policy, platform);
    cgroup_facts(&mut facts, policy, cgroups);
    process(&mut facts, policy, orders);
    landlock_facts(&mut facts, policy, orders);
    for (file, source) in orders.files.iter().zip(policy.files.iter().map(|file| &file.source)) {
        add(&mut facts, Topic::File, format!("the guest sees it as {}", file.guest), source.clone());
    }
    if orders.folder.is_some() {
        for file in policy.files.iter().filter(|file| file.is_root) {
            add(&mut facts, Topic::File, format!("relative paths are in {}", file.path), file.source.clone());
        }
    }
    for (grant, source) in &policy.connects {
        add(&mut facts, Topic::Connect, grant.words(), source.clone());
    }
    for (address, source) in &policy.listens {
        add(&mut facts, Topic::Listen, address.to_string(), source.clone());
    }
    program_facts(&mut facts, policy, programs, platform.arch);
    for (name, source) in &policy.host_calls {
        add(&mut facts, Topic::HostCall, name.to_string(), source.clone());
    }
    syscalls(&mut facts, policy, platform.arch);
    for line in absent::lines(policy, platform) {
        add(&mut facts, Topic::Absent, line, BUILT_IN.to_owned());
    }
    facts
}

/// The programs, and in what their confinement differs from the plugin's.
fn program_facts(facts: &mut Vec<Fact>, policy: &Policy, programs: Option<&Programs>, arch: Arch) {
    let Some(Programs { granted, orders, .. }) = programs else { return };
    for grant in granted {
        add(facts, Topic::Spawn, grant.words(), grant.source.clone());
    }
    let mut own = Vec::new();
    let policy = policy.of_programs();
    landlock_facts(&mut own, &policy, orders);
    syscalls(&mut own, &policy, arch);
    let line = |fact: Fact| Fact {
        topic: Topic::Spawn,
        text: format!("its {} {}", word(fact.topic), fact.text),
        source: fact.source,
    };
    facts.extend(own.into_iter().map(line));
}

fn add(facts: &mut Vec<Fact>, topic: Topic, text: impl Into<String>, source: impl Into<String>) {
    facts.push(Fact { topic, text: text.into(), source: source.into() });
}

fn head(facts: &mut Vec<Fact>, policy: &Policy, platform: &Platform) {
    let user = if platform.root { "root" } else { "an ordinary user" };
    let (major, minor) = platform.kernel;
    let machine = format!(
        "{}, Landlock ABI {}, Linux {major}.{minor}, host run by {user}",
        platform.arch, platform.landlock_abi
    );
    add(facts, Topic::Plan, format!("plugin {}", policy.plugin), "manifest");
    add(facts, Topic::Plan, format!("profile {}", policy.profile), "manifest");
    add(facts, Topic::Plan, format!("runtime {}", runtime_name(policy.runtime)), "manifest");
    if let Some(source) = &policy.exceptions {
        add(facts, Topic::Plan, "WebAssembly exceptions", source.clone());
    }
    add(facts, Topic::Plan, format!("platform {machine}"), "platform");
}

fn limits(facts: &mut Vec<Fact>, policy: &Policy) {
    for (name, value) in written(&policy.limits) {
        let narrowed = policy.narrowed.iter().find(|(narrowed, _)| *narrowed == name);
        let source = narrowed.map_or_else(|| limit_source(policy, name), |(_, place)| place.clone());
        add(facts, Topic::Limit, format!("{name} {value}"), source);
    }
}

fn limit_source(policy: &Policy, name: &str) -> String {
    format!("{} [limits] {name}", policy.limits_source)
}

fn rlimit_facts(facts: &mut Vec<Fact>, policy: &Policy, platform: &Platform) {
    for (rlimit, source) in rlimits::compile(policy, platform) {
        let source = source.map_or_else(|| BUILT_IN.to_owned(), |name| limit_source(policy, name));
        add(facts, Topic::Rlimit, rlimit_text(rlimit), source);
    }
}

fn rlimit_text(Rlimit { resource, value }: Rlimit) -> String {
    let size = |name| format!("{name} {}", Size(value));
    match resource {
        Resource::AddressSpace => size("address-space"),
        Resource::Data => size("data"),
        Resource::Stack => size("stack"),
        Resource::FileSize => size("file-size"),
        Resource::Core => size("core"),
        Resource::MemLock => size("locked-memory"),
        Resource::MsgQueue => size("message-queues"),
        Resource::Cpu => format!("cpu {value} s"),
        Resource::NoFile => format!("open-files {value}"),
        Resource::NProc => format!("processes {value}"),
        Resource::Nice => format!("nice {value}"),
        Resource::RtPrio => format!("realtime-priority {value}"),
        Resource::RtTime => format!("realtime-time {value}"),
        Resource::SigPending => format!("pending-signals {value}"),
        Resource::Locks => format!("locks {value}"),
    }
}

fn cgroup_facts(facts: &mut Vec<Fact>, policy: &Policy, cgroups: &[CgroupLimit]) {
    for CgroupLimit { controller, value } in cgroups {
        let text = match controller {
            Controller::Memory => format!("memory {}, swap included", Size(*value)),
            Controller::Pids => format!("pids {value}"),
            Controller::Cpu => {
                format!("cpu {} of a processor", Share(u32::try_from(*value).unwrap_or(u32::MAX)))
            }
        };
        let asked = policy.cgroups.iter().find(|(known, _)| known == controller);
        let source = asked.map_or_else(String::new, |(_, profile)| format!("{profile} cgroups"));
        add(facts, Topic::Cgroup, text, source);
    }
}

fn process(facts: &mut Vec<Fact>, policy: &Policy, orders: &Orders) {
    let (launch, source) = &policy.launch;
    let text = match launch {
        Launch::Fork => "a copy of the launcher, with the address layout of every other copy",
        Launch::Exec => "a program executed afresh, with an address layout of its own",
    };
    add(facts, Topic::Process, text, source.clone());
    for namespace in &orders.namespaces {
        let words = match namespace {
            Namespace::Mount => {
                "a file tree of the worker's own: the granted paths, and nothing else".to_owned()
            }
            shared => {
                let name = namespace_name(*shared);
                format!("a {name} namespace apart from the host's, shared with other workers")
            }
        };
        let asked = policy.namespaces.iter().find(|(known, _)| known == namespace);
        let source = match (asked, namespace) {
            (Some((_, profile)), _) => format!("{profile} namespaces"),
            (None, Namespace::User) => "needed for the others by an ordinary user".to_owned(),
            (None, _) => BUILT_IN.to_owned(),
        };
        add(facts, Topic::Process, words, source);
    }
    if let Some(source) = &policy.observes {
        let text = "observed: the host reads the paths of what is opened, made, removed and renamed";
        add(facts, Topic::Process, text, source.clone());
    }
    if let Some(source) = &policy.debuggable {
        let text = "debuggers may attach, as the user of the host";
        add(facts, Topic::Process, text, source.clone());
    }
    let uid =
        if orders.distinct_uid { "a uid and gid of the plugin's own" } else { "the user's uid and gid" };
    let dumpable = if orders.dumpable { "dumpable" } else { "not dumpable" };
    for text in [uid, "no groups, no capabilities, no new privileges", dumpable] {
        add(facts, Topic::Process, text, BUILT_IN);
    }
}

fn landlock_facts(facts: &mut Vec<Fact>, policy: &Policy, orders: &Orders) {
    let abi = orders.landlock.abi;
    let pinned = format!("{} landlock = {}", policy.profile, policy.landlock);
    add(facts, Topic::Landlock, format!("ABI {abi}: every right that it has is denied, but for"), pinned);
    for (rule, file) in orders.landlock.rules.iter().zip(&policy.files) {
        let names: Vec<_> = landlock::RIGHTS
            .iter()
            .filter(|(_, bit, _)| rule.access & bit != 0)
            .map(|(name, _, _)| *name)
            .collect();
        let text = format!("{} {} ({})", rights(file), file.path, names.join(" "));
        add(facts, Topic::Landlock, text, file.source.clone());
    }
    for (path, source) in landlock::code(policy) {
        add(facts, Topic::Landlock, format!("execute, read {path} (execute read-file read-dir)"), source);
    }
    if orders.landlock.rules.is_empty() {
        add(facts, Topic::Landlock, "nothing", BUILT_IN);
    }
}

fn syscalls(facts: &mut Vec<Fact>, policy: &Policy, arch: Arch) {
    for stage in [Stage::Run, Stage::Load] {
        for set in filters::in_force(policy, Stage::Load).filter(|set| set.stage == stage) {
            set_facts(facts, set, arch);
        }
    }
    let (load, run) = everything_else(policy.runtime);
    add(facts, Topic::Syscall, format!("load everything else {load}"), BUILT_IN);
    if let Some(run) = run {
        add(facts, Topic::Syscall, format!("run  everything else {run}"), BUILT_IN);
    }
    add(facts, Topic::Syscall, "always another architecture's entry: the process ends by SIGSYS", BUILT_IN);
}

fn set_facts(facts: &mut Vec<Fact>, set: &SyscallSet, arch: Arch) {
    let stage = match set.stage {
        Stage::Load => "load",
        Stage::Run => "run ",
    };
    for rule in &set.rules {
        for name in rule.names.iter().filter(|name| syscall_number(arch, name).is_some()) {
            add(
                facts,
                Topic::Syscall,
                format!("{stage} {}", rule_text(name, rule)),
                format!("set {}", set.name),
            );
        }
    }
}

pub(crate) fn rule_text(name: &str, rule: &Rule) -> String {
    let conditions: Vec<_> = rule.conditions.iter().map(ToString::to_string).collect();
    let conditions =
        if conditions.is_empty() { String::new() } else { format!("({})", conditions.join(", ")) };
    match rule.answer {
        Answer::Allow => format!("{name}{conditions}"),
        Answer::Errno(errno, _) => format!("{name}{conditions} fails with {errno}"),
        Answer::Host => format!("{name}{conditions} is answered by the host"),
        Answer::Worker => format!("{name}{conditions} is answered by the worker, which asks the host"),
    }
}

/// What happens outside the sets, while loading and afterwards.
pub(crate) fn everything_else(runtime: Runtime) -> (&'static str, Option<&'static str>) {
    let word = |action| match action {
        Action::Notify => "fails with EPERM, and the host records it",
        Action::KillProcess => "ends the process by SIGSYS",
        Action::Errno(_) | Action::Trap | Action::Allow => "fails with EPERM",
    };
    let run = word(filters::run_default(runtime));
    match runtime {
        Runtime::Native | Runtime::Program => (run, Some(run)),
        Runtime::Compiler => (run, None),
        Runtime::Core | Runtime::Component | Runtime::Command => ("fails with EPERM", Some(run)),
    }
}
