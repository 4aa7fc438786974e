//! The `hotcell` command: run, call, reload, plan, plugin, trust, key, profile, receipt, crashes, doctor, bench, stress.
//!
//! It holds no mechanism of its own: everything goes through the `hotcell` library, as any application would. It passes
//! no terminal descriptor to a plugin; `run` pumps bytes.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod call;
mod crashes;
mod doctor;
mod host;
mod interrupt;
mod key;
mod log;
mod outcome;
mod plan;
mod plugin;
mod profile;
mod profile_args;
mod profile_test;
mod receipt;
mod reload;
mod run;
mod trust;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Action, Arguments};
use crate::outcome::Outcome;

fn main() -> ExitCode {
    // The floors of `bench` execute this program again.
    if let Some(code) = hotcell_bench::serve_if_asked() {
        return code;
    }
    let Arguments { global, action } = Arguments::parse();
    log::to_stderr(match &action {
        // The attacks are what a plugin does there.
        Action::Profile(_) => LevelFilter::OFF,
        // What is measured must not be slowed down by what is printed.
        Action::Bench(_) => LevelFilter::ERROR,
        // Crashes are what it is about.
        Action::Stress(_) => LevelFilter::OFF,
        _ if global.quiet => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    });
    match action {
        Action::Bench(arguments) => bench::bench(&global, &arguments),
        Action::Stress(arguments) => bench::stress(&global, &arguments),
        Action::Run(run) => with_runtime(run::run(&global, run)),
        Action::Call(call) => with_runtime(call::call(&global, call)),
        Action::Reload(arguments) => with_runtime(reload::reload(&global, arguments)),
        Action::Plan(plan) => with_runtime(plan::plan(&global, plan)),
        Action::Receipt { action } => with_runtime(receipt::receipt(&global, action)),
        Action::Crashes { action } => crashes::crashes(&global, action),
        Action::Plugin(plugin) => plugin::plugin(&global, plugin),
        Action::Trust { action } => trust::trust(&global, action),
        Action::Key { action } => key::key(action),
        Action::Profile(profile) => profile::profile(&global, profile),
        Action::Doctor(doctor) => doctor::doctor(&doctor),
    }
}

fn with_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::internal(format!("failed to start the runtime: {error}")).report(),
    };
    let code = runtime.block_on(command);
    // A blocked read of standard input must not hold the end of the command back.
    runtime.shutdown_background();
    code
}
