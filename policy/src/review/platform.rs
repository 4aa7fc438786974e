//! A platform in words, so that a plan can be made for a machine that is elsewhere.

use std::str::FromStr;

use crate::compile::{KERNELS, LANDLOCK_ABI_MAX};
use crate::{Arch, Controller, Platform};

/// A platform that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no part of a platform: write `root` or `user`, `kernel=6.1`, `landlock=2`, `arch=x86_64` or `arch=aarch64`, joined by `,`"
)]
pub struct PlatformError(String);

/// The newest kernel that the plans are tested on.
const KERNEL: (u32, u32) = (6, 18);

/// The first kernels with the seccomp actions of every plan, and with user notification.
const SECCOMP: [(u32, u32); 2] = [(4, 14), (5, 5)];

/// `user,kernel=6.1`: who runs the host, and what the machine has.
///
/// What is left out is as on a new machine: root, Linux 6.18, x86_64, and every feature that the kernel can have, for
/// root with cgroups; `landlock` is the kernel's ABI unless it is said.
impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let (mut root, mut kernel, mut landlock, mut arch) = (true, KERNEL, None, Arch::X86_64);
        for part in text.split(',') {
            let wrong = || PlatformError(part.to_owned());
            match part.split_once('=') {
                None if part == "root" => root = true,
                None if part == "user" => root = false,
                Some(("kernel", version)) => kernel = read_version(version).ok_or_else(wrong)?,
                Some(("landlock", abi)) => landlock = Some(read_abi(abi).ok_or_else(wrong)?),
                Some(("arch", "x86_64")) => arch = Arch::X86_64,
                Some(("arch", "aarch64")) => arch = Arch::Aarch64,
                _ => return Err(wrong()),
            }
        }
        let [seccomp_filter, seccomp_listener] = SECCOMP.map(|since| kernel >= since);
        Ok(Platform {
            arch,
            landlock_abi: landlock.unwrap_or_else(|| abi_of(kernel)),
            seccomp_filter,
            seccomp_listener,
            root,
            namespaces: root,
            user_namespaces: !root,
            mounting: kernel >= MOUNTING,
            cgroups: if root { Controller::ALL.to_vec() } else { Vec::new() },
            kernel,
        })
    }
}

/// mount_setattr(2).
const MOUNTING: (u32, u32) = (5, 12);

fn read_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn read_abi(text: &str) -> Option<u32> {
    text.parse().ok().filter(|abi| *abi <= LANDLOCK_ABI_MAX)
}

/// The Landlock ABI that a kernel has where nobody has left it out.
fn abi_of(kernel: (u32, u32)) -> u32 {
    let provided = KERNELS.iter().filter(|since| kernel >= **since).count();
    u32::try_from(provided).unwrap_or(LANDLOCK_ABI_MAX)
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn a_platform_is_read_from_words_and_nothing_else_is_one() {
        let read = |text: &str| text.parse::<Platform>();
        let old = read("user,kernel=6.1,arch=aarch64").expect("is one");
        assert_eq!((old.root, old.user_namespaces, old.landlock_abi), (false, true, 2));
        assert_eq!((old.arch.to_string().as_str(), old.kernel), ("aarch64", (6, 1)));
        assert_eq!(read("root").expect("is one").landlock_abi, 7);
        assert_eq!(read("landlock=0").expect("is one").landlock_abi, 0);
        let ancient = read("kernel=5.0").expect("is one");
        assert_eq!(
            (ancient.landlock_abi, ancient.seccomp_filter, ancient.seccomp_listener),
            (0, true, false)
        );
        for wrong in
            ["", "admin", "root,", "kernel=6", "landlock=8", "landlock=-1", "arch=riscv64", "root user"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
