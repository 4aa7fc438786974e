//! Installed plugins.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use hotcell::policy::PluginId;
use hotcell::{InstallOptions, InstalledPlugin, InstalledVersion, Packages};

use super::as_json;
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// An .lbplugin file, or a folder with manifest.json
    plugin: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// An .lbplugin file of a newer version
    plugin: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The plugin's id
    #[arg(value_parser = id)]
    id: PluginId,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The plugin's id
    #[arg(value_parser = id)]
    id: PluginId,
    /// Forget which version was the newest, too: any version may be installed next, signed or not
    #[arg(long)]
    forget: bool,
}

pub(crate) fn install(global: &Global, arguments: &Install) -> Result<String, Outcome> {
    put(global, &arguments.plugin, false)
}

pub(crate) fn update(global: &Global, arguments: &Update) -> Result<String, Outcome> {
    put(global, &arguments.plugin, true)
}

fn put(global: &Global, plugin: &std::path::Path, only_update: bool) -> Result<String, Outcome> {
    let packages = host::builder(global)?.packages()?;
    let options = InstallOptions { may_go_back: global.allow_downgrade, only_update };
    let installed = packages.install(plugin, options)?;
    tell_what_lacks(&packages);
    Ok(format!("{}\n", line(&installed)))
}

pub(crate) fn list(global: &Global, arguments: &List) -> Result<String, Outcome> {
    let plugins = host::builder(global)?.packages()?.list()?;
    if arguments.json {
        return as_json(&plugins);
    }
    Ok(plugins.iter().fold(String::new(), |text, plugin| text + &line(plugin) + "\n"))
}

pub(crate) fn rollback(global: &Global, arguments: &Rollback) -> Result<String, Outcome> {
    let packages = host::builder(global)?.packages()?;
    let installed = packages.rollback(&arguments.id)?;
    tell_what_lacks(&packages);
    Ok(format!("{}\n", line(&installed)))
}

pub(crate) fn remove(global: &Global, arguments: &Remove) -> Result<String, Outcome> {
    let packages = host::builder(global)?.packages()?;
    packages.remove(&arguments.id, arguments.forget)?;
    tell_what_lacks(&packages);
    Ok(String::new())
}

pub(crate) fn prune(global: &Global) -> Result<String, Outcome> {
    let removed = host::builder(global)?.packages()?.prune()?;
    Ok(format!("{removed} packages removed\n"))
}

/// Warns of plugins that lack what they need, before somebody finds out by loading them.
fn tell_what_lacks(packages: &Packages) {
    match packages.unmet() {
        Ok(unmet) => unmet.iter().for_each(|lacking| eprintln!("warning: {lacking}")),
        Err(error) => eprintln!("warning: {error}"),
    }
}

fn line(plugin: &InstalledPlugin) -> String {
    let InstalledVersion { version, digest, signers, time } = &plugin.current;
    let signed = match signers.is_empty() {
        true => "not signed by a trusted key".to_owned(),
        false => format!("signed by {}", signers.join(", ")),
    };
    let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(*time));
    let digest = digest.get(..12).unwrap_or(digest);
    let mut text = format!("@{} {version}  {signed}  {digest}  {when}", plugin.id);
    if !plugin.before.is_empty() {
        let before: Vec<_> = plugin.before.iter().map(|version| version.version.to_string()).collect();
        // Writing into a string cannot fail.
        let _ = write!(text, "  before: {}", before.join(", "));
    }
    text
}

/// An id, with or without the `@` that names an installed plugin elsewhere.
fn id(text: &str) -> Result<PluginId, String> {
    text.strip_prefix('@').unwrap_or(text).parse().map_err(|error| format!("{error}"))
}
