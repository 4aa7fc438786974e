//! Whether a profile allows one thing: by which grant, or refused by what, and which line would allow it.

use std::fmt;

use hotcell_protocol::{FileAccess, Runtime};
use serde_json::json;

use super::calls::{Source, allowing, answering, terms_of};
use super::inclusion::{Term, meets, outside, terms};
use crate::compile::{everything_else, rule_text};
use crate::error::runtime_name;
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress};
use crate::policy::{
    ConnectGrant, FileGrant, ProgramGrant, connect_line, grant_line, listen_grant, listen_line,
    no_connections, rights, spawn_line,
};
use crate::profile::{LANDLOCK_FOR_FILES, PROGRAM_SETS, Profile, Reasons, connection_set, listening_set};
use crate::seccomp::{Answer, Granted, Rule, Stage, SyscallSet, is_syscall};
use crate::{Policy, PolicyError};

/// What somebody wants to know of a profile.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A system call, with those of its arguments that are given.
    Syscall {
        /// Its name.
        name: String,
        /// What is known of the arguments.
        args: Vec<(u8, Argument)>,
    },
    /// A path and what is below it.
    Path {
        /// The path, as a grant writes it.
        path: GrantPath,
        /// What is done there.
        access: Access,
    },
    /// A host call.
    HostCall(HostCallName),
    /// A connection.
    Connect(HostPort),
    /// Connections from others.
    Listen(ListenAddress),
    /// A program that the host runs for the plugin.
    Program(GrantPath),
}

/// The value of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A number.
    Value(u64),
    /// The worker's own process id.
    SelfPid,
}

/// What is done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Files are read and folders listed.
    Read,
    /// Files that exist are written.
    Write,
    /// Files and folders are made.
    Create,
    /// Files and folders are removed or renamed.
    Delete,
}

/// Why a question cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// No architecture has a system call of this name.
    #[error("no architecture has a system call `{0}`")]
    NoSuchCall(String),
    /// An argument is given twice, or there is no argument of this index.
    #[error("argument {0} is given twice, or is none of 0 to 5")]
    Argument(u8),
    /// The profile is not for this runtime.
    #[error(transparent)]
    Runtime(#[from] PolicyError),
}

/// Whether something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever the arguments that the question leaves open.
    Allowed,
    /// For some of them.
    Depends,
    /// For none of them.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Allowed => "allowed",
            Verdict::Depends => "depends",
            Verdict::Refused => "refused",
        })
    }
}

/// The answer for one runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The runtime.
    pub runtime: Runtime,
    /// Whether it is allowed once the plugin runs.
    pub verdict: Verdict,
    /// The answer for each stage.
    pub stages: Vec<StageAnswer>,
    /// What would allow it, or that nothing can; empty where it is allowed.
    pub advice: Vec<String>,
}

/// The answer for one stage of a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct StageAnswer {
    /// `load`, `run`, or `always` for both.
    pub stage: &'static str,
    /// Whether it is allowed.
    pub verdict: Verdict,
    /// By what, or refused by what.
    pub grounds: Vec<Ground>,
}

/// A reason for an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    /// The rule, the grant, or what a refused attempt meets.
    pub text: String,
    /// The `why` of the rule or grant.
    pub why: Option<String>,
    /// The `risk` of the grant.
    pub risk: Option<String>,
}

impl Ground {
    fn new(text: impl Into<String>) -> Ground {
        Ground { text: text.into(), why: None, risk: None }
    }

    fn granted(text: String, reasons: &Reasons) -> Ground {
        Ground { text, why: Some(reasons.why.clone()), risk: reasons.risk.clone() }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "text": self.text, "why": self.why, "risk": self.risk })
    }
}

impl Explanation {
    /// The answer as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let stages = self.stages.iter().map(|answer| {
            json!({
                "stage": answer.stage,
                "verdict": answer.verdict.to_string(),
                "grounds": answer.grounds.iter().map(Ground::to_json).collect::<Vec<_>>(),
            })
        });
        json!({
            "runtime": runtime_name(self.runtime),
            "verdict": self.verdict.to_string(),
            "stages": stages.collect::<Vec<_>>(),
            "advice": self.advice,
        })
    }
}

/// A line for the runtime, one for each stage with its grounds, and one for each piece of advice.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", runtime_name(self.runtime), self.verdict)?;
        for answer in &self.stages {
            for (index, ground) in answer.grounds.iter().enumerate() {
                let head =
                    if index == 0 { (answer.stage, answer.verdict.to_string()) } else { ("", String::new()) };
                write!(f, "\n  {:<7} {:<8} {}", head.0, head.1, ground.text)?;
                for (key, text) in [("why", &ground.why), ("risk", &ground.risk)] {
                    if let Some(text) = text {
                        write!(f, "\n{:18} {key}: {text}", "")?;
                    }
                }
            }
        }
        for advice in &self.advice {
            write!(f, "\n  to allow it: {advice}")?;
        }
        Ok(())
    }
}

/// Answers a question for one runtime of a profile, for a plugin that asks for all that the profile grants.
///
/// # Errors
/// The profile is not for this runtime, or the question names what does not exist.
pub fn explain(
    profile: &Profile,
    runtime: Runtime,
    question: &Question,
) -> Result<Explanation, QuestionError> {
    let policy = Policy::widest(profile, runtime)?;
    match question {
        Question::Syscall { name, args } => syscall(profile, &policy, name, args),
        Question::Path { path, access } => Ok(path_access(profile, runtime, path, *access)),
        Question::HostCall(name) => Ok(host_call(profile, runtime, name)),
        Question::Connect(address) => Ok(connect(profile, runtime, address)),
        Question::Listen(address) => Ok(listen(profile, runtime, *address)),
        Question::Program(program) => Ok(spawn(profile, runtime, program)),
    }
}

/// Every grant of a profile in one line each, with its reasons.
pub fn grants(profile: &Profile) -> Vec<Ground> {
    let files = profile.files.iter().map(|rule| {
        Ground::granted(format!("file {} {}", rights(&FileGrant::of_rule(rule)), rule.path), &rule.reasons)
    });
    let calls = profile
        .host_calls
        .iter()
        .map(|rule| Ground::granted(format!("host-call {}", rule.name), &rule.reasons));
    let sets = profile.sets.iter().map(|set| Ground {
        why: Some(set.summary.clone()),
        ..Ground::new(format!("syscalls {} ({})", set.name, in_words(set)))
    });
    let connects = profile.connects.iter().map(|rule| {
        Ground::granted(format!("connect {}", ConnectGrant::of_rule(rule).0.words()), &rule.reasons)
    });
    let listens =
        profile.listens.iter().map(|rule| Ground::granted(format!("listen {}", rule.address), &rule.reasons));
    let spawns = profile
        .spawns
        .iter()
        .map(|rule| Ground::granted(format!("spawn {}", ProgramGrant::of_rule(rule).words()), &rule.reasons));
    files.chain(calls).chain(connects).chain(listens).chain(spawns).chain(sets).collect()
}

/// One line: the grant, why, and at what risk.
impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for (key, text) in [("why", &self.why), ("risk", &self.risk)] {
            if let Some(text) = text {
                write!(f, "  {key}: {text}")?;
            }
        }
        Ok(())
    }
}

/// [`grants`] as JSON.
pub fn grants_json(profile: &Profile) -> serde_json::Value {
    json!({
        "profile": profile.name(),
        "summary": profile.summary(),
        "grants": grants(profile).iter().map(Ground::to_json).collect::<Vec<_>>(),
    })
}

/// When a set is in force.
fn in_words(set: &SyscallSet) -> String {
    let stage = match set.stage {
        Stage::Load => "until the plugin may run",
        Stage::Run => "always",
    };
    set.when.map_or(stage.to_owned(), Granted::words)
}

fn syscall(
    profile: &Profile,
    policy: &Policy,
    name: &str,
    args: &[(u8, Argument)],
) -> Result<Explanation, QuestionError> {
    if !is_syscall(name) {
        return Err(QuestionError::NoSuchCall(name.to_owned()));
    }
    let asked = asked(args)?;
    let (load, run) = everything_else(policy.runtime);
    let load = stage_answer(policy, Stage::Load, name, &asked, load);
    let run = run.map(|run| stage_answer(policy, Stage::Run, name, &asked, run));
    let verdict = run.as_ref().map_or(load.verdict, |run| run.verdict);
    let advice = match verdict {
        Verdict::Allowed => Vec::new(),
        Verdict::Depends => sets_with(profile, policy, name, &asked, "nothing can for other arguments"),
        Verdict::Refused => sets_with(profile, policy, name, &asked, "nothing can"),
    };
    Ok(Explanation {
        runtime: policy.runtime,
        verdict,
        stages: [load].into_iter().chain(run).collect(),
        advice,
    })
}

/// All calls that the question is about.
fn asked(args: &[(u8, Argument)]) -> Result<Term, QuestionError> {
    let mut asked = Term::ALL;
    for (position, (index, argument)) in args.iter().enumerate() {
        let wrong = || QuestionError::Argument(*index);
        let twice = args.iter().take(position).any(|(other, _)| other == index);
        if *index > 5 || twice {
            return Err(wrong());
        }
        let narrowed = match argument {
            Argument::Value(value) => asked.with(usize::from(*index), u64::MAX, *value),
            Argument::SelfPid => asked.with_own(usize::from(*index)),
        };
        asked = narrowed.ok_or_else(wrong)?;
    }
    Ok(asked)
}

/// What a stage does with the calls in question; `otherwise` is what calls outside all sets meet.
fn stage_answer(policy: &Policy, stage: Stage, name: &str, asked: &Term, otherwise: &str) -> StageAnswer {
    let find = |rules: Option<Vec<Source<'_>>>| -> Vec<Ground> {
        let met = rules.into_iter().flatten().filter(|source| meets(asked, &terms(&source.rule.conditions)));
        met.map(|source| rule_ground(name, source.set, source.rule)).collect()
    };
    let allowing = allowing(policy, stage).remove(name);
    let all = terms_of(allowing.iter().flatten());
    let mut grounds = find(allowing);
    let verdict = match (outside(&[*asked], &all), grounds.is_empty()) {
        (None, _) => Verdict::Allowed,
        (Some(_), false) => Verdict::Depends,
        (Some(_), true) => Verdict::Refused,
    };
    if verdict != Verdict::Allowed {
        let answered = find(answering(policy, stage).remove(name));
        let silent = answered.is_empty();
        grounds.extend(answered);
        let word = if grounds.is_empty() { "by no set: it" } else { "else it" };
        grounds.extend(silent.then(|| Ground::new(format!("{word} {otherwise}"))));
    }
    let stage = match stage {
        Stage::Load => "load",
        Stage::Run => "run",
    };
    StageAnswer { stage, verdict, grounds }
}

fn rule_ground(name: &str, set: &SyscallSet, rule: &Rule) -> Ground {
    let when = match set.when {
        None => String::new(),
        Some(Granted::Network) => ", where a plugin may connect or listen".to_owned(),
        Some(Granted::Listen) => ", where a plugin may listen".to_owned(),
        Some(Granted::Spawn) => ", for programs that the host runs".to_owned(),
        Some(granted) => format!(", where a plugin may {granted} files"),
    };
    let told = if matches!(rule.answer, Answer::Errno(..)) { ", and nobody is told" } else { "" };
    Ground {
        why: Some(rule.why.clone()),
        ..Ground::new(format!("by set {}{when}: {}{told}", set.name, rule_text(name, rule)))
    }
}

/// The sets that would allow such a call, and what is missing for each; `nothing` begins the line where there is none.
fn sets_with(profile: &Profile, policy: &Policy, name: &str, asked: &Term, nothing: &str) -> Vec<String> {
    let sets = SyscallSet::names().map(SyscallSet::shipped);
    // What gives the least comes first.
    let mut sets: Vec<SyscallSet> = sets.into_iter().flatten().collect();
    sets.sort_by_key(|set| set.when);
    let (mut whole, mut partly) = (Vec::new(), Vec::new());
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for set in &sets {
        let named = |rule: &&Rule| {
            !matches!(rule.answer, Answer::Errno(..)) && rule.names.iter().any(|known| known == name)
        };
        let rules: Vec<&Rule> = set.rules.iter().filter(named).collect();
        if rules.is_empty() {
            continue;
        }
        let all: Vec<Term> = rules.iter().flat_map(|rule| terms(&rule.conditions)).collect();
        let texts: Vec<_> = rules.iter().map(|rule| rule_text(name, rule)).collect();
        let held = format!("{} has {}{}", set.name, texts.join(", "), until(set));
        if !set.runtimes.contains(&policy.runtime) {
            others.push(held);
            continue;
        }
        own.push(held);
        if meets(asked, &all) {
            let is_whole = outside(&[*asked], &all).is_none();
            let steps = missing(profile, set).map(|steps| format!("{steps}{}", until(set)));
            let list = if is_whole { &mut whole } else { &mut partly };
            list.extend(
                steps.map(|steps| if is_whole { steps } else { format!("{steps}, for some arguments") }),
            );
        }
    }
    whole.append(&mut partly);
    let runtime = runtime_name(policy.runtime);
    match (whole.is_empty(), own.is_empty(), others.is_empty()) {
        (false, ..) => whole,
        (true, false, _) => vec![format!("{nothing}: no set holds it so ({})", own.join("; "))],
        (true, true, false) => {
            vec![format!("{nothing}: no set for {runtime} holds it ({})", others.join("; "))]
        }
        (true, true, true) => vec![format!("{nothing}: no shipped set holds it")],
    }
}

fn until(set: &SyscallSet) -> &'static str {
    if set.stage == Stage::Load { ", until the plugin may run" } else { "" }
}

/// What a profile lacks for a set to be in force; `None` if nothing.
fn missing(profile: &Profile, set: &SyscallSet) -> Option<String> {
    let named = profile.sets.iter().any(|known| known.name == set.name);
    let mut steps = Vec::new();
    steps.extend((!named).then(|| format!("name the set `{}` in `syscalls`", set.name)));
    if let Some(when) = set.when.filter(|when| !profile.grants(*when)) {
        steps.push(format!("grant a {}", key_for(when)));
        steps.extend(newer_landlock(profile).filter(|_| Granted::FILES.contains(&when)));
    }
    (!steps.is_empty()).then(|| steps.join(", and "))
}

fn newer_landlock(profile: &Profile) -> Option<String> {
    (profile.landlock < LANDLOCK_FOR_FILES).then(|| format!("write `landlock = {LANDLOCK_FOR_FILES}`"))
}

/// The line of a grant that gives so.
fn key_for(granted: Granted) -> &'static str {
    match granted {
        Granted::Read => "`[[file]]` with `access = \"read\"`",
        Granted::Write => "`[[file]]` with `access = \"write\"`",
        Granted::Create => "`[[file]]` with `access = \"write\"` and `create = true`",
        Granted::Delete => "`[[file]]` with `access = \"write\"` and `delete = true`",
        Granted::Network => "`[[connect]]` or `[[listen]]`",
        Granted::Listen => "`[[listen]]`",
        Granted::Spawn => "`[[spawn]]`",
    }
}

fn path_access(profile: &Profile, runtime: Runtime, path: &GrantPath, access: Access) -> Explanation {
    let wanted = FileGrant {
        path: path.clone(),
        access: if access == Access::Read { FileAccess::Read } else { FileAccess::Write },
        create: access == Access::Create,
        delete: access == Access::Delete,
        is_root: false,
        source: String::new(),
    };
    let grounds: Vec<Ground> = profile
        .files
        .iter()
        .filter(|rule| wanted.is_covered_by(rule))
        .map(|rule| {
            let words = rights(&FileGrant::of_rule(rule));
            Ground::granted(format!("by {} [[file]]: {words} {}", rule.source, rule.path), &rule.reasons)
        })
        .collect();
    if !grounds.is_empty() {
        return always(runtime, Verdict::Allowed, grounds, Vec::new());
    }
    let advice = match runtime {
        Runtime::Native | Runtime::Command => file_advice(profile, &wanted, access),
        Runtime::Core | Runtime::Component | Runtime::Compiler | Runtime::Program => {
            let runtime = runtime_name(runtime);
            vec![format!("nothing can: a {runtime} plugin has no files; `native` and `command` have")]
        }
    };
    let refusal = file_refusal(runtime, profile.grants(granted_by(access)));
    always(runtime, Verdict::Refused, vec![Ground::new(refusal)], advice)
}

/// What a plugin meets that tries; `in_force` says whether some other path is granted so.
fn file_refusal(runtime: Runtime, in_force: bool) -> &'static str {
    match (runtime, in_force) {
        (Runtime::Core | Runtime::Component | Runtime::Compiler, _) => {
            "the guest has no way to ask for a file, and Landlock refuses every path"
        }
        (Runtime::Native | Runtime::Program, true) => {
            "no grant covers it: Landlock refuses it with EACCES, and the host does not see it"
        }
        (Runtime::Native | Runtime::Program, false) => {
            "no file is granted so, and no set for it is in force: it fails with EPERM, and the host records it"
        }
        (Runtime::Command, true) => {
            "no grant covers it: the runtime knows no such folder, and Landlock refuses it with EACCES; the host does not see it"
        }
        (Runtime::Command, false) => {
            "no file is granted so, and no set for it is in force: it fails with EPERM; the host does not see it"
        }
    }
}

fn granted_by(access: Access) -> Granted {
    match access {
        Access::Read => Granted::Read,
        Access::Write => Granted::Write,
        Access::Create => Granted::Create,
        Access::Delete => Granted::Delete,
    }
}

fn file_advice(profile: &Profile, wanted: &FileGrant, access: Access) -> Vec<String> {
    if wanted.path.is_in_package() && access != Access::Read {
        return vec!["nothing can: the package is read-only".to_owned()];
    }
    let needed = Granted::FILES
        .iter()
        .filter(|granted| granted.is_given(wanted.access, wanted.create, wanted.delete))
        .filter(|granted| !profile.sets.iter().any(|set| set.when == Some(**granted)))
        .map(|granted| format!("name the set `files-{granted}` in `syscalls`"));
    let steps = [grant_line(wanted)].into_iter().chain(needed).chain(newer_landlock(profile));
    vec![steps.collect::<Vec<_>>().join(", and ")]
}

fn host_call(profile: &Profile, runtime: Runtime, name: &HostCallName) -> Explanation {
    match profile.host_calls.iter().find(|rule| rule.name == *name) {
        Some(rule) => {
            let text =
                format!("by {} [[host-call]] {name}, where the application has registered it", rule.source);
            always(runtime, Verdict::Allowed, vec![Ground::granted(text, &rule.reasons)], Vec::new())
        }
        None => always(
            runtime,
            Verdict::Refused,
            vec![Ground::new("no grant names it: the host answers that it is refused, and runs no handler")],
            vec![format!("host-call = [{{ name = \"{name}\", why = \"...\" }}]")],
        ),
    }
}

fn connect(profile: &Profile, runtime: Runtime, address: &HostPort) -> Explanation {
    if let Some(rule) = profile.connects.iter().find(|rule| rule.address == *address) {
        let (grant, source) = ConnectGrant::of_rule(rule);
        let text = format!("by {source}: the host connects to {}, and passes the descriptor", grant.words());
        return always(runtime, Verdict::Allowed, vec![Ground::granted(text, &rule.reasons)], Vec::new());
    }
    refused_network(profile, runtime, connect_line(address), &[connection_set(runtime)])
}

fn listen(profile: &Profile, runtime: Runtime, address: ListenAddress) -> Explanation {
    if let Some(rule) = profile.listens.iter().find(|rule| rule.address == address) {
        let text = format!("by {}: the host listens there, and passes the descriptor", listen_grant(rule).1);
        return always(runtime, Verdict::Allowed, vec![Ground::granted(text, &rule.reasons)], Vec::new());
    }
    let sets = [connection_set(runtime), listening_set(runtime)];
    refused_network(profile, runtime, listen_line(address), &sets)
}

fn spawn(profile: &Profile, runtime: Runtime, program: &GrantPath) -> Explanation {
    if let Some(rule) = profile.spawns.iter().find(|rule| rule.program == *program) {
        let grant = ProgramGrant::of_rule(rule);
        let text = format!("by {}: the host runs {}", grant.source, grant.words());
        return always(runtime, Verdict::Allowed, vec![Ground::granted(text, &rule.reasons)], Vec::new());
    }
    let missing = PROGRAM_SETS
        .iter()
        .filter(|set| !profile.sets.iter().any(|known| known.name == **set))
        .map(|set| format!("name the set `{set}` in `syscalls`"));
    let count = (profile.limits.processes == 0).then(|| "write how many in `processes`".to_owned());
    let advice = match runtime {
        Runtime::Command => "nothing can: a command has no host calls".to_owned(),
        _ => [spawn_line(program)].into_iter().chain(missing).chain(count).collect::<Vec<_>>().join(", and "),
    };
    let ground = Ground::new("no grant names it: the host refuses, and the worker can make no process");
    always(runtime, Verdict::Refused, vec![ground], vec![advice])
}

/// The answer for an address that no grant names; `line` would, with these sets.
fn refused_network(
    profile: &Profile,
    runtime: Runtime,
    line: String,
    sets: &[Option<&'static str>],
) -> Explanation {
    let missing = sets
        .iter()
        .flatten()
        .filter(|set| !profile.sets.iter().any(|known| known.name == **set))
        .map(|set| format!("name the set `{set}` in `syscalls`"));
    let advice = match sets.iter().flatten().next() {
        None => format!("nothing can: {}", no_connections(runtime)),
        Some(_) => [line].into_iter().chain(missing).collect::<Vec<_>>().join(", and "),
    };
    let ground = Ground::new("no grant names it: the host refuses, and the worker can make no socket");
    always(runtime, Verdict::Refused, vec![ground], vec![advice])
}

/// An answer that is the same while loading and afterwards.
fn always(runtime: Runtime, verdict: Verdict, grounds: Vec<Ground>, advice: Vec<String>) -> Explanation {
    Explanation { runtime, verdict, stages: vec![StageAnswer { stage: "always", verdict, grounds }], advice }
}
