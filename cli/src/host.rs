//! The host of this command.

use std::path::Path;

use hotcell::policy::Profile;
use hotcell::{EventKind, Events, Host, HostBuilder, LoadOptions, Plugin, Violation};

use crate::args::Global;
use crate::outcome::Outcome;

/// Builds a host as the global options say.
pub(crate) async fn build(global: &Global) -> Result<Host, Outcome> {
    Ok(builder(global)?.build().await?)
}

/// The same, to be completed.
pub(crate) fn builder(global: &Global) -> Result<HostBuilder, Outcome> {
    let mut builder = Host::builder();
    if let Some(folder) = &global.worker_dir {
        builder = builder.worker(folder);
    }
    if let Some(folder) = &global.state_dir {
        builder = builder.state_dir(folder);
    }
    if let Some(folder) = &global.cache_dir {
        builder = builder.cache_dir(folder);
    }
    if let Some(folder) = &global.uid_registry {
        builder = builder.uid_registry(folder);
    }
    if let Some(folder) = &global.cgroup {
        builder = builder.cgroup(folder);
    }
    if global.require_signatures {
        builder = builder.require_signatures();
    }
    for path in &global.profile {
        builder = builder.profile(read_profile(path)?);
    }
    Ok(builder)
}

/// How plugins are loaded, as the global options say.
pub(crate) fn load_options(global: &Global) -> LoadOptions {
    LoadOptions { may_go_back: global.allow_downgrade, ..LoadOptions::default() }
}

/// Loads a plugin with what it needs of the installed ones, which are loaded for as long as they are kept.
pub(crate) async fn load(
    host: &Host,
    path: &Path,
    options: LoadOptions,
) -> Result<(Plugin, Vec<Plugin>), Outcome> {
    let mut plugins = host.load_with_installed([(path.to_owned(), options)]).await?;
    match plugins.pop() {
        Some(plugin) => Ok((plugin, plugins)),
        None => Err(Outcome::internal("the plugin was not loaded".to_owned())),
    }
}

/// What the sandbox has stopped so far.
pub(crate) fn violations(events: &mut Events) -> Vec<Violation> {
    let told = std::iter::from_fn(|| events.try_next());
    told.filter_map(|event| match event.kind {
        EventKind::Violation(violation) => Some(violation),
        _ => None,
    })
    .collect()
}

fn read_profile(path: &Path) -> Result<Profile, Outcome> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Outcome::invalid(format!("failed to read {}: {error}", path.display())))?;
    Profile::parse(&path.display().to_string(), &text).map_err(|error| Outcome::invalid(error.to_string()))
}
