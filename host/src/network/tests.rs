use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotcell_policy::ConnectGrant;

use super::{Connector, NoConnection, Resolver};

fn grant(address: String, private: bool) -> ConnectGrant {
    ConnectGrant { address: address.parse().expect("is an address"), private }
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

fn said(wrong: Result<(std::os::fd::OwnedFd, SocketAddr), NoConnection>) -> String {
    match wrong {
        Err(NoConnection::Failed(text, _)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_granted_address_is_connected_and_any_other_is_not_granted() {
    let (listener, port) = listener();
    let connector = Connector::new(&[grant(format!("127.0.0.1:{port}"), true)], Resolver::system());
    let (connection, peer) =
        connector.connect(format!("127.0.0.1:{port}").as_bytes()).await.expect("connects");
    assert_eq!(peer.port(), port);
    let (mut server, _) = listener.accept().expect("connected");
    server.write_all(b"hello").expect("writes");
    drop(server);
    let mut text = String::new();
    std::fs::File::from(connection).read_to_string(&mut text).expect("it blocks until it is there");
    assert_eq!(text, "hello");
    let others = [
        format!("127.0.0.1:{}", port ^ 1),
        format!("localhost:{port}"),
        format!(" 127.0.0.1:{port}"),
        format!("127.0.0.1:0{port}"),
        format!("127.0.0.1:{port}\0"),
        String::new(),
    ];
    for other in others {
        let refused = connector.connect(other.as_bytes()).await;
        assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted), "{other:?}");
    }
    assert_eq!(connector.connect(b"\xff:1").await.map(|_| ()), Err(NoConnection::NotGranted));
}

#[tokio::test]
async fn a_name_that_leads_to_what_is_not_public_leads_nowhere() {
    let (listener, port) = listener();
    listener.set_nonblocking(true).expect("an option");
    for name in ["localhost", "127.0.0.1", "[::1]"] {
        let address = format!("{name}:{port}");
        let connector = Connector::new(&[grant(address.clone(), false)], Resolver::system());
        assert_eq!(
            said(connector.connect(address.as_bytes()).await),
            "the name has no public address",
            "{name}"
        );
    }
    assert_eq!(listener.accept().map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
}

/// A name that says something else each time it is asked for.
#[tokio::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let (listener, port) = listener();
    listener.set_nonblocking(true).expect("an option");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver = Resolver::new(move |_, _| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        // Nobody answers at the first: a block for documentation would be refused, and one must not disturb others.
        let ip = if first { [198, 18, 0, 1] } else { [127, 0, 0, 1] };
        async move { Ok(vec![SocketAddr::from((ip, 1))]) }
    });
    let address = format!("rebinding.example:{port}");
    let connector = Connector::new(&[grant(address.clone(), false)], resolver);
    for round in 1..=3 {
        assert_eq!(said(connector.connect(address.as_bytes()).await), "the name has no public address");
        assert_eq!(asked.load(Ordering::Relaxed), round, "one look-up for one connection");
    }
    assert_eq!(listener.accept().map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn the_port_is_the_granted_one_whatever_a_resolver_says() {
    let (listener, port) = listener();
    let resolver = Resolver::new(|_, _| async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]) });
    let address = format!("db.example:{port}");
    let connector = Connector::new(&[grant(address.clone(), true)], resolver);
    let (_, peer) = connector.connect(address.as_bytes()).await.expect("connects");
    assert_eq!(peer.port(), port);
    listener.accept().expect("connected");
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_details_of_the_host() {
    let resolver = Resolver::new(|_, _| async { Err(io::Error::other("/etc/resolv.conf: secret")) });
    let connector = Connector::new(&[grant("x.example:1".to_owned(), true)], resolver);
    assert_eq!(said(connector.connect(b"x.example:1").await), "the name cannot be resolved: other error");
    let nothing = Resolver::new(|_, _| async { Ok(Vec::new()) });
    let connector = Connector::new(&[grant("x.example:1".to_owned(), true)], nothing);
    assert_eq!(said(connector.connect(b"x.example:1").await), "the name has no address");
    let (closed, port) = listener();
    drop(closed);
    let address = format!("127.0.0.1:{port}");
    let connector = Connector::new(&[grant(address.clone(), true)], Resolver::system());
    assert_eq!(
        said(connector.connect(address.as_bytes()).await),
        "the connection failed: connection refused"
    );
}

/// A program that knows nothing of hotcell asks for addresses, and connects to one of them.
#[tokio::test]
async fn an_address_is_connected_to_once_its_name_was_asked_for_and_not_before() {
    let (listener, port) = listener();
    let local = |_, _| async {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 9], 1))])
    };
    let grants = [grant(format!("db.example:{port}"), true), grant("db.example:1".to_owned(), false)];
    let connector = Connector::new(&grants, Resolver::new(local));
    let address = format!("127.0.0.1:{port}");
    let refused = connector.connect(address.as_bytes()).await;
    assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted), "nobody asked for the name");
    assert_eq!(connector.resolve(b"other.example").await, Err(NoConnection::NotGranted));
    assert_eq!(connector.resolve(b"db.example").await.as_deref(), Ok("127.0.0.1\n127.0.0.9"));
    let (_, peer) = connector.connect(address.as_bytes()).await.expect("connects");
    assert_eq!(peer.to_string(), address);
    listener.accept().expect("connected");
    for other in ["127.0.0.1:1".to_owned(), format!("127.0.0.2:{port}"), format!("127.0.0.1:{}", port ^ 1)] {
        let refused = connector.connect(other.as_bytes()).await;
        assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted), "{other}");
    }
}

#[tokio::test]
async fn what_a_name_led_to_is_forgotten_when_it_leads_elsewhere_and_is_never_private_unasked() {
    let (_listener, port) = listener();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let moving = Resolver::new(move |_, _| {
        let found = match counted.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => vec![SocketAddr::from(([127, 0, 0, 1], 1))],
            1 => vec![SocketAddr::from(([127, 0, 0, 3], 1))],
            _ => Vec::new(),
        };
        async move { Ok(found) }
    });
    let connector = Connector::new(&[grant(format!("db.example:{port}"), true)], moving);
    assert_eq!(connector.resolve(b"db.example").await.as_deref(), Ok("127.0.0.1"));
    connector.connect(format!("127.0.0.1:{port}").as_bytes()).await.expect("connects");
    assert_eq!(connector.resolve(b"db.example").await.as_deref(), Ok("127.0.0.3"));
    let refused = connector.connect(format!("127.0.0.1:{port}").as_bytes()).await;
    assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted));
    assert_eq!(connector.resolve(b"db.example").await.as_deref(), Ok("127.0.0.1"));
    assert!(matches!(connector.resolve(b"db.example").await, Err(NoConnection::Failed(..))), "it is gone");
    let refused = connector.connect(format!("127.0.0.1:{port}").as_bytes()).await;
    assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted));
    let private = Resolver::new(|_, _| async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]) });
    let connector = Connector::new(&[grant(format!("db.example:{port}"), false)], private);
    assert!(matches!(connector.resolve(b"db.example").await, Err(NoConnection::Failed(..))));
    let refused = connector.connect(format!("127.0.0.1:{port}").as_bytes()).await;
    assert_eq!(refused.map(|_| ()), Err(NoConnection::NotGranted));
}
