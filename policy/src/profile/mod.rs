//! What reviewers grant to a role: `sandbox-profiles/*.toml`.
//!
//! A profile names reviewed syscall sets, never a system call. It grants nothing that it does not write out, and a plan
//! holds of it only what a manifest asks for.

mod limits;
mod read;
mod shipped;

use hotcell_protocol::{FileAccess, Launch, Limits, Namespace, Runtime};

pub(crate) use limits::{INSTANCES_MAX, written};
pub(crate) use read::{KEYS, LANDLOCK_FOR_FILES};

use crate::Controller;
use crate::input::{Document, ParseError};
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress, ProfileName};
use crate::seccomp::{Granted, SyscallSet};

/// A parsed profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    name: ProfileName,
    text: String,
    summary: String,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) requires_signature: bool,
    pub(crate) audit: Option<AuditLimit>,
    /// Who wants the paths of native plugins observed.
    pub(crate) observes: Option<String>,
    /// Who lets debuggers attach to native plugins.
    pub(crate) debuggable: Option<String>,
    /// Whether reports of crashes have inputs.
    pub(crate) reports_inputs: bool,
    /// Who grants the exceptions of WebAssembly.
    pub(crate) exceptions: Option<String>,
    /// With the name of the profile that says so; otherwise as is usual for the runtime.
    pub(crate) launch: Option<(Launch, String)>,
    pub(crate) landlock: u32,
    /// With the name of the profile that asks for it.
    pub(crate) namespaces: Vec<(Namespace, String)>,
    /// The same.
    pub(crate) cgroups: Vec<(Controller, String)>,
    pub(crate) limits: Limits,
    pub(crate) limits_source: String,
    pub(crate) sets: Vec<SyscallSet>,
    pub(crate) files: Vec<FileRule>,
    pub(crate) host_calls: Vec<HostCallRule>,
    pub(crate) connects: Vec<ConnectRule>,
    pub(crate) listens: Vec<ListenRule>,
    pub(crate) spawns: Vec<SpawnRule>,
}

/// From which severity on a finding of an audit refuses a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditLimit {
    /// Any finding.
    Low,
    /// Those that deserve a look.
    Medium,
    /// Those that are hardly ever right.
    High,
}

impl AuditLimit {
    /// With their names, the strictest first.
    pub(crate) const ALL: [(&'static str, AuditLimit); 3] =
        [("low", AuditLimit::Low), ("medium", AuditLimit::Medium), ("high", AuditLimit::High)];
}

/// A `[[file]]` grant: for the path and what is below it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FileRule {
    pub(crate) path: GrantPath,
    pub(crate) access: FileAccess,
    pub(crate) create: bool,
    pub(crate) delete: bool,
    pub(crate) source: String,
    pub(crate) reasons: Reasons,
}

/// A `[[host-call]]` grant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostCallRule {
    pub(crate) name: HostCallName,
    pub(crate) source: String,
    pub(crate) reasons: Reasons,
}

/// A `[[connect]]` grant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConnectRule {
    pub(crate) address: HostPort,
    /// Addresses that are not public are allowed, too.
    pub(crate) private: bool,
    pub(crate) source: String,
    pub(crate) reasons: Reasons,
}

/// A `[[listen]]` grant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenRule {
    pub(crate) address: ListenAddress,
    pub(crate) source: String,
    pub(crate) reasons: Reasons,
}

/// A `[[spawn]]` grant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpawnRule {
    pub(crate) program: GrantPath,
    /// What it is made of beside its own file: its loader, its libraries.
    pub(crate) code: Vec<GrantPath>,
    pub(crate) source: String,
    pub(crate) reasons: Reasons,
}

/// The syscall sets of programs that the host runs: before they run, and for ever.
pub(crate) const PROGRAM_SETS: [&str; 2] = ["program-load", "programs"];

/// The syscall set by which plugins of this kind use connections; `None` for those that have none.
pub(crate) fn connection_set(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Native => Some("connections"),
        Runtime::Component | Runtime::Command => Some("wasi-connections"),
        Runtime::Core | Runtime::Compiler | Runtime::Program => None,
    }
}

/// The one by which they accept connections.
pub(crate) fn listening_set(runtime: Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Native => Some("listeners"),
        Runtime::Component | Runtime::Command => Some("wasi-listeners"),
        Runtime::Core | Runtime::Compiler | Runtime::Program => None,
    }
}

/// What a profile says of a grant, for its reader.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reasons {
    pub(crate) why: String,
    pub(crate) risk: Option<String>,
    /// Where the grant stands in the file of the profile that grants it.
    pub(crate) line: usize,
}

impl Profile {
    /// Whether anything is granted so.
    pub(crate) fn grants(&self, granted: Granted) -> bool {
        match granted {
            Granted::Network => !self.connects.is_empty() || !self.listens.is_empty(),
            Granted::Listen => !self.listens.is_empty(),
            Granted::Spawn => !self.spawns.is_empty(),
            _ => self.files.iter().any(|file| granted.is_given(file.access, file.create, file.delete)),
        }
    }

    /// Reads a profile. `file` is its name in messages, and its last part without `.toml` is the profile's name.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Profile, ParseError> {
        read::read(&Document { file, text }, read::Author::Reviewer)
    }

    /// A profile that hotcell ships, or `None` for a name that it does not ship. It always parses, as a test proves.
    pub fn shipped(name: &str) -> Option<Result<Profile, ParseError>> {
        let text = shipped::text(name)?;
        Some(Profile::parse(&format!("{name}.toml"), text))
    }

    /// The text of a profile that hotcell ships, or `None` for a name that it does not ship.
    pub fn shipped_text(name: &str) -> Option<&'static str> {
        shipped::text(name)
    }

    /// The names of the shipped profiles.
    pub fn shipped_names() -> &'static [&'static str] {
        &shipped::NAMES
    }

    /// The profile of hotcell's own compiler.
    pub(crate) fn compiler() -> Result<Profile, ParseError> {
        let document = Document { file: "internal/compiler.toml", text: shipped::COMPILER };
        read::read(&document, read::Author::Internal)
    }

    /// Its name: that of its file.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What the role is, in one sentence.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Its text, as it was read; what it extends is not in it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The runtimes that it is for.
    pub fn runtimes(&self) -> &[Runtime] {
        &self.runtimes
    }

    /// Whether it is for plugins only that a trusted key has signed.
    pub fn requires_signature(&self) -> bool {
        self.requires_signature
    }

    /// From which severity on a finding of an audit refuses a load; `None` where none is made.
    pub fn audit(&self) -> Option<AuditLimit> {
        self.audit
    }

    /// Whether debuggers may attach to workers of native plugins; for development.
    pub fn allows_debuggers(&self) -> bool {
        self.debuggable.is_some()
    }

    /// Whether reports of crashes have the beginnings of the last calls' inputs.
    pub fn reports_inputs(&self) -> bool {
        self.reports_inputs
    }

    /// Whether modules may use the exceptions of WebAssembly.
    pub fn allows_exceptions(&self) -> bool {
        self.exceptions.is_some()
    }

    /// The same, with the paths of native plugins observed, as `observe = "paths"` says; for development.
    #[must_use]
    pub fn observing_paths(self) -> Profile {
        Profile { observes: Some("the application".to_owned()), ..self }
    }

    /// Whether it grants any path.
    pub fn grants_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether workers get a file tree of their own, in which nothing is that was not granted.
    pub fn hides_files(&self) -> bool {
        self.namespaces.iter().any(|(namespace, _)| *namespace == Namespace::Mount)
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
