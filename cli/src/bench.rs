//! `hotcell bench` and `hotcell stress`: what isolation costs here, and what it stands.

use std::path::PathBuf;
use std::process::ExitCode;

use hotcell::Class;
use hotcell_bench::{Bench, Failure, Stress};

use crate::args::Global;
use crate::outcome::Outcome;

/// A promise that is not kept has this code; 2 to 9 say that nothing could be measured.
const NOT_KEPT: u8 = 1;

pub(crate) fn bench(global: &Global, arguments: &Bench) -> ExitCode {
    run(global, "bench", |worker_dir| hotcell_bench::run(arguments, worker_dir))
}

pub(crate) fn stress(global: &Global, arguments: &Stress) -> ExitCode {
    run(global, "stress", |worker_dir| hotcell_bench::stress(arguments, worker_dir))
}

fn run(
    global: &Global,
    name: &str,
    subcommand: impl FnOnce(Option<PathBuf>) -> Result<bool, Failure>,
) -> ExitCode {
    if let Some(option) = meaningless(global) {
        let message =
            format!("{option} has no meaning for {name}, which uses folders and profiles of its own");
        return Outcome { class: Class::Invalid, message }.report();
    }
    match subcommand(global.worker_dir.clone()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_KEPT),
        Err(failure) => Outcome { class: failure.class(), message: failure.to_string() }.report(),
    }
}

/// A global option that would change nothing.
fn meaningless(global: &Global) -> Option<&'static str> {
    let Global { worker_dir: _, state_dir, uid_registry, cgroup, cache_dir, profile, .. } = global;
    let Global { require_signatures, allow_downgrade, quiet: _, .. } = global;
    let given = [
        (state_dir.is_some(), "--state-dir"),
        (uid_registry.is_some(), "--uid-registry"),
        (cgroup.is_some(), "--cgroup"),
        (*require_signatures, "--require-signatures"),
        (*allow_downgrade, "--allow-downgrade"),
        (cache_dir.is_some(), "--cache-dir"),
        (!profile.is_empty(), "--profile"),
    ];
    given.into_iter().find_map(|(given, option)| given.then_some(option))
}
