//! Standard streams of a WASI guest, on the worker's own descriptors 0, 1 and 2, without helper threads.
//!
//! Reading and writing block the worker's one thread; the host's deadline is what ends a wait.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes of one read or write.
const PIECE: usize = 64 * 1024;

/// How long a guest that waits for input and for something else sleeps between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Descriptor 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stdin;

/// Descriptor 1 or 2.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl Stdin {
    /// Not std's own reader: its buffer would make poll(2) lie.
    fn fd() -> BorrowedFd<'static> {
        rustix::stdio::stdin()
    }

    fn is_ready() -> bool {
        let fd = Stdin::fd();
        let mut polled = [PollFd::new(&fd, PollFlags::IN)];
        !matches!(poll(&mut polled, Some(&Timespec::default())), Ok(0))
    }

    fn read_now(size: usize) -> StreamResult<Bytes> {
        let mut buffer = vec![0; size.min(PIECE)];
        loop {
            match rustix::io::read(Stdin::fd(), &mut buffer) {
                Ok(0) if size > 0 => return Err(StreamError::Closed),
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer.into());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        while !Stdin::is_ready() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if Stdin::is_ready() { Stdin::read_now(size) } else { Ok(Bytes::new()) }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        Stdin::read_now(size)
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = std::io::stdin().lock().read(into.initialize_unfilled());
        Poll::Ready(read.map(|length| into.advance(length)))
    }
}

impl IsTerminal for Stdin {
    /// A worker never holds a terminal.
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(*self)
    }
}

impl Output {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Output::Stdout => rustix::stdio::stdout(),
            Output::Stderr => rustix::stdio::stderr(),
        }
    }
}

/// Unbuffered, so that nothing is lost when the worker is killed.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(self.fd().as_fd(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_all(&bytes).map_err(failed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PIECE)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Write::write(&mut *self, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Output {
    /// A worker never holds a terminal.
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

/// A reader that went away closed the stream; anything else is an error of the operation.
fn failed(error: std::io::Error) -> StreamError {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => StreamError::Closed,
        _ => StreamError::LastOperationFailed(error.into()),
    }
}
