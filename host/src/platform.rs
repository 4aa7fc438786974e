//! What this machine can enforce, found out by asking its kernel.

use hotcell_policy::{Arch, Controller, Platform, PolicyError};
use rustix::thread::CapabilitySet;

use crate::class::Class;
use crate::error::Error;
use crate::sys::probe::{self, SeccompAction};

/// What a host that is root needs to give workers identities of their own, and to end them then.
const IDENTITY_CAPABILITIES: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL);

/// Probes this machine for this user. Changes nothing; takes about a millisecond.
///
/// # Errors
/// hotcell knows no system calls of this processor.
pub fn platform() -> Result<Platform, Error> {
    let arch = Arch::of_this_build().ok_or(Error::Unavailable {
        layer: "seccomp",
        detail: "no system call table for this processor".to_owned(),
        since: "x86_64 or aarch64",
        advice: "run hotcell on one of these",
    })?;
    let root = is_root();
    let namespaces = |through_user| probe::namespaces(through_user).unwrap_or(false);
    let seccomp = |action| probe::seccomp_action(action).is_ok();
    Ok(Platform {
        arch,
        landlock_abi: probe::landlock_abi().unwrap_or(0),
        seccomp_filter: seccomp(SeccompAction::Errno) && seccomp(SeccompAction::KillProcess),
        seccomp_listener: seccomp(SeccompAction::UserNotification),
        root,
        namespaces: root && namespaces(false),
        user_namespaces: !root && namespaces(true),
        mounting: probe::mounting(!root).unwrap_or(false),
        cgroups: controllers(),
        kernel: kernel(),
    })
}

/// The cgroup controllers that a host uses here unless it is given a group.
fn controllers() -> Vec<Controller> {
    let places = crate::cgroup::own();
    let has = |controller: &Controller| places.iter().any(|place| place.controllers.contains(controller));
    Controller::ALL.into_iter().filter(has).collect()
}

fn is_root() -> bool {
    let effective = rustix::thread::capabilities(None).map(|sets| sets.effective);
    rustix::process::geteuid().is_root() && effective.is_ok_and(|set| set.contains(IDENTITY_CAPABILITIES))
}

/// Major and minor number of the kernel's release.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What a refusal of the policy means to a caller.
pub(crate) fn class_of(error: &PolicyError) -> Class {
    match error {
        PolicyError::Refused { .. } | PolicyError::NotBuilt { .. } | PolicyError::Inexpressible { .. } => {
            Class::Refused
        }
        PolicyError::HostApi { .. } => Class::Invalid,
        PolicyError::Unavailable { .. } => Class::Unavailable,
        PolicyError::RuntimeMismatch { .. }
        | PolicyError::RuntimeUnknown
        | PolicyError::RuntimeDiffers { .. } => Class::Invalid,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_probe_knows_this_kernel() {
        let platform = super::platform().expect("a processor that hotcell knows");
        assert!(platform.kernel.0 >= 4);
        assert!(platform.seccomp_filter, "every supported kernel has seccomp");
    }
}
