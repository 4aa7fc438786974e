//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::measure::Effort;

const FULL: Effort = Effort { rounds: 15, divisor: 1 };
const QUICK: Effort = Effort { rounds: 3, divisor: 5 };

/// Measures hotcell beside the floors of this machine, in interleaved rounds of one run.
#[derive(Debug, Parser)]
#[command(name = "hotcell-bench", version)]
pub(crate) struct Args {
    /// Takes fewer samples: shows that everything runs, says little about speed.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Measures only rows whose id ("call-64/hotcell native, async/one core") contains TEXT, and their floors.
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Vec<String>,

    /// Prints the ids of all rows and measures nothing.
    #[arg(long)]
    pub(crate) list: bool,

    /// Writes all figures to FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Replaces the figures between the two markers of FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// The day that the report names; today's by default.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    pub(crate) date: Option<String>,

    /// The folder of hotcell's programs; by default the one that this program lies in.
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,

    /// The folder of the sample plugins.
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub(crate) plugins: PathBuf,

    /// The folder of the plugins that only the benchmarks use.
    #[arg(long, value_name = "DIR", default_value = "benches/plugins")]
    pub(crate) bench_plugins: PathBuf,
}

impl Args {
    /// How much to measure.
    pub(crate) fn effort(&self) -> Effort {
        if self.quick { QUICK } else { FULL }
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
