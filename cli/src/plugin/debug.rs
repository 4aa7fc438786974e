//! `hotcell plugin debug`: a debugger at a plugin, in its real worker.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hotcell::DebugTarget;
use signal_hook::consts::SIGINT;

use super::project::package_of;
use crate::args::{Global, duration};
use crate::call::{print_reply, read_input};
use crate::host;
use crate::outcome::Outcome;

/// Pause between two looks whether the debugger has attached.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) const DEBUG: &str = "\
For native plugins under a profile for development that says so (debug = \"attach\"). The plugin is started in its sandbox, the debugger
attaches and stops it, and the export is called: set breakpoints, then `continue`. The debugger runs as yourself, outside every
sandbox, and reads the plugin's debug information: debug what you have built.

  hotcell --profile native-debug.toml plugin debug . greet '{\"name\":\"Ada\"}'
  hotcell --profile native-debug.toml plugin debug . greet '{}' -- -ex 'break greet' -ex continue";

#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// A project, an .lbplugin file, a folder with manifest.json, or @ID of an installed plugin
    plugin: PathBuf,
    /// The export to call
    export: String,
    /// Its input: JSON, or @FILE [default: none]
    input: Option<String>,
    /// Input and reply are bytes as they are, not JSON
    #[arg(long)]
    raw: bool,
    /// Give up the call after this time, e.g. 10m; a day at most
    #[arg(long, default_value = "60m", value_parser = duration)]
    timeout: Duration,
    /// gdb, or a program that takes its options
    #[arg(long, value_name = "PROGRAM", default_value = "gdb")]
    debugger: PathBuf,
    /// More options of the debugger
    #[arg(last = true)]
    options: Vec<String>,
}

pub(crate) async fn debug(global: &Global, arguments: &Debug) -> ExitCode {
    match session(global, arguments).await {
        Ok(reply) => print_reply(&reply, arguments.raw),
        Err(outcome) => outcome.report(),
    }
}

/// From the start of the plugin to the end of both the call and the debugger.
async fn session(global: &Global, arguments: &Debug) -> Result<Vec<u8>, Outcome> {
    if arguments.input.as_deref() == Some("-") {
        return Err(Outcome::invalid("standard input is the debugger's; give the input as @FILE".to_owned()));
    }
    let input = read_input(arguments.input.as_deref(), arguments.raw)?;
    let package = package_of(&arguments.plugin)?;
    let host = host::build(global).await?;
    let (plugin, _needed) = host::load(&host, &package, host::load_options(global)).await?;
    let mut target = plugin.debug_target()?;
    let symbols = Symbols::write(&mut target.library).map_err(|error| failed("copy the library", &error))?;
    // Control-C is the debugger's, which stops the plugin by it.
    signal_hook::flag::register(SIGINT, Arc::default())
        .map_err(|error| failed("wait for signals", &error))?;
    let mut debugger = symbols.open(&target, &arguments.debugger, &arguments.options)?;
    if let Err(outcome) = until_attached(target.pid, &mut debugger).await {
        // One that goes on would have the terminal, and nothing to debug. It may have ended by itself.
        let _ = debugger.kill().and_then(|()| debugger.wait());
        return Err(outcome);
    }
    let request = plugin.request(&arguments.export).deadline(arguments.timeout);
    let end = tokio::task::spawn_blocking(move || debugger.wait());
    let (reply, _) = tokio::join!(request.raw(input), end);
    host.shutdown().await;
    reply.map_err(Outcome::from)
}

/// The library in a file, for a debugger to read; removed with this.
struct Symbols {
    folder: PathBuf,
}

impl Symbols {
    fn write(library: &mut File) -> io::Result<Symbols> {
        let folder = std::env::temp_dir().join(format!("hotcell-debug-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let symbols = Symbols { folder };
        io::copy(library, &mut File::create_new(symbols.file())?)?;
        Ok(symbols)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("plugin.so")
    }

    /// Starts the debugger, which attaches first of all.
    fn open(&self, target: &DebugTarget, debugger: &Path, options: &[String]) -> Result<Child, Outcome> {
        let symbols = format!("add-symbol-file \"{}\" -o {:#x}", self.file().display(), target.base);
        let mut command = Command::new(debugger);
        command.arg("-q");
        // The name under which the library was loaded leads nowhere, or elsewhere.
        for first in ["set confirm off", "set auto-solib-add off", "set debuginfod enabled off"] {
            command.args(["-iex", first]);
        }
        command.args(["-p", &target.pid.to_string(), "-ex", &symbols, "-ex", "set confirm on"]);
        command.args(options);
        command.spawn().map_err(|error| match error.kind() {
            // The latter where a folder of the search path cannot be read.
            ErrorKind::NotFound | ErrorKind::PermissionDenied => Outcome::invalid(format!(
                "there is no {} that can be run; install it, or name another debugger with --debugger",
                debugger.display()
            )),
            _ => failed("start the debugger", &error),
        })
    }
}

impl Drop for Symbols {
    fn drop(&mut self) {
        // What is left lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until the debugger has stopped the worker, so that the call meets the first breakpoint.
async fn until_attached(pid: u32, debugger: &mut Child) -> Result<(), Outcome> {
    loop {
        if is_traced(pid).map_err(|error| failed("look at the plugin", &error))? {
            return Ok(());
        }
        if let Some(status) = debugger.try_wait().map_err(|error| failed("wait for the debugger", &error))? {
            return Err(Outcome::invalid(format!(
                "the debugger ended before it had attached ({status}); where Yama's ptrace_scope is 2 or more, only root may attach one"
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// `TracerPid` in proc_pid_status(5).
fn is_traced(pid: u32) -> io::Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|tracer| tracer.trim() != "0"))
}

fn failed(what: &str, error: &io::Error) -> Outcome {
    Outcome::internal(format!("failed to {what}: {error}"))
}
