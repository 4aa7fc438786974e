//! How much the folders of a plugin hold, while it may be writing there.
//!
//! The tree is hostile and changes under the walk: no link is followed, nothing is opened but folders, and depth and
//! entries are bounded. What cannot be measured counts as too much.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

/// Every file, link and folder counts as at least this many bytes, so that one limit bounds their number, too.
const LEAST: u64 = 4096;

/// Folders inside each other at most: each costs the walk a descriptor.
const DEPTH: usize = 64;

/// The unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// Why a folder holds too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// More than the limit, counted so far.
    #[error("its files take more than the {0} bytes of `disk`")]
    Bytes(u64),
    #[error("its folders are more than {DEPTH} deep")]
    Depth,
    #[error("its files cannot be measured: {0}")]
    Hidden(Errno),
}

/// What some folders hold together, in bytes: the blocks of each file, and 4 KiB at least.
///
/// # Errors
/// It is more than the limit, or it cannot be told.
pub(crate) fn measure<'a>(folders: impl Iterator<Item = &'a Path>, limit: u64) -> Result<u64, Excess> {
    let mut total = 0;
    for path in folders {
        let folder = open(CWD, path).map_err(Excess::Hidden)?;
        let mut open_folders = vec![listed(folder)?];
        while let Some((folder, entries)) = open_folders.last_mut() {
            let Some(entry) = entries.next() else {
                open_folders.pop();
                continue;
            };
            let entry = entry.map_err(Excess::Hidden)?;
            let name = CString::from(entry.file_name());
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            let facts = match statat(folder.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other.map_err(Excess::Hidden)?,
            };
            let blocks = u64::try_from(facts.st_blocks).unwrap_or(0);
            total += blocks.saturating_mul(BLOCK).max(LEAST);
            if total > limit {
                return Err(Excess::Bytes(limit));
            }
            if FileType::from_raw_mode(facts.st_mode) != FileType::Directory {
                continue;
            }
            if open_folders.len() == DEPTH {
                return Err(Excess::Depth);
            }
            let inner = open_folders.last().map(|(folder, _)| open(folder.as_fd(), name.as_c_str()));
            match inner {
                // Gone or replaced meanwhile: the next look sees what is there then.
                None | Some(Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {}
                Some(inner) => open_folders.push(listed(inner.map_err(Excess::Hidden)?)?),
            }
        }
    }
    Ok(total)
}

fn listed(folder: OwnedFd) -> Result<(OwnedFd, Dir), Excess> {
    let entries = Dir::read_from(&folder).map_err(Excess::Hidden)?;
    Ok((folder, entries))
}

fn open<P: rustix::path::Arg>(folder: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{DEPTH, Excess, LEAST, measure};
    use crate::places::tests_support::Folder;

    fn of(path: &Path, limit: u64) -> Result<u64, Excess> {
        measure([path].into_iter(), limit)
    }

    #[test]
    fn blocks_count_and_each_entry_counts_at_least_a_page() {
        let home = Folder::new("usage");
        assert_eq!(of(home.path(), 0), Ok(0), "an empty folder");
        std::fs::write(home.path().join("large"), vec![1; 1 << 20]).expect("writes");
        let large = of(home.path(), 64 << 20).expect("within");
        assert!(large >= 1 << 20, "{large}");
        std::fs::File::create(home.path().join("sparse")).expect("creates").set_len(1 << 40).expect("grows");
        for number in 0..10 {
            std::fs::write(home.path().join(number.to_string()), "").expect("writes");
        }
        let all = of(home.path(), 64 << 20).expect("a hole takes no room");
        assert!(all >= large + 11 * LEAST && all < large + (1 << 20), "{all}");
        assert_eq!(of(home.path(), all), Ok(all));
        assert_eq!(of(home.path(), all - 1), Err(Excess::Bytes(all - 1)));
    }

    #[test]
    fn links_lead_nowhere_and_depth_is_bounded() {
        let home = Folder::new("usage-links");
        let tree = home.path().join("tree");
        std::fs::create_dir(&tree).expect("creates");
        std::fs::write(home.path().join("outside"), vec![1; 1 << 20]).expect("writes");
        for (target, name) in [("..", "up"), (".", "loop"), ("../outside", "file")] {
            std::os::unix::fs::symlink(target, tree.join(name)).expect("links");
        }
        assert!(of(&tree, 1 << 19).expect("only the links count") >= 3 * LEAST);
        let deep = |levels: usize| tree.join(vec!["d"; levels].join("/"));
        std::fs::create_dir_all(deep(DEPTH - 1)).expect("creates");
        assert!(of(&tree, 64 << 20).is_ok());
        std::fs::create_dir_all(deep(DEPTH)).expect("creates");
        assert_eq!(of(&tree, 64 << 20), Err(Excess::Depth));
        std::os::unix::fs::symlink(&tree, home.path().join("link")).expect("links");
        assert!(
            matches!(of(&home.path().join("link"), 1 << 30), Err(Excess::Hidden(_))),
            "the folder itself"
        );
    }
}
