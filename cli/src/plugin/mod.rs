//! `hotcell plugin`: the day of a plugin's author, and of whoever installs plugins.

mod inspect;
mod installed;
mod ship;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::args::Global;
use crate::outcome::Outcome;

#[derive(Debug, Args)]
pub(crate) struct Plugin {
    #[command(subcommand)]
    action: Action,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make an .lbplugin file of a folder with a manifest, signed with your key
    Package(ship::Package),
    /// Sign a package again, print what is to be signed elsewhere, or attach such a signature
    #[command(after_help = ship::SIGN)]
    Sign(ship::Sign),
    /// Check a package whole: its form, its digests, each signature, and whether they count here
    Verify(inspect::Verify),
    /// Say in words what a plugin is and may do, without installing it
    Inspect(inspect::Inspect),
    /// Install a package: from then on, @ID names it
    Install(installed::Install),
    /// Install a newer version of a plugin that is installed
    Update(installed::Update),
    /// List the installed plugins
    List(installed::List),
    /// Go back to the version that was installed before
    Rollback(installed::Rollback),
    /// Remove an installed plugin; what it keeps in `${data}` stays
    Remove(installed::Remove),
    /// Remove packages from the store that were loaded from files; not while a host runs with one
    Prune,
}

pub(crate) fn plugin(global: &Global, Plugin { action }: Plugin) -> ExitCode {
    let done = match action {
        Action::Package(arguments) => ship::package(&arguments),
        Action::Sign(arguments) => ship::sign(&arguments),
        Action::Verify(arguments) => inspect::verify(global, &arguments),
        Action::Inspect(arguments) => inspect::inspect(global, &arguments),
        Action::Install(arguments) => installed::install(global, &arguments),
        Action::Update(arguments) => installed::update(global, &arguments),
        Action::List(arguments) => installed::list(global, &arguments),
        Action::Rollback(arguments) => installed::rollback(global, &arguments),
        Action::Remove(arguments) => installed::remove(global, &arguments),
        Action::Prune => installed::prune(global),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

fn as_json(value: &impl serde::Serialize) -> Result<String, Outcome> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Outcome::internal(error.to_string()))?;
    Ok(text + "\n")
}
