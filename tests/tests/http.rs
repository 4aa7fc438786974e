//! `wasi:http` for components: over connections that the host makes, to what is granted and to nothing else; encrypted, with
//! servers that whom the host trusts has certified; and against servers that mean no good.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use hotcell::{Host, HostBuilder, Plugin, Refuser};
use hotcell_tests::{Folders, Footprint, fixture};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

mod common;

use common::json;

/// Milliseconds that a guest waits for what comes.
const PATIENCE: u64 = 60_000;

/// Serves each connection by a function, on a thread of its own that ends with the test's process. Returns the port.
fn serve(
    answer: impl Fn(&mut dyn Stream) -> std::io::Result<()> + Send + Sync + 'static,
    tls: Option<Tls>,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let port = listener.local_addr().expect("it is bound").port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (answer, tls) = (Arc::clone(&answer), tls.clone());
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut connection = connection?;
                let Some(tls) = tls else { return answer(&mut connection) };
                let session = ServerConnection::new(tls).expect("a session begins");
                let mut encrypted = StreamOwned::new(session, connection);
                answer(&mut encrypted)?;
                encrypted.conn.send_close_notify();
                encrypted.flush()
            });
        }
    });
    port
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

type Tls = Arc<ServerConfig>;

/// Says of a request what it was: its first line, its host, and its body.
fn mirror(stream: &mut dyn Stream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    let field =
        |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let mut body = vec![0; field("content-length: ").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let said = format!("{}|{}|{}", head[0], field("host: "), String::from_utf8_lossy(&body));
    let stream = reader.into_inner();
    write!(stream, "HTTP/1.1 203 Mirrored\r\ncontent-length: {}\r\n\r\n{said}", said.len())?;
    stream.flush()
}

/// A certificate authority, made for one test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().expect("a key is made");
        let mut of = CertificateParams::new(Vec::new()).expect("no names");
        of.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = of.self_signed(&key).expect("it signs itself").pem();
        Authority { pem, issuer: Issuer::new(of, key) }
    }

    /// What a server of this name needs.
    fn certify(&self, name: &str) -> Tls {
        let key = KeyPair::generate().expect("a key is made");
        let of = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = of.signed_by(&key, &self.issuer).expect("it signs");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("the certificate and its key fit"))
    }
}

/// A host that grants these addresses, at which all names mean this machine.
fn builder(folders: &Folders, grants: &[&str]) -> HostBuilder {
    let grant = |address: &&str| {
        format!(
            "\n[[connect]]\naddress = \"{address}\"\nprivate = true\nrisk = \"A test's own server.\"\n\
             why = \"A test asks its server.\"\n"
        )
    };
    let grants: String = grants.iter().map(grant).collect();
    let wasm = [
        ("runtime = [\"core\", \"component\"]", "runtime = \"component\""),
        ("\"seal\"]", "\"seal\", \"wasi-connections\"]"),
    ];
    fixture::host(folders)
        .profile(common::profile("pure-compute", "wasm-net", &wasm, &grants))
        .resolver(async |_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]))
}

async fn client(host: &Host, folders: &Folders, name: &str, asked: &[&str]) -> Plugin {
    let permissions = if asked.is_empty() { json!({}) } else { json!({ "network": { "connect": asked } }) };
    let loaded = host.load(common::dial(folders, name, "wasm-net", permissions)).await;
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

async fn fetch(plugin: &Plugin, url: &str, text: Option<&str>) -> Result<String, String> {
    patient(plugin, url, text, PATIENCE).await
}

async fn patient(
    plugin: &Plugin,
    url: &str,
    text: Option<&str>,
    milliseconds: u64,
) -> Result<String, String> {
    let said = json(plugin, "fetch", json!([url, text, milliseconds])).await?;
    Ok(said.as_str().expect("a text").to_owned())
}

#[tokio::test]
async fn a_component_asks_web_servers_that_are_granted_and_no_others() {
    let (folders, port) = (Folders::new(), serve(mirror, None));
    let named = format!("web.example:{port}");
    let host = builder(&folders, &[&named, "elsewhere.example:80"]).build().await.expect("a host starts");
    let plugin = client(&host, &folders, "asks", &[&named]).await;
    let mut events = host.events();
    let said = fetch(&plugin, &format!("http://{named}/a/path?and=query"), None).await;
    assert_eq!(said, Ok(format!("203\nget /a/path?and=query http/1.1|{named}|")));
    let said = fetch(&plugin, &format!("http://WEB.example:{port}/"), Some("a text")).await;
    assert_eq!(said, Ok(format!("203\npost / http/1.1|{named}|a text")));
    let long = "x".repeat(1 << 20);
    let said = fetch(&plugin, &format!("http://{named}/"), Some(&long)).await;
    assert_eq!(said, Ok(format!("203\npost / http/1.1|{named}|{long}")));
    assert!(common::violations(&mut events).is_empty());
    for other in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://other.example:{port}/"),
        format!("http://web.example:{}/", port ^ 1),
        "http://web.example/".to_owned(),
        "http://elsewhere.example/".to_owned(),
    ] {
        let said = fetch(&plugin, &other, None).await;
        assert_eq!(said, Err("ErrorCode::HttpRequestDenied".to_owned()), "{other}");
    }
    let told = common::violations(&mut events);
    assert!(told.iter().all(|violation| violation.layer == Refuser::Broker), "{told:?}");
    assert_eq!(told.len(), 5, "{told:?}");
    host.shutdown().await;
}

#[tokio::test]
async fn a_component_that_may_not_connect_is_refused_http_and_lives() {
    let (folders, port) = (Folders::new(), serve(mirror, None));
    let named = format!("web.example:{port}");
    let host = builder(&folders, &[&named]).build().await.expect("a host starts");
    let plugin = client(&host, &folders, "no-web", &[]).await;
    for scheme in ["http", "https"] {
        let said = fetch(&plugin, &format!("{scheme}://{named}/"), None).await;
        assert_eq!(said, Err("ErrorCode::HttpRequestDenied".to_owned()));
    }
    host.shutdown().await;
}

#[tokio::test]
async fn a_component_speaks_tls_with_servers_that_the_host_s_authorities_have_certified() {
    let folders = Folders::new();
    let (trusted, other) = (Authority::new(), Authority::new());
    let good = format!("web.example:{}", serve(mirror, Some(trusted.certify("web.example"))));
    let by_address = format!("127.0.0.1:{}", serve(mirror, Some(trusted.certify("127.0.0.1"))));
    let misnamed = format!("web.example:{}", serve(mirror, Some(trusted.certify("bank.example"))));
    let untrusted = format!("web.example:{}", serve(mirror, Some(other.certify("web.example"))));
    let plain = format!("web.example:{}", serve(mirror, None));
    let all = [good.as_str(), &by_address, &misnamed, &untrusted, &plain];
    let host = builder(&folders, &all).tls_roots(trusted.pem).build().await.expect("a host starts");
    let plugin = client(&host, &folders, "encrypts", &all).await;
    for address in [&good, &by_address] {
        let said = fetch(&plugin, &format!("https://{address}/"), Some("a text")).await;
        assert_eq!(said, Ok(format!("203\npost / http/1.1|{address}|a text")));
    }
    for address in [&misnamed, &untrusted] {
        let said = fetch(&plugin, &format!("https://{address}/"), None).await;
        assert_eq!(said, Err("ErrorCode::TlsCertificateError".to_owned()), "{address}");
    }
    let said = fetch(&plugin, &format!("https://{plain}/"), None).await;
    assert_eq!(said, Err("ErrorCode::TlsProtocolError".to_owned()));
    host.shutdown().await;
    // The control: another host trusts the other.
    let host = builder(&folders, &all).tls_roots(other.pem).build().await.expect("a host starts");
    let plugin = client(&host, &folders, "trusts-other", &all).await;
    let said = fetch(&plugin, &format!("https://{untrusted}/"), None).await;
    assert_eq!(said, Ok(format!("203\nget / http/1.1|{untrusted}|")));
    let said = fetch(&plugin, &format!("https://{good}/"), None).await;
    assert_eq!(said, Err("ErrorCode::TlsCertificateError".to_owned()));
    host.shutdown().await;
    // Nobody is trusted where there is no authority.
    let host = builder(&folders, &all).tls_roots("none").build().await.expect("a host starts");
    let plugin = client(&host, &folders, "trusts-none", &all).await;
    let said = fetch(&plugin, &format!("https://{good}/"), None).await;
    assert!(said.as_ref().is_err_and(|text| text.contains("trusts no certificate authority")), "{said:?}");
    host.shutdown().await;
}

/// Takes a request, says this, and closes or, where nothing more comes, stays silent.
fn says(what: Vec<u8>, then_silent: bool) -> impl Fn(&mut dyn Stream) -> std::io::Result<()> + Send + Sync {
    move |stream| {
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(&what)?;
        if then_silent {
            // Until the client has gone.
            while stream.read(&mut [0; 4096])? > 0 {}
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_server_that_means_no_good_costs_its_client_the_answer_and_nothing_more() {
    let folders = Folders::new();
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let with = |more: &[u8]| [head.as_slice(), more].concat();
    let rows = [
        ("no HTTP", b"\x7fELF\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n".to_vec(), false),
        ("no answer", Vec::new(), false),
        ("silence", Vec::new(), true),
        ("half a head", with(b"x-half: "), true),
        ("half a body", with(b"content-length: 100\r\n\r\nhalf"), false),
        ("a body that stops", with(b"content-length: 100\r\n\r\nhalf"), true),
        ("fields without end", with(&b"x-field: 0123456789\r\n".repeat(100_000)), false),
        ("two lengths", with(b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"), false),
        ("a piece without measure", with(b"transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n"), false),
        ("a break in a field", with(b"x-a: b\0c\r\n\r\n"), false),
    ];
    let servers: Vec<_> = rows
        .iter()
        .map(|(name, what, silent)| {
            (*name, format!("bad.example:{}", serve(says(what.clone(), *silent), None)))
        })
        .collect();
    let good = format!("web.example:{}", serve(mirror, None));
    let all: Vec<&str> = servers.iter().map(|(_, address)| address.as_str()).chain([good.as_str()]).collect();
    let host = builder(&folders, &all).build().await.expect("a host starts");
    let plugin = client(&host, &folders, "suffers", &all).await;
    let pid = plugin.evidence().expect("it runs").pid;
    for (name, address) in &servers {
        let said = patient(&plugin, &format!("http://{address}/"), None, 300).await;
        assert!(said.is_err(), "{name}: {said:?}");
        let said = fetch(&plugin, &format!("http://{good}/"), None).await;
        assert_eq!(said, Ok(format!("203\nget / http/1.1|{good}|")), "after {name}");
    }
    assert_eq!(plugin.evidence().expect("it runs").pid, pid, "one worker lived through all of it");
    host.shutdown().await;
}

#[test]
fn http_leaves_the_host_nothing() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let folders = Folders::new();
        let authority = Authority::new();
        let address = format!("web.example:{}", serve(mirror, Some(authority.certify("web.example"))));
        let builder = builder(&folders, &[&address]).tls_roots(authority.pem.clone());
        let host = builder.build().await.expect("a host starts");
        client(&host, &folders, "leaves", &[&address]).await.unload().await;
        let before = Footprint::now();
        let plugin = host.load(folders.join("leaves")).await.expect("as before");
        for _ in 0..20 {
            fetch(&plugin, &format!("https://{address}/"), None).await.expect("an answer");
        }
        plugin.unload().await;
        before.must_return();
        host.shutdown().await;
    });
}
