//! Runs a seccomp program without a kernel: in tests, and in the host, which judges with it what a loading library does.
//!
//! Total: every program ends (jumps go forward only), and whatever the assembler of this crate does not emit kills.

use hotcell_protocol::{Filter, Instruction};

use super::opcode;

/// What a seccomp program is asked about (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// System call number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Address of the instruction.
    pub instruction_pointer: u64,
    /// The six arguments.
    pub args: [u64; 6],
}

/// A verdict of a seccomp program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// The kernel executes the call.
    Allow,
    /// The call fails with this errno.
    Errno(u16),
    /// The host is asked.
    Notify,
    /// The worker's handler of SIGSYS is called.
    Trap,
    /// The process ends with SIGSYS.
    KillProcess,
}

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ACTION: u32 = 0xffff_0000;
const RET_DATA: u32 = 0x0000_ffff;

impl Action {
    /// The return value of a program (`SECCOMP_RET_*`).
    pub fn encode(self) -> u32 {
        match self {
            Action::Allow => RET_ALLOW,
            Action::Errno(errno) => RET_ERRNO | u32::from(errno),
            Action::Notify => RET_NOTIFY,
            Action::Trap => RET_TRAP,
            Action::KillProcess => RET_KILL_PROCESS,
        }
    }

    /// What a return value means; one that no plan contains kills.
    pub fn decode(value: u32) -> Action {
        let data = u16::try_from(value & RET_DATA).unwrap_or(u16::MAX);
        match value & RET_ACTION {
            RET_ALLOW => Action::Allow,
            RET_ERRNO => Action::Errno(data),
            RET_NOTIFY => Action::Notify,
            RET_TRAP => Action::Trap,
            _ => Action::KillProcess,
        }
    }
}

/// Runs a program.
///
/// A program that leaves its own end, or holds an instruction that plans never contain, answers
/// [`Action::KillProcess`]. Instructions that compare with the process id must be bound by [`for_pid`] first.
pub fn evaluate(program: &[Instruction], data: &SeccompData) -> Action {
    let mut accumulator = 0;
    let mut position = 0_usize;
    while let Some(instruction) = program.get(position) {
        let k = instruction.k;
        let step = match instruction.code {
            opcode::LOAD => match load(data, k) {
                Some(word) => {
                    accumulator = word;
                    0
                }
                None => return Action::KillProcess,
            },
            opcode::AND => {
                accumulator &= k;
                0
            }
            opcode::JUMP => k as usize,
            opcode::JUMP_EQUAL => branch(*instruction, accumulator == k),
            opcode::JUMP_AT_LEAST => branch(*instruction, accumulator >= k),
            opcode::RETURN => return Action::decode(k),
            _ => return Action::KillProcess,
        };
        position = position.saturating_add(1).saturating_add(step);
    }
    Action::KillProcess
}

fn branch(instruction: Instruction, taken: bool) -> usize {
    usize::from(if taken { instruction.jt } else { instruction.jf })
}

/// The 32-bit word at an offset of `struct seccomp_data`, little endian as on both architectures.
fn load(data: &SeccompData, offset: u32) -> Option<u32> {
    let halves = |value: u64| [(value & 0xffff_ffff) as u32, (value >> 32) as u32];
    match offset {
        0 => Some(data.nr),
        4 => Some(data.arch),
        8 => halves(data.instruction_pointer).first().copied(),
        12 => halves(data.instruction_pointer).get(1).copied(),
        _ => {
            let index = usize::try_from(offset.checked_sub(16)? / 8).ok()?;
            let argument = *data.args.get(index)?;
            match offset % 8 {
                0 => halves(argument).first().copied(),
                4 => halves(argument).get(1).copied(),
                _ => None,
            }
        }
    }
}

/// The program as the worker installs it: instructions that compare with the process id get that id.
pub fn for_pid(filter: &Filter, pid: u32) -> Vec<Instruction> {
    let mut program = filter.program.clone();
    for index in &filter.self_pid {
        if let Some(instruction) = program.get_mut(usize::from(*index)) {
            instruction.k = pid;
        }
    }
    program
}
