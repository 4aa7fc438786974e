//! How much processor time processes took.

use std::fs;
use std::time::Duration;

use crate::failure::Failure;

/// User and system time of all threads of these processes so far; those that have ended count as nothing.
pub(crate) fn time_of(processes: &[i32]) -> Duration {
    let ticks: u64 = processes.iter().filter_map(|process| ticks(*process)).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

fn ticks(process: i32) -> Option<u64> {
    parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Fields after the command name, which may contain anything; proc_pid_stat(5) counts them from 3 on.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Percent of one core that processes took while time passed. The last one is this process: what looking at the others takes
/// is not counted.
pub(crate) fn percent_during(
    processes: &[i32],
    pass: impl FnOnce() -> Result<Duration, Failure>,
) -> Result<f64, Failure> {
    let before = time_of(processes);
    let passed = pass()?;
    let reversed: Vec<_> = processes.iter().rev().copied().collect();
    let took = time_of(&reversed).saturating_sub(before);
    Ok(took.as_secs_f64() / passed.as_secs_f64().max(f64::EPSILON) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_fourteenth_and_fifteenth_field() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 5";
        assert_eq!(parse(stat), Some(42));
        assert_eq!(parse("7 (a) S 1"), None);
    }
}
