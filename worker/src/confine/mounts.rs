//! A file tree of the worker's own (mount_namespaces(7)): the granted paths under their own names, and nothing else.
//!
//! Landlock decides what may be opened; here what is not granted does not exist either, so that nobody can ask for its size
//! or time. The tree is a read-only tmpfs onto which each granted path is mounted, read-only unless something may be
//! changed there. A native worker also finds its own descriptors in `/proc/self/fd`, by which the dynamic loader opens the
//! artifact.

use std::os::fd::OwnedFd;

use hotcell_protocol::{Failure, Orders, Place, Runtime, Step};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root, umask};
use rustix::thread::UnshareFlags;

use super::landlock::{base, open_beneath, unopened};
use crate::sys;

/// Where the dynamic loader finds the artifact.
const DESCRIPTORS: &str = "/proc/self/fd";

/// What the plugin's uid must get through.
const FOLDER: Mode = Mode::from_raw_mode(0o755);

/// `LANDLOCK_ACCESS_FS_*`: EXECUTE, READ_FILE and READ_DIR. Any other changes something.
const READING: u64 = 0b1101;

/// Leaves the file tree for one with the granted paths alone. Needs CAP_SYS_ADMIN, and a launcher whose mounts go nowhere.
pub(super) fn hide(orders: &Orders, places: &[(Place, String)]) -> Result<(), Failure> {
    let before = umask(!FOLDER & Mode::from_raw_mode(0o777));
    let hidden = show_only_granted(orders, places);
    umask(before);
    hidden
}

fn show_only_granted(orders: &Orders, places: &[(Place, String)]) -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWNS).map_err(failed("enter a mount namespace"))?;
    let root = empty_tree().map_err(failed("mount an empty file tree"))?;
    if orders.runtime == Runtime::Native {
        let own = openat(CWD, DESCRIPTORS, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        own.and_then(|own| show(&root, &own, DESCRIPTORS, MountAttrFlags::empty()))
            .map_err(failed("mount the descriptors"))?;
    }
    let mut granted = Vec::new();
    for rule in &orders.landlock.rules {
        let base = base(rule.place, places)?;
        granted.push((format!("{}/{}", base.trim_end_matches('/'), rule.path), base, rule));
    }
    // A folder before what is in it, whatever either is granted as.
    granted.sort_by_key(|(path, ..)| path.len());
    for (path, base, rule) in granted {
        let source = open_beneath(base, &rule.path).map_err(|errno| unopened(&path, errno))?;
        let only_read = rule.access & !READING == 0;
        let more = if only_read { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        show(&root, &source, &path, more).map_err(failed(&format!("mount the granted path {path}")))?;
    }
    sys::mount_attributes(&root, 0, MountAttrFlags::MOUNT_ATTR_RDONLY)
        .and_then(|()| fchdir(&root))
        .map_err(failed("seal the file tree"))?;
    pivot_root(".", ".").map_err(|errno| match errno {
        Errno::INVAL => {
            let detail =
                "the root of the file tree cannot be left, as that of an initramfs cannot (pivot_root(2))";
            Failure { step: Step::Namespaces, errno: errno.raw_os_error(), detail: detail.to_owned() }
        }
        errno => failed("leave the root of the file tree")(errno),
    })?;
    unmount(".", UnmountFlags::DETACH).and_then(|()| chdir("/")).map_err(failed("let go of the file tree"))
}

/// An empty tmpfs, mounted on top of the root: paths still lead through what is beneath.
fn empty_tree() -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "0755")?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(root)
}

/// Mounts a file or folder, with all that is mounted below it, at a path of the new tree.
fn show(root: &OwnedFd, source: &OwnedFd, path: &str, more: MountAttrFlags) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(source, "", flags)?;
    sys::mount_attributes(&tree, libc::AT_RECURSIVE, MountAttrFlags::MOUNT_ATTR_NOSUID | more)?;
    let is_folder = FileType::from_raw_mode(fstat(source)?.st_mode) == FileType::Directory;
    let place = make_place(root, path, is_folder)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &place, "", flags)
}

/// Something to mount on, and the folders that lead there. What a granted folder holds is there already, and may change
/// meanwhile: each step is one name, and follows no link.
fn make_place(root: &OwnedFd, path: &str, is_folder: bool) -> Result<OwnedFd, Errno> {
    let mut at = fcntl_dupfd_cloexec(root, 0)?;
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        let made = if names.peek().is_some() || is_folder {
            mkdirat(&at, name, FOLDER)
        } else {
            openat(&at, name, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR).map(drop)
        };
        if let Err(errno) = made
            && errno != Errno::EXIST
        {
            return Err(errno);
        }
        at = openat(&at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    }
    Ok(at)
}

fn failed(act: &str) -> impl FnOnce(Errno) -> Failure {
    super::failed(Step::Namespaces, act)
}
