//! Asks servers over TCP by `wasi:sockets` and over HTTP by `wasi:http`, and is one.

mod fetch;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, Network,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp_create_socket::create_udp_socket;

wit_bindgen::generate!({ world: "hotcell:dial/dial", path: "wit", generate_all });

struct Component;

export!(Component);

impl Guest for Component {
    fn ask(address: String, text: String) -> Result<String, String> {
        let mut line = Line::dial(&address)?;
        line.say(&text)?;
        while !line.hear()? {
            line.input.subscribe().block();
        }
        Ok(line.heard())
    }

    fn race(addresses: Vec<String>, text: String, milliseconds: u64) -> Result<Vec<String>, String> {
        let mut lines: Vec<Line> = addresses.iter().map(|address| Line::dial(address)).collect::<Result<_, _>>()?;
        lines.iter_mut().try_for_each(|line| line.say(&text))?;
        let timer = subscribe_duration(milliseconds.saturating_mul(1_000_000));
        let mut heard = Vec::new();
        while !lines.is_empty() {
            let ready: Vec<Pollable> = lines.iter().map(|line| line.input.subscribe()).collect();
            let waited: Vec<&Pollable> = std::iter::once(&timer).chain(&ready).collect();
            let first = poll(&waited).into_iter().max().unwrap_or(0);
            drop(ready);
            if first == 0 {
                break;
            }
            let at = first as usize - 1;
            if lines[at].hear()? {
                heard.push(lines.remove(at).heard());
            }
        }
        Ok(heard)
    }

    fn answer(address: String, text: String) -> Result<String, String> {
        let listener = listen(&address).map_err(|code| code.name().to_owned())?;
        let (socket, input, output) = loop {
            match listener.accept() {
                Err(ErrorCode::WouldBlock) => listener.subscribe().block(),
                Err(code) => return Err(format!("accept: {}", code.name())),
                Ok(accepted) => break accepted,
            }
        };
        let mut line = Line { input, output, socket, bytes: Vec::new() };
        while !line.hear()? {
            line.input.subscribe().block();
        }
        line.say(&text)?;
        Ok(line.heard())
    }

    fn fetch(url: String, text: Option<String>, milliseconds: u64) -> Result<String, String> {
        fetch::fetch(&url, text.as_deref(), milliseconds)
    }

    fn misuse(address: String, how: String) -> String {
        let done = match how.as_str() {
            "udp" => create_udp_socket(IpAddressFamily::Ipv4).map(drop),
            "family" => create_tcp_socket(IpAddressFamily::Ipv6).and_then(|socket| {
                socket.start_connect(&instance_network(), at(IpAddress::Ipv4((127, 0, 0, 1)), 1))
            }),
            "bind" => create_tcp_socket(IpAddressFamily::Ipv4).and_then(|socket| {
                socket.start_bind(&instance_network(), at(IpAddress::Ipv4((127, 0, 0, 1)), 0))
            }),
            "listen" => create_tcp_socket(IpAddressFamily::Ipv4).and_then(|socket| socket.start_listen()),
            "again" => match Line::dial(&address) {
                Ok(line) => line.socket.start_connect(&instance_network(), at(IpAddress::Ipv4((127, 0, 0, 1)), 1)),
                Err(text) => return text,
            },
            _ => return format!("{how}?"),
        };
        done.map_or_else(|code| code.name().to_owned(), |()| "done".to_owned())
    }
}

/// A connection. Its fields are dropped in this order: the socket outlives its streams.
struct Line {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
    bytes: Vec<u8>,
}

impl Line {
    fn dial(address: &str) -> Result<Line, String> {
        let (host, port) = address.rsplit_once(':').ok_or("an address is host:port")?;
        let port = port.parse().map_err(|_| "the port is no number")?;
        let network = instance_network();
        let mut failure = "no address".to_owned();
        for ip in look_up(&network, host)? {
            match connect(&network, ip, port) {
                Ok((input, output, socket)) => return Ok(Line { input, output, socket, bytes: Vec::new() }),
                Err(code) => failure = code.name().to_owned(),
            }
        }
        Err(failure)
    }

    /// Says all of it, and that there will be no more.
    fn say(&mut self, text: &str) -> Result<(), String> {
        for piece in text.as_bytes().chunks(4096) {
            self.output.blocking_write_and_flush(piece).map_err(|error| format!("write: {error:?}"))?;
        }
        // Whoever has closed already need not be told.
        let _ = self.socket.shutdown(ShutdownType::Send);
        Ok(())
    }

    /// Takes what is there. Returns whether there will be more no longer.
    fn hear(&mut self) -> Result<bool, String> {
        match self.input.read(4096) {
            Ok(bytes) => self.bytes.extend(bytes),
            Err(StreamError::Closed) => return Ok(true),
            Err(error) => return Err(format!("read: {error:?}")),
        }
        Ok(false)
    }

    fn heard(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn listen(address: &str) -> Result<TcpSocket, ErrorCode> {
    let (host, port) = address.rsplit_once(':').ok_or(ErrorCode::InvalidArgument)?;
    let port = port.parse().map_err(|_| ErrorCode::InvalidArgument)?;
    let network = instance_network();
    let found = resolve_addresses(&network, host)?;
    let ip = found.resolve_next_address()?.ok_or(ErrorCode::NameUnresolvable)?;
    let socket = create_tcp_socket(family_of(ip))?;
    socket.start_bind(&network, at(ip, port))?;
    socket.finish_bind()?;
    socket.set_listen_backlog_size(16)?;
    socket.start_listen()?;
    socket.finish_listen()?;
    let bound = socket.local_address()?;
    match (socket.is_listening(), format!("{bound:?}") == format!("{:?}", at(ip, port))) {
        (true, true) => Ok(socket),
        _ => Err(ErrorCode::Unknown),
    }
}

fn look_up(network: &Network, host: &str) -> Result<Vec<IpAddress>, String> {
    let said = |code: ErrorCode| format!("look-up: {}", code.name());
    let found = resolve_addresses(network, host).map_err(said)?;
    let mut all = Vec::new();
    loop {
        match found.resolve_next_address() {
            Ok(Some(ip)) => all.push(ip),
            Ok(None) => return Ok(all),
            Err(ErrorCode::WouldBlock) => found.subscribe().block(),
            Err(code) => return Err(said(code)),
        }
    }
}

fn connect(
    network: &Network,
    ip: IpAddress,
    port: u16,
) -> Result<(InputStream, OutputStream, TcpSocket), ErrorCode> {
    let socket = create_tcp_socket(family_of(ip))?;
    socket.start_connect(network, at(ip, port))?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((input, output, socket)),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(code) => return Err(code),
        }
    }
}

fn at(ip: IpAddress, port: u16) -> IpSocketAddress {
    match ip {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(address) => {
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
        }
    }
}

fn family_of(ip: IpAddress) -> IpAddressFamily {
    match ip {
        IpAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}
