//! A connection and its two streams, on one descriptor that never blocks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use wasmtime_wasi::p2::bindings::sockets::tcp::ShutdownType;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

/// Bytes of one read or write.
const PIECE: usize = 64 * 1024;

/// A TCP connection. Read and written by read(2) and write(2), since the worker has no other calls for it.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<TcpStream>);

struct Reader(Connection);

struct Writer {
    connection: Connection,
    /// What the guest wrote and the kernel has not taken.
    waiting: Bytes,
}

impl Connection {
    /// Over a connected socket that does not block.
    pub(crate) fn over(socket: OwnedFd) -> Result<Connection, Errno> {
        let watched = TcpStream::from_std(socket.into());
        let watched = watched.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Connection(Arc::new(watched)))
    }

    pub(super) fn streams(&self) -> (DynInputStream, DynOutputStream) {
        let writer = Writer { connection: self.clone(), waiting: Bytes::new() };
        (Box::new(Reader(self.clone())), Box::new(writer))
    }

    pub(super) fn shut_down(&self, how: ShutdownType) -> Result<(), Errno> {
        let how = match how {
            ShutdownType::Receive => Shutdown::Read,
            ShutdownType::Send => Shutdown::Write,
            ShutdownType::Both => Shutdown::Both,
        };
        shutdown(&*self.0, how)
    }

    /// Does what may have to wait; [`None`] if it has to.
    fn attempt<T>(
        &self,
        interest: Interest,
        act: impl Fn(&TcpStream) -> Result<T, Errno>,
    ) -> StreamResult<Option<T>> {
        loop {
            return match self.0.try_io(interest, || Ok(act(&self.0)?)) {
                Ok(done) => Ok(Some(done)),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => continue,
                    // Also where the event loop has not said yet that it is ready.
                    Some(Errno::AGAIN) => Ok(None),
                    None if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Some(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Err(StreamError::Closed),
                    _ => Err(StreamError::LastOperationFailed(error.into())),
                },
            };
        }
    }
}

/// For HTTP and TLS.
impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            let read = self.0.try_io(Interest::READABLE, || {
                Ok(rustix::io::read(self.0.as_fd(), buffer.initialize_unfilled())?)
            });
            if let Some(count) = done(read)? {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            let written = self.0.try_io(Interest::WRITABLE, || Ok(rustix::io::write(self.0.as_fd(), bytes)?));
            if let Some(count) = done(written)? {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(&*self.0, Shutdown::Write)?))
    }
}

/// What was done; [`None`] if it is to be tried again.
fn done(attempt: io::Result<usize>) -> io::Result<Option<usize>> {
    match attempt {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        // An error is told by the next read.
        let _ = self.0.0.readable().await;
    }
}

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let size = size.min(PIECE);
        if size == 0 {
            return Ok(Bytes::new());
        }
        let read = self.0.attempt(Interest::READABLE, |stream| {
            let mut buffer = vec![0; size];
            let length = rustix::io::read(stream.as_fd(), &mut buffer)?;
            buffer.truncate(length);
            Ok(buffer)
        })?;
        match read {
            Some(bytes) if bytes.is_empty() => Err(StreamError::Closed),
            Some(bytes) => Ok(bytes.into()),
            None => Ok(Bytes::new()),
        }
    }
}

impl Writer {
    /// Hands on what the kernel takes now.
    fn push(&mut self) -> StreamResult<()> {
        while !self.waiting.is_empty() {
            let write = |stream: &TcpStream| rustix::io::write(stream.as_fd(), &self.waiting);
            match self.connection.attempt(Interest::WRITABLE, write)? {
                Some(count) => self.waiting.advance(count),
                None => break,
            }
        }
        Ok(())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        // An error is told by the next write.
        while self.push().is_ok() && !self.waiting.is_empty() {
            let _ = self.connection.0.writable().await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if !self.waiting.is_empty() {
            return Err(StreamError::trap("a write that `check-write` did not permit"));
        }
        self.waiting = bytes;
        self.push()
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.push()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.push()?;
        Ok(if self.waiting.is_empty() { PIECE } else { 0 })
    }
}
