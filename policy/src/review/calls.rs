//! The system calls of a policy: what is allowed at a stage, and by which rule of which set.

use std::collections::BTreeMap;

use hotcell_protocol::FileAccess;

use super::inclusion::{Call, Term, terms};
use crate::Policy;
use crate::compile::{in_force, rule_text};
use crate::policy::FileGrant;
use crate::seccomp::{Answer, Condition, Rule, Stage, SyscallSet};

/// A rule with the set that it stands in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Source<'p> {
    pub(super) set: &'p SyscallSet,
    pub(super) rule: &'p Rule,
}

/// The rules for each call, by its name.
pub(super) type Rules<'p> = BTreeMap<&'p str, Vec<Source<'p>>>;

/// The rules that allow at a stage.
pub(super) fn allowing(policy: &Policy, stage: Stage) -> Rules<'_> {
    rules(policy, stage, |answer| answer == Answer::Allow)
}

/// The rules that answer with an errno at a stage.
pub(super) fn answering(policy: &Policy, stage: Stage) -> Rules<'_> {
    rules(policy, stage, |answer| answer != Answer::Allow)
}

fn rules(policy: &Policy, stage: Stage, wanted: impl Fn(Answer) -> bool) -> Rules<'_> {
    let mut rules = Rules::new();
    for set in in_force(policy, stage) {
        for rule in set.rules.iter().filter(|rule| wanted(rule.answer)) {
            for name in &rule.names {
                rules.entry(name.as_str()).or_default().push(Source { set, rule });
            }
        }
    }
    rules
}

/// All that the rules hold.
pub(super) fn terms_of<'s>(sources: impl IntoIterator<Item = &'s Source<'s>>) -> Vec<Term> {
    sources.into_iter().flat_map(|source| terms(&source.rule.conditions)).collect()
}

/// `openat(flags & 0x40 == 0x0) of set files-read`, for each rule.
pub(super) fn written(name: &str, sources: &[&Source<'_>]) -> String {
    let texts =
        sources.iter().map(|source| format!("{} of set {}", rule_text(name, source.rule), source.set.name));
    texts.collect::<Vec<_>>().join(", or ")
}

/// `openat(flags = 0x2)`: the arguments that some condition speaks of.
pub(super) fn written_call<'s>(
    name: &str,
    call: &Call,
    sources: impl IntoIterator<Item = &'s Source<'s>>,
) -> String {
    let conditions = sources.into_iter().flat_map(|source| &source.rule.conditions);
    let spoken: BTreeMap<u8, &Condition> = conditions.map(|condition| (condition.index, condition)).collect();
    let written = spoken.iter().zip(spoken.keys().map(|index| call.args.get(usize::from(*index))));
    let written = written.map(|((_, condition), value)| {
        let value = value.copied().unwrap_or_default();
        format!("{} = {}", condition.label, condition.written(value))
    });
    let pid = call.pid.map_or(String::new(), |pid| format!(" in a worker whose process id is {pid}"));
    format!("{name}({}){pid}", written.collect::<Vec<_>>().join(", "))
}

/// What a plugin asks for of the files that it could have: other sets are then in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    write: bool,
    create: bool,
    delete: bool,
    /// For messages.
    pub(super) words: &'static str,
}

impl Asking {
    const fn files(write: bool, create: bool, delete: bool, words: &'static str) -> Option<Asking> {
        Some(Asking { write, create, delete, words })
    }

    /// Every way to ask, the widest first; `None` asks for no file.
    pub(super) const WAYS: [Option<Asking>; 6] = [
        Asking::files(true, true, true, ""),
        Asking::files(true, true, false, " where a plugin asks for no deleting"),
        Asking::files(true, false, true, " where a plugin asks for no creating"),
        Asking::files(true, false, false, " where a plugin asks for no creating and deleting"),
        Asking::files(false, false, false, " where a plugin asks for reading only"),
        None,
    ];

    /// The words for one of [`Asking::WAYS`], with connections or without, and with listening or without.
    pub(super) fn words(way: Option<Asking>, connects: bool, listens: bool) -> String {
        let files = way.map_or(" where a plugin asks for no file", |asking| asking.words);
        let network = match (connects, listens) {
            (true, true) => return files.to_owned(),
            (true, false) => "no listening",
            (false, true) => "no connection",
            (false, false) => "no connection and no listening",
        };
        match files {
            "" => format!(" where a plugin asks for {network}"),
            files => format!("{files} and {network}"),
        }
    }

    /// The policy of a plugin that asks so.
    pub(super) fn of(way: Option<Asking>, connects: bool, listens: bool, widest: &Policy) -> Policy {
        let files = widest.files.iter().filter_map(|file| {
            let asking = way?;
            Some(FileGrant {
                access: if asking.write { file.access } else { FileAccess::Read },
                create: file.create && asking.create,
                delete: file.delete && asking.delete,
                ..file.clone()
            })
        });
        let connects = if connects { widest.connects.clone() } else { Vec::new() };
        let listens = if listens { widest.listens.clone() } else { Vec::new() };
        Policy { files: files.collect(), connects, listens, ..widest.clone() }
    }
}
