//! seccomp programs: reviewed sets of system calls, the assembler, and the evaluator.
//!
//! A program sees registers only. It cannot look behind a pointer, so a set never relies on what a path or a structure
//! says; Landlock decides about paths.

mod assemble;
mod evaluate;
mod names;
mod set;
#[cfg(test)]
mod tests;

pub(crate) use assemble::{Alternative, Table, assemble};
pub use evaluate::{Action, SeccompData, evaluate, for_pid};
pub(crate) use names::is_syscall;
pub use names::{syscall_name, syscall_number};
pub(crate) use set::{Answer, Condition, Granted, Rule, Stage, SyscallSet, Wanted};

/// The instructions of classic BPF that plans contain (`linux/bpf_common.h`).
mod opcode {
    /// Load a 32-bit word of `struct seccomp_data` at offset `k`.
    pub(super) const LOAD: u16 = 0x20;
    /// And the accumulator with `k`.
    pub(super) const AND: u16 = 0x54;
    /// Jump `k` instructions on.
    pub(super) const JUMP: u16 = 0x05;
    /// Jump `jt` on if the accumulator equals `k`, else `jf`.
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    /// Jump `jt` on if the accumulator is `k` or more, else `jf`.
    pub(super) const JUMP_AT_LEAST: u16 = 0x35;
    /// Return `k`.
    pub(super) const RETURN: u16 = 0x06;
}
