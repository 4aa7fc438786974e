//! What is valid in a profile, and looks wrong: each with its line.

use std::collections::BTreeMap;
use std::fmt;

use hotcell_protocol::{FileAccess, Launch, Limits, Runtime};
use serde_json::json;

use super::diff::limit_values;
use crate::compile::abi_for;
use crate::error::runtime_name;
use crate::input::{Document, Field, Fields, ParseError, Value, read_toml};
use crate::policy::{FileGrant, rights};
use crate::profile::{FileRule, KEYS, LANDLOCK_FOR_FILES, Profile, Reasons, written};
use crate::seccomp::Granted;

/// A reason of fewer words says nothing.
const WORDS_MIN: usize = 3;

/// A limit is large if it is more than so many times what shipped profiles of the runtime have.
const LARGE: u64 = 4;

/// Something suspicious in a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The kind of warning, for programs.
    pub code: &'static str,
    /// What is suspicious, and what to do.
    pub message: String,
}

impl Warning {
    /// The warning as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        json!({ "file": self.file, "line": self.line, "code": self.code, "message": self.message })
    }
}

/// `file:line: message [code]`.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.file, self.line, self.message, self.code)
    }
}

/// Everything that looks wrong in a profile, in the order of its lines. What comes from a profile that it extends is
/// not repeated, unless this profile makes it wrong.
///
/// # Errors
/// The profile is not valid.
pub fn lint(file: &str, text: &str) -> Result<Vec<Warning>, ParseError> {
    let profile = Profile::parse(file, text)?;
    let mut lint =
        Lint { file, lines: Lines::read(&Document { file, text })?, profile: &profile, warnings: Vec::new() };
    lint.files();
    lint.reasons();
    lint.sets();
    lint.limits();
    lint.landlock();
    lint.launch();
    lint.debug();
    lint.file_tree();
    let mut warnings = lint.warnings;
    warnings.sort();
    Ok(warnings)
}

struct Lint<'l> {
    file: &'l str,
    lines: Lines,
    profile: &'l Profile,
    warnings: Vec<Warning>,
}

impl Lint<'_> {
    fn warn(&mut self, line: usize, code: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning { file: self.file.to_owned(), line, code, message: message.into() });
    }

    fn files(&mut self) {
        let profile = self.profile;
        for (index, rule) in
            profile.files.iter().enumerate().filter(|(_, rule)| rule.source == profile.name())
        {
            let most = FileGrant::of_rule(rule);
            let words = rights(&most);
            // Of two that cover one another, the second one is too much.
            let covers = |(position, other): &(usize, &FileRule)| {
                let back = FileGrant::of_rule(other).is_covered_by(rule);
                *position != index && most.is_covered_by(other) && (!back || *position < index)
            };
            if let Some((_, other)) = profile.files.iter().enumerate().find(covers) {
                let place = self.place(&other.source, other.reasons.line);
                let message =
                    format!("`{}` ({words}) is covered by `{}` {place}; remove it", rule.path, other.path);
                self.warn(rule.reasons.line, "covered-grant", message);
            }
            self.dangerous(&format!("{words} `{}`", rule.path), &rule.reasons);
        }
        for rule in profile.host_calls.iter().filter(|rule| rule.source == profile.name()) {
            self.dangerous(&format!("host call `{}`", rule.name), &rule.reasons);
        }
        for rule in profile.connects.iter().filter(|rule| rule.source == profile.name()) {
            self.dangerous(&format!("connection to `{}`", rule.address), &rule.reasons);
        }
        for rule in profile.listens.iter().filter(|rule| rule.source == profile.name()) {
            self.dangerous(&format!("listening at `{}`", rule.address), &rule.reasons);
        }
        for rule in profile.spawns.iter().filter(|rule| rule.source == profile.name()) {
            self.dangerous(&format!("program `{}`", rule.program), &rule.reasons);
        }
    }

    fn place(&self, source: &str, line: usize) -> String {
        if source == self.profile.name() {
            format!("on line {line}")
        } else {
            format!("of profile `{source}`")
        }
    }

    fn dangerous(&mut self, grant: &str, reasons: &Reasons) {
        if let Some(risk) = &reasons.risk {
            self.warn(reasons.line, "dangerous-grant", format!("{grant} is dangerous: {risk}"));
        }
    }

    fn reasons(&mut self) {
        let profile = self.profile;
        let files = profile.files.iter().map(|rule| (&rule.source, &rule.reasons));
        let calls = profile.host_calls.iter().map(|rule| (&rule.source, &rule.reasons));
        let connects = profile.connects.iter().map(|rule| (&rule.source, &rule.reasons));
        let listens = profile.listens.iter().map(|rule| (&rule.source, &rule.reasons));
        let spawns = profile.spawns.iter().map(|rule| (&rule.source, &rule.reasons));
        let all = files.chain(calls).chain(connects).chain(listens).chain(spawns);
        for (_, reasons) in all.filter(|(source, _)| *source == profile.name()) {
            for (key, text) in [("why", Some(&reasons.why)), ("risk", reasons.risk.as_ref())] {
                if text.is_some_and(|text| text.split_whitespace().count() < WORDS_MIN) {
                    let message =
                        format!("a `{key}` of fewer than {WORDS_MIN} words tells a reviewer nothing");
                    self.warn(reasons.line, "short-reason", message);
                }
            }
        }
        for (index, rule) in
            profile.host_calls.iter().enumerate().filter(|(_, rule)| rule.source == profile.name())
        {
            let mut before = profile.host_calls.iter().take(index);
            if let Some(other) = before.find(|other| other.reasons.why == rule.reasons.why) {
                let message =
                    format!("the host calls `{}` and `{}` have the same `why`", other.name, rule.name);
                self.warn(rule.reasons.line, "same-reason", message);
            }
        }
    }

    fn sets(&mut self) {
        let profile = self.profile;
        for set in &profile.sets {
            let Some(when) = set.when else { continue };
            if let Some(line) = self.lines.sets.get(set.name).copied().filter(|_| !profile.grants(when)) {
                let what = match when {
                    Granted::Network => "no connection and no listening is granted".to_owned(),
                    Granted::Listen => "no listening is granted".to_owned(),
                    Granted::Spawn => "no program is granted".to_owned(),
                    file => format!("no file is granted to {file}"),
                };
                let message = format!("the set `{}` is never in force: {what}", set.name);
                self.warn(line, "unneeded-set", message);
            }
        }
        for runtime in &profile.runtimes {
            for name in
                needed(*runtime).iter().filter(|name| !profile.sets.iter().any(|set| set.name == **name))
            {
                let runtime = runtime_name(*runtime);
                let message = format!("without the set `{name}`, no {runtime} plugin can start");
                self.warn(self.lines.syscalls, "missing-set", message);
            }
        }
    }

    fn limits(&mut self) {
        // An inherited limit is judged where it is written.
        if self.profile.limits_source == self.profile.name() {
            self.large_limits();
        }
        let writes = self.profile.files.iter().any(|file| file.access == FileAccess::Write);
        let logs = self.profile.host_calls.iter().any(|rule| rule.name.as_str() == "log");
        let Limits { message, file_size, disk, open_files, log_rate, processes, threads, .. } =
            self.profile.limits;
        let files = !self.profile.files.is_empty();
        for (key, useless, why) in [
            ("message", message == 0, "a call can take and give nothing"),
            ("file-size", writes && file_size == 0, "a file is granted to be written, and can hold nothing"),
            ("disk", writes && disk == 0, "a file is granted to be written, and the disk can hold nothing"),
            ("open-files", files && open_files == 0, "a file is granted, and none can be opened"),
            ("log-rate", logs && log_rate == 0, "`log` is granted, and no line is kept"),
        ] {
            if useless {
                self.warn(self.lines.limit(key), "useless-limit", format!("`{key}` is 0: {why}"));
            }
        }
        if processes > 0 && self.profile.spawns.is_empty() {
            let message = format!("`processes` is {processes}, and no program is granted");
            self.warn(self.lines.limit("processes"), "useless-limit", message);
        }
        if threads > 0 {
            let message = "`threads` above 0 is not built yet: every plan is refused";
            self.warn(self.lines.limit("threads"), "not-built", message);
        }
    }

    fn large_limits(&mut self) {
        let shipped: Vec<Profile> =
            Profile::shipped_names().iter().filter_map(|name| Profile::shipped(name)?.ok()).collect();
        let runtimes = &self.profile.runtimes;
        let of_runtime =
            |profile: &&Profile| profile.runtimes.iter().any(|runtime| runtimes.contains(runtime));
        let same: Vec<_> = shipped.iter().filter(of_runtime).collect();
        let most = |profiles: &[&Profile], at: usize| {
            let values = profiles.iter().filter_map(|profile| limit_values(&profile.limits).get(at).copied());
            values.max().unwrap_or_default()
        };
        let all: Vec<_> = shipped.iter().collect();
        let named = written(&self.profile.limits).into_iter().zip(limit_values(&self.profile.limits));
        for (at, ((name, text), value)) in named.enumerate() {
            // Where the runtime's own have none of it, what others have says what is usual.
            let usual = match most(&same, at) {
                0 => most(&all, at),
                most => most,
            };
            if usual > 0 && value > usual.saturating_mul(LARGE) {
                let message =
                    format!("`{name}` is {text}, more than {LARGE} times the most of the shipped profiles");
                self.warn(self.lines.limit(name), "large-limit", message);
            }
        }
    }

    fn landlock(&mut self) {
        let needs =
            self.profile.files.iter().map(|rule| abi_for(&FileGrant::of_rule(rule)).max(LANDLOCK_FOR_FILES));
        let needs = needs.max().unwrap_or(1);
        let pinned = self.profile.landlock;
        if pinned == needs {
            return;
        }
        let effect = if pinned > needs {
            "it refuses machines that would do"
        } else {
            "it accepts machines that leave something open"
        };
        let message = format!("`landlock = {pinned}`, and the grants need ABI {needs}: {effect}");
        self.warn(self.lines.landlock, "landlock-minimum", message);
    }

    fn file_tree(&mut self) {
        let profile = self.profile;
        let native = profile.runtimes.contains(&Runtime::Native);
        if native
            && !profile.hides_files()
            && let Some(rule) = profile.files.iter().find(|rule| rule.source == profile.name())
        {
            let message = "native plugins with files can ask for names, sizes and times of every file; add `mount` to `namespaces`";
            self.warn(rule.reasons.line, "visible-files", message);
        }
    }

    fn debug(&mut self) {
        if let Some(line) = self.lines.debug {
            let message = "debuggers may attach to its plugins: for development only";
            self.warn(line, "debuggers", message);
        }
    }

    fn launch(&mut self) {
        let forks = self.profile.launch.as_ref().is_some_and(|(launch, _)| *launch == Launch::Fork);
        if let Some(line) = self.lines.launch
            && forks
            && self.profile.runtimes.contains(&Runtime::Native)
        {
            let message = "native workers are copies: what one learns of its address layout and stack canary is true of the others";
            self.warn(line, "native-fork", message);
        }
    }
}

/// The sets without which a worker of a runtime does not get as far as its plugin.
fn needed(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Native => &["worker-channel", "compute", "native-load"],
        Runtime::Core | Runtime::Component => &["worker-channel", "compute", "wasm-load", "seal"],
        Runtime::Command => &["worker-channel", "compute", "wasm-load", "seal", "wasi-run"],
        Runtime::Compiler => &["worker-channel", "compute", "compiler"],
        Runtime::Program => &["worker-channel", "compute", "program-load", "programs"],
    }
}

/// Where things stand in the file. What it does not write itself comes from `extends`, and stands there.
struct Lines {
    base: usize,
    landlock: usize,
    launch: Option<usize>,
    debug: Option<usize>,
    syscalls: usize,
    sets: BTreeMap<String, usize>,
    limits: BTreeMap<String, usize>,
}

impl Lines {
    fn read(document: &Document<'_>) -> Result<Lines, ParseError> {
        let root = read_toml(*document)?;
        let fields = Fields::of_document(document, &root, &KEYS)?;
        let line = |key| fields.optional(key).map(|field: Field<'_>| field.line());
        let base = line("extends").unwrap_or(1);
        let mut limits = BTreeMap::new();
        if let Some(table) = fields.optional("limits") {
            limits =
                table.open_table()?.entries().map(|(key, _, field)| (key.to_owned(), field.line())).collect();
        }
        let mut sets = BTreeMap::new();
        if let Some(list) = fields.optional("syscalls") {
            for item in list.items()? {
                if let Value::Text(name) = &item.node.value {
                    sets.insert(name.clone(), item.line());
                }
            }
        }
        Ok(Lines {
            base,
            landlock: line("landlock").unwrap_or(base),
            launch: line("launch"),
            debug: line("debug"),
            syscalls: line("syscalls").unwrap_or(base),
            sets,
            limits,
        })
    }

    fn limit(&self, key: &str) -> usize {
        self.limits.get(key).copied().unwrap_or(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::{Runtime, needed};
    use crate::Profile;
    use crate::seccomp::SyscallSet;

    #[test]
    fn the_sets_that_every_worker_needs_are_for_its_runtime_and_in_every_shipped_profile() {
        for runtime in [Runtime::Native, Runtime::Core, Runtime::Component, Runtime::Command] {
            for name in needed(runtime) {
                let set = SyscallSet::shipped(name).expect("parses");
                assert!(set.when.is_none() && set.runtimes.contains(&runtime), "{name}");
            }
        }
        for profile in Profile::shipped_names().iter().filter_map(|name| Profile::shipped(name)) {
            let profile = profile.expect("parses");
            for name in profile.runtimes.iter().flat_map(|runtime| needed(*runtime)) {
                assert!(profile.sets.iter().any(|set| set.name == *name), "{name}");
            }
        }
    }
}
