//! What so many plugins need of the system, raised or refused before anything starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::isolated::Image;

/// Descriptors that a host holds for itself and a start in progress.
const OWN: u64 = 256;

/// Descriptors that a host holds for one plugin: two bells and a pidfd; for a native one also its output and its listener.
fn each(image: Image) -> u64 {
    match image {
        Image::Native => 6,
        Image::Wasm => 3,
    }
}

/// Raises the limit of open descriptors as far as this many plugins need.
pub(super) fn raise(image: Image, plugins: u32) -> Result<(), Failure> {
    let needed = needed(image, plugins);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).map_err(|errno| {
        let has = current.map_or_else(|| "none".to_owned(), |current| current.to_string());
        Failure::Usage(format!(
            "{plugins} {} plugins need {needed} open descriptors (RLIMIT_NOFILE), the limit is {has} and cannot be raised: \
             {errno}; it takes CAP_SYS_RESOURCE (or a shell after `ulimit -n {needed}`) and as much in /proc/sys/fs/nr_open",
            image.name()
        ))
    })
}

fn needed(image: Image, plugins: u32) -> u64 {
    u64::from(plugins) * each(image) + OWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_plugins_need_no_more_than_any_process_has() {
        assert!(needed(Image::Native, 1) < 1024);
        assert_eq!(needed(Image::Wasm, 10_000), 30_256);
    }

    #[test]
    fn what_nobody_may_have_is_refused_and_says_what_it_needs() {
        // More than the largest nr_open that a kernel takes.
        let failure = raise(Image::Native, u32::MAX).expect_err("cannot be raised");
        assert!(failure.to_string().contains("RLIMIT_NOFILE"), "{failure}");
    }
}
