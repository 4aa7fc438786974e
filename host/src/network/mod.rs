//! Connections that the host makes for a plugin.
//!
//! A name is resolved anew for each connection, and the addresses that were checked are the ones that are connected to:
//! there is no second look-up that could say something else. The plugin gets the connected descriptor, and can make none.

mod address;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotcell_policy::{ConnectGrant, HostPort};
use tokio::net::TcpStream;

use address::is_public;

/// The host call by which a plugin asks for a connection.
pub(crate) const CONNECT: &str = "net.connect";

/// How long a connection may take, with the look-up of its name.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Turns host and port into addresses.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<dyn Fn(String, u16) -> Resolving + Send + Sync>);

impl Resolver {
    /// Asks a function of the application.
    pub(crate) fn new<F, A>(resolve: F) -> Resolver
    where
        F: Fn(String, u16) -> A + Send + Sync + 'static,
        A: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Resolver(Arc::new(move |host, port| Box::pin(resolve(host, port))))
    }

    /// Asks the system, as getaddrinfo(3) does.
    pub(crate) fn system() -> Resolver {
        Resolver::new(async |host: String, port| Ok(tokio::net::lookup_host((host, port)).await?.collect()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

/// Makes the connections of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    grants: Arc<[ConnectGrant]>,
    resolver: Resolver,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// The plan has no such address.
    NotGranted,
    /// It failed, with a text for the plugin.
    Failed(String),
}

impl Connector {
    pub(crate) fn new(grants: &[ConnectGrant], resolver: Resolver) -> Connector {
        Connector { grants: grants.into(), resolver }
    }

    /// Connects to an address that is granted, in the words of the plugin. Safe to cancel.
    pub(crate) async fn connect(&self, wanted: &[u8]) -> Result<(OwnedFd, SocketAddr), NoConnection> {
        let wanted = std::str::from_utf8(wanted).ok().and_then(|text| text.parse::<HostPort>().ok());
        let grant = wanted.and_then(|wanted| self.grants.iter().find(|grant| grant.address == wanted));
        let Some(grant) = grant else { return Err(NoConnection::NotGranted) };
        let late = |_| NoConnection::Failed("the connection took too long".to_owned());
        tokio::time::timeout(CONNECT_TIME, self.connect_to(grant)).await.map_err(late)?
    }

    async fn connect_to(&self, grant: &ConnectGrant) -> Result<(OwnedFd, SocketAddr), NoConnection> {
        let ConnectGrant { address, private } = grant;
        let failed = |what: &str, error: io::Error| NoConnection::Failed(format!("{what}: {}", error.kind()));
        let found = (self.resolver.0)(address.host().to_owned(), address.port()).await;
        let found = found.map_err(|error| failed("the name cannot be resolved", error))?;
        // A resolver of the application may say another port than it was asked for.
        let found: Vec<_> =
            found.into_iter().map(|found| SocketAddr::new(found.ip(), address.port())).collect();
        let allowed: Vec<_> = found.iter().filter(|found| *private || is_public(found.ip())).collect();
        if allowed.is_empty() {
            let what =
                if found.is_empty() { "the name has no address" } else { "the name has no public address" };
            return Err(NoConnection::Failed(what.to_owned()));
        }
        let mut last = None;
        for address in allowed.into_iter().take(ADDRESSES_MAX) {
            match TcpStream::connect(address).await.and_then(hand_over) {
                Ok(connection) => return Ok((connection, *address)),
                Err(error) => last = Some(error),
            }
        }
        Err(failed("the connection failed", last.unwrap_or_else(|| io::ErrorKind::NotFound.into())))
    }
}

/// A blocking socket without Nagle's delay: the plugin can set no option of it.
fn hand_over(stream: TcpStream) -> io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// A connection that waits for its worker to take it: at most one, so that a worker holds no descriptors of the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<OwnedFd>>>);

impl Slot {
    /// Puts a connection there; one that nobody took is closed.
    pub(crate) fn put(&self, connection: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Takes it.
    pub(crate) fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests;
