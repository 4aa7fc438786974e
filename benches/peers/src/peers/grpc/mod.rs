//! gRPC over a unix socket with tonic: what most people take for plugins in processes of their own.
//!
//! The service is written out by hand, as generated code would have it, so that building needs no protoc:
//!
//! ```proto
//! package hotcell.peers;
//! message Payload { bytes content = 1; }
//! service Echo { rpc Echo(Payload) returns (Payload); }
//! ```

mod client;
mod server;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::failure::{Failure, failed};
use crate::protocol::LARGEST;

pub(super) use client::open;
pub(super) use server::serve;

const SERVICE: &str = "hotcell.peers.Echo";
const METHOD: &str = "/hotcell.peers.Echo/Echo";
/// Largest message: a payload, its tag and its length. tonic's own limit is 4 MiB.
const LARGEST_MESSAGE: usize = LARGEST + 16;

/// The message of both directions. `Bytes` saves a copy on each side over the `Vec<u8>` of generated code.
#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    content: Bytes,
}

/// One thread on each side.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(failed("start a runtime"))
}
