//! Namespaces: which are entered, and whether this platform has them.

use hotcell_protocol::Namespace;

use crate::{Platform, Policy, PolicyError};

pub(super) fn namespaces(policy: &Policy, platform: &Platform) -> Result<Vec<Namespace>, PolicyError> {
    let wanted = policy.namespaces.iter().map(|(namespace, _)| *namespace);
    if policy.namespaces.is_empty() {
        return Ok(Vec::new());
    }
    let mounts = policy.namespaces.iter().any(|(namespace, _)| *namespace == Namespace::Mount);
    if mounts && !platform.mounting {
        return Err(unavailable(
            platform,
            "mounting in a mount namespace",
            (5, 12),
            "allow mount, mount_setattr, fsopen, open_tree, move_mount, pivot_root and umount2 to the host (in containers also by AppArmor's profile), or take `mount` out of the profile's `namespaces`",
        ));
    }
    match (platform.root, platform.namespaces, platform.user_namespaces) {
        (true, true, _) => Ok(wanted.collect()),
        (false, _, true) => Ok(std::iter::once(Namespace::User).chain(wanted).collect()),
        (true, false, _) => Err(unavailable(
            platform,
            "IPC, mount, network and UTS namespaces for root",
            (3, 0),
            "run the host with CAP_SYS_ADMIN; containers often take it away",
        )),
        (false, _, false) => Err(unavailable(
            platform,
            "user namespaces for an ordinary user",
            (3, 8),
            "allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, and on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or run the host as root",
        )),
    }
}

fn unavailable(platform: &Platform, feature: &str, since_kernel: (u32, u32), advice: &str) -> PolicyError {
    PolicyError::Unavailable {
        layer: "namespaces",
        feature: feature.to_owned(),
        since_kernel,
        kernel: platform.kernel,
        advice: advice.to_owned(),
    }
}

/// The word for a namespace.
pub(crate) fn namespace_name(namespace: Namespace) -> &'static str {
    match namespace {
        Namespace::User => "user",
        Namespace::Ipc => "ipc",
        Namespace::Network => "network",
        Namespace::Uts => "uts",
        Namespace::Mount => "mount",
    }
}
