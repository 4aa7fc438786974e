//! `hotcell plugin profile`: in which functions a plugin spends its time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hotcell::{ProfileOptions, StackProfile};

use super::project::package_of;
use super::{as_json, flame};
use crate::args::{Global, duration};
use crate::call::read_input;
use crate::host;
use crate::outcome::Outcome;

/// Functions that the table has.
const ROWS: usize = 25;

pub(crate) const PROFILE: &str = "\
A worker is looked at from outside while it runs: nothing is added to the plugin, and its sandbox stays as it is. Functions have
names where the artifact has symbols or debug information. Calls that fail are counted, and made again.";

#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// A project, an .lbplugin file, a folder with manifest.json, or @ID of an installed plugin
    plugin: PathBuf,
    /// The export to call
    export: String,
    /// Its input: JSON, @FILE, or - for standard input [default: none]
    input: Option<String>,
    /// Pass the input as it is, whatever it is
    #[arg(long)]
    raw: bool,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    time: Duration,
    /// Looks in a second
    #[arg(long, value_name = "HZ", default_value_t = 499, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frequency: u32,
    /// Draw a flame graph
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// Write each stack on a line, with how often it was seen, for other tools
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn profile(global: &Global, arguments: &Profile) -> Result<String, Outcome> {
    let input = read_input(arguments.input.as_deref(), arguments.raw)?;
    let package = package_of(&arguments.plugin)?;
    let host = host::build(global).await?;
    let (plugin, _needed) = host::load(&host, &package, host::load_options(global)).await?;
    let options = ProfileOptions { time: arguments.time, frequency: arguments.frequency };
    let (mut calls, mut failed) = (0_u64, BTreeMap::<String, u64>::new());
    let calling = async {
        loop {
            calls += 1;
            let ended = plugin.request(&arguments.export).raw(input.clone()).await;
            ended.err().into_iter().for_each(|error| *failed.entry(error.to_string()).or_default() += 1);
        }
    };
    let profile = tokio::select! {
        biased;
        profile = plugin.profile(options) => profile,
        () = calling => unreachable!("it goes on until it is dropped"),
    };
    host.shutdown().await;
    let profile = profile?;
    let written = |path: &PathBuf, text: String| {
        let failed = |error| Outcome::invalid(format!("failed to write {}: {error}", path.display()));
        std::fs::write(path, text).map_err(failed)
    };
    if let Some(path) = &arguments.svg {
        written(path, flame::svg(&arguments.export, &profile))?;
    }
    if let Some(path) = &arguments.folded {
        written(path, folded(&profile))?;
    }
    for (error, times) in failed {
        eprintln!("{times} of {calls} calls failed: {error}");
    }
    if arguments.json { as_json(&profile) } else { Ok(text(&profile, calls)) }
}

/// The format that flame graph tools read: `outer;inner count`.
fn folded(profile: &StackProfile) -> String {
    let lines = profile.stacks.iter().map(|stack| {
        let functions: Vec<_> = stack.functions.iter().map(|name| name.replace(';', ":")).collect();
        format!("{} {}\n", functions.join(";"), stack.samples)
    });
    lines.collect()
}

/// Functions by the samples in which they were the innermost.
fn text(profile: &StackProfile, calls: u64) -> String {
    let mut functions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for stack in &profile.stacks {
        let names: BTreeSet<&str> = stack.functions.iter().map(String::as_str).collect();
        names.iter().for_each(|name| functions.entry(name).or_default().1 += stack.samples);
        stack.functions.last().iter().for_each(|name| functions.entry(name).or_default().0 += stack.samples);
    }
    let mut rows: Vec<_> = functions.into_iter().collect();
    rows.sort_by(|(one, times), (other, more)| (more, one).cmp(&(times, other)));
    let percent = |samples: u64| samples as f64 * 100.0 / profile.samples.max(1) as f64;
    let mut text = format!(
        "{} samples during {calls} calls, {:.1} % of them outside of the plugin\n",
        profile.samples,
        percent(profile.outside)
    );
    if !rows.is_empty() {
        text.push_str("\n    self    total  function\n");
    }
    for (name, (own, total)) in rows.iter().take(ROWS) {
        let _ = writeln!(text, "{:>6.1} % {:>6.1} %  {name}", percent(*own), percent(*total));
    }
    if let Some(more) = rows.len().checked_sub(ROWS + 1) {
        let _ = writeln!(text, "and {} more; --json and --folded have all", more + 1);
    }
    text
}
