//! `hotcell plugin build`: drives the tools that a project names.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use super::contract;
use super::project::Project;
use crate::args::Global;
use crate::outcome::Outcome;

/// The last lines of a tool's output that are looked into for what a beginner meets.
const TAIL: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
}

pub(crate) async fn build(global: &Global, arguments: &BuildArguments) -> Result<String, Outcome> {
    let project = Project::open(&arguments.project)?;
    let artifact = make(&project)?;
    contract::refresh(global, &project, &artifact).await?;
    Ok(format!("{}\n", artifact.display()))
}

/// Builds a project, and says so on standard error; returns the artifact.
pub(super) fn make(project: &Project) -> Result<PathBuf, Outcome> {
    let began = Instant::now();
    let steps = project.build.steps.len();
    for (number, step) in project.build.steps.iter().enumerate() {
        eprintln!("[{}/{steps}] {}", number + 1, step.join(" "));
        run(&project.root, step)?;
    }
    let artifact = place(project)?;
    let took = Duration::from_millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    eprintln!("{} in {}", artifact.display(), humantime::format_duration(took));
    Ok(artifact)
}

/// Runs one tool, with its output on standard error as it comes.
fn run(root: &Path, step: &[String]) -> Result<(), Outcome> {
    let [program, arguments @ ..] = step else { return Ok(()) };
    let started = Command::new(program)
        .args(arguments)
        .current_dir(root)
        // Colours get lost in a pipe, unless they are asked for.
        .env("CARGO_TERM_COLOR", if std::io::stderr().is_terminal() { "always" } else { "never" })
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| {
        let help = match error.kind() {
            // A folder of PATH that may not be looked into counts as one without the program.
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                format!("; install {program}, or change `steps` in hotcell.toml")
            }
            _ => String::new(),
        };
        Outcome::invalid(format!("failed to run {program}: {error}{help}"))
    })?;
    let mut tail: Vec<String> = Vec::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            // A broken standard error is no reason to stop a build.
            let _ = writeln!(std::io::stderr(), "{text}");
            tail.push(text);
            if tail.len() > TAIL {
                tail.remove(0);
            }
        }
    }
    let status =
        child.wait().map_err(|error| Outcome::internal(format!("failed to wait for {program}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let help = help(&tail.join("\n")).map_or(String::new(), |help| format!("\n  help: {help}"));
    Err(Outcome::invalid(format!("`{}` failed ({status}){help}", step.join(" "))))
}

/// What to do about the failures that beginners meet.
fn help(output: &str) -> Option<String> {
    let target =
        output.split('`').find(|word| word.starts_with("wasm32-")).unwrap_or("wasm32-unknown-unknown");
    if output.contains("target may not be installed") || output.contains("can't find crate for `std`") {
        return Some(format!("this Rust cannot make wasm yet: rustup target add {target}"));
    }
    if output.contains("unable to find wasm-ld") || output.contains("'wasm-ld'") {
        return Some("clang needs a linker for wasm: install the package lld".to_owned());
    }
    if output.contains("No available targets are compatible with triple \"wasm32") {
        return Some(
            "this clang cannot make wasm: install the clang of your distribution, or from llvm.org"
                .to_owned(),
        );
    }
    if output.contains("stdio.h' file not found") {
        return Some("there is no C library for wasm: install the package wasi-libc, or wasi-sdk".to_owned());
    }
    None
}

/// Puts the artifact into the package, as a whole.
fn place(project: &Project) -> Result<PathBuf, Outcome> {
    let (from, to) = (project.root.join(&project.build.from), project.root.join(&project.build.to));
    if !from.exists() {
        return Err(Outcome::invalid(format!(
            "the build left no {}; a plugin in Rust needs `crate-type = [\"cdylib\"]` under [lib] in its Cargo.toml, and \
             `from` in hotcell.toml has to name what the tools make",
            from.display()
        )));
    }
    let failed =
        |error: std::io::Error| Outcome::invalid(format!("failed to write {}: {error}", to.display()));
    if std::fs::read(&from).map_err(failed)? == std::fs::read(&to).unwrap_or_default() {
        return Ok(to);
    }
    // Outside the package: no half of an artifact is ever packed.
    let new = project.root.join("target").join("artifact.new");
    std::fs::create_dir_all(project.root.join("target")).map_err(failed)?;
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::copy(&from, &new).and_then(|_| std::fs::rename(&new, &to)).map_err(failed)?;
    Ok(to)
}
