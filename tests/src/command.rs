//! The `hotcell` command as a user runs it.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::fixture::{self, Folders};

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A `hotcell` command with folders of its own, to be completed and run.
pub fn command(folders: &Folders) -> Command {
    let mut command = Command::new(fixture::hotcell());
    global_options(&mut command, folders);
    command
}

/// The same, on a kernel that seems to lack these layers.
pub fn command_lacking(layers: &[&str], folders: &Folders) -> Command {
    let mut command = Command::new(fixture::programs().join("lacking"));
    command.args(layers).arg("--").arg(fixture::hotcell());
    global_options(&mut command, folders);
    command
}

fn global_options(command: &mut Command, folders: &Folders) {
    command.arg("--state-dir").arg(folders.join("state"));
    command.arg("--uid-registry").arg(folders.join("uids"));
    command.arg("--cache-dir").arg(fixture::shared_cache());
    command.stdin(Stdio::null());
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the command is built and runs");
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| format!("not UTF-8: {error}"));
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// `hotcell ARGUMENTS...`, run to its end.
pub fn hotcell<A: AsRef<OsStr>>(arguments: &[A]) -> Said {
    let folders = Folders::new();
    run(command(&folders).args(arguments))
}
