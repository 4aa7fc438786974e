//! `hotcell plugin`: the day of a plugin's author, and of whoever installs plugins.

mod audit;
mod build;
mod contract;
mod create;
mod debug;
mod dev;
mod docs;
mod flame;
mod inspect;
mod installed;
mod profile;
mod project;
mod ship;
mod template;
mod test;

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
    /// Make a project that builds and passes its own test at once
    Create(create::Create),
    /// Build a project's artifact with the tools that its hotcell.toml names
    Build(build::BuildArguments),
    /// Build, and try the cases of hotcell.toml in a real confined worker; exits 1 where one fails
    Test(test::Test),
    /// Build and reload whenever a source changes, and show what the plugin does and what it may not
    #[command(after_help = dev::DEV)]
    Dev(dev::Dev),
    /// Call an export again and again, and say in which functions the plugin spends its time
    #[command(after_help = profile::PROFILE)]
    Profile(profile::Profile),
    /// Call an export of a native plugin with a debugger attached to its worker
    #[command(after_help = debug::DEBUG)]
    Debug(debug::Debug),
    /// Print the reference of a plugin, from its manifest: exports, permissions, configuration
    Docs(docs::Docs),
    /// Make an .lbplugin file of a folder with a manifest, signed with your key
    Package(ship::Package),
    /// Sign a package again, print what is to be signed elsewhere, or attach such a signature
    #[command(after_help = ship::SIGN)]
    Sign(ship::Sign),
    /// Check a package whole: its form, its digests, each signature, and whether they count here
    Verify(inspect::Verify),
    /// Say in words what a plugin is and may do, without installing it
    Inspect(inspect::Inspect),
    /// Say what can be said against a package before anything of it runs; exits 1 where something grave is
    #[command(after_help = audit::AUDIT)]
    Audit(audit::AuditArguments),
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
        Action::Build(arguments) => {
            return crate::with_runtime(async { finish(build::build(global, &arguments).await) });
        }
        Action::Test(arguments) => return crate::with_runtime(test::test(global, &arguments)),
        Action::Audit(arguments) => return crate::with_runtime(audit::audit(global, arguments)),
        Action::Profile(arguments) => {
            return crate::with_runtime(async { finish(profile::profile(global, &arguments).await) });
        }
        Action::Debug(arguments) => return crate::with_runtime(debug::debug(global, &arguments)),
        Action::Dev(arguments) => return crate::with_runtime(dev::dev(global, &arguments)),
        Action::Create(arguments) => create::create(&arguments),
        Action::Docs(arguments) => docs::docs(global, &arguments),
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
    finish(done)
}

/// Prints what a command says, or why it failed.
fn finish(done: Result<String, Outcome>) -> ExitCode {
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
