//! Makes a seccomp program of rules.
//!
//! Own, because no crate does it: a native worker's one program needs four different actions, among them user
//! notification, and seccompiler has one match action per program and no notification. Classic BPF jumps forward only,
//! so the program is built from its end: a jump's target exists before the jump, and a far target gets a long jump of
//! its own. The system call is found by binary search.

use std::collections::BTreeMap;

use hotcell_protocol::{Filter, Instruction};

use super::evaluate::Action;
use super::opcode;
use super::set::{Condition, Wanted};
use crate::Arch;

/// Longest program that the kernel takes (`BPF_MAXINSNS`).
const PROGRAM_MAX: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// System call numbers from here on belong to the x32 ABI, which shares x86_64's architecture value.
const X32: u32 = 0x4000_0000;

/// The program would be longer than the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seccomp program has {0} instructions; the kernel takes {PROGRAM_MAX}")]
pub(crate) struct TooLong(usize);

/// One way in which a system call is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alternative<'s> {
    pub(crate) conditions: &'s [Condition],
    pub(crate) action: Action,
}

/// What is done with each system call number: the first alternative whose conditions all hold.
pub(crate) type Table<'s> = BTreeMap<u32, Vec<Alternative<'s>>>;

/// Assembles a program. Calls that the table does not answer get `default`; a foreign architecture kills.
pub(crate) fn assemble(arch: Arch, table: &Table<'_>, default: Action) -> Result<Filter, TooLong> {
    let mut assembler = Assembler::default();
    let default = assembler.answer(default);
    let entries: Vec<_> = table
        .iter()
        .map(|(number, alternatives)| (*number, assembler.alternatives(alternatives, default)))
        .collect();
    let mut start = assembler.search(&entries, default);
    if arch == Arch::X86_64 {
        let kill = assembler.answer(Action::KillProcess);
        start = assembler.branch(opcode::JUMP_AT_LEAST, X32, kill, start);
    }
    start = assembler.load(NUMBER, start);
    let kill = assembler.answer(Action::KillProcess);
    start = assembler.branch(opcode::JUMP_EQUAL, arch.audit(), start, kill);
    assembler.load(ARCH, start);
    assembler.finish()
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(usize);

/// A program, last instruction first.
#[derive(Debug, Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    answers: BTreeMap<u32, Label>,
    /// Labels of instructions that compare with the process id.
    self_pid: Vec<Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// Instructions between the next one to be pushed and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target.0
    }

    /// The return of an action, once per program.
    fn answer(&mut self, action: Action) -> Label {
        let value = action.encode();
        if let Some(label) = self.answers.get(&value) {
            return *label;
        }
        let label = self.push(opcode::RETURN, 0, 0, value);
        self.answers.insert(value, label);
        label
    }

    /// A place from which `target` is the next instruction.
    fn falls_to(&mut self, target: Label) -> Label {
        match u32::try_from(self.distance(target)) {
            Ok(0) => target,
            Ok(distance) => self.push(opcode::JUMP, 0, 0, distance),
            // No program gets near 2^32 instructions: `finish` refuses it long before.
            Err(_) => target,
        }
    }

    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.falls_to(next);
        self.push(opcode::LOAD, 0, 0, offset)
    }

    /// A conditional jump, with a long jump before it for each target that its 8 bits cannot reach.
    fn branch(&mut self, code: u16, k: u32, taken: Label, otherwise: Label) -> Label {
        // One long jump for the first target may move the second out of reach, hence the margin.
        let near = |assembler: &Self, target: Label| assembler.distance(target) < usize::from(u8::MAX) - 1;
        let taken = if near(self, taken) { taken } else { self.falls_to(taken) };
        let otherwise = if near(self, otherwise) { otherwise } else { self.falls_to(otherwise) };
        let offset = |target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX);
        let (jt, jf) = (offset(taken), offset(otherwise));
        self.push(code, jt, jf, k)
    }

    fn alternatives(&mut self, alternatives: &[Alternative<'_>], default: Label) -> Label {
        let mut next = default;
        for alternative in alternatives.iter().rev() {
            let mut passed = self.answer(alternative.action);
            for condition in alternative.conditions.iter().rev() {
                passed = self.condition(condition, passed, next);
            }
            next = passed;
        }
        next
    }

    fn condition(&mut self, condition: &Condition, passed: Label, failed: Label) -> Label {
        let offset = ARGUMENTS + 8 * u32::from(condition.index);
        let values = match &condition.wanted {
            Wanted::SelfPid => {
                let compare = self.branch(opcode::JUMP_EQUAL, 0, passed, failed);
                self.self_pid.push(compare);
                return self.load(offset, compare);
            }
            Wanted::OneOf(values) => values,
        };
        if condition.wide {
            let mut next = failed;
            for value in values.iter().rev() {
                next = self.wide_value(offset, condition.mask, *value, passed, next);
            }
            return next;
        }
        let mut next = failed;
        for value in values.iter().rev() {
            next = self.branch(opcode::JUMP_EQUAL, low(*value), passed, next);
        }
        self.masked_load(offset, low(condition.mask), next)
    }

    fn wide_value(&mut self, offset: u32, mask: u64, value: u64, passed: Label, failed: Label) -> Label {
        let upper = self.branch(opcode::JUMP_EQUAL, high(value), passed, failed);
        let upper = self.masked_load(offset + 4, high(mask), upper);
        let lower = self.branch(opcode::JUMP_EQUAL, low(value), upper, failed);
        self.masked_load(offset, low(mask), lower)
    }

    fn masked_load(&mut self, offset: u32, mask: u32, next: Label) -> Label {
        if mask == u32::MAX {
            return self.load(offset, next);
        }
        self.falls_to(next);
        let masked = self.push(opcode::AND, 0, 0, mask);
        self.load(offset, masked)
    }

    /// Finds the number in the accumulator among sorted entries.
    fn search(&mut self, entries: &[(u32, Label)], default: Label) -> Label {
        match entries {
            [] => default,
            [(number, block)] => self.branch(opcode::JUMP_EQUAL, *number, *block, default),
            _ => {
                let (lower, upper) = entries.split_at(entries.len() / 2);
                let first_upper = upper.first().map_or(0, |(number, _)| *number);
                let upper = self.search(upper, default);
                let lower = self.search(lower, default);
                self.branch(opcode::JUMP_AT_LEAST, first_upper, upper, lower)
            }
        }
    }

    fn finish(mut self) -> Result<Filter, TooLong> {
        let length = self.reversed.len();
        if length > PROGRAM_MAX {
            return Err(TooLong(length));
        }
        self.reversed.reverse();
        let from_start = |label: &Label| u16::try_from(length - label.0).ok();
        let mut self_pid: Vec<u16> = self.self_pid.iter().filter_map(from_start).collect();
        self_pid.sort_unstable();
        Ok(Filter { program: self.reversed, self_pid })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}
