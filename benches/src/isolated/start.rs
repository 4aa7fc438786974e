//! A host of its own: its folders, its launcher, warmed. An application pays for it once.
//!
//! The application is a small process. This one holds hundreds of plugins and large buffers, and would pay for its own
//! size whenever it starts a launcher.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::folder::Folder;
use super::hosts::Hosts;
use super::memory::private_bytes_since;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::OtherEnd;
use crate::placement::{descendants, own_pid};
use crate::runtimes::Runtimes;

/// What of a host is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    /// The time until it is built.
    Time,
    /// The private memory of its launcher.
    Memory,
}

/// What the application says of a start: nanoseconds, and bytes of the launcher.
type Answer = [u8; 2 * size_of::<u64>()];

struct Start {
    aspect: Aspect,
    input: PipeReader,
    output: PipeWriter,
    _application: OtherEnd,
}

pub(super) fn open(hosts: &Hosts, aspect: Aspect) -> Opened {
    let folder = Folder::path_below(&hosts.folder()?)?;
    let (application, input, output) = OtherEnd::start_application(&folder, hosts.worker_dir())?;
    let mut start = Start { aspect, input, output, _application: application };
    start.sample(1, &mut Samples::default())?;
    Ok(Box::new(start))
}

impl Case for Start {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let mut answer = Answer::default();
            self.output.write_all(b"s").and_then(|()| self.input.read_exact(&mut answer)).map_err(hung_up)?;
            let (time, memory) = numbers(answer);
            samples.add_number(if self.aspect == Aspect::Time { time } else { memory });
        }
        Ok(())
    }
}

/// The application: starts and ends a host for each byte that it reads.
pub(crate) fn serve(folder: PathBuf, worker_dir: Option<PathBuf>) -> Result<(), Failure> {
    let hosts = Hosts::within(folder, worker_dir, Rc::new(Runtimes::default()))?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    loop {
        match input.read_exact(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other.map_err(hung_up)?,
        }
        let (time, memory) = start(&hosts)?;
        let answer = [time.to_ne_bytes(), memory.to_ne_bytes()].concat();
        output.write_all(&answer).and_then(|()| output.flush()).map_err(hung_up)?;
    }
}

fn start(hosts: &Hosts) -> Result<(u64, u64), Failure> {
    let (builder, runtime) = hosts.one_more()?;
    runtime.block_on(async {
        let before = descendants(own_pid())?;
        let start = Instant::now();
        let host = builder.build().await?;
        let elapsed = start.elapsed();
        let memory = private_bytes_since(&before);
        host.shutdown().await;
        Ok((u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), memory?))
    })
}

fn numbers(answer: Answer) -> (u64, u64) {
    let (time, memory) = answer.split_at(size_of::<u64>());
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    (number(time), number(memory))
}

fn hung_up(source: std::io::Error) -> Failure {
    Failure::io("talk to an application with a host", source)
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn an_answer_is_two_numbers() {
        let answer = [7u64.to_ne_bytes(), 9u64.to_ne_bytes()].concat();
        assert_eq!(numbers(answer.try_into().expect("sixteen bytes")), (7, 9));
    }
}
