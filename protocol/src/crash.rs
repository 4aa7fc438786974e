//! What a dying native worker leaves behind, and what a confined process makes of it.
//!
//! The worker's signal handler writes [`layout`] into a memfd that the host made; the host hands the bytes on without
//! looking into them. The plugin shares the worker's memory and can write anything there: every number below is a claim.

use serde::{Deserialize, Serialize};

/// Where things are in the memfd. Words are of 64 bits, in the byte order of the machine.
pub mod layout {
    /// Bytes of all notes.
    pub const SIZE: usize = 64 << 10;
    /// Word: how far the handler came, as [`EMPTY`] to [`WHOLE`].
    pub const PROGRESS: usize = 0;
    /// Word: the signal's number.
    pub const SIGNAL: usize = 1;
    /// Word: `si_code` of sigaction(2).
    pub const CODE: usize = 2;
    /// Word: `si_addr`.
    pub const ADDRESS: usize = 3;
    /// Word: the thread's id.
    pub const THREAD: usize = 4;
    /// Word: address of the lowest byte of stack that was kept.
    pub const STACK_ADDRESS: usize = 5;
    /// Word: how many bytes were kept.
    pub const STACK_LEN: usize = 6;
    /// Word: how long the encoded list of modules is.
    pub const MODULES_LEN: usize = 7;
    /// First word of the registers, in the order of [`REGISTERS`](super::REGISTERS).
    pub const REGISTERS_AT: usize = 8;
    /// Word: where a wasm plugin's code is mapped.
    pub const CODE_BASE: usize = 62;
    /// Word: its bytes; zero where there is none.
    pub const CODE_SIZE: usize = 63;
    /// Byte at which the encoded list of modules begins.
    pub const MODULES_AT: usize = 512;
    /// Byte at which the stack begins.
    pub const STACK_AT: usize = 16 << 10;
    /// Longest encoded list of modules.
    pub const MODULES_MAX: usize = STACK_AT - MODULES_AT;
    /// Most bytes of stack.
    pub const STACK_MAX: usize = SIZE - STACK_AT;

    /// No signal came.
    pub const EMPTY: u64 = 0;
    /// The registers are written.
    pub const REGISTERS_WRITTEN: u64 = 1;
    /// So is the stack.
    pub const WHOLE: u64 = 2;
}

/// The registers that are kept, in the order of `gregs` in the C library's `ucontext_t`.
#[cfg(target_arch = "x86_64")]
pub const REGISTERS: [&str; 18] = [
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx",
    "rsp", "rip", "eflags",
];

/// The registers that are kept, in the order of the kernel's `sigcontext`.
#[cfg(target_arch = "aarch64")]
pub const REGISTERS: [&str; 34] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
    "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
    "sp", "pc", "pstate",
];

/// The export of the confined process: an [`AnalyzeRequest`] in, an [`Analysis`] out; a plugin error is a `String`. Each in
/// this crate's codec.
pub const ANALYZE: &str = "analyze";

/// Another export, for what was seen of a worker that lives: a [`ProfileRequest`] in, a [`Profile`] out.
pub const PROFILE: &str = "profile";

/// The file of a profile's samples, among those of a [`ProfileRequest`].
pub const SAMPLES: &str = "samples";

/// The plugin, among [`Module`]s.
pub const PLUGIN: &str = "plugin";

/// The program that loaded it.
pub const PROGRAM: &str = "worker";

/// Something that the worker's process has mapped: the program, a library, or the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// [`PLUGIN`], [`PROGRAM`], or the path as the dynamic loader knows it.
    pub name: String,
    /// The address to which its first byte would be mapped; of a wasm plugin, that of its code.
    pub base: u64,
    /// Bytes from there to the end of its last segment.
    pub size: u64,
    /// Its GNU build id; empty if it has none.
    pub build_id: Vec<u8>,
}

/// A crash as the worker wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The signal's number.
    pub signal: i32,
    /// `si_code` of sigaction(2).
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// The thread's id.
    pub thread: u32,
    /// In the order of [`REGISTERS`].
    pub registers: Vec<u64>,
    /// Address of the first byte of `stack`.
    pub stack_address: u64,
    /// The stack from the stack pointer up.
    pub stack: Vec<u8>,
    /// What was mapped when the plugin had been loaded.
    pub modules: Vec<Module>,
}

impl Notes {
    /// Reads the notes of a worker that has ended. `None` where no signal was noted.
    ///
    /// Lengths that lie are cut to what is there; a list of modules that is none is empty.
    pub fn read(bytes: &[u8]) -> Option<Notes> {
        let progress = word(bytes, layout::PROGRESS)?;
        if progress == layout::EMPTY {
            return None;
        }
        let number = |at| word(bytes, at).unwrap_or_default();
        let signed = |at| i32::try_from(number(at).cast_signed()).unwrap_or_default();
        let registers = (0..REGISTERS.len()).map(|index| number(layout::REGISTERS_AT + index)).collect();
        let stack = piece(bytes, layout::STACK_AT, number(layout::STACK_LEN), layout::STACK_MAX);
        let modules = piece(bytes, layout::MODULES_AT, number(layout::MODULES_LEN), layout::MODULES_MAX);
        let mut modules: Vec<Module> = crate::codec::decode(modules).unwrap_or_default();
        let (base, size) = (number(layout::CODE_BASE), number(layout::CODE_SIZE));
        if size > 0 {
            modules.push(Module { name: PLUGIN.to_owned(), base, size, build_id: Vec::new() });
        }
        Some(Notes {
            signal: signed(layout::SIGNAL),
            code: signed(layout::CODE),
            address: number(layout::ADDRESS),
            thread: u32::try_from(number(layout::THREAD)).unwrap_or_default(),
            registers,
            stack_address: number(layout::STACK_ADDRESS),
            stack: stack.to_vec(),
            modules,
        })
    }

    /// Appends registers and stack to a file of [`SAMPLES`].
    pub fn append_sample(&self, file: &mut Vec<u8>) {
        let words = [self.stack.len() as u64, self.stack_address];
        let registers =
            (0..REGISTERS.len()).map(|index| self.registers.get(index).copied().unwrap_or_default());
        words.into_iter().chain(registers).for_each(|word| file.extend(word.to_ne_bytes()));
        file.extend_from_slice(&self.stack);
    }

    /// Takes one sample off the beginning of such a file. `None` at its end, and where it is none.
    pub fn take_sample(file: &mut &[u8]) -> Option<Notes> {
        let head = (REGISTERS.len() + 2) * size_of::<u64>();
        let number = |index| word(file, index);
        let len = usize::try_from(number(0)?).ok()?;
        let stack_address = number(1)?;
        let registers = (2..REGISTERS.len() + 2).map(number).collect::<Option<_>>()?;
        let stack = file.get(head..)?.get(..len)?.to_vec();
        *file = file.get(head + len..)?;
        Some(Notes { registers, stack_address, stack, ..Notes::default() })
    }

    /// The value of a register by its name in [`REGISTERS`].
    pub fn register(&self, name: &str) -> u64 {
        let index = REGISTERS.iter().position(|register| *register == name);
        index.and_then(|index| self.registers.get(index)).copied().unwrap_or_default()
    }
}

fn word(bytes: &[u8], index: usize) -> Option<u64> {
    let at = index * size_of::<u64>();
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

fn piece(bytes: &[u8], at: usize, len: u64, most: usize) -> &[u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(most);
    bytes.get(at..at + len).unwrap_or_default()
}

/// What the confined process is asked: the artifact that it was started with is all files, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyzeRequest {
    /// The notes of the worker, as they were found.
    pub notes: Vec<u8>,
    /// Name and length of each file: [`PLUGIN`], [`PROGRAM`], and the file names of system libraries.
    pub files: Vec<(String, u64)>,
}

/// What the confined process is asked about a worker that lives; the files as in an [`AnalyzeRequest`], and [`SAMPLES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRequest {
    /// What the kernel says is mapped, without build ids.
    pub modules: Vec<Module>,
    /// Name and length of each file.
    pub files: Vec<(String, u64)>,
}

/// What it made of the crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// The signal's number, as the worker says.
    pub signal: i32,
    /// `si_code` of sigaction(2).
    pub code: i32,
    /// `si_addr`: the address that could not be used, where the signal has one.
    pub address: u64,
    /// The registers by name.
    pub registers: Vec<(String, u64)>,
    /// From where it crashed outwards.
    pub frames: Vec<Frame>,
    /// What was mapped.
    pub modules: Vec<Module>,
    /// A minidump (the format of Breakpad and Crashpad), for lldb and minidump-stackwalk.
    pub minidump: Vec<u8>,
}

/// Where a worker was, each time that it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Each function once, demangled, or its module and address.
    pub functions: Vec<String>,
    /// Stacks of functions, from the outermost of the plugin, and how often each was seen. An empty one: nothing of the plugin ran.
    pub stacks: Vec<(Vec<u32>, u64)>,
    /// How many samples had stacks for which there was no room.
    pub left_out: u64,
}

/// One frame of a backtrace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The instruction; for all but the first frame, where the call returns to.
    pub address: u64,
    /// The module's name; empty if the address is in none.
    pub module: String,
    /// The address within the module's file.
    pub offset: u64,
    /// The function, demangled; empty if unknown.
    pub function: String,
    /// The source file; empty if unknown.
    pub file: String,
    /// The line in it; 0 if unknown.
    pub line: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

    use super::{Module, Notes, PLUGIN, REGISTERS, layout};

    fn put(bytes: &mut [u8], index: usize, value: u64) {
        bytes[index * 8..][..8].copy_from_slice(&value.to_ne_bytes());
    }

    #[test]
    fn notes_are_read_as_far_as_they_were_written() {
        let mut bytes = vec![0; layout::SIZE];
        assert_eq!(Notes::read(&bytes), None, "no signal");
        put(&mut bytes, layout::PROGRESS, layout::WHOLE);
        put(&mut bytes, layout::SIGNAL, 11);
        put(&mut bytes, layout::REGISTERS_AT + REGISTERS.len() - 1, 7);
        put(&mut bytes, layout::STACK_LEN, 3);
        bytes[layout::STACK_AT..][..3].copy_from_slice(b"abc");
        let modules = vec![Module { name: "plugin".to_owned(), base: 1, size: 2, build_id: vec![3] }];
        let encoded = crate::codec::encode(&modules).expect("encodes");
        put(&mut bytes, layout::MODULES_LEN, encoded.len() as u64);
        bytes[layout::MODULES_AT..][..encoded.len()].copy_from_slice(&encoded);
        let notes = Notes::read(&bytes).expect("notes");
        assert_eq!((notes.signal, notes.stack.as_slice(), notes.modules), (11, &b"abc"[..], modules));
        assert_eq!(notes.registers.last(), Some(&7));
    }

    #[test]
    fn samples_are_taken_as_they_were_appended() {
        let sample = |value: u64| Notes {
            registers: vec![value; REGISTERS.len()],
            stack_address: value,
            stack: vec![7; usize::try_from(value).expect("small")],
            ..Notes::default()
        };
        let mut file = Vec::new();
        [3, 0, 5].iter().for_each(|value| sample(*value).append_sample(&mut file));
        let mut rest = file.as_slice();
        let taken: Vec<_> = std::iter::from_fn(|| Notes::take_sample(&mut rest)).collect();
        assert_eq!(taken, [3, 0, 5].map(sample));
        for len in 0..file.len() {
            let mut rest = &file[..len];
            assert!(std::iter::from_fn(|| Notes::take_sample(&mut rest)).count() < 3, "{len}");
        }
        file[..8].fill(0xff);
        assert_eq!(Notes::take_sample(&mut file.as_slice()), None, "a length that lies");
    }

    #[test]
    fn lengths_that_lie_are_cut() {
        let mut bytes = vec![0xff; layout::SIZE];
        let notes = Notes::read(&bytes).expect("notes");
        let code = Module { name: PLUGIN.to_owned(), base: u64::MAX, size: u64::MAX, build_id: Vec::new() };
        assert_eq!((notes.stack.len(), notes.modules), (layout::STACK_MAX, vec![code]));
        bytes.truncate(100);
        let notes = Notes::read(&bytes).expect("notes");
        assert_eq!((notes.stack.len(), notes.registers.len()), (0, REGISTERS.len()));
        assert_eq!(Notes::read(&bytes[..7]), None);
    }
}
