//! `wasi:http/outgoing-handler` over connections that the host makes.
//!
//! HTTP/1.1 and TLS are spoken here, in the worker: a server that attacks its clients meets the plugin's own confined process
//! and no other, and of an encrypted connection the host sees nothing. Whom a certificate may be from, the host says
//! (`net.roots`); what is checked here protects the plugin, not the host.

use std::future::{self, Future};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime::component::Linker;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::add_only_http_to_linker_async;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use crate::broker::Broker;
use crate::guest::Guest;
use crate::sockets::Connection;

/// How long a guest waits that says nothing else. The host's deadline of the call comes long before.
const PATIENCE: Duration = Duration::from_secs(600);

/// What carries on a response's connection.
type Carrying = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// Defines the interfaces.
pub(crate) fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_only_http_to_linker_async(linker)
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Guest { broker, http, table, .. } = self;
        WasiHttpCtxView { hooks: broker, table, ctx: http }
    }
}

impl WasiHttpHooks for Broker {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Carrying), Error>> + Send> {
        match self.dial(request.uri()) {
            Ok((socket, tls)) => Box::new(converse(socket, tls, request, options.unwrap_or_default())),
            Err(error) => Box::new(future::ready(Err(error))),
        }
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_incomplete_message() {
            ErrorCode::HttpResponseIncomplete
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match Errno::from_io_error(error) {
            Some(Errno::ACCESS) => ErrorCode::HttpRequestDenied,
            Some(Errno::TIMEDOUT) => ErrorCode::ConnectionTimeout,
            Some(Errno::HOSTUNREACH | Errno::NETUNREACH) => ErrorCode::DestinationUnavailable,
            _ => ErrorCode::ConnectionRefused,
        }
    }

    fn p2_error_from_tls(&mut self, error: &io::Error) -> ErrorCode {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_)) => ErrorCode::TlsCertificateError,
            _ => ErrorCode::TlsProtocolError,
        }
    }
}

/// How to speak TLS, and with whom.
type Tls = (Arc<ClientConfig>, ServerName<'static>);

impl Broker {
    /// Asks the host for the connection that a request needs. Waits for it.
    fn dial(&mut self, uri: &Uri) -> Result<(OwnedFd, Option<Tls>), Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?.to_ascii_lowercase();
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let socket = self.socket("net.connect", &format!("{host}:{port}"));
        let socket = socket.map_err(|errno| Error::Connect(errno.into()))?;
        let tls = if is_https {
            let name = ServerName::try_from(host.trim_matches(['[', ']']))
                .map_err(|_| Error::HttpRequestUriInvalid)?;
            Some((self.tls_config()?, name.to_owned()))
        } else {
            None
        };
        Ok((socket, tls))
    }

    /// How this guest speaks TLS: by what the host trusts.
    fn tls_config(&mut self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(config) = &self.tls {
            return Ok(Arc::clone(config));
        }
        let failed = |text: String| Error::InternalError(Some(text));
        let pem = self.ask("net.roots", b"").map_err(|error| failed(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        if roots.is_empty() {
            return Err(failed("the host trusts no certificate authority".to_owned()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| failed(error.to_string()))?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        self.tls = Some(Arc::clone(&config));
        Ok(config)
    }
}

/// Sends a request, and waits for the head of the response.
async fn converse(
    socket: OwnedFd,
    tls: Option<Tls>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, Carrying), Error> {
    let connection = Connection::over(socket).map_err(|errno| Error::Connect(errno.into()))?;
    match tls {
        None => exchange(connection, request, options).await,
        Some((config, name)) => {
            let shaking = TlsConnector::from(config).connect(name, connection);
            let shaken = timeout(options.connect_timeout.unwrap_or(PATIENCE), shaking).await;
            let encrypted = shaken.map_err(|_| Error::ConnectionTimeout)?.map_err(Error::Tls)?;
            exchange(encrypted, request, options).await
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, Carrying), Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = spawn(connection);
    // A server, other than a proxy, is told the path alone.
    let uri = mem::take(request.uri_mut());
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let answered =
        timeout(options.first_byte_timeout.unwrap_or(PATIENCE), sender.send_request(request)).await;
    let response = answered.map_err(|_| Error::ConnectionReadTimeout)??;
    let patience = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let response = response.map(|body| Patient { body, patience, waiting: None }.boxed_unsync());
    Ok((response, Box::new(async { Ok(connection.await?) })))
}

/// A response's body, as far as it comes in time.
struct Patient {
    body: Incoming,
    /// Between two pieces.
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.waiting = None;
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => {
                let patience = self.patience;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
                waiting.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
