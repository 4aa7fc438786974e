//! Where the host listens for a plugin.
//!
//! A listener belongs to the plugin and not to a worker: its workers share it, and connections that arrive while one is replaced
//! wait in its queue. A worker that holds it can take connections and shut it down, and nothing else.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hotcell_policy::ListenAddress;
use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;

use super::NoConnection;

/// The listeners of one plugin that are open, whichever version of it has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenListeners(Arc<Mutex<HashMap<ListenAddress, Weak<TcpListener>>>>);

/// What one version of a plugin listens with. Each listener ends with the last version that has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    open: OpenListeners,
    granted: Arc<[ListenAddress]>,
    held: Arc<Mutex<HashMap<ListenAddress, Arc<TcpListener>>>>,
}

impl Listeners {
    pub(crate) fn new(granted: &[ListenAddress], open: OpenListeners) -> Listeners {
        Listeners { open, granted: granted.into(), ..Listeners::default() }
    }

    /// Those of the plugin's other versions.
    pub(crate) fn open(&self) -> OpenListeners {
        self.open.clone()
    }

    /// Keeps open what another version has opened and this one may have, too.
    pub(crate) fn take_over(&self) {
        let open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for address in self.granted.iter() {
            if let Some(listener) = open.get(address).and_then(Weak::upgrade) {
                held.entry(*address).or_insert(listener);
            }
        }
    }

    /// A descriptor of the listener at an address, in the words of the plugin.
    pub(super) fn give(&self, wanted: &[u8]) -> Result<(OwnedFd, SocketAddr), NoConnection> {
        let wanted = std::str::from_utf8(wanted).ok().and_then(|text| text.parse().ok());
        let granted = wanted.filter(|address| self.granted.contains(address));
        let address = granted.ok_or(NoConnection::NotGranted)?;
        let given = self.listener(address).and_then(|listener| listener.as_fd().try_clone_to_owned());
        given.map(|listener| (listener, address.socket())).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::ADDRNOTAVAIL);
            NoConnection::Failed(format!("listening failed: {}", error.kind()), errno)
        })
    }

    /// The one that is open, unless a worker has shut it down; else a fresh one.
    fn listener(&self, address: ListenAddress) -> io::Result<Arc<TcpListener>> {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open.get(&address).and_then(Weak::upgrade);
        let listener = match known.filter(|listener| socket_acceptconn(listener).unwrap_or(false)) {
            Some(listener) => listener,
            None => {
                // std sets SO_REUSEADDR and a queue of 128 or more.
                let listener = Arc::new(TcpListener::bind(address.socket())?);
                open.retain(|_, other| other.strong_count() > 0);
                open.insert(address, Arc::downgrade(&listener));
                listener
            }
        };
        held.insert(address, Arc::clone(&listener));
        Ok(listener)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use hotcell_policy::ListenAddress;
    use rustix::net::{Shutdown, shutdown};

    use super::{Listeners, NoConnection, OpenListeners};

    fn free() -> ListenAddress {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        listener.local_addr().expect("it is bound").to_string().parse().expect("is an address")
    }

    fn give(listeners: &Listeners, address: ListenAddress) -> TcpListener {
        let (given, at) = listeners.give(address.to_string().as_bytes()).expect("it listens");
        assert_eq!(at, address.socket());
        given.into()
    }

    fn connects(address: ListenAddress) -> bool {
        TcpStream::connect(address.socket()).is_ok()
    }

    #[test]
    fn only_a_granted_address_is_listened_at_and_only_once_asked_for() {
        let address = free();
        let listeners = Listeners::new(&[address], OpenListeners::default());
        assert!(!connects(address), "nobody asked");
        let port = address.socket().port();
        for other in [format!("127.0.0.2:{port}"), format!("127.0.0.1:{}", port ^ 1), String::new()] {
            let refused = listeners.give(other.as_bytes()).map(|_| ());
            assert_eq!(refused, Err(NoConnection::NotGranted), "{other:?}");
        }
        let listener = give(&listeners, address);
        let client = TcpStream::connect(address.socket()).expect("it listens");
        let (_, peer): (_, SocketAddr) = listener.accept().expect("somebody connected");
        assert_eq!(client.local_addr().expect("it is connected"), peer);
    }

    #[test]
    fn connections_wait_for_the_next_worker_and_end_with_the_last_version_that_may_have_them() {
        let (kept, dropped) = (free(), free());
        let old = Listeners::new(&[kept, dropped], OpenListeners::default());
        let (first, second) = (give(&old, kept), give(&old, dropped));
        let new = Listeners::new(&[kept], old.open());
        new.take_over();
        drop((first, second));
        assert!(connects(kept) && connects(dropped), "no worker has it, the plugin does");
        drop(old);
        assert!(!connects(dropped), "the new version has not asked for it");
        assert!(connects(kept));
        let listener = give(&new, kept);
        for _ in 0..2 {
            listener.accept().expect("they waited");
        }
        drop((listener, new));
        assert!(!connects(kept));
    }

    #[test]
    fn a_listener_that_was_shut_down_is_replaced() {
        let address = free();
        let listeners = Listeners::new(&[address], OpenListeners::default());
        let listener = give(&listeners, address);
        shutdown(&listener, Shutdown::Both).expect("a worker can do it");
        assert!(!connects(address), "control");
        give(&listeners, address);
        assert!(connects(address));
    }

    #[test]
    fn an_address_that_another_has_is_said_to_be_in_use() {
        let other = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address: ListenAddress = other.local_addr().expect("bound").to_string().parse().expect("valid");
        let listeners = Listeners::new(&[address], OpenListeners::default());
        let failed = listeners.give(address.to_string().as_bytes()).map(|_| ());
        let text = "listening failed: address in use".to_owned();
        assert_eq!(failed, Err(NoConnection::Failed(text, rustix::io::Errno::ADDRINUSE)));
    }
}
