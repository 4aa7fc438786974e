//! Two pipes, blocking: one message at a time, or many before the first reply is read.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};

use super::{check_echo, hung_up, message};
use crate::failure::Failure;
use crate::group::OUTSTANDING;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::{OtherEnd, Role};

struct Pipe {
    input: PipeReader,
    output: PipeWriter,
    sent: Vec<u8>,
    received: Vec<u8>,
    _other_end: OtherEnd,
}

pub(super) fn open(size: usize) -> Opened {
    let (other_end, input, output) = OtherEnd::start_piped(Role::Pipe, size)?;
    let mut pipe =
        Pipe { input, output, sent: message(size), received: vec![0; size], _other_end: other_end };
    pipe.sample(1, &mut Samples::default())?;
    check_echo(&pipe.sent, &pipe.received)?;
    Ok(Box::new(pipe))
}

impl Case for Pipe {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            samples.time(|| {
                self.output.write_all(&self.sent).map_err(hung_up)?;
                self.input.read_exact(&mut self.received).map_err(hung_up)
            })?;
        }
        Ok(())
    }
}

/// Messages that are written before the first reply is read; they and their replies fit into the pipes.
struct Burst(Pipe);

pub(super) fn open_bursts(size: usize) -> Opened {
    let (other_end, input, output) = OtherEnd::start_piped(Role::Pipe, size)?;
    let received = vec![0; size * OUTSTANDING];
    let mut burst = Burst(Pipe { input, output, sent: message(size), received, _other_end: other_end });
    burst.sample(1, &mut Samples::default())?;
    check_echo(&burst.0.sent.repeat(OUTSTANDING), &burst.0.received)?;
    Ok(Box::new(burst))
}

impl Case for Burst {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Pipe { input, output, sent, received, .. } = &mut self.0;
        for _ in 0..count {
            samples.time_each(OUTSTANDING, || {
                for _ in 0..OUTSTANDING {
                    output.write_all(sent).map_err(hung_up)?;
                }
                input.read_exact(received).map_err(hung_up)
            })?;
        }
        Ok(())
    }
}

pub(super) fn serve(size: usize) -> Result<(), Failure> {
    // Not through the buffers of std's stdin and stdout, which would copy once more.
    let input = rustix::stdio::stdin();
    let output = rustix::stdio::stdout();
    echo(&mut reader(input)?, &mut reader(output)?, size)
}

fn reader(stdio: std::os::fd::BorrowedFd<'_>) -> Result<std::fs::File, Failure> {
    stdio.try_clone_to_owned().map(Into::into).map_err(hung_up)
}

/// Echoes whole messages until the other end hangs up.
pub(super) fn echo(input: &mut impl Read, output: &mut impl Write, size: usize) -> Result<(), Failure> {
    let mut bytes = vec![0; size];
    loop {
        match input.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(hung_up)?,
        }
        output.write_all(&bytes).map_err(hung_up)?;
    }
}
