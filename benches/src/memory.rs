//! How much memory is a process's own.

use std::fs;

use crate::failure::Failure;

/// Bytes of a process that no other process shares: the private clean and dirty pages of proc_pid_smaps(5).
pub(crate) fn private_bytes(process: i32) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
        .map_err(|source| Failure::io("read the memory of a process (not readable)", source))?;
    parse(&text)
        .ok_or_else(|| Failure::other("the memory of a process is not readable: it has none any more"))
}

/// Bytes that new processes of the whole system could have (`MemAvailable` of proc_meminfo(5)).
pub(crate) fn available_bytes() -> Result<u64, Failure> {
    let text =
        fs::read_to_string("/proc/meminfo").map_err(|source| Failure::io("read /proc/meminfo", source))?;
    field(&text, "MemAvailable")
        .ok_or_else(|| Failure::other("/proc/meminfo says nothing of available memory"))
}

fn parse(rollup: &str) -> Option<u64> {
    Some(field(rollup, "Private_Clean")? + field(rollup, "Private_Dirty")?)
}

/// A line of the form `NAME: 12 kB`, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_clean_and_dirty() {
        let text = "5500-7fff ---p 00000000 00:00 0    [rollup]\nRss:   900 kB\nPrivate_Clean:   4 kB\nPrivate_Dirty:  60 kB\n";
        assert_eq!(parse(text), Some(64 * 1024));
        assert_eq!(parse("Rss: 900 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_of_its_own() {
        assert!(private_bytes(crate::placement::own_pid()).expect("readable") > 0);
    }
}
