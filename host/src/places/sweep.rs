//! Removes a tree that a hostile process made.
//!
//! Such a tree may be deeper than any path is long and than any process has descriptors, and may hold links that lead
//! elsewhere. So nothing is recursive, at most three folders are open at a time, no link is followed, and a folder that is
//! not empty is moved up beside its parent before it is looked into.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Removes a folder with everything in it. No other process may be writing there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Errno> {
    let root = match open(CWD, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let mut moved = 0;
    loop {
        let names = entries(&root)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            if remove_entry(root.as_fd(), &name)? {
                continue;
            }
            flatten(root.as_fd(), &name, &mut moved)?;
        }
    }
    unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

/// Removes a file or an empty folder; `false` for a folder that is not empty.
fn remove_entry(folder: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(true),
        other => return other.map(|()| true),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Empties one folder: removes what it can, and moves its folders up into `root`.
fn flatten(root: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<(), Errno> {
    // Its owner may have taken every right away from itself.
    chmodat(root, name, Mode::RWXU, AtFlags::empty())?;
    let folder = open(root, name)?;
    for inner in entries(&folder)? {
        if remove_entry(folder.as_fd(), &inner)? {
            continue;
        }
        chmodat(&folder, &inner, Mode::RWXU, AtFlags::empty())?;
        *moved += 1;
        move_up(&folder, &inner, root, *moved)?;
    }
    match unlinkat(root, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Renames to a name that is free: one that is taken by a full folder or a file is passed over.
fn move_up(from: &OwnedFd, name: &CStr, root: BorrowedFd<'_>, number: u64) -> Result<(), Errno> {
    let mut suffix = 0_u32;
    loop {
        match renameat(from, name, root, format!("{number}.{suffix}.swept")) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) if suffix < u32::MAX => suffix += 1,
            other => return other,
        }
    }
}

fn open<P: rustix::path::Arg>(folder: impl AsFd, path: P) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, path, flags, Mode::empty())
}

/// A bounded number of names: the caller asks again until there are none.
fn entries(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    const AT_ONCE: usize = 1024;
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
        if names.len() == AT_ONCE {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, Mode, mkdirat};

    use super::{open, remove_tree};
    use crate::places::tests_support::Folder;

    #[test]
    fn a_tree_deeper_than_a_path_is_removed_and_links_are_not_followed() {
        let home = Folder::new("sweep");
        let kept = home.path().join("kept");
        std::fs::write(&kept, "kept").expect("writes");
        let tree = home.path().join("tree");
        std::fs::create_dir(&tree).expect("creates");
        let mut here = open(CWD, &tree).expect("opens");
        for depth in 0..3000 {
            std::os::unix::fs::symlink(home.path(), format!("{}/link{depth}", tree.display()))
                .expect("links");
            mkdirat(here.as_fd(), "a-name-of-some-length", Mode::RWXU).expect("creates");
            here = open(&here, "a-name-of-some-length").expect("opens");
        }
        drop(here);
        std::fs::create_dir(tree.join("1.0.swept")).expect("creates");
        std::fs::write(tree.join("1.0.swept/full"), "x").expect("writes");
        remove_tree(&tree).expect("removes");
        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(&kept).expect("still there"), "kept");
    }

    #[test]
    fn folders_without_rights_are_removed() {
        let home = Folder::new("sweep-rights");
        let tree = home.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).expect("creates");
        for path in ["a/b", "a"] {
            std::fs::set_permissions(tree.join(path), std::fs::Permissions::from_mode(0o0)).expect("chmod");
        }
        remove_tree(&tree).expect("removes");
        remove_tree(&tree).expect("a missing tree is removed already");
    }
}
