//! Two pipes, blocking.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};

use super::{check_echo, hung_up, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::peer::{Peer, Role};

struct Pipe {
    input: PipeReader,
    output: PipeWriter,
    sent: Vec<u8>,
    received: Vec<u8>,
    _peer: Peer,
}

pub(super) fn open(size: usize) -> Opened {
    let (peer, input, output) = Peer::start_piped(Role::Pipe, size)?;
    let mut pipe = Pipe { input, output, sent: message(size), received: vec![0; size], _peer: peer };
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
