//! What the host listens with, as this worker's descriptor of it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::connection::Connection;

/// A socket that listens and never blocks. Other workers of the plugin have it, too.
///
/// tokio watches it as it watches a connection: its own type for listeners cannot wait without accepting.
pub(super) struct Listener(TcpStream);

impl Listener {
    pub(super) fn over(socket: OwnedFd) -> Result<Listener, Errno> {
        let watched = TcpStream::from_std(socket.into());
        watched.map(Listener).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// A connection that somebody has made, and who; [`Errno::AGAIN`] if there is none.
    pub(super) fn accept(&self) -> Result<(Connection, SocketAddr), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = self.0.try_io(Interest::READABLE, || Ok(acceptfrom_with(&self.0, flags)?));
        let (socket, peer) =
            accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::IO)?;
        Ok((Connection::over(socket)?, peer))
    }

    /// Ends once a connection may be there. Another worker may take it.
    pub(super) async fn ready(&self) {
        // An error is told by accepting.
        let _ = self.0.readable().await;
    }
}
