//! Namespaces apart from the host's (namespaces(7)), entered once by the launcher, for all of its workers. Of mount namespaces
//! the launcher's own only keeps what workers mount to themselves: those whose plan says so enter one each.
//!
//! They keep workers away from the host's network, queues and host name, not from each other: what would let one reach
//! another there (sockets, queues) no syscall set holds, and each worker has a Landlock layer of its own. One network
//! namespace for each worker would cost every launch 0.3 to 4 ms.
//!
//! A user namespace is not an identity: outside it the process keeps the user's uid. It is entered only because an
//! ordinary user needs it to enter the others.

use hotcell_protocol::Namespace;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::sys;

const OTHERS: [Namespace; 3] = [Namespace::Ipc, Namespace::Network, Namespace::Uts];

/// Enters what this system allows, all or nothing, and says what that is. The host refuses plans that ask for more.
///
/// # Errors
/// A user namespace was entered and could not be mapped: nothing works in it, and there is no way back.
pub(crate) fn enter() -> Result<Vec<Namespace>, Errno> {
    let others = OTHERS.iter().map(to_kernel).fold(UnshareFlags::empty(), UnshareFlags::union);
    if sys::unshare(others).is_ok() {
        return Ok(OTHERS.into_iter().chain(own_mounts()).collect());
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    // The kernel refuses both together or neither: there is no half to undo.
    if sys::unshare(others | UnshareFlags::NEWUSER).is_err() {
        return Ok(Vec::new());
    }
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{0} {0} 1", uid.as_raw()))?;
    write("/proc/self/gid_map", &format!("{0} {0} 1", gid.as_raw()))?;
    Ok([Namespace::User].into_iter().chain(OTHERS).chain(own_mounts()).collect())
}

/// A mount namespace to which the host's mounts come, and which gives none back. What refuses mount(2) alone leaves the rest.
fn own_mounts() -> Option<Namespace> {
    let entered = sys::unshare(to_kernel(&Namespace::Mount));
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    entered.and_then(|()| mount_change("/", flags)).ok().map(|()| Namespace::Mount)
}

fn to_kernel(namespace: &Namespace) -> UnshareFlags {
    match namespace {
        Namespace::User => UnshareFlags::NEWUSER,
        Namespace::Ipc => UnshareFlags::NEWIPC,
        Namespace::Network => UnshareFlags::NEWNET,
        Namespace::Uts => UnshareFlags::NEWUTS,
        Namespace::Mount => UnshareFlags::NEWNS,
    }
}

fn write(path: &str, text: &str) -> Result<(), Errno> {
    std::fs::write(path, text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
