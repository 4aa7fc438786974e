//! Many reloads, bad updates and crashes under continuous load: `hotcell stress`.
//!
//! Each storm knows what it must come to: no call is lost, doubled or failed but those that ran in a worker that crashed.
//! That is judged; times are only told.

mod footprint;
mod load;
mod report;
mod storm;

use std::path::PathBuf;
use std::rc::Rc;

use clap::Args;

use crate::failure::Failure;
use crate::isolated::Hosts;
use crate::runtimes::Runtimes;
use report::Report;

/// What is done to the sample plugin `notebook`, and for how long.
#[derive(Clone, Debug, Args)]
pub struct Stress {
    /// Reloads to a good version, one after the other
    #[arg(long, value_name = "N", default_value_t = 200)]
    reloads: u32,

    /// Updates to a version that crashes in its first call, and is rolled back
    #[arg(long, value_name = "N", default_value_t = 50)]
    bad_updates: u32,

    /// Calls that crash their worker
    #[arg(long, value_name = "N", default_value_t = 200)]
    crashes: u32,

    /// After that, all of these in random order for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    mixed: u64,

    /// Callers that call all the time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    callers: u32,

    /// Bytes of state that each reload carries over
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    state: usize,

    /// What the random order begins from; the same number gives the same order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Print the report as JSON, times in nanoseconds
    #[arg(long)]
    json: bool,

    /// Write the report to FILE as well: JSON if its name ends so, else text
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Folder of the sample plugins, built by scripts/build-plugins
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    plugins: PathBuf,
}

/// Runs the subcommand; false where a call was lost, doubled or failed that should not, or something was left behind.
/// `worker_dir` is the folder of hotcell's programs, if it is not beside this one.
///
/// # Errors
/// The storms cannot be run at all, or the report cannot be written.
pub fn stress(stress: &Stress, worker_dir: Option<PathBuf>) -> Result<bool, Failure> {
    let runtimes = Rc::new(Runtimes::default());
    let hosts = Hosts::new(worker_dir, Rc::clone(&runtimes))?;
    let report = Report::new(stress.seed, storm::run(stress, &hosts, &runtimes)?);
    hosts.close();
    report.write(stress)?;
    Ok(report.holds())
}
