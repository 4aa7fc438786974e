//! Where this host may make cgroups: cgroups(7), and the kernel's documents on both versions.

use std::fs;
use std::path::{Path, PathBuf};

use hotcell_policy::Controller;
use rustix::fs::{Access, access};

/// The two interfaces of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A folder in which groups of one hierarchy are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) folder: PathBuf,
    pub(crate) controllers: Vec<Controller>,
}

/// Where this process's own groups are, as far as groups below them can be made and bounded. Changes nothing.
pub(crate) fn own() -> Vec<Place> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    places(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
        .into_iter()
        .filter_map(usable)
        .filter(|place| access(&place.folder, Access::WRITE_OK).is_ok())
        .collect()
}

/// A cgroup v2 that was given to this host. Its controllers are passed on to groups below it, as far as it has them.
///
/// # Errors
/// It is no such group, or cannot be written; for instance, a process is in it.
pub(crate) fn given(folder: &Path) -> std::io::Result<Vec<Place>> {
    let has = controllers_in(&fs::read_to_string(folder.join("cgroup.controllers"))?);
    let passed = controllers_in(&fs::read_to_string(folder.join(PASSED_ON))?);
    for controller in has.iter().filter(|controller| !passed.contains(controller)) {
        fs::write(folder.join(PASSED_ON), format!("+{}", controller.name()))?;
    }
    Ok(vec![Place { version: Version::V2, folder: folder.to_owned(), controllers: has }])
}

/// The controllers that groups below one of version 2 have.
const PASSED_ON: &str = "cgroup.subtree_control";

/// Of version 2, only what is passed on already: to pass more on may not be ours to decide.
fn usable(place: Place) -> Option<Place> {
    let controllers = match place.version {
        Version::V1 => place.controllers,
        Version::V2 => controllers_in(&fs::read_to_string(place.folder.join(PASSED_ON)).ok()?),
    };
    (!controllers.is_empty()).then_some(Place { controllers, ..place })
}

fn controllers_in(text: &str) -> Vec<Controller> {
    let names: Vec<&str> = text.split([' ', ',', '\n']).collect();
    Controller::ALL.into_iter().filter(|controller| names.contains(&controller.name())).collect()
}

/// From `/proc/self/cgroup` and `/proc/self/mountinfo`: a folder for each hierarchy that is mounted and has a controller of
/// interest, or is of version 2.
fn places(groups: &str, mounts: &str) -> Vec<Place> {
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::read).collect();
    let place = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (version, controllers) = match names {
            "" => (Version::V2, Vec::new()),
            names => (Version::V1, controllers_in(names)),
        };
        if version == Version::V1 && controllers.is_empty() {
            return None;
        }
        let mount = mounts.iter().find(|mount| match version {
            Version::V2 => mount.kind == "cgroup2",
            Version::V1 => mount.kind == "cgroup" && controllers_in(mount.options) == controllers,
        })?;
        // A container may see a part of the hierarchy as its root.
        let below = Path::new(path).strip_prefix(mount.root).ok()?;
        Some(Place { version, folder: Path::new(mount.point).join(below), controllers })
    };
    groups.lines().filter_map(place).collect()
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
struct Mount<'l> {
    root: &'l str,
    point: &'l str,
    kind: &'l str,
    options: &'l str,
}

impl Mount<'_> {
    fn read(line: &str) -> Option<Mount<'_>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Mount {
            root: before.next()?,
            point: before.next()?,
            kind: after.next()?,
            options: after.nth(1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hotcell_policy::Controller;

    use super::{Place, Version, places};

    #[test]
    fn own_groups_are_found_in_both_versions_and_in_a_container() {
        let groups =
            "5:devices:/\n4:cpu,cpuacct:/box/a\n3:memory:/box/a\n2:name=systemd:/\n0::/user/app\nx\n";
        let mounts = "30 1 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            31 1 0:2 /box /sys/fs/cgroup/memory rw shared:1 - cgroup cgroup rw,memory\n\
            32 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 1 0:4 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\nx\n";
        let place = |version, folder: &str, controllers: &[Controller]| Place {
            version,
            folder: Path::new(folder).to_owned(),
            controllers: controllers.to_vec(),
        };
        let expected = [
            place(Version::V1, "/sys/fs/cgroup/cpu/box/a", &[Controller::Cpu]),
            place(Version::V1, "/sys/fs/cgroup/memory/a", &[Controller::Memory]),
            place(Version::V2, "/sys/fs/cgroup/unified/user/app", &[]),
        ];
        assert_eq!(places(groups, mounts), expected);
        let elsewhere = "3:memory:/other\n";
        assert_eq!(places(elsewhere, mounts), [], "what is mounted does not show it");
    }
}
