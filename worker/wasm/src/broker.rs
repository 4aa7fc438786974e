//! What the guest of a component asks the host for, by the worker channel: names, sockets, certificates.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hotcell_worker::HostCallError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio_rustls::rustls::ClientConfig;

use crate::lent::Lent;

/// The way to the host of one guest.
pub(crate) struct Broker {
    pub(crate) link: Lent,
    /// Whether the worker can take a socket from the host: its socket(2) ends it otherwise.
    has_network: bool,
    /// Made when the guest first asks for TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Broker {
    pub(crate) fn new(has_network: bool) -> Broker {
        Broker { link: Lent::default(), has_network, tls: None }
    }

    /// A host call. Outside calls there is nobody to ask.
    pub(crate) fn ask(&mut self, host_call: &str, input: &[u8]) -> Result<Vec<u8>, HostCallError> {
        self.link.link().map_or(Err(HostCallError::Refused), |link| link.host_call(host_call, input))
    }

    /// Asks the host for a socket, and takes it. A refusal is [`Errno::ACCESS`].
    pub(crate) fn socket(&mut self, host_call: &str, address: &str) -> Result<OwnedFd, Errno> {
        match self.ask(host_call, address.as_bytes()) {
            Err(HostCallError::Refused) => Err(Errno::ACCESS),
            // Whatever an application's own host call of this name has said.
            _ if !self.has_network => Err(Errno::ACCESS),
            // Why there is none, the socket says.
            _ => take().map_err(|errno| match errno {
                // The host makes no socket that it has neither connected nor bound.
                Errno::PERM => Errno::ACCESS,
                errno => errno,
            }),
        }
    }
}

/// Takes what the host has made, or learns why there is nothing.
fn take() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNSPEC, SocketType::from_raw(0), SocketFlags::NONBLOCK, None)
}
