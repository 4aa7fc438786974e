//! Names and numbers of system calls, per architecture.

use crate::Arch;

/// The name of a system call, or `None` for a number that this library does not know.
pub fn syscall_name(arch: Arch, number: u32) -> Option<&'static str> {
    let number = usize::try_from(number).ok()?;
    match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::new(number).map(|call| call.name()),
        Arch::Aarch64 => syscalls::aarch64::Sysno::new(number).map(|call| call.name()),
    }
}

/// The number of a system call, or `None` where the architecture has no such call.
pub(crate) fn syscall_number(arch: Arch, name: &str) -> Option<u32> {
    let number = match arch {
        Arch::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok().map(|call| call.id()),
        Arch::Aarch64 => name.parse::<syscalls::aarch64::Sysno>().ok().map(|call| call.id()),
    };
    number.and_then(|number| u32::try_from(number).ok())
}

/// Whether any architecture has a system call of this name.
pub(super) fn is_syscall(name: &str) -> bool {
    [Arch::X86_64, Arch::Aarch64].into_iter().any(|arch| syscall_number(arch, name).is_some())
}
