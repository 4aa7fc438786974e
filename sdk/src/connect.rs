//! Connections that the host makes for a native plugin, or takes for it.

use alloc::string::String;
use alloc::vec::Vec;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::boundary;
use crate::host::{HostCallError, host_call};

/// A TCP connection. It reads and writes, blocking, until either side closes it. TLS libraries take whatever reads and
/// writes; for what needs a `TcpStream`, its `OwnedFd` becomes one.
#[derive(Debug)]
pub struct Connection(File);

/// Has the host connect to `address`, `host:port` as the manifest's `permissions.network.connect` has it.
///
/// # Errors
/// [`HostCallError::Refused`] if the manifest or the profile has no such address, [`HostCallError::Failed`] if the name
/// leads nowhere or nowhere public, nobody answers, or the plugin holds as many descriptors as it may.
pub fn connect(address: &str) -> Result<Connection, HostCallError> {
    host_call("net.connect", address.as_bytes())?;
    Ok(Connection(File::from(taken()?)))
}

/// Listens at `address`, as the manifest's `permissions.network.listen` has it. `TcpListener::bind` does the same.
///
/// The listener is the plugin's, shared by its workers: connections that arrive between a worker's end and the next one's
/// first call wait in its queue.
///
/// # Errors
/// [`HostCallError::Refused`] if the manifest or the profile has no such address, [`HostCallError::Failed`] if somebody else
/// listens there, or the plugin holds as many descriptors as it may.
pub fn listen(address: &str) -> Result<TcpListener, HostCallError> {
    host_call("net.listen", address.as_bytes())?;
    Ok(TcpListener::from(taken()?))
}

/// The socket that the host has made.
fn taken() -> Result<OwnedFd, HostCallError> {
    boundary::take_socket().ok_or_else(|| HostCallError::Failed(String::from("no descriptor is free")))
}

/// The addresses of a name, the host of an address in the manifest's `permissions.network.connect`.
///
/// Until it is asked for again, [`connect`] takes them with the manifest's ports, and so does
/// `std::net::TcpStream::connect`, whose own look-up of names finds no name server here.
///
/// # Errors
/// As for [`connect`].
pub fn resolve(name: &str) -> Result<Vec<IpAddr>, HostCallError> {
    let lines = host_call("net.resolve", name.as_bytes())?;
    Ok(String::from_utf8_lossy(&lines).lines().filter_map(|line| line.parse().ok()).collect())
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
