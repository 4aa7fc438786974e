//! The three standard streams of a worker: always pipes or `/dev/null`, never a descriptor of the application.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::log::{Logger, Stream};

/// Bytes pumped at once.
const PIECE: usize = 64 << 10;

/// Where a command reads from.
pub type Source = Box<dyn AsyncRead + Send + Unpin>;

/// Where a command writes to.
pub type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// What a command's standard streams are connected to. The default is an empty input, and output to the log.
#[derive(Default)]
pub struct CommandIo {
    /// Read by the command; `None` is empty.
    pub stdin: Option<Source>,
    /// Written by the command; `None` goes to the log.
    pub stdout: Option<Sink>,
    /// Written by the command; `None` goes to the log.
    pub stderr: Option<Sink>,
}

impl std::fmt::Debug for CommandIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandIo")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish()
    }
}

/// What a worker's standard streams are.
#[derive(Debug)]
pub(crate) enum Streams {
    /// The host moves the bytes.
    Pumped(CommandIo),
    /// Input and output are somebody else's pipes; errors go to the log.
    Given([OwnedFd; 2]),
}

impl From<CommandIo> for Streams {
    fn from(io: CommandIo) -> Streams {
        Streams::Pumped(io)
    }
}

/// The tasks that move a worker's bytes.
#[derive(Debug, Default)]
pub(crate) struct Pumps {
    input: Option<JoinHandle<()>>,
    outputs: Vec<JoinHandle<()>>,
}

impl Pumps {
    /// Waits until all that the worker wrote has arrived; its process has ended. Safe to cancel.
    pub(crate) async fn drained(&mut self) {
        while let Some(output) = self.outputs.last_mut() {
            // A pump that was stopped has nothing more to move.
            let _ = output.await;
            self.outputs.pop();
        }
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        self.input.iter().chain(&self.outputs).for_each(JoinHandle::abort);
    }
}

/// Makes a worker's ends of its streams, and the tasks behind them.
fn connect(io: CommandIo, logger: &Logger) -> Result<([OwnedFd; 3], Pumps), Error> {
    let (stdin, input) = match io.stdin {
        Some(source) => {
            let (far, near) = pipe_pair()?;
            let near = pipe::Sender::from_owned_fd(near).map_err(failed)?;
            (far, Some(tokio::spawn(pump_in(source, near))))
        }
        None => (OwnedFd::from(File::open("/dev/null").map_err(failed)?), None),
    };
    let (stdout, first) = output(io.stdout, logger, Stream::Stdout)?;
    let (stderr, second) = output(io.stderr, logger, Stream::Stderr)?;
    Ok(([stdin, stdout, stderr], Pumps { input, outputs: vec![first, second] }))
}

/// The same for streams of either kind.
pub(crate) fn open(streams: Streams, logger: &Logger) -> Result<([OwnedFd; 3], Pumps), Error> {
    match streams {
        Streams::Pumped(io) => connect(io, logger),
        Streams::Given([stdin, stdout]) => {
            let (stderr, errors) = output(None, logger, Stream::Stderr)?;
            Ok(([stdin, stdout, stderr], Pumps { input: None, outputs: vec![errors] }))
        }
    }
}

/// The streams of a worker that has no way to use them: a core module, which imports no WASI.
pub(crate) fn silence() -> Result<([OwnedFd; 3], Pumps), Error> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from).map_err(failed);
    Ok(([null()?, null()?, null()?], Pumps::default()))
}

fn output(sink: Option<Sink>, logger: &Logger, stream: Stream) -> Result<(OwnedFd, JoinHandle<()>), Error> {
    let (near, far) = pipe_pair()?;
    let near = pipe::Receiver::from_owned_fd(near).map_err(failed)?;
    let task = match sink {
        Some(sink) => tokio::spawn(pump_out(near, sink)),
        None => tokio::spawn(logger.clone().drain(near, stream)),
    };
    Ok((far, task))
}

/// Reading end, writing end. Each has flags of its own: non-blocking here is blocking there.
pub(crate) fn pipe_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))
}

async fn pump_in(mut source: Source, mut pipe: pipe::Sender) {
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = source.read(&mut piece).await {
        // A command that closed its input wants no more.
        if pipe.write_all(piece.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

/// Ends at the end of either side; a sink that fails closes the pipe, as it would without hotcell between.
async fn pump_out(mut pipe: pipe::Receiver, mut sink: Sink) {
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        let bytes = piece.get(..count).unwrap_or_default();
        if sink.write_all(bytes).await.is_err() || sink.flush().await.is_err() {
            return;
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::io("connect a worker's standard streams", source)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use tokio::io::AsyncReadExt;

    use super::{CommandIo, connect};
    use crate::log::Logger;

    #[tokio::test]
    async fn bytes_pass_through_both_ways_and_end() {
        let (sink, mut written) = tokio::io::duplex(16);
        let io = CommandIo {
            stdin: Some(Box::new(&b"from the caller"[..])),
            stdout: Some(Box::new(sink)),
            stderr: None,
        };
        let ([stdin, stdout, stderr], mut pumps) = connect(io, &Logger::new("p", 1, 0)).expect("connects");
        let worker = std::thread::spawn(move || {
            let mut text = String::new();
            File::from(stdin).read_to_string(&mut text).expect("reads");
            File::from(stdout).write_all(text.to_uppercase().as_bytes()).expect("writes");
            drop(stderr);
        });
        let mut text = String::new();
        written.read_to_string(&mut text).await.expect("reads");
        assert_eq!(text, "FROM THE CALLER");
        worker.join().expect("ends");
        pumps.drained().await;
    }
}
