//! Cgroups of workers: bounds that hold for all that the kernel charges to a worker.
//!
//! The host makes a group for each worker that a plan wants bounded so, puts the worker into it while it confines itself,
//! and looks again before anything of the plugin is loaded. A group ends with its worker; what a killed host left is
//! removed by the next one.

mod find;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hotcell_policy::{CgroupLimit, Controller};

use find::Version;
pub(crate) use find::{Place, given, own};

/// Groups of hosts begin with this; behind it stand the process id and start time of the host.
const PREFIX: &str = "hotcell-";

/// The period in which a share of a processor is granted, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// The groups of one host.
#[derive(Debug)]
pub(crate) struct Groups {
    places: Vec<Place>,
    /// The folder of this host in each place.
    name: String,
    made: AtomicU64,
    /// Groups whose last process had not quite ended.
    left: Mutex<Vec<PathBuf>>,
}

/// The group of one worker, in one or more hierarchies. Removed when dropped, or soon after its process has ended.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<(Version, Vec<Controller>, PathBuf)>,
    groups: Arc<Groups>,
}

impl Groups {
    /// Makes nothing yet.
    pub(crate) fn new(places: Vec<Place>) -> io::Result<Groups> {
        let own = std::process::id();
        let started = start_time(own).ok_or(io::ErrorKind::NotFound)?;
        Ok(Groups {
            places,
            name: format!("{PREFIX}{own}-{started}"),
            made: AtomicU64::new(0),
            left: Mutex::default(),
        })
    }

    /// What can be bounded.
    pub(crate) fn controllers(&self) -> Vec<Controller> {
        let has =
            |controller: &Controller| self.places.iter().any(|place| place.controllers.contains(controller));
        Controller::ALL.into_iter().filter(has).collect()
    }

    /// Makes a group with these bounds. Blocks for a fraction of a millisecond.
    pub(crate) fn make(self: &Arc<Groups>, limits: &[CgroupLimit]) -> io::Result<Group> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            self.places.iter().for_each(|place| remove_leftovers(&place.folder));
        }
        self.remove_left();
        let mut group = Group { folders: Vec::new(), groups: Arc::clone(self) };
        for place in &self.places {
            let wanted: Vec<&CgroupLimit> =
                limits.iter().filter(|limit| place.controllers.contains(&limit.controller)).collect();
            if wanted.is_empty() {
                continue;
            }
            let host = place.folder.join(&self.name);
            make_host(&host, place)?;
            let folder = host.join(number.to_string());
            fs::create_dir(&folder)?;
            let controllers = wanted.iter().map(|limit| limit.controller).collect();
            group.folders.push((place.version, controllers, folder.clone()));
            for limit in wanted {
                bound(&folder, place.version, limit)?;
            }
        }
        Ok(group)
    }

    fn remove_left(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|folder| {
            fs::remove_dir(folder).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove_left();
        for place in &self.places {
            // Not there if nothing was made, and not empty if a worker could not be ended.
            let _ = fs::remove_dir(place.folder.join(&self.name));
        }
    }
}

impl Group {
    /// Puts a process into it. The caller makes sure that the number was its own all the time.
    pub(crate) fn enter(&self, pid: u32) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|(_, _, folder)| fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// Which controllers bound a process by this group, as the kernel says of the process.
    pub(crate) fn bounds(&self, pid: u32) -> io::Result<Vec<Controller>> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mut bounds = Vec::new();
        for (version, controllers, folder) in &self.folders {
            if text.lines().any(|line| is_within(line, *version, controllers, folder)) {
                bounds.extend(controllers);
            }
        }
        bounds.sort_unstable();
        bounds.dedup();
        Ok(bounds)
    }

    /// How often the kernel killed for want of memory in it.
    pub(crate) fn memory_kills(&self) -> u64 {
        let memory =
            self.folders.iter().find(|(_, controllers, _)| controllers.contains(&Controller::Memory));
        let Some((version, _, folder)) = memory else { return 0 };
        let file = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, _, folder) in self.folders.drain(..) {
            if fs::remove_dir(&folder).is_err() {
                self.groups.left.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
            }
        }
    }
}

/// Whether a line of `/proc/PID/cgroup` says that the process is in this group of this hierarchy. What is mounted may show
/// another beginning of the path; its end, host and worker, is unlike that of any other group.
fn is_within(line: &str, version: Version, controllers: &[Controller], folder: &Path) -> bool {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(names), Some(path)) = (parts.next(), parts.next()) else { return false };
    let hierarchy = match version {
        Version::V2 => names.is_empty(),
        Version::V1 => controllers.iter().all(|one| names.split(',').any(|name| name == one.name())),
    };
    let own = folder.parent().and_then(Path::file_name).zip(folder.file_name());
    hierarchy && own.is_some_and(|(host, worker)| Path::new(path).ends_with(Path::new(host).join(worker)))
}

/// The host's own group, in which the groups of its workers are.
fn make_host(folder: &Path, place: &Place) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    if place.version == Version::V2 {
        for controller in &place.controllers {
            fs::write(folder.join("cgroup.subtree_control"), format!("+{}", controller.name()))?;
        }
    }
    Ok(())
}

fn bound(folder: &Path, version: Version, limit: &CgroupLimit) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(folder.join(file), value);
    // Kernels without swap accounting lack the file, and what is not there cannot be used.
    let write_if_there = |file: &str, value: String| match write(file, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let value = limit.value;
    match (limit.controller, version) {
        (Controller::Memory, Version::V1) => {
            write("memory.limit_in_bytes", value.to_string())?;
            write_if_there("memory.memsw.limit_in_bytes", value.to_string())
        }
        (Controller::Memory, Version::V2) => {
            write("memory.max", value.to_string())?;
            write("memory.oom.group", "1".to_owned())?;
            write_if_there("memory.swap.max", "0".to_owned())
        }
        (Controller::Pids, _) => write("pids.max", value.to_string()),
        (Controller::Cpu, Version::V1) => {
            write("cpu.cfs_period_us", PERIOD.to_string())?;
            write("cpu.cfs_quota_us", quota(value).to_string())
        }
        (Controller::Cpu, Version::V2) => write("cpu.max", format!("{} {PERIOD}", quota(value))),
    }
}

/// Microseconds of each period, for percent of one processor. The kernel grants no less than a millisecond.
fn quota(percent: u64) -> u64 {
    (percent.saturating_mul(PERIOD) / 100).max(1_000)
}

/// Removes the groups of hosts that are gone. One in which a process lives stays.
fn remove_leftovers(place: &Path) {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for host in entries(place).filter(|folder| is_left(folder)) {
        for worker in entries(&host).filter(|path| path.is_dir()) {
            let _ = fs::remove_dir(worker);
        }
        let _ = fs::remove_dir(host);
    }
}

/// Whether a folder is that of a host that does not live.
fn is_left(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let Some((pid, started)) = name.and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')) else {
        return false;
    };
    match (pid.parse(), started.parse::<u64>()) {
        (Ok(pid), Ok(started)) => start_time(pid) != Some(started),
        _ => false,
    }
}

/// When a process started, in ticks since the machine did (proc_pid_stat(5)); `None` if it is gone.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, a closing parenthesis too.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests;
