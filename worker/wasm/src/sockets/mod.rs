//! `wasi:sockets` over connections that the host makes, and what it listens with.
//!
//! A guest's socket is a place for a connection or a listener and nothing of the kernel's: the host calls `net.connect` and
//! `net.listen` ask the host, which decides by the plan, and the worker's next socket(2) is answered with what it connected or
//! bound. Names are looked up by the host, too (`net.resolve`). There is no UDP.

mod connection;
mod listener;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::vec;

use hotcell_worker::HostCallError;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::ShutdownType;
use wasmtime_wasi::p2::bindings::sockets::{instance_network, network, udp, udp_create_socket};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Network, Pollable, subscribe};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{ResourceTable, WasiView as _};

use crate::guest::Guest;
pub(crate) use connection::Connection;
use listener::Listener;

/// The interfaces as wasmtime-wasi defines them; the linker serves every 0.2 version by them.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// Bytes of a name that is looked up (RFC 1035).
const NAME_MAX: usize = 253;

/// What a function of `wasi:sockets` that can fail returns.
type Answer<T> = Result<T, ErrorCode>;

/// A guest's TCP socket.
struct TcpSocket {
    family: IpAddressFamily,
    state: State,
}

enum State {
    Unconnected,
    /// The guest asked, and was not told yet.
    Connecting(Answer<Connection>, SocketAddr),
    Connected(Connection, SocketAddr),
    /// Bound by the host, which the guest was not told yet.
    Binding(Answer<Listener>, SocketAddr),
    Bound(Listener, SocketAddr),
    /// The guest has said that it will listen.
    Starting(Listener, SocketAddr),
    Listening(Listener, SocketAddr),
    Failed,
}

impl TcpSocket {
    /// Which family an address is of.
    fn family_of(address: SocketAddr) -> IpAddressFamily {
        if address.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
    }
}

/// Addresses of a name that the guest has not taken yet.
struct Addresses(vec::IntoIter<IpAddr>);

/// All but accepting is done when it is begun: the host call waits.
#[wasmtime_wasi::async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        if let State::Listening(listener, _) = &self.state {
            listener.ready().await;
        }
    }
}

/// Done when they are begun, likewise.
#[wasmtime_wasi::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// Defines the interfaces.
pub(crate) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    network::add_to_linker::<Guest, WasiSockets>(linker, &network::LinkOptions::default(), Guest::sockets)?;
    instance_network::add_to_linker::<Guest, WasiSockets>(linker, Guest::sockets)?;
    // Its context allows none: no socket is made.
    udp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, Guest::sockets)?;
    udp::add_to_linker::<Guest, WasiSockets>(linker, Guest::sockets)?;
    let mut create = linker.instance(CREATE)?;
    resource::<TcpSocket>(&mut create, "tcp-socket")?;
    function(&mut create, "create-tcp-socket", |guest, (family,): (IpAddressFamily,)| {
        Ok(Ok(guest.table().push(TcpSocket { family, state: State::Unconnected })?))
    })?;
    define_lookup(&mut linker.instance(LOOKUP)?)?;
    let mut tcp = linker.instance(TCP)?;
    resource::<TcpSocket>(&mut tcp, "tcp-socket")?;
    define_connecting(&mut tcp)?;
    define_listening(&mut tcp)?;
    define_options(&mut tcp)
}

fn define_lookup(lookup: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    resource::<Addresses>(lookup, "resolve-address-stream")?;
    function(lookup, "resolve-addresses", |guest, (network, name): (Resource<Network>, String)| {
        guest.table().get(&network)?;
        Ok(match guest.look_up(&name) {
            Ok(found) => Ok(guest.table().push(Addresses(found.into_iter()))?),
            Err(code) => Err(code),
        })
    })?;
    function(
        lookup,
        "[method]resolve-address-stream.resolve-next-address",
        |guest, (this,): (Resource<Addresses>,)| {
            Ok(Ok(guest.table().get_mut(&this)?.0.next().map(IpAddress::from)))
        },
    )?;
    lookup.func_wrap("[method]resolve-address-stream.subscribe", pollable::<Addresses>)
}

fn define_connecting(tcp: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type To = (Resource<TcpSocket>, Resource<Network>, IpSocketAddress);
    function(tcp, "[method]tcp-socket.start-connect", |guest, (this, network, to): To| {
        guest.table().get(&network)?;
        let socket = guest.table().get(&this)?;
        let to = SocketAddr::from(to);
        match socket.state {
            State::Unconnected if socket.family != TcpSocket::family_of(to) => {
                return Ok(Err(ErrorCode::InvalidArgument));
            }
            State::Unconnected => {}
            State::Connecting(..) | State::Binding(..) | State::Starting(..) => {
                return Ok(Err(ErrorCode::ConcurrencyConflict));
            }
            _ => return Ok(Err(ErrorCode::InvalidState)),
        }
        let connected = guest.socket("net.connect", to).and_then(|socket| Ok(Connection::over(socket)?));
        guest.table().get_mut(&this)?.state = State::Connecting(connected, to);
        Ok(Ok(()))
    })?;
    type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
    function(tcp, "[method]tcp-socket.finish-connect", |guest, (this,): (Resource<TcpSocket>,)| {
        let socket = guest.table().get_mut(&this)?;
        let (connection, peer) = match std::mem::replace(&mut socket.state, State::Failed) {
            State::Connecting(Ok(connection), peer) => (connection, peer),
            State::Connecting(Err(code), _) => return Ok(Err(code)),
            other => {
                socket.state = other;
                return Ok(Err(ErrorCode::NotInProgress));
            }
        };
        let (input, output) = connection.streams();
        socket.state = State::Connected(connection, peer);
        let streams: Streams =
            (guest.table().push_child(input, &this)?, guest.table().push_child(output, &this)?);
        Ok(Ok(streams))
    })?;
    function(tcp, "[method]tcp-socket.remote-address", |guest, (this,): (Resource<TcpSocket>,)| {
        Ok(match &guest.table().get(&this)?.state {
            State::Connected(_, peer) => Ok(IpSocketAddress::from(*peer)),
            _ => Err(ErrorCode::InvalidState),
        })
    })?;
    function(
        tcp,
        "[method]tcp-socket.shutdown",
        |guest, (this, how): (Resource<TcpSocket>, ShutdownType)| {
            Ok(match &guest.table().get(&this)?.state {
                State::Connected(connection, _) => connection.shut_down(how).map_err(ErrorCode::from),
                _ => Err(ErrorCode::InvalidState),
            })
        },
    )?;
    tcp.func_wrap("[method]tcp-socket.subscribe", pollable::<TcpSocket>)?;
    tcp.func_wrap(
        "[method]tcp-socket.address-family",
        |mut store: StoreContextMut<'_, Guest>, (this,): (Resource<TcpSocket>,)| {
            Ok((store.data_mut().table().get(&this)?.family,))
        },
    )
}

fn define_listening(tcp: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type At = (Resource<TcpSocket>, Resource<Network>, IpSocketAddress);
    function(tcp, "[method]tcp-socket.start-bind", |guest, (this, network, at): At| {
        guest.table().get(&network)?;
        let socket = guest.table().get(&this)?;
        let at = SocketAddr::from(at);
        match socket.state {
            State::Unconnected if socket.family != TcpSocket::family_of(at) => {
                return Ok(Err(ErrorCode::InvalidArgument));
            }
            State::Unconnected => {}
            State::Connecting(..) | State::Binding(..) | State::Starting(..) => {
                return Ok(Err(ErrorCode::ConcurrencyConflict));
            }
            _ => return Ok(Err(ErrorCode::InvalidState)),
        }
        let bound = guest.socket("net.listen", at).and_then(|socket| Ok(Listener::over(socket)?));
        // A refusal is told at once.
        if let Err(ErrorCode::AccessDenied) = bound {
            return Ok(Err(ErrorCode::AccessDenied));
        }
        guest.table().get_mut(&this)?.state = State::Binding(bound, at);
        Ok(Ok(()))
    })?;
    function(tcp, "[method]tcp-socket.finish-bind", |guest, (this,): This| {
        step(guest, &this, |state| match state {
            State::Binding(Ok(listener), at) => (State::Bound(listener, at), Ok(())),
            State::Binding(Err(code), _) => (State::Unconnected, Err(code)),
            other => (other, Err(ErrorCode::NotInProgress)),
        })
    })?;
    function(tcp, "[method]tcp-socket.start-listen", |guest, (this,): This| {
        step(guest, &this, |state| match state {
            State::Bound(listener, at) => (State::Starting(listener, at), Ok(())),
            State::Starting(..) | State::Binding(..) => (state, Err(ErrorCode::ConcurrencyConflict)),
            other => (other, Err(ErrorCode::InvalidState)),
        })
    })?;
    function(tcp, "[method]tcp-socket.finish-listen", |guest, (this,): This| {
        step(guest, &this, |state| match state {
            State::Starting(listener, at) => (State::Listening(listener, at), Ok(())),
            other => (other, Err(ErrorCode::NotInProgress)),
        })
    })?;
    type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);
    function(tcp, "[method]tcp-socket.accept", |guest, (this,): This| {
        let socket = guest.table().get(&this)?;
        let State::Listening(listener, _) = &socket.state else { return Ok(Err(ErrorCode::InvalidState)) };
        let (connection, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(errno) => return Ok(Err(errno.into())),
        };
        let (input, output) = connection.streams();
        let accepted = TcpSocket { family: socket.family, state: State::Connected(connection, peer) };
        let accepted = guest.table().push(accepted)?;
        let input = guest.table().push_child(input, &accepted)?;
        let output = guest.table().push_child(output, &accepted)?;
        let all: Accepted = (accepted, input, output);
        Ok(Ok(all))
    })?;
    // What a connection's own end is, nobody is told: it is the host's.
    function(tcp, "[method]tcp-socket.local-address", |guest, (this,): This| {
        Ok(match &guest.table().get(&this)?.state {
            State::Bound(_, at) | State::Starting(_, at) | State::Listening(_, at) => {
                Ok(IpSocketAddress::from(*at))
            }
            State::Connected(..) => Err(ErrorCode::NotSupported),
            _ => Err(ErrorCode::InvalidState),
        })
    })?;
    // A hint, which the host does not take.
    function(tcp, "[method]tcp-socket.set-listen-backlog-size", |guest, (this, size): With<u64>| {
        guest.table().get(&this)?;
        Ok(if size == 0 { Err(ErrorCode::InvalidArgument) } else { Ok(()) })
    })?;
    tcp.func_wrap(
        "[method]tcp-socket.is-listening",
        |mut store: StoreContextMut<'_, Guest>, (this,): This| {
            Ok((matches!(store.data_mut().table().get(&this)?.state, State::Listening(..)),))
        },
    )
}

/// Takes a socket from one state to the next.
fn step(
    guest: &mut Guest,
    this: &Resource<TcpSocket>,
    next: impl FnOnce(State) -> (State, Answer<()>),
) -> wasmtime::Result<Answer<()>> {
    let socket = guest.table().get_mut(this)?;
    let (state, answer) = next(std::mem::replace(&mut socket.state, State::Failed));
    socket.state = state;
    Ok(answer)
}

/// Options of the kernel's socket: none can be asked for or set.
fn define_options(tcp: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    const NONE: ErrorCode = ErrorCode::NotSupported;
    refused::<This, bool>(tcp, "[method]tcp-socket.keep-alive-enabled", NONE)?;
    refused::<With<bool>, ()>(tcp, "[method]tcp-socket.set-keep-alive-enabled", NONE)?;
    refused::<This, u32>(tcp, "[method]tcp-socket.keep-alive-count", NONE)?;
    refused::<With<u32>, ()>(tcp, "[method]tcp-socket.set-keep-alive-count", NONE)?;
    refused::<This, u8>(tcp, "[method]tcp-socket.hop-limit", NONE)?;
    refused::<With<u8>, ()>(tcp, "[method]tcp-socket.set-hop-limit", NONE)?;
    for option in ["keep-alive-idle-time", "keep-alive-interval", "receive-buffer-size", "send-buffer-size"] {
        refused::<This, u64>(tcp, &format!("[method]tcp-socket.{option}"), NONE)?;
        refused::<With<u64>, ()>(tcp, &format!("[method]tcp-socket.set-{option}"), NONE)?;
    }
    Ok(())
}

type This = (Resource<TcpSocket>,);
type With<T> = (Resource<TcpSocket>, T);

/// A resource that ends with its entry in the table.
fn resource<T: Send + 'static>(instance: &mut LinkerInstance<'_, Guest>, name: &str) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), |mut store, index| {
        store.data_mut().table().delete(Resource::<T>::new_own(index))?;
        Ok(())
    })
}

/// A function that answers or fails; only a wrong handle traps.
fn function<P, R>(
    instance: &mut LinkerInstance<'_, Guest>,
    name: &str,
    answer: impl Fn(&mut Guest, P) -> wasmtime::Result<Answer<R>> + Send + Sync + 'static,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: Lower + 'static,
{
    instance.func_wrap(name, move |mut store: StoreContextMut<'_, Guest>, parameters: P| {
        Ok((answer(store.data_mut(), parameters)?,))
    })
}

/// A function that always fails.
fn refused<P, R>(
    instance: &mut LinkerInstance<'_, Guest>,
    name: &str,
    code: ErrorCode,
) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + 'static,
    R: Lower + 'static,
{
    function::<P, R>(instance, name, move |_, _| Ok(Err(code)))
}

fn pollable<T: Pollable>(
    mut store: StoreContextMut<'_, Guest>,
    (this,): (Resource<T>,),
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    Ok((subscribe(store.data_mut().table(), this)?,))
}

impl Guest {
    fn table(&mut self) -> &mut ResourceTable {
        self.ctx().table
    }

    /// Asks the host for the addresses of a name. An address is its own.
    fn look_up(&mut self, name: &str) -> Answer<Vec<IpAddr>> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(ErrorCode::InvalidArgument);
        }
        let name = name.to_ascii_lowercase();
        match self.broker.ask("net.resolve", name.trim_end_matches('.').as_bytes()) {
            Ok(lines) => {
                Ok(String::from_utf8_lossy(&lines).lines().filter_map(|line| line.parse().ok()).collect())
            }
            Err(HostCallError::Refused) => Err(ErrorCode::AccessDenied),
            Err(_) => Err(ErrorCode::NameUnresolvable),
        }
    }

    /// Asks the host for a socket, and takes it.
    fn socket(&mut self, host_call: &str, address: SocketAddr) -> Answer<OwnedFd> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port()).to_string();
        Ok(self.broker.socket(host_call, &address)?)
    }
}
