//! Names and numbers of system calls, per architecture.

use crate::Arch;

/// What the `syscalls` crate and the kernel call one system call of aarch64 (`asm-generic/unistd.h`, number 79).
const RENAMED: (&str, &str) = ("fstatat", "newfstatat");

/// The name of a system call, or `None` for a number that this library does not know.
pub fn syscall_name(arch: Arch, number: u32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::new(number).map(|call| call.name()),
        Arch::Aarch64 => {
            let name = syscalls::aarch64::Sysno::new(number)?.name();
            Some(if name == RENAMED.0 { RENAMED.1 } else { name })
        }
    }
}

/// The number of a system call, or `None` where the architecture has no such call.
pub fn syscall_number(arch: Arch, name: &str) -> Option<u32> {
    let number = match arch {
        Arch::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok()?.id(),
        Arch::Aarch64 if name == RENAMED.0 => return None,
        Arch::Aarch64 => {
            let name = if name == RENAMED.1 { RENAMED.0 } else { name };
            name.parse::<syscalls::aarch64::Sysno>().ok()?.id()
        }
    };
    u32::try_from(number).ok()
}

/// Whether any architecture has a system call of this name.
pub(crate) fn is_syscall(name: &str) -> bool {
    [Arch::X86_64, Arch::Aarch64].into_iter().any(|arch| syscall_number(arch, name).is_some())
}
