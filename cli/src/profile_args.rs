//! What the command line of `hotcell profile` says.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hotcell::Runtime;
use hotcell::policy::review::{Access, Argument};
use hotcell::policy::{GrantPath, HostCallName, HostPort, ListenAddress, Platform};

/// Names a profile.
const PROFILE: &str = "The name of a shipped profile, or a .toml file";

#[derive(Debug, Args)]
pub(crate) struct Profile {
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Print the widest plan that a profile can give, on this machine or on another
    #[command(after_help = PLAN)]
    Plan(Plan),
    /// Say whether a profile allows something, by which grant and why, or which line would allow it
    #[command(after_help = EXPLAIN)]
    Explain(Explain),
    /// Compare what two profiles grant, one line for each difference; exits 1 where something widens
    #[command(after_help = DIFF)]
    Diff(Diff),
    /// Say what is valid in profiles and looks wrong; exits 1 where it warns
    #[command(after_help = LINT)]
    Lint(Lint),
    /// Run the attack corpus against a profile in real workers; exits 1 where an attack is not stopped
    #[command(after_help = TEST)]
    Test(Test),
}

const PLAN: &str = "\
Example: the same profile on an older kernel, run by an ordinary user
  hotcell profile plan wasi-command --platform user,kernel=6.2";

const EXPLAIN: &str = "\
Without a question, prints each grant of the profile in one line. Exits 0 where it is allowed once the \
plugin runs, whatever the arguments that the question leaves open, and 3 where it is not.

Examples:
  hotcell profile explain native-strict --syscall mprotect --arg 2=4
  hotcell profile explain wasi-command --path '${data}/cache' --access create
  hotcell profile explain my-role.toml --host-call prices.get";

const DIFF: &str = "\
Compares by what is allowed, not by how it is written: system calls by call and arguments at each stage, \
files by path and rights, limits by value. WIDENS comes with a call that only the new profile allows.

Example: what a change would widen
  git show HEAD:my-role.toml > old.toml; hotcell profile diff old.toml my-role.toml";

const LINT: &str = "\
Example: every profile of a folder
  hotcell profile lint profiles/*.toml";

const TEST: &str = "\
Loads the crash lab under the profile and has it try every attack that is meant for the profile's runtime. \
Each attack's control, the same code without a sandbox, is run by hotcell's own tests (docs/attack-corpus.md). \
That all are stopped does not show that a profile is safe.

Examples:
  hotcell profile test native-strict
  hotcell profile test my-role.toml --only ptrace
  hotcell profile test my-role.toml --attacks my-attacks.toml";

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[arg(value_name = "PROFILE", help = PROFILE)]
    pub(crate) of: PathBuf,
    /// For this runtime only [default: each that the profile is for]
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeName>,
    /// For another machine: `root` or `user`, kernel=6.1, landlock=2, arch=aarch64, joined by `,`; what is left out is as on
    /// a new one [default: this machine]
    #[arg(long, value_name = "WORDS")]
    pub(crate) platform: Option<Platform>,
    /// Print the plans as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[arg(value_name = "PROFILE", help = PROFILE)]
    pub(crate) of: PathBuf,
    /// A system call
    #[arg(long, value_name = "NAME", conflicts_with_all = ["path", "host_call"])]
    pub(crate) syscall: Option<String>,
    /// An argument of the system call, counted from 0: a number, 0x..., or self-pid [default: any]
    #[arg(long, value_name = "INDEX=VALUE", requires = "syscall", value_parser = argument)]
    pub(crate) arg: Vec<(u8, Argument)>,
    /// A path and what is below it, as a grant writes it
    #[arg(long, value_name = "PATH", requires = "access", conflicts_with = "host_call")]
    pub(crate) path: Option<GrantPath>,
    /// What is done at the path
    #[arg(long, requires = "path")]
    pub(crate) access: Option<AccessName>,
    /// A host call
    #[arg(long, value_name = "NAME")]
    pub(crate) host_call: Option<HostCallName>,
    /// A connection, as HOST:PORT
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["syscall", "path", "host_call"])]
    pub(crate) connect: Option<HostPort>,
    /// Connections from others, as ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["syscall", "path", "host_call", "connect"])]
    pub(crate) listen: Option<ListenAddress>,
    /// A program that the host runs for the plugin, as a grant writes it
    #[arg(long, value_name = "PATH", conflicts_with_all = ["syscall", "path", "host_call", "connect", "listen"])]
    pub(crate) program: Option<GrantPath>,
    /// For this runtime only [default: each that the profile is for]
    #[arg(long)]
    pub(crate) runtime: Option<RuntimeName>,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[arg(value_name = "OLD", help = PROFILE)]
    pub(crate) old: PathBuf,
    #[arg(value_name = "NEW", help = PROFILE)]
    pub(crate) new: PathBuf,
    /// Print the differences as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    #[arg(value_name = "PROFILE", help = PROFILE)]
    pub(crate) of: PathBuf,
    /// Only attacks whose id, category or words contain TEXT
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// More attacks, as in corpus/attacks/*.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) attacks: Vec<PathBuf>,
    /// Folder of the sample plugins, the crash lab among them, built by scripts/build-plugins
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub(crate) plugins: PathBuf,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Lint {
    #[arg(value_name = "PROFILE", required = true, help = PROFILE)]
    pub(crate) of: Vec<PathBuf>,
    /// Print the warnings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A runtime, as profiles name it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RuntimeName {
    Native,
    Core,
    Component,
    Command,
}

impl From<RuntimeName> for Runtime {
    fn from(name: RuntimeName) -> Runtime {
        match name {
            RuntimeName::Native => Runtime::Native,
            RuntimeName::Core => Runtime::Core,
            RuntimeName::Component => Runtime::Component,
            RuntimeName::Command => Runtime::Command,
        }
    }
}

/// What is done at a path.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AccessName {
    Read,
    Write,
    Create,
    Delete,
}

impl From<AccessName> for Access {
    fn from(name: AccessName) -> Access {
        match name {
            AccessName::Read => Access::Read,
            AccessName::Write => Access::Write,
            AccessName::Create => Access::Create,
            AccessName::Delete => Access::Delete,
        }
    }
}

/// Reads `2=0x40`, `0=self-pid`.
fn argument(text: &str) -> Result<(u8, Argument), String> {
    let wrong = || "expected INDEX=VALUE with an index from 0 to 5, e.g. 2=0x40 or 0=self-pid".to_owned();
    let (index, value) = text.split_once('=').ok_or_else(wrong)?;
    let index = index.parse::<u8>().ok().filter(|index| *index < 6).ok_or_else(wrong)?;
    let number = match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => value.parse(),
    };
    match value {
        "self-pid" => Ok((index, Argument::SelfPid)),
        _ => Ok((index, Argument::Value(number.map_err(|_| wrong())?))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Argument, argument};

    #[test]
    fn arguments_are_numbers_or_the_own_process_id() {
        assert_eq!(argument("2=0x40"), Ok((2, Argument::Value(64))));
        assert_eq!(argument("5=18446744073709551615"), Ok((5, Argument::Value(u64::MAX))));
        assert_eq!(argument("0=self-pid"), Ok((0, Argument::SelfPid)));
        for wrong in ["", "2", "6=1", "x=1", "1=", "1=-1", "1=0x", "1=pid"] {
            argument(wrong).expect_err(wrong);
        }
    }
}
