//! Reviewed syscall sets: `sandbox-profiles/syscalls/*.toml`.

use std::fmt;

use hotcell_protocol::{FileAccess, Runtime};

use super::names::is_syscall;
use crate::error::runtime_name;
use crate::input::{Document, Field, Fields, ParseError, Value, read_toml};

/// When a set is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Until the plugin may run.
    Load,
    /// For ever.
    Run,
}

/// A permission that a set belongs to, those that give less first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Granted {
    Read,
    Write,
    Create,
    Delete,
    /// Connecting somewhere, or listening.
    Network,
    Listen,
    /// Running programs.
    Spawn,
}

impl Granted {
    const ALL: [Granted; 7] = [
        Granted::Read,
        Granted::Write,
        Granted::Create,
        Granted::Delete,
        Granted::Network,
        Granted::Listen,
        Granted::Spawn,
    ];

    /// Those of files.
    pub(crate) const FILES: [Granted; 4] = [Granted::Read, Granted::Write, Granted::Create, Granted::Delete];

    /// Whether a file grant with these rights grants so.
    pub(crate) fn is_given(self, access: FileAccess, create: bool, delete: bool) -> bool {
        match self {
            Granted::Read => true,
            Granted::Write => access == FileAccess::Write,
            Granted::Create => create,
            Granted::Delete => delete,
            Granted::Network | Granted::Listen | Granted::Spawn => false,
        }
    }

    /// Who is granted something, for messages.
    pub(crate) fn words(self) -> String {
        match self {
            Granted::Network => "where a connection or listening is granted".to_owned(),
            Granted::Listen => "where listening is granted".to_owned(),
            Granted::Spawn => "for programs that the host runs".to_owned(),
            file => format!("where a file is granted so: {file}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Granted::Read => "read",
            Granted::Write => "write",
            Granted::Create => "create",
            Granted::Delete => "delete",
            Granted::Network => "network",
            Granted::Listen => "listen",
            Granted::Spawn => "spawn",
        }
    }
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of system calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SyscallSet {
    pub(crate) name: &'static str,
    pub(crate) summary: String,
    pub(crate) stage: Stage,
    /// The runtimes that may have it; in a profile for several, the others do not get it.
    pub(crate) runtimes: Vec<Runtime>,
    /// The set is in force only where something is granted so.
    pub(crate) when: Option<Granted>,
    pub(crate) rules: Vec<Rule>,
}

/// One `[[syscall]]`: what happens to these calls if every condition holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) names: Vec<String>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) answer: Answer,
    pub(crate) why: String,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Allow,
    /// It fails at once, and nobody is told: a program is expected to try it.
    Errno(&'static str, u16),
    /// The host's listener answers it, by what it has granted.
    Host,
    /// A handler in the worker answers it (SIGSYS), by asking the host. It gains nothing by that which it could not do anyway.
    Worker,
}

/// A comparison of one argument.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    /// What the argument is called in the manual page.
    pub(crate) label: String,
    /// All 64 bits; otherwise the lower half, which is all that the kernel looks at for an `int`.
    pub(crate) wide: bool,
    pub(crate) mask: u64,
    pub(crate) wanted: Wanted,
}

/// What an argument is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    OneOf(Vec<u64>),
    /// The worker's own process id, known only to itself.
    SelfPid,
}

const SHIPPED: [(&str, &str); 18] = [
    ("compiler", include_str!("../../../sandbox-profiles/syscalls/compiler.toml")),
    ("compute", include_str!("../../../sandbox-profiles/syscalls/compute.toml")),
    ("connections", include_str!("../../../sandbox-profiles/syscalls/connections.toml")),
    ("files-create", include_str!("../../../sandbox-profiles/syscalls/files-create.toml")),
    ("files-delete", include_str!("../../../sandbox-profiles/syscalls/files-delete.toml")),
    ("files-read", include_str!("../../../sandbox-profiles/syscalls/files-read.toml")),
    ("files-write", include_str!("../../../sandbox-profiles/syscalls/files-write.toml")),
    ("listeners", include_str!("../../../sandbox-profiles/syscalls/listeners.toml")),
    ("native-load", include_str!("../../../sandbox-profiles/syscalls/native-load.toml")),
    ("program-load", include_str!("../../../sandbox-profiles/syscalls/program-load.toml")),
    ("program-pipes", include_str!("../../../sandbox-profiles/syscalls/program-pipes.toml")),
    ("programs", include_str!("../../../sandbox-profiles/syscalls/programs.toml")),
    ("seal", include_str!("../../../sandbox-profiles/syscalls/seal.toml")),
    ("wasi-connections", include_str!("../../../sandbox-profiles/syscalls/wasi-connections.toml")),
    ("wasi-listeners", include_str!("../../../sandbox-profiles/syscalls/wasi-listeners.toml")),
    ("wasi-run", include_str!("../../../sandbox-profiles/syscalls/wasi-run.toml")),
    ("wasm-load", include_str!("../../../sandbox-profiles/syscalls/wasm-load.toml")),
    ("worker-channel", include_str!("../../../sandbox-profiles/syscalls/worker-channel.toml")),
];

/// errno(3), for answers; the numbers are those of both architectures.
const ERRNOS: [(&str, u16); 5] =
    [("EPERM", 1), ("EACCES", 13), ("EINVAL", 22), ("ENOTTY", 25), ("ENOSYS", 38)];

const TEXT_MAX: usize = 1000;

const RUNTIMES: [Runtime; 6] = [
    Runtime::Native,
    Runtime::Core,
    Runtime::Component,
    Runtime::Command,
    Runtime::Compiler,
    Runtime::Program,
];

impl SyscallSet {
    /// The names of the shipped sets.
    pub(crate) fn names() -> [&'static str; SHIPPED.len()] {
        SHIPPED.map(|(name, _)| name)
    }

    /// A shipped set, by one of [`SyscallSet::names`]. It always parses, as a test proves.
    pub(crate) fn shipped(name: &str) -> Result<SyscallSet, ParseError> {
        let found = SHIPPED.iter().find(|(known, _)| *known == name);
        let (name, text) = found.copied().unwrap_or(("", ""));
        SyscallSet::parse(name, &Document { file: &format!("syscalls/{name}.toml"), text })
    }

    fn parse(name: &'static str, document: &Document<'_>) -> Result<SyscallSet, ParseError> {
        let root = read_toml(*document)?;
        let fields = Fields::of_document(
            document,
            &root,
            &["schema", "summary", "stage", "runtimes", "when", "syscall"],
        )?;
        fields.required("schema")?.integer(1..=1)?;
        let summary = fields.required("summary")?.text(TEXT_MAX)?.to_owned();
        let stage = fields.required("stage")?.choice(&[("load", Stage::Load), ("run", Stage::Run)])?;
        let runtimes = fields.required("runtimes")?.items()?;
        let runtimes =
            runtimes.iter().map(|item| item.choice(&RUNTIMES.map(|known| (runtime_name(known), known))));
        let granted = Granted::ALL.map(|granted| (granted.name(), granted));
        let when = fields.optional("when").map(|when| when.choice(&granted)).transpose()?;
        let rules = fields.required("syscall")?.items()?;
        let rules = rules.iter().map(rule).collect::<Result<_, _>>()?;
        Ok(SyscallSet { name, summary, stage, runtimes: runtimes.collect::<Result<_, _>>()?, when, rules })
    }
}

fn rule(field: &Field<'_>) -> Result<Rule, ParseError> {
    let fields = field.table(&["name", "names", "args", "errno", "answer", "why"])?;
    let why = fields.required("why")?.text(TEXT_MAX)?.to_owned();
    let names = match (fields.optional("name"), fields.optional("names")) {
        (Some(name), None) => vec![syscall(&name)?],
        (None, Some(names)) => names.items()?.iter().map(syscall).collect::<Result<_, _>>()?,
        _ => return Err(field.error("a rule has either `name` or `names`")),
    };
    let conditions = match fields.optional("args") {
        Some(args) => args.items()?.iter().map(condition).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let answer = match (fields.optional("errno"), fields.optional("answer")) {
        (Some(errno), None) => {
            let (name, number) = errno.choice(&ERRNOS.map(|errno| (errno.0, errno)))?;
            Answer::Errno(name, number)
        }
        (None, Some(who)) => who.choice(&[("host", Answer::Host), ("worker", Answer::Worker)])?,
        (None, None) => Answer::Allow,
        (Some(_), Some(_)) => return Err(field.error("a rule has `errno` or `answer`, not both")),
    };
    Ok(Rule { names, conditions, answer, why })
}

/// A name that at least one architecture knows.
fn syscall(field: &Field<'_>) -> Result<String, ParseError> {
    let name = field.text(TEXT_MAX)?;
    if is_syscall(name) {
        Ok(name.to_owned())
    } else {
        Err(field.error("no architecture has this system call"))
    }
}

fn condition(field: &Field<'_>) -> Result<Condition, ParseError> {
    let fields = field.table(&["index", "label", "mask", "wide", "equals", "one-of"])?;
    let index = u8::try_from(fields.required("index")?.integer(0..=5)?).unwrap_or_default();
    let label = fields.required("label")?.text(TEXT_MAX)?.to_owned();
    let wide = fields.optional("wide").map_or(Ok(false), |wide| wide.flag())?;
    let full = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let mask = fields.optional("mask").map_or(Ok(full), |mask| mask.integer(1..=full))?;
    let wanted = match (fields.optional("equals"), fields.optional("one-of")) {
        (Some(equals), None) if equals.node.value == Value::Text("self-pid".to_owned()) => Wanted::SelfPid,
        (Some(equals), None) => Wanted::OneOf(vec![equals.integer(0..=full)?]),
        (None, Some(one_of)) => {
            let values = one_of.items()?;
            Wanted::OneOf(values.iter().map(|value| value.integer(0..=full)).collect::<Result<_, _>>()?)
        }
        _ => return Err(field.error("a condition has either `equals` or `one-of`")),
    };
    let possible = match &wanted {
        Wanted::OneOf(values) => values.iter().all(|value| value & !mask == 0),
        Wanted::SelfPid => mask == full && !wide,
    };
    if !possible {
        return Err(field.error("a condition that never holds: the value has bits outside the mask"));
    }
    Ok(Condition { index, label, wide, mask, wanted })
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = if self.wide { u64::MAX } else { u64::from(u32::MAX) };
        f.write_str(&self.label)?;
        if self.mask != full {
            write!(f, " & {:#x}", self.mask)?;
        }
        match &self.wanted {
            Wanted::SelfPid => f.write_str(" == self-pid"),
            Wanted::OneOf(values) => match values.as_slice() {
                [value] => write!(f, " == {}", self.written(*value)),
                values => {
                    let values: Vec<_> = values.iter().map(|value| self.written(*value)).collect();
                    write!(f, " in {{{}}}", values.join(", "))
                }
            },
        }
    }
}

impl Condition {
    /// Flags in hexadecimal, as their manual pages write them; counts and commands in decimal.
    pub(crate) fn written(&self, value: u64) -> String {
        /// ioctl(2) requests begin here.
        const REQUESTS: u64 = 0x1000;
        let masked = self.mask & u64::from(u32::MAX) != u64::from(u32::MAX);
        if masked || value >= REQUESTS { format!("{value:#x}") } else { value.to_string() }
    }
}
