//! The CPU time of another process (clock_getcpuclockid(3)).

use std::time::Duration;

/// User and system time that a process has used; `None` if no process has this number.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    let mut clock = 0;
    // SAFETY: `clock` is a place for one clock id.
    if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for one timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::cpu_time;

    #[test]
    fn a_process_that_works_uses_time_and_no_process_has_none() {
        let own = std::process::id();
        let before = cpu_time(own).expect("this process lives");
        while cpu_time(own) == Some(before) {
            std::hint::black_box(0);
        }
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
