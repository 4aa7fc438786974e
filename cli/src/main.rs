//! The `hotcell` command: run, call, plan, doctor.
//!
//! It holds no mechanism of its own: everything goes through the `hotcell` library, as any application would. It passes
//! no terminal descriptor to a plugin; `run` pumps bytes.

#![forbid(unsafe_code)]

mod args;
mod call;
mod doctor;
mod host;
mod log;
mod outcome;
mod plan;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Action, Arguments};
use crate::outcome::Outcome;

fn main() -> ExitCode {
    let Arguments { global, action } = Arguments::parse();
    log::to_stderr(global.quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::internal(format!("failed to start the runtime: {error}")).report(),
    };
    let code = runtime.block_on(async {
        match action {
            Action::Run(run) => run::run(&global, run).await,
            Action::Call(call) => call::call(&global, call).await,
            Action::Plan(plan) => plan::plan(&global, plan).await,
            Action::Doctor(doctor) => doctor::doctor(&doctor),
        }
    });
    // A blocked read of standard input must not hold the end of the command back.
    runtime.shutdown_background();
    code
}
