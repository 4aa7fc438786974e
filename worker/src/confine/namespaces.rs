//! Namespaces of the worker's own (namespaces(7)).
//!
//! A user namespace is not an identity: outside it the process keeps the user's uid. It is entered only because an
//! ordinary user needs it to enter the others.

use hotcell_protocol::{Failure, Namespace, Step};
use rustix::thread::UnshareFlags;

use super::failed;
use crate::sys;

pub(super) fn enter(namespaces: &[Namespace]) -> Result<(), Failure> {
    if namespaces.is_empty() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let flags = namespaces.iter().map(to_kernel).fold(UnshareFlags::empty(), UnshareFlags::union);
    sys::unshare(flags).map_err(failed(Step::Namespaces, format!("enter the namespaces {namespaces:?}")))?;
    if namespaces.contains(&Namespace::User) {
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("{0} {0} 1", uid.as_raw()))?;
        write("/proc/self/gid_map", &format!("{0} {0} 1", gid.as_raw()))?;
    }
    Ok(())
}

fn to_kernel(namespace: &Namespace) -> UnshareFlags {
    match namespace {
        Namespace::User => UnshareFlags::NEWUSER,
        Namespace::Ipc => UnshareFlags::NEWIPC,
        Namespace::Network => UnshareFlags::NEWNET,
        Namespace::Uts => UnshareFlags::NEWUTS,
    }
}

fn write(path: &str, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure {
        step: Step::Namespaces,
        errno: error.raw_os_error().unwrap_or(0),
        detail: format!("failed to write {path}: {error}"),
    })
}
