//! What the figures were measured on.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;
use crate::placement::Processors;

/// The machine, the kernel, the user and the day of one run.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Machine {
    /// Processor model, as the kernel names it.
    pub(crate) processor: String,
    /// Processors that this run may use.
    pub(crate) cores: u32,
    /// Kernel release.
    pub(crate) kernel: String,
    /// `root` or `ordinary user`.
    pub(crate) user: &'static str,
    /// ISO 8601, UTC.
    pub(crate) date: String,
    /// Processes that wanted to run during the minute before: on a quiet machine under one.
    pub(crate) load: String,
}

impl Machine {
    /// All of it in words, as captions need it.
    pub(crate) fn sentence(&self) -> String {
        let Machine { processor, cores, kernel, user, date, load } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, as {user}, {date}, load average before {load}")
    }

    /// Asks the kernel; `date` replaces the clock's.
    pub(crate) fn look(processors: &Processors, date: Option<String>) -> Result<Machine, Failure> {
        let date = date.unwrap_or_else(today);
        let user = if rustix::process::geteuid().is_root() { "root" } else { "ordinary user" };
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Ok(Machine { processor: processor()?, cores: processors.count(), kernel, user, date, load: load()? })
    }
}

fn processor() -> Result<String, Failure> {
    let text =
        fs::read_to_string("/proc/cpuinfo").map_err(|source| Failure::io("read /proc/cpuinfo", source))?;
    // Arm's kernels name no model.
    Ok(model(&text).unwrap_or_else(|| format!("{} (the kernel names no model)", std::env::consts::ARCH)))
}

fn load() -> Result<String, Failure> {
    let text =
        fs::read_to_string("/proc/loadavg").map_err(|source| Failure::io("read /proc/loadavg", source))?;
    Ok(text.split_whitespace().next().unwrap_or("unknown").to_owned())
}

fn model(cpuinfo: &str) -> Option<String> {
    let (_, value) = cpuinfo
        .lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "model name"))?;
    Some(value.trim().to_owned())
}

const SECONDS_PER_DAY: u64 = 86_400;

fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date_of(now.as_secs() / SECONDS_PER_DAY)
}

/// The Gregorian date of a day since 1970-01-01, counted year by year and month by month.
fn date_of(mut day: u64) -> String {
    let mut year = 1970;
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", day + 1)
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(11_016), "2000-02-29");
        assert_eq!(date_of(11_017), "2000-03-01");
        assert_eq!(date_of(20_453), "2025-12-31");
        assert_eq!(date_of(20_454), "2026-01-01");
    }

    #[test]
    fn the_model_is_a_whole_value() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: Some CPU @ 2: fast\n").as_deref(),
            Some("Some CPU @ 2: fast")
        );
        assert_eq!(model("processor\t: 0\n"), None);
    }
}
