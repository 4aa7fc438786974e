//! What a process costs: fork, exec, and the memory of one that only echoes.
//!
//! The forks are timed in a small peer of one thread, which is what a launcher is like. In this process they would
//! also copy the page tables of every payload buffer.

use std::ffi::{CStr, CString};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::Instant;

use super::hung_up;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::memory::private_bytes;
use crate::other_end::{EXIT, OtherEnd, Role};
use crate::sys::fork::{fork_exec_wait, fork_exit_wait};

/// How a process is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fork,
    Exec,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Fork => b'f',
            Kind::Exec => b'e',
        }
    }
}

struct Forker {
    kind: Kind,
    input: PipeReader,
    output: PipeWriter,
    _other_end: OtherEnd,
}

pub(super) fn open(kind: Kind) -> Opened {
    let (other_end, input, output) = OtherEnd::start_piped(Role::Forker, 0)?;
    let mut forker = Forker { kind, input, output, _other_end: other_end };
    forker.sample(1, &mut Samples::default())?;
    Ok(Box::new(forker))
}

impl Case for Forker {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let mut nanoseconds = [0; size_of::<u64>()];
            self.output.write_all(&[self.kind.byte()]).map_err(hung_up)?;
            self.input.read_exact(&mut nanoseconds).map_err(hung_up)?;
            samples.add_number(u64::from_ne_bytes(nanoseconds));
        }
        Ok(())
    }
}

/// Starts a process for each byte that it reads, and answers with the nanoseconds.
pub(super) fn serve() -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|source| Failure::io("find this program", source))?;
    let program = CString::new(program.into_os_string().into_vec()).map_err(|error| hung_up(error.into()))?;
    let argument = CString::new(EXIT).map_err(|error| hung_up(error.into()))?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut kind = [0];
    loop {
        match input.read_exact(&mut kind) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(hung_up)?,
        }
        let nanoseconds = start(kind == [Kind::Fork.byte()], &program, &argument)?;
        output.write_all(&nanoseconds.to_ne_bytes()).and_then(|()| output.flush()).map_err(hung_up)?;
    }
}

fn start(fork_only: bool, program: &CStr, argument: &CStr) -> Result<u64, Failure> {
    let start = Instant::now();
    if fork_only { fork_exit_wait() } else { fork_exec_wait(program, argument) }?;
    Ok(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

struct Memory;

pub(super) fn open_memory() -> Opened {
    Ok(Box::new(Memory))
}

impl Case for Memory {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let (other_end, mut input, mut output) = OtherEnd::start_piped(Role::Pipe, 1)?;
            let mut echo = [0];
            output.write_all(b"x").and_then(|()| input.read_exact(&mut echo)).map_err(hung_up)?;
            samples.add_number(private_bytes(i32::try_from(other_end.pid()).unwrap_or_default())?);
        }
        Ok(())
    }
}
