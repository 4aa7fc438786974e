//! What a native plugin opens, makes, removes and renames, where its profile has paths observed.
//!
//! The kernel's Landlock rules decide; an errno leaves no trace by itself. So the worker's program asks the host about these calls, the
//! host reads the path, tells what no rule allows, and lets the call go on. The plugin can change the path meanwhile: it gains
//! nothing, and what was told is then not what was refused. Links are not followed here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use hotcell_policy::review::Access;
use hotcell_protocol::{Instruction, PathRule, Place};

use crate::sys::notify::Notification;
use crate::sys::pidfd::lives;
use crate::sys::watch::Watch;

/// Longest path, with its NUL (PATH_MAX).
const PATH_MAX: usize = 4096;

/// `LANDLOCK_ACCESS_FS_*`: to read files or folders, to write files, to make folders or files, to remove either.
const READ: u64 = 1 << 2 | 1 << 3;
const WRITE: u64 = 1 << 1;
const MAKE: u64 = 1 << 7 | 1 << 8;
const REMOVE: u64 = 1 << 4 | 1 << 5;

/// Looks at one worker's calls.
pub(crate) struct Lookout {
    allowed: Vec<Instruction>,
    /// Where something is allowed, and what.
    rules: Vec<(PathBuf, u64)>,
    /// What grants call the plugin's own folders.
    places: Vec<(&'static str, PathBuf)>,
    pid: u32,
    pidfd: Arc<Watch<OwnedFd>>,
}

impl Lookout {
    /// `allowed` is what the plugin may call.
    pub(crate) fn new(
        allowed: Vec<Instruction>,
        rules: &[PathRule],
        places: &[(Place, String)],
        pid: u32,
        pidfd: Arc<Watch<OwnedFd>>,
    ) -> Lookout {
        let base =
            |place: Place| places.iter().find(|(known, _)| *known == place).map(|(_, path)| Path::new(path));
        let rule = |rule: &PathRule| Some((plain(&base(rule.place)?.join(&rule.path)), rule.access));
        let named = [(Place::Plugin, "${plugin}"), (Place::Data, "${data}"), (Place::Scratch, "${scratch}")];
        let named = named.into_iter().filter_map(|(place, name)| Some((name, base(place)?.to_owned())));
        Lookout {
            allowed,
            rules: rules.iter().filter_map(rule).collect(),
            places: named.collect(),
            pid,
            pidfd,
        }
    }

    pub(crate) fn allowed(&self) -> &[Instruction] {
        &self.allowed
    }

    /// The paths of a call that no rule allows, as grants write them, and what would be done there.
    pub(crate) fn look(&self, call: &str, notification: &Notification) -> Vec<(String, Access)> {
        let [first, second, third, fourth, ..] = notification.arguments;
        /// `AT_FDCWD`, as every `int` the lower half.
        const HERE: u64 = (-100_i64).cast_unsigned();
        let paths = match call {
            "openat" => vec![(first, second, opens(third))],
            "truncate" => vec![(HERE, first, Access::Write)],
            "mkdir" => vec![(HERE, first, Access::Create)],
            "mkdirat" => vec![(first, second, Access::Create)],
            "unlink" | "rmdir" => vec![(HERE, first, Access::Delete)],
            "unlinkat" => vec![(first, second, Access::Delete)],
            "rename" => vec![(HERE, first, Access::Delete), (HERE, second, Access::Create)],
            "renameat" | "renameat2" => {
                vec![(first, second, Access::Delete), (third, fourth, Access::Create)]
            }
            _ => Vec::new(),
        };
        let refused = |(folder, address, access): (u64, u64, Access)| {
            let path = self.path(folder, address)?;
            // What is not there is no secret that was asked for; to the plugin it is not there either way.
            let there = path.symlink_metadata().is_ok();
            let access = if access == Access::Create && there { Access::Write } else { access };
            let concerns = there || access == Access::Create;
            (concerns && !self.is_allowed(&path, access)).then(|| (self.named(&path), access))
        };
        paths.into_iter().filter_map(refused).collect()
    }

    fn is_allowed(&self, path: &Path, access: Access) -> bool {
        let bits = match access {
            Access::Read => READ,
            Access::Write => WRITE,
            Access::Create => MAKE,
            Access::Delete => REMOVE,
        };
        self.rules.iter().any(|(allowed, rights)| path.starts_with(allowed) && rights & bits != 0)
    }

    /// As a grant writes it.
    fn named(&self, path: &Path) -> String {
        let below = |(name, base): &(&str, PathBuf)| {
            let rest = path.strip_prefix(base).ok()?.display().to_string();
            Some(if rest.is_empty() { (*name).to_owned() } else { format!("{name}/{rest}") })
        };
        self.places.iter().find_map(below).unwrap_or_else(|| path.display().to_string())
    }

    /// The path at an address of the worker's memory, absolute; `None` if it cannot be read.
    fn path(&self, folder: u64, address: u64) -> Option<PathBuf> {
        let text = self.text(address)?;
        if text.starts_with('/') {
            return Some(plain(Path::new(&text)));
        }
        let folder = match int(folder) {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.pid),
            number => format!("/proc/{}/fd/{number}", self.pid),
        };
        let folder = std::fs::read_link(folder).ok().filter(|_| lives(self.pidfd.get_ref()))?;
        Some(plain(&folder.join(text)))
    }

    /// A C string of the worker's, if it is UTF-8.
    fn text(&self, address: u64) -> Option<String> {
        let memory = File::open(format!("/proc/{}/mem", self.pid)).ok()?;
        // The number cannot have been used again if the process still lives now.
        lives(self.pidfd.get_ref()).then_some(())?;
        let mut bytes = vec![0; PATH_MAX];
        let mut filled = 0;
        // A page that cannot be read ends it, where the string may have ended before.
        while let Some(piece) = bytes.get_mut(filled..).filter(|piece| !piece.is_empty()) {
            let at = address.checked_add(filled as u64)?;
            let page = PATH_MAX - usize::try_from(at % PATH_MAX as u64).ok()?;
            let length = piece.len().min(page);
            match memory.read_at(piece.get_mut(..length)?, at) {
                Ok(count @ 1..) => filled += count,
                _ => break,
            }
            if bytes.get(..filled)?.contains(&0) {
                break;
            }
        }
        let end = bytes.get(..filled)?.iter().position(|byte| *byte == 0)?;
        String::from_utf8(bytes.get(..end)?.to_vec()).ok()
    }
}

/// An `int` in a register: its lower half.
fn int(register: u64) -> i32 {
    u32::try_from(register & u64::from(u32::MAX)).unwrap_or_default().cast_signed()
}

/// What open(2) with these flags does first.
fn opens(flags: u64) -> Access {
    let flags = int(flags);
    match flags & libc::O_ACCMODE {
        _ if flags & libc::O_CREAT != 0 => Access::Create,
        libc::O_RDONLY => Access::Read,
        _ => Access::Write,
    }
}

/// Without `.` and `..`, as far as the text goes.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hotcell_policy::review::Access;

    use super::{opens, plain};

    #[test]
    fn paths_are_written_without_detours() {
        for (text, expected) in
            [("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/../..", "/"), ("/a//b/", "/a/b"), ("/", "/")]
        {
            assert_eq!(plain(Path::new(text)), Path::new(expected), "{text}");
        }
    }

    #[test]
    fn flags_say_what_is_opened_for() {
        let flags = |flags: i32| opens(u64::from(flags.cast_unsigned()));
        assert_eq!(flags(libc::O_RDONLY | libc::O_CLOEXEC), Access::Read);
        assert_eq!(flags(libc::O_RDWR), Access::Write);
        assert_eq!(flags(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC), Access::Create);
    }
}
