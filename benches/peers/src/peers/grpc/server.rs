//! The answering side, in a process of its own.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::task::{Context, Poll};

use tokio::net::UnixStream;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{LARGEST_MESSAGE, Payload, SERVICE, runtime};
use crate::failure::{Failure, failed};
use crate::protocol::MOST_OUTSTANDING;

/// Serves the connection on standard input until this process is killed.
pub(in crate::peers) fn serve() -> Result<(), Failure> {
    runtime()?.block_on(async {
        let connection = connection().map_err(failed("use the connection"))?;
        // There is never a second one, and the server would end with the last.
        let connections = tokio_stream::once(Ok::<_, io::Error>(connection)).chain(tokio_stream::pending());
        Server::builder()
            .max_concurrent_streams(u32::try_from(MOST_OUTSTANDING).ok())
            .add_service(EchoService)
            .serve_with_incoming(connections)
            .await
            .map_err(failed("serve"))
    })
}

fn connection() -> io::Result<UnixStream> {
    let stream = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The service. It has one method, so it does not look at the path.
#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = Grpc::new(ProstCodec::<Payload, Payload>::default())
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        Box::pin(async move { Ok(grpc.unary(EchoMethod, request).await) })
    }
}

/// The method: the reply is the request.
struct EchoMethod;

impl UnaryService<Payload> for EchoMethod {
    type Response = Payload;
    type Future = Ready<Result<Response<Payload>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}
