//! The same code in a process without a sandbox, as an ordinary user: an attack that fails there too proves nothing.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::attack::{Attack, AttackRuntime};
use crate::seen::Seen;

/// Runs libraries of the crash lab without a sandbox.
#[derive(Debug)]
pub struct Bare {
    program: PathBuf,
    plugins: PathBuf,
    /// Where each attack gets a folder of its own.
    folder: PathBuf,
    /// The identity of an ordinary user, if this process is root.
    user: Option<u32>,
    made: AtomicU32,
}

/// What came of the control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// There is none, and why.
    None(String),
    /// It ran.
    Ran {
        /// What came of it.
        seen: Seen,
        /// Whether the attack succeeds there.
        succeeds: bool,
    },
}

impl Bare {
    /// `program` is `bare LIBRARY EXPORT INPUT`: it prints the reply, and exits as the plugin says.
    pub fn new(program: PathBuf, plugins: &Path, folder: &Path, user: Option<u32>) -> Bare {
        let plugins = plugins.join("crash-lab");
        Bare { program, plugins, folder: folder.to_owned(), user, made: AtomicU32::new(0) }
    }

    /// Runs the control of an attack; `sibling` is the process that is the victim of some.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn run(&self, attack: &Attack, sibling: u32) -> std::io::Result<Control> {
        if let Some(why) = attack.no_control() {
            return Ok(Control::None(why.to_owned()));
        }
        if attack.runtime != AttackRuntime::Native {
            return Ok(Control::None("a module runs in a runtime only".to_owned()));
        }
        let (library, export, input) = match (&attack.load, &attack.export) {
            (Some(package), _) => {
                let export = attack.call.clone().unwrap_or_else(|| "ok".to_owned());
                (format!("{package}/plugin.so"), export, String::new())
            }
            (None, Some(export)) => ("native/crash_lab.so".to_owned(), export.clone(), String::new()),
            (None, None) => {
                let script = attack.script(std::process::id(), sibling);
                let Some(script) = script else {
                    return Ok(Control::None("no such system call on this processor".to_owned()));
                };
                ("native/crash_lab.so".to_owned(), "try_syscall".to_owned(), script)
            }
        };
        // Whoever is to be harmed by its own user must be harmed by that user.
        let user = self.user.filter(|_| !attack.has_victim());
        let folder = self.folder.join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
        chown(&folder, user, user)?;
        let mut command = Command::new(&self.program);
        command.arg(self.plugins.join(library)).args([export, input]).current_dir(&folder);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let output = command.output()?;
        fs::remove_dir_all(&folder)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let seen = match (output.status.signal(), output.status.code()) {
            (Some(signal), _) => Seen::new(format!("signal {}", signal_name(signal))),
            (None, Some(code)) if said.is_empty() => Seen::new(format!("exit {code}")),
            _ if attack.calls.is_empty() => Seen::of_reply(&output.stdout),
            _ => Seen::of_script(&said),
        };
        let succeeds = seen.is(&attack.control);
        Ok(Control::Ran { seen, succeeds })
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        31 => "SIGSYS",
        other => return other.to_string(),
    };
    name.to_owned()
}
