//! `hotcell plugin dev`: builds and reloads while its author types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use hotcell::{Event, EventKind, Events, Host, Plugin, ReloadOptions};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::build::make;
use super::project::Project;
use super::test::project_host;
use crate::args::Global;
use crate::host;
use crate::interrupt;
use crate::outcome::{Outcome, print_error};

/// Between two looks at the sources.
const LOOK: Duration = Duration::from_millis(300);

/// Folders whose files are made, not written.
const MADE: [&str; 3] = ["target", "node_modules", "package"];

/// How to use `dev`.
pub(crate) const DEV: &str = "\
Each line on standard input is a call: EXPORT INPUT, such as  greet {\"name\": \"World\"}  and prints its reply. What the plugin
writes to its log, what the sandbox refused and which line would allow it, crashes and reloads are printed as they happen. Its
state is kept over reloads; it lies in target/hotcell, apart from that of installed plugins. Ctrl-C ends it.";

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
}

pub(crate) async fn dev(global: &Global, arguments: &Dev) -> ExitCode {
    match serve(global, arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(outcome) => outcome.report(),
    }
}

async fn serve(global: &Global, arguments: &Dev) -> Result<(), Outcome> {
    let project = Project::open(&arguments.project)?;
    let mut sources = sources(&project.root);
    build(&project).await?;
    let host = project_host(global, &project).await?;
    let events = host.events();
    let (plugin, _needed) = host::load(&host, &project.package, host::load_options(global)).await?;
    let watching =
        plugin.watch(ReloadOptions { may_widen: true, retry: true, ..ReloadOptions::default() })?;
    eprintln!("{} runs; type EXPORT INPUT to call it, Ctrl-C to end", plugin.id());
    let telling = tokio::spawn(tell(events));
    let calling = tokio::spawn(calls(plugin.clone()));
    let looking = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self::sources(&project.root);
            if now != sources {
                sources = now;
                // The error is on the screen, and the plugin that runs goes on.
                if let Err(outcome) = build(&project).await {
                    print_error(&outcome.message);
                }
            }
        }
    };
    tokio::select! {
        () = looking => {}
        () = interrupt::control_c() => {}
    }
    telling.abort();
    calling.abort();
    drop(watching);
    end(host, plugin).await;
    Ok(())
}

async fn end(host: Host, plugin: Plugin) {
    drop(plugin);
    host.shutdown().await;
}

/// Builds on another thread: the plugin goes on meanwhile.
async fn build(project: &Project) -> Result<(), Outcome> {
    tokio::task::block_in_place(|| make(project)).map(drop)
}

/// Every file that somebody writes, with its time and size.
fn sources(root: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let made = folder == root && MADE.iter().any(|made| name == *made);
            let Ok(facts) = entry.metadata() else { continue };
            if made
                || name.to_string_lossy().starts_with('.')
                || name == "Cargo.lock"
                || name == "package-lock.json"
            {
                continue;
            }
            match facts.is_dir() {
                true if name == "target" || name == "node_modules" => {}
                true => folders.push(entry.path()),
                false => {
                    found.insert(
                        entry.path(),
                        (facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), facts.len()),
                    );
                }
            }
        }
    }
    found
}

/// Prints what happens. Log lines and violations are printed by the log already.
async fn tell(mut events: Events) {
    while let Some(Event { kind, .. }) = events.next().await {
        match kind {
            EventKind::Reloaded { from, to, state } => eprintln!("reloaded: {from} -> {to}, {state}"),
            EventKind::ReloadFailed { reason } => print_error(&format!("not reloaded: {reason}")),
            EventKind::RolledBack { reason, .. } => print_error(&format!("rolled back: {reason}")),
            EventKind::CrashReported { .. } => {
                eprintln!("a crash was noted: hotcell crashes show, with --state-dir target/hotcell")
            }
            _ => {}
        }
    }
}

/// Calls what is typed.
async fn calls(plugin: Plugin) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (export, input) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match plugin.call_raw(export, input.trim().as_bytes().to_vec()).await {
            Ok(reply) => println!("{}", hotcell::escape(&reply)),
            Err(error) => print_error(&error.to_string()),
        }
    }
}
