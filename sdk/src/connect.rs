//! Connections that the host makes for a native plugin.

use alloc::string::String;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::boundary;
use crate::host::{HostCallError, host_call};

/// A TCP connection. It reads and writes, blocking, until either side closes it; nothing else that a socket can do is
/// allowed, so it is no `TcpStream`. TLS libraries take whatever reads and writes.
#[derive(Debug)]
pub struct Connection(File);

/// Has the host connect to `address`, `host:port` as the manifest's `permissions.network.connect` has it.
///
/// # Errors
/// [`HostCallError::Refused`] if the manifest or the profile has no such address, [`HostCallError::Failed`] if the name
/// leads nowhere or nowhere public, nobody answers, or the plugin holds as many descriptors as it may.
pub fn connect(address: &str) -> Result<Connection, HostCallError> {
    host_call("net.connect", address.as_bytes())?;
    match boundary::take_connection() {
        Some(connection) => Ok(Connection(File::from(connection))),
        None => Err(HostCallError::Failed(String::from("no descriptor is free"))),
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> OwnedFd {
        connection.0.into()
    }
}
