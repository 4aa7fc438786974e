//! Connections that the host makes for a plugin, and takes for it.
//!
//! A plugin names a granted address as its manifest has it; or it asks for the addresses of a granted name and connects to one
//! of those, as programs do that know nothing of hotcell. Either way a name is resolved by the host, once for each question, and
//! the addresses that were checked are the ones that are connected to: there is no second look-up that could say something
//! else. The plugin gets the connected descriptor, and can make none.

mod address;
mod listen;
mod roots;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell_policy::{ConnectGrant, HostPort};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::TcpStream;

use address::is_public;
pub(crate) use listen::{Listeners, OpenListeners};
pub(crate) use roots::Roots;

/// What a plugin asks for, each by a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A connection.
    Connect,
    /// The addresses of a name.
    Resolve,
    /// What the host listens with.
    Listen,
    /// The certificates to trust.
    Roots,
}

impl Ask {
    pub(crate) fn of_host_call(name: &str) -> Option<Ask> {
        match name {
            "net.connect" => Some(Ask::Connect),
            "net.resolve" => Some(Ask::Resolve),
            "net.listen" => Some(Ask::Listen),
            "net.roots" => Some(Ask::Roots),
            _ => None,
        }
    }
}

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

/// What a host's connections are made with.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) resolver: Resolver,
    pub(crate) roots: Roots,
}

impl From<Resolver> for Directory {
    fn from(resolver: Resolver) -> Directory {
        Directory { resolver, roots: Roots::default() }
    }
}

/// Makes the connections of one plugin.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    grants: Arc<[ConnectGrant]>,
    /// What the plugin was last told of the name of each grant.
    pinned: Arc<Mutex<Vec<Vec<IpAddr>>>>,
    directory: Directory,
    listeners: Listeners,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// The plan has no such address.
    NotGranted,
    /// It failed, with a text for the plugin, and as connect(2) says it.
    Failed(String, Errno),
}

impl Connector {
    pub(crate) fn new(grants: &[ConnectGrant], directory: impl Into<Directory>) -> Connector {
        let pinned = Arc::new(Mutex::new(vec![Vec::new(); grants.len()]));
        let directory = directory.into();
        Connector { grants: grants.into(), pinned, directory, listeners: Listeners::default() }
    }

    /// The same, with what the host listens with.
    pub(crate) fn with_listeners(self, listeners: Listeners) -> Connector {
        Connector { listeners, ..self }
    }

    /// What the host listens with at a granted address, in the words of the plugin.
    pub(crate) fn listen(&self, wanted: &[u8]) -> Result<(OwnedFd, SocketAddr), NoConnection> {
        self.listeners.give(wanted)
    }

    /// The certificates that connections are checked against, as PEM.
    pub(crate) fn roots(&self) -> Result<Vec<u8>, String> {
        self.directory.roots.pem()
    }

    /// Connects to an address that is granted, in the words of the plugin. Safe to cancel.
    pub(crate) async fn connect(&self, wanted: &[u8]) -> Result<(OwnedFd, SocketAddr), NoConnection> {
        let wanted = std::str::from_utf8(wanted).ok().and_then(|text| text.parse::<HostPort>().ok());
        let wanted = wanted.ok_or(NoConnection::NotGranted)?;
        if let Some(grant) = self.grants.iter().find(|grant| grant.address == wanted) {
            return in_time(async {
                connect_to_one(&self.addresses(grant).await?, grant.address.port()).await
            })
            .await;
        }
        let pinned = wanted.host().parse().ok().filter(|ip| self.is_pinned(*ip, wanted.port()));
        let ip = pinned.ok_or(NoConnection::NotGranted)?;
        in_time(connect_to_one(&[ip], wanted.port())).await
    }

    /// The addresses of a granted name, one a line, to which [`Connector::connect`] connects from now on. Safe to cancel.
    pub(crate) async fn resolve(&self, name: &[u8]) -> Result<String, NoConnection> {
        let of_name = |(_, grant): &(usize, &ConnectGrant)| grant.address.host().as_bytes() == name;
        let mut granted = self.grants.iter().enumerate().filter(of_name).peekable();
        granted.peek().ok_or(NoConnection::NotGranted)?;
        in_time(async {
            let (mut all, mut failure) = (Vec::new(), None);
            for (index, grant) in granted {
                // What was told before holds no longer, whatever comes now.
                let found = self.addresses(grant).await.unwrap_or_else(|failed| {
                    failure = Some(failed);
                    Vec::new()
                });
                all.extend(found.iter().filter(|ip| !all.contains(*ip)).copied().collect::<Vec<_>>());
                if let Some(pinned) = self.pins().get_mut(index) {
                    *pinned = found;
                }
            }
            let lines: Vec<_> = all.iter().map(IpAddr::to_string).collect();
            if lines.is_empty() {
                Err(failure.unwrap_or(NoConnection::NotGranted))
            } else {
                Ok(lines.join("\n"))
            }
        })
        .await
    }

    /// Whether the plugin was told that this is an address of a name that it may connect to at this port.
    fn is_pinned(&self, ip: IpAddr, port: u16) -> bool {
        let of_port = |(grant, pinned): (&ConnectGrant, &Vec<IpAddr>)| {
            grant.address.port() == port && pinned.contains(&ip)
        };
        self.grants.iter().zip(&*self.pins()).any(of_port)
    }

    fn pins(&self) -> MutexGuard<'_, Vec<Vec<IpAddr>>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a grant leads now, without what it does not reach; at least one.
    async fn addresses(
        &self,
        ConnectGrant { address, private }: &ConnectGrant,
    ) -> Result<Vec<IpAddr>, NoConnection> {
        let found = (self.directory.resolver.0)(address.host().to_owned(), address.port()).await;
        let nowhere = |text: String| NoConnection::Failed(text, Errno::HOSTUNREACH);
        let found =
            found.map_err(|error| nowhere(format!("the name cannot be resolved: {}", error.kind())))?;
        // A resolver of the application may say another port than it was asked for: it is not looked at.
        let allowed = found.iter().map(SocketAddr::ip).filter(|ip| *private || is_public(*ip));
        let allowed: Vec<_> = allowed.take(ADDRESSES_MAX).collect();
        match (allowed.is_empty(), found.is_empty()) {
            (false, _) => Ok(allowed),
            (true, true) => Err(nowhere("the name has no address".to_owned())),
            (true, false) => Err(nowhere("the name has no public address".to_owned())),
        }
    }
}

async fn in_time<T>(connecting: impl Future<Output = Result<T, NoConnection>>) -> Result<T, NoConnection> {
    let late = |_| NoConnection::Failed("the connection took too long".to_owned(), Errno::TIMEDOUT);
    tokio::time::timeout(CONNECT_TIME, connecting).await.map_err(late)?
}

/// Connects to the first that answers.
async fn connect_to_one(addresses: &[IpAddr], port: u16) -> Result<(OwnedFd, SocketAddr), NoConnection> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        match TcpStream::connect(address).await.and_then(hand_over) {
            Ok(connection) => return Ok((connection, address)),
            Err(error) => last = error,
        }
    }
    let errno = Errno::from_io_error(&last).unwrap_or(Errno::HOSTUNREACH);
    Err(NoConnection::Failed(format!("the connection failed: {}", last.kind()), errno))
}

/// A blocking socket without Nagle's delay: the plugin can set no option of it.
fn hand_over(stream: TcpStream) -> io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// A socket that is not connected, for a program that asks for the connection later: the worker can neither connect nor bind it.
pub(crate) fn unconnected(family: AddressFamily) -> Result<OwnedFd, Errno> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// What waits for its worker to take it, or why there is nothing: what one host call made, at most two descriptors, so that a
/// worker holds none of the host's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<Mutex<VecDeque<Result<OwnedFd, Errno>>>>);

impl Slot {
    /// Puts a descriptor there; what nobody took is closed.
    pub(crate) fn put(&self, descriptor: Result<OwnedFd, Errno>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clear();
        waiting.push_back(descriptor);
    }

    /// Adds the second of two.
    pub(crate) fn add(&self, descriptor: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Ok(descriptor));
    }

    /// Takes the first.
    pub(crate) fn take(&self) -> Option<Result<OwnedFd, Errno>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests;
