//! What the command line says.

use std::path::PathBuf;

use clap::Args;

use crate::measure::Effort;

const FULL: Effort = Effort { rounds: 15, factor: 1, divisor: 1 };
const QUICK: Effort = Effort { rounds: 3, divisor: 5, ..FULL };
/// Long turns: what happens between them must not show.
const ALONE: Effort = Effort { rounds: 3, factor: 50, ..FULL };

/// What of the machine and of hotcell is measured, and where the figures go.
#[derive(Debug, Args)]
pub struct Bench {
    /// Take fewer samples: shows that everything runs, says little about speed
    #[arg(long)]
    pub(crate) quick: bool,

    /// Measure only rows whose id ("call-64/hotcell native, async/one core") contains TEXT, and what they are compared with
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,

    /// Leave out what the rows are compared with: for a look at one row with another tool (scripts/profile)
    #[arg(long, requires = "filter")]
    pub(crate) alone: bool,

    /// Print the ids of all rows and measure nothing
    #[arg(long, conflicts_with_all = ["standards", "many"])]
    pub(crate) list: bool,

    /// The program that holds the alternatives (scripts/bench builds it); without it they have no rows
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) peers: Option<PathBuf>,

    /// Instead: measure what hotcell promises and say pass or FAIL; exits 1 unless all pass
    #[arg(long, conflicts_with_all = ["many", "filter", "peers", "markdown"])]
    pub(crate) standards: bool,

    /// Instead: measure with up to N plugins loaded at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with_all = ["filter", "peers", "markdown"])]
    pub(crate) many: Option<u32>,

    /// Write all figures to FILE as JSON, times in nanoseconds, memory in bytes; - is standard output, instead of tables
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write figures.json, figures.md and a chart for each group into DIR (or standards, or many, .json and .md)
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Replace the summary between the two markers of FILE, which lies in the parent folder of --out
    #[arg(long, value_name = "FILE", requires = "out")]
    pub(crate) markdown: Option<PathBuf>,

    /// The day that the report names [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    pub(crate) date: Option<String>,

    /// Folder of the sample plugins, built by scripts/build-plugins
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub(crate) plugins: PathBuf,

    /// Folder of the plugins that only the benchmarks use
    #[arg(long, value_name = "DIR", default_value = "benches/plugins")]
    pub(crate) bench_plugins: PathBuf,
}

impl Bench {
    /// How much to measure.
    pub(crate) fn effort(&self) -> Effort {
        match self {
            Bench { quick: true, .. } => QUICK,
            Bench { alone: true, .. } => ALONE,
            _ => FULL,
        }
    }
}

fn date(text: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_date =
        lengths == [4, 2, 2] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if is_date { Ok(text.to_owned()) } else { Err("a date has the form YYYY-MM-DD") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_one_form() {
        assert_eq!(date("2026-01-31").as_deref(), Ok("2026-01-31"));
        for bad in ["", "2026-1-31", "31-01-2026", "2026-01-31 ", "2026-01-3x"] {
            assert!(date(bad).is_err(), "{bad:?}");
        }
    }
}
