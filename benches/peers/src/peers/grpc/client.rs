//! The calling side.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::{LARGEST_MESSAGE, METHOD, Payload, runtime};
use crate::child::OtherEnd;
use crate::failure::{Failure, failed};
use crate::measure::{Input, Load, Peer, check, to_nanos};

type Client = tonic::client::Grpc<Channel>;

/// Starts the server and connects to it: its standard input is the other end of the connection.
pub(in crate::peers) fn open() -> Result<GrpcPeer, Failure> {
    let (ours, theirs) = StdUnixStream::pair().map_err(failed("make a socket"))?;
    let server = OtherEnd::start(&["grpc"], OwnedFd::from(theirs).into(), Stdio::null())?;
    let runtime = runtime()?;
    let channel = runtime.block_on(connect(ours))?;
    let client = Client::new(channel)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    Ok(GrpcPeer { client, runtime, _server: server })
}

/// A channel over the one connection that there is. It cannot be made again: the server ends with it.
async fn connect(stream: StdUnixStream) -> Result<Channel, Failure> {
    stream.set_nonblocking(true).map_err(failed("make a socket non-blocking"))?;
    let mut stream = Some(UnixStream::from_std(stream).map_err(failed("use a socket"))?);
    let connector = service_fn(move |_: Uri| {
        let stream = stream.take().map(TokioIo::new);
        async { stream.ok_or(std::io::Error::from(ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(failed("connect"))
}

pub(in crate::peers) struct GrpcPeer {
    client: Client,
    runtime: Runtime,
    _server: OtherEnd,
}

impl Peer for GrpcPeer {
    fn call(&mut self, input: &mut Input, count: usize) -> Result<Vec<u64>, Failure> {
        self.runtime.block_on(call(&mut self.client, input, count))
    }

    fn pipeline(&mut self, input: &mut Input, load: Load) -> Result<u64, Failure> {
        self.runtime.block_on(pipeline(&self.client, input, load))
    }
}

async fn call(client: &mut Client, input: &mut Input, count: usize) -> Result<Vec<u64>, Failure> {
    let mut nanos = Vec::with_capacity(count);
    for _ in 0..count {
        let input = Bytes::copy_from_slice(input.next());
        let request = input.clone();
        let start = Instant::now();
        let reply = echo(client, request).await.map_err(failed("call the server"))?;
        nanos.push(to_nanos(start.elapsed()));
        check(&input, &reply)?;
    }
    Ok(nanos)
}

/// All calls have one input, and their replies are compared with it while the clock runs.
async fn pipeline(client: &Client, input: &mut Input, load: Load) -> Result<u64, Failure> {
    let input = Bytes::copy_from_slice(input.next());
    let start = Instant::now();
    stream::iter(0..load.count)
        .map(|_| {
            let (mut client, content) = (client.clone(), input.clone());
            async move { echo(&mut client, content).await.map_err(failed("call the server")) }
        })
        .buffer_unordered(load.outstanding)
        .try_for_each(|reply| std::future::ready(check(&input, &reply)))
        .await?;
    Ok(to_nanos(start.elapsed()) / load.count as u64)
}

/// One unary call, as the method of a generated client makes it.
async fn echo(client: &mut Client, content: Bytes) -> Result<Bytes, Status> {
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = PathAndQuery::from_static(METHOD);
    let codec = ProstCodec::<Payload, Payload>::default();
    let reply = client.unary(Request::new(Payload { content }), path, codec).await?;
    Ok(reply.into_inner().content)
}
