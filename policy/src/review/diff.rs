//! Two profiles compared by what they grant, not by how they are written.

use std::fmt;

use hotcell_protocol::{Launch, Limits, Runtime};
use serde_json::json;

use super::calls::{Asking, Rules, Source, allowing, answering, terms_of, written, written_call};
use super::inclusion::{Call, outside};
use crate::compile::{namespace_name, rule_text};
use crate::error::runtime_name;
use crate::policy::{ConnectGrant, FileGrant, ProgramGrant, rights};
use crate::profile::{
    AuditLimit, ConnectRule, FileRule, HostCallRule, ListenRule, Profile, Reasons, SpawnRule,
    written as written_limits,
};
use crate::seccomp::Stage;
use crate::{Controller, GrantPath, Policy};

/// Whether a difference gives a plugin more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The new profile grants something that the old one does not.
    Widens,
    /// The new profile grants less, and nothing more.
    Narrows,
    /// Neither: only words, or what a refused call meets.
    Same,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mark::Widens => "WIDENS",
            Mark::Narrows => "NARROWS",
            Mark::Same => "SAME",
        })
    }
}

/// One difference between two profiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Whether it gives more.
    pub mark: Mark,
    /// The runtimes for which it holds.
    pub runtimes: Vec<Runtime>,
    /// What it is about: `runtime`, `signature`, `audit`, `launch`, `landlock`, `namespace`, `cgroup`, `limit`, `file`, `host-call`, `connect` or `syscall`.
    pub topic: &'static str,
    /// The difference in words.
    pub text: String,
    /// For a system call: its name and one call that only one of the profiles allows.
    pub witness: Option<(String, Call)>,
}

impl Difference {
    fn new(mark: Mark, topic: &'static str, text: impl Into<String>) -> Difference {
        Difference { mark, runtimes: Vec::new(), topic, text: text.into(), witness: None }
    }

    /// The difference as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let witness = self
            .witness
            .as_ref()
            .map(|(name, call)| json!({ "syscall": name, "args": call.args, "self-pid": call.pid }));
        json!({
            "mark": self.mark.to_string().to_lowercase(),
            "runtimes": self.runtimes.iter().map(|runtime| runtime_name(*runtime)).collect::<Vec<_>>(),
            "topic": self.topic,
            "text": self.text,
            "witness": witness,
        })
    }
}

/// One line: mark, runtimes, topic, text.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtimes: Vec<_> = self.runtimes.iter().map(|runtime| runtime_name(*runtime)).collect();
        write!(f, "{:<7}  {:<14}  {:<9} {}", self.mark, runtimes.join(","), self.topic, self.text)
    }
}

/// Every difference between two profiles. Nothing [widens](Mark::Widens) if and only if whatever a plugin may get under
/// the new one it may get under the old one too.
///
/// System calls are compared by which calls with which arguments are allowed at which stage, for every way in which a
/// plugin may ask for files; files by path and rights.
pub fn diff(old: &Profile, new: &Profile) -> Vec<Difference> {
    let mut all: Vec<Difference> = Vec::new();
    for runtime in [Runtime::Native, Runtime::Core, Runtime::Component, Runtime::Command] {
        let found = match (Policy::widest(old, runtime), Policy::widest(new, runtime)) {
            (Ok(was), Ok(is)) => between(old, new, &was, &is),
            (Err(_), Ok(_)) => vec![Difference::new(
                Mark::Widens,
                "runtime",
                "granted, with all that the profile grants to it",
            )],
            (Ok(_), Err(_)) => vec![Difference::new(Mark::Narrows, "runtime", "no longer granted")],
            (Err(_), Err(_)) => Vec::new(),
        };
        for difference in found {
            let same = |known: &&mut Difference| {
                Difference { runtimes: Vec::new(), ..(**known).clone() } == difference
            };
            match all.iter_mut().find(same) {
                Some(known) => known.runtimes.push(runtime),
                None => all.push(Difference { runtimes: vec![runtime], ..difference }),
            }
        }
    }
    all
}

fn between(old: &Profile, new: &Profile, was: &Policy, is: &Policy) -> Vec<Difference> {
    let mut all = Vec::new();
    all.extend(signature(old.requires_signature, new.requires_signature));
    all.extend(audit(old.audit, new.audit));
    all.extend(launch(was.launch.0, is.launch.0));
    all.extend(observe(old.observes.is_some(), new.observes.is_some()));
    all.extend(debug(old.debuggable.is_some(), new.debuggable.is_some()));
    all.extend(reports(old.reports_inputs, new.reports_inputs));
    all.extend(exceptions(was.exceptions.is_some(), is.exceptions.is_some()));
    all.extend(landlock(was.landlock, is.landlock));
    all.extend(namespaces(was, is));
    all.extend(cgroups(was, is));
    all.extend(limits(&was.limits, &is.limits));
    all.extend(files(&old.files, &new.files));
    all.extend(host_calls(&old.host_calls, &new.host_calls));
    all.extend(connects(&old.connects, &new.connects));
    all.extend(listens(&old.listens, &new.listens));
    all.extend(spawns(&old.spawns, &new.spawns));
    all.extend(syscalls(was, is));
    all
}

fn signature(was: bool, is: bool) -> Option<Difference> {
    let (mark, text) = match (was, is) {
        (true, false) => {
            (Mark::Widens, "not required any more: whoever can write the package says what runs")
        }
        (false, true) => (Mark::Narrows, "required"),
        _ => return None,
    };
    Some(Difference::new(mark, "signature", text))
}

fn observe(was: bool, is: bool) -> Option<Difference> {
    let text = match (was, is) {
        (false, true) => "the host reads the paths of native plugins; they may do what they could before",
        (true, false) => "no longer",
        _ => return None,
    };
    Some(Difference::new(Mark::Same, "observe", text))
}

fn debug(was: bool, is: bool) -> Option<Difference> {
    let text = match (was, is) {
        (false, true) => "debuggers may attach to native plugins, which may do what they could before",
        (true, false) => "no debuggers any more",
        _ => return None,
    };
    Some(Difference::new(Mark::Same, "debug", text))
}

fn reports(was: bool, is: bool) -> Option<Difference> {
    let text = match (was, is) {
        (false, true) => {
            "reports of crashes hold the beginnings of inputs; the plugin may do what it could before"
        }
        (true, false) => "without inputs",
        _ => return None,
    };
    Some(Difference::new(Mark::Same, "reports", text))
}

fn exceptions(was: bool, is: bool) -> Option<Difference> {
    let (mark, text) = match (was, is) {
        (false, true) => {
            (Mark::Widens, "modules may use exceptions, and reach the collector of what is thrown")
        }
        (true, false) => (Mark::Narrows, "no exceptions any more"),
        _ => return None,
    };
    Some(Difference::new(mark, "wasm", text))
}

fn audit(was: Option<AuditLimit>, is: Option<AuditLimit>) -> Option<Difference> {
    let name =
        |limit| AuditLimit::ALL.into_iter().find(|(_, known)| *known == limit).map_or("", |(name, _)| name);
    let (mark, text) = match (was, is) {
        (Some(was), None) => {
            (Mark::Widens, format!("from `{}` on refused a load, and none is made any more", name(was)))
        }
        (None, Some(is)) => (Mark::Narrows, format!("from `{}` on refuses a load", name(is))),
        (Some(was), Some(is)) if was != is => {
            let mark = if is > was { Mark::Widens } else { Mark::Narrows };
            (mark, format!("from `{}` -> `{}` on refuses a load", name(was), name(is)))
        }
        _ => return None,
    };
    Some(Difference::new(mark, "audit", text))
}

fn launch(was: Launch, is: Launch) -> Option<Difference> {
    let (mark, text) = match (was, is) {
        (Launch::Exec, Launch::Fork) => {
            (Mark::Widens, "exec -> fork: one address layout for every copy, which one of them may learn")
        }
        (Launch::Fork, Launch::Exec) => (Mark::Narrows, "fork -> exec"),
        (Launch::Fork, Launch::Fork) | (Launch::Exec, Launch::Exec) => return None,
    };
    Some(Difference::new(mark, "launch", text))
}

fn landlock(was: u32, is: u32) -> Option<Difference> {
    let mark = if is < was { Mark::Widens } else { Mark::Narrows };
    (was != is).then(|| Difference::new(mark, "landlock", format!("at least ABI {was} -> {is}")))
}

fn namespaces(was: &Policy, is: &Policy) -> Vec<Difference> {
    let has = |policy: &Policy, wanted| policy.namespaces.iter().any(|(known, _)| *known == wanted);
    let only = |one: &Policy, other: &Policy, mark, word: &str| {
        let missing = one.namespaces.iter().filter(|(namespace, _)| !has(other, *namespace));
        let texts = missing.map(|(namespace, _)| format!("{} {word}", namespace_name(*namespace)));
        texts.map(|text| Difference::new(mark, "namespace", text)).collect::<Vec<_>>()
    };
    let mut all = only(was, is, Mark::Widens, "is the host's, and was one apart");
    all.extend(only(is, was, Mark::Narrows, "is one apart, and was the host's"));
    all
}

fn cgroups(was: &Policy, is: &Policy) -> Vec<Difference> {
    let has = |policy: &Policy, wanted| policy.cgroups.iter().any(|(known, _)| *known == wanted);
    let change = |controller: Controller| {
        let (mark, word) = match (has(was, controller), has(is, controller)) {
            (true, false) => (Mark::Widens, "is not bounded by a cgroup any more"),
            (false, true) => (Mark::Narrows, "is bounded by a cgroup"),
            _ => return None,
        };
        Some(Difference::new(mark, "cgroup", format!("{} {word}", controller.name())))
    };
    Controller::ALL.into_iter().filter_map(change).collect()
}

/// Every limit as a number, in the order of [`written_limits`].
pub(super) fn limit_values(limits: &Limits) -> [u64; 15] {
    // Without `..`: a limit that is added must be compared.
    let Limits {
        memory,
        cpu_ms,
        cpu_share,
        start_ms,
        call_ms,
        message,
        outstanding,
        instances,
        state,
        open_files,
        processes,
        threads,
        file_size,
        disk,
        log_rate,
    } = *limits;
    let counts = [outstanding, instances, open_files, processes, threads].map(u64::from);
    let [outstanding, instances, open_files, processes, threads] = counts;
    [
        memory,
        cpu_ms,
        u64::from(cpu_share),
        start_ms,
        call_ms,
        message,
        outstanding,
        instances,
        state,
        open_files,
        processes,
        threads,
        file_size,
        disk,
        log_rate,
    ]
}

fn limits(was: &Limits, is: &Limits) -> Vec<Difference> {
    let mut all = Vec::new();
    let texts = written_limits(was).into_iter().zip(written_limits(is));
    let values = limit_values(was).into_iter().zip(limit_values(is));
    for (((name, was), (_, is)), (old, new)) in texts.zip(values).filter(|(_, (old, new))| old != new) {
        let mark = if new > old { Mark::Widens } else { Mark::Narrows };
        all.push(Difference::new(mark, "limit", format!("{name} {was} -> {is}")));
    }
    all
}

/// By request: whatever one new grant is enough for must be covered by one old grant.
fn files(was: &[FileRule], is: &[FileRule]) -> Vec<Difference> {
    let mut all = Vec::new();
    let uncovered = |rule: &FileRule, others: &[FileRule]| {
        let most = FileGrant::of_rule(rule);
        !others.iter().any(|other| most.is_covered_by(other))
    };
    let words = |rule: &FileRule| rights(&FileGrant::of_rule(rule));
    for rule in is.iter().filter(|rule| uncovered(rule, was)) {
        let before = was.iter().find(|other| other.path == rule.path);
        let before = before.map_or(String::new(), |other| format!(" (was: {})", words(other)));
        all.push(Difference::new(Mark::Widens, "file", format!("{} {}{before}", words(rule), rule.path)));
    }
    for rule in was.iter().filter(|rule| uncovered(rule, is)) {
        let after = is.iter().find(|other| other.path == rule.path);
        if after.is_some_and(|after| uncovered(after, was)) {
            continue;
        }
        let after = after.map_or("no longer".to_owned(), |after| format!("now: {}", words(after)));
        all.push(Difference::new(Mark::Narrows, "file", format!("{} {} ({after})", words(rule), rule.path)));
    }
    for rule in is {
        let same = |other: &&FileRule| other.path == rule.path && words(other) == words(rule);
        let before = was.iter().find(same).map(|before| &before.reasons);
        all.extend(reasons("file", format!("{} {}", words(rule), rule.path), before, &rule.reasons));
    }
    all
}

fn host_calls(was: &[HostCallRule], is: &[HostCallRule]) -> Vec<Difference> {
    let find = |rules: &'_ [HostCallRule], rule: &HostCallRule| {
        rules.iter().find(|other| other.name == rule.name).map(|other| other.reasons.clone())
    };
    let mut all = Vec::new();
    for rule in is {
        match find(was, rule) {
            None => all.push(Difference::new(Mark::Widens, "host-call", rule.name.to_string())),
            Some(before) => {
                all.extend(reasons("host-call", rule.name.to_string(), Some(&before), &rule.reasons))
            }
        }
    }
    let gone = was.iter().filter(|rule| find(is, rule).is_none());
    all.extend(
        gone.map(|rule| Difference::new(Mark::Narrows, "host-call", format!("{} (no longer)", rule.name))),
    );
    all
}

fn connects(was: &[ConnectRule], is: &[ConnectRule]) -> Vec<Difference> {
    let find = |rules: &'_ [ConnectRule], rule: &ConnectRule| {
        rules.iter().find(|other| other.address == rule.address).cloned()
    };
    let words = |rule: &ConnectRule| ConnectGrant::of_rule(rule).0.words();
    let mut all = Vec::new();
    for rule in is {
        let before = find(was, rule);
        match &before {
            Some(before) if before.private == rule.private => {}
            Some(before) => {
                let mark = if rule.private { Mark::Widens } else { Mark::Narrows };
                let text = format!("{} (before: {})", words(rule), words(before));
                all.push(Difference::new(mark, "connect", text));
            }
            None => all.push(Difference::new(Mark::Widens, "connect", words(rule))),
        }
        let before = before.map(|before| before.reasons);
        all.extend(reasons("connect", rule.address.to_string(), before.as_ref(), &rule.reasons));
    }
    let gone = was.iter().filter(|rule| find(is, rule).is_none());
    all.extend(
        gone.map(|rule| Difference::new(Mark::Narrows, "connect", format!("{} (no longer)", rule.address))),
    );
    all
}

fn listens(was: &[ListenRule], is: &[ListenRule]) -> Vec<Difference> {
    let find = |rules: &'_ [ListenRule], rule: &ListenRule| {
        rules.iter().find(|other| other.address == rule.address).map(|other| other.reasons.clone())
    };
    let mut all = Vec::new();
    for rule in is {
        let address = rule.address.to_string();
        match find(was, rule) {
            None => all.push(Difference::new(Mark::Widens, "listen", address)),
            Some(before) => all.extend(reasons("listen", address, Some(&before), &rule.reasons)),
        }
    }
    let gone = was.iter().filter(|rule| find(is, rule).is_none());
    all.extend(
        gone.map(|rule| Difference::new(Mark::Narrows, "listen", format!("{} (no longer)", rule.address))),
    );
    all
}

fn spawns(was: &[SpawnRule], is: &[SpawnRule]) -> Vec<Difference> {
    let find = |rules: &'_ [SpawnRule], rule: &SpawnRule| {
        rules.iter().find(|other| other.program == rule.program).cloned()
    };
    let words = |rule: &SpawnRule| ProgramGrant::of_rule(rule).words();
    let less = |rule: &SpawnRule, other: &SpawnRule| {
        let covered = |path: &GrantPath| other.code.iter().any(|wider| wider.covers(path));
        rule.code.iter().all(covered)
    };
    let mut all = Vec::new();
    for rule in is {
        let before = find(was, rule);
        match &before {
            None => all.push(Difference::new(Mark::Widens, "spawn", words(rule))),
            Some(before) if before.code == rule.code => {}
            Some(before) => {
                let mark = if less(rule, before) { Mark::Narrows } else { Mark::Widens };
                all.push(Difference::new(
                    mark,
                    "spawn",
                    format!("{} (before: {})", words(rule), words(before)),
                ));
            }
        }
        let before = before.map(|before| before.reasons);
        all.extend(reasons("spawn", rule.program.to_string(), before.as_ref(), &rule.reasons));
    }
    let gone = was.iter().filter(|rule| find(is, rule).is_none());
    all.extend(
        gone.map(|rule| Difference::new(Mark::Narrows, "spawn", format!("{} (no longer)", rule.program))),
    );
    all
}

/// A grant whose words differ.
fn reasons(topic: &'static str, grant: String, was: Option<&Reasons>, is: &Reasons) -> Option<Difference> {
    let was = was?;
    let changed = [("why", was.why != is.why), ("risk", was.risk != is.risk)];
    let changed: Vec<_> =
        changed.iter().filter(|(_, changed)| *changed).map(|(key, _)| format!("`{key}`")).collect();
    let text = format!("{grant}: another {}", changed.join(" and "));
    (!changed.is_empty()).then(|| Difference::new(Mark::Same, topic, text))
}

/// What a policy does with calls, for one way of asking for files.
struct Calls<'p> {
    load: Rules<'p>,
    run: Rules<'p>,
    answered: Rules<'p>,
}

impl<'p> Calls<'p> {
    fn of(policy: &'p Policy) -> Calls<'p> {
        Calls {
            load: allowing(policy, Stage::Load),
            run: allowing(policy, Stage::Run),
            answered: answering(policy, Stage::Load),
        }
    }

    fn rules<'c>(&'c self, stage: Stage, name: &str) -> &'c [Source<'p>] {
        let rules = match stage {
            Stage::Load => &self.load,
            Stage::Run => &self.run,
        };
        rules.get(name).map_or(&[], Vec::as_slice)
    }
}

fn syscalls(was: &Policy, is: &Policy) -> Vec<Difference> {
    let policies: Vec<_> = [(true, true), (true, false), (false, true), (false, false)]
        .iter()
        .flat_map(|(connects, listens)| Asking::WAYS.map(|way| (way, *connects, *listens)))
        .map(|(way, connects, listens)| {
            let of = |widest| Asking::of(way, connects, listens, widest);
            (of(was), of(is), Asking::words(way, connects, listens))
        })
        .collect();
    let ways: Vec<_> =
        policies.iter().map(|(was, is, words)| (Calls::of(was), Calls::of(is), words)).collect();
    let Some((was, is, _)) = ways.first() else { return Vec::new() };
    let names = |one: &Calls<'_>| one.load.keys().copied().map(str::to_owned).collect::<Vec<_>>();
    let mut all_names: Vec<String> = names(was).into_iter().chain(names(is)).collect();
    all_names.sort_unstable();
    all_names.dedup();
    let mut all = Vec::new();
    for stage in [Stage::Run, Stage::Load] {
        for name in &all_names {
            // The first way in which more is allowed, else the first in which less is.
            let found = |mark| {
                let mut found =
                    ways.iter().filter_map(|(was, is, words)| call(mark, stage, name, was, is, words));
                found.next()
            };
            all.extend(found(Mark::Widens).or_else(|| found(Mark::Narrows)));
        }
    }
    all.extend(answers(was, is));
    all
}

/// How one call differs at one stage. What is allowed for ever is allowed while loading too, and is said once.
fn call(
    mark: Mark,
    stage: Stage,
    name: &str,
    was: &Calls<'_>,
    is: &Calls<'_>,
    words: &str,
) -> Option<Difference> {
    let (more, less) = if mark == Mark::Widens { (is, was) } else { (was, is) };
    let said = if stage == Stage::Load { more.rules(Stage::Run, name) } else { &[] };
    let covered = || less.rules(stage, name).iter().chain(said);
    let only = |source: &&Source<'_>| {
        !covered().any(|known| known == *source)
            && outside(&terms_of([*source]), &terms_of(covered())).is_some()
    };
    let sources: Vec<&Source<'_>> = more.rules(stage, name).iter().filter(only).collect();
    let witness = outside(&terms_of(sources.iter().copied()), &terms_of(covered()))?;
    let word = if mark == Mark::Widens { "" } else { "no longer " };
    let stage = match stage {
        Stage::Load => "load",
        Stage::Run => "run ",
    };
    let conditional =
        sources.iter().copied().chain(covered()).any(|source| !source.rule.conditions.is_empty());
    let such_as = written_call(name, &witness, sources.iter().copied().chain(covered()));
    let such_as = if conditional { format!(", such as {such_as}") } else { String::new() };
    let text = format!("{stage} {word}{}{such_as}{words}", written(name, &sources));
    Some(Difference { witness: Some((name.to_owned(), witness)), ..Difference::new(mark, "syscall", text) })
}

/// Refused calls that meet another answer than before.
fn answers(was: &Calls<'_>, is: &Calls<'_>) -> Vec<Difference> {
    let texts = |calls: &Calls<'_>| -> Vec<String> {
        let each = calls
            .answered
            .iter()
            .flat_map(|(name, sources)| sources.iter().map(move |source| (name, source)));
        each.map(|(name, source)| format!("{} by set {}", rule_text(name, source.rule), source.set.name))
            .collect()
    };
    let (was, is) = (texts(was), texts(is));
    let only = |one: &[String], other: &[String], word: &str| {
        let missing = one.iter().filter(|text| !other.contains(text)).map(|text| format!("{text}{word}"));
        missing.map(|text| Difference::new(Mark::Same, "syscall", text)).collect::<Vec<_>>()
    };
    let mut all = only(&is, &was, "");
    all.extend(only(&was, &is, " (no longer)"));
    all
}
