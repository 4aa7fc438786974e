//! The peers: one file for each, with both of its ends.

mod extism_plugin;
mod grpc;
mod ipc_bytes;
mod json_rpc;
mod native_library;
mod wasmtime_module;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::args::{Role, Serve};
use crate::child;
use crate::failure::Failure;
use crate::measure::Peer;
use crate::protocol::About;

/// Which peer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerName {
    Extism,
    Wasmtime,
    Dlopen,
    Grpc,
    #[serde(rename = "ipc-channel")]
    IpcChannel,
    Jsonrpc,
}

impl PeerName {
    pub(crate) const ALL: [PeerName; 6] = [
        PeerName::Extism,
        PeerName::Wasmtime,
        PeerName::Dlopen,
        PeerName::Grpc,
        PeerName::IpcChannel,
        PeerName::Jsonrpc,
    ];

    /// What `list` says.
    pub(crate) fn about(self) -> About {
        let (about, isolated) = match self {
            PeerName::Extism => ("Extism 1.30.0 in process, wasm that copies as the Rust PDK does", false),
            PeerName::Wasmtime => ("Wasmtime 48.0.8 in process, core module, typed calls", false),
            PeerName::Dlopen => ("native library in process, C ABI", false),
            PeerName::Grpc => ("gRPC, tonic 0.14.9, unary calls over a unix socket", true),
            PeerName::IpcChannel => ("ipc-channel 0.23.1, bytes between two processes", true),
            PeerName::Jsonrpc => ("JSON-RPC 2.0 over stdio, a line per message, base64", true),
        };
        About { name: self, about, isolated }
    }

    /// Starts what the peer needs.
    pub(crate) fn open(self, library: &Path) -> Result<Box<dyn Peer>, Failure> {
        Ok(match self {
            PeerName::Extism => Box::new(extism_plugin::open()?),
            PeerName::Wasmtime => Box::new(wasmtime_module::open()?),
            PeerName::Dlopen => Box::new(native_library::open(library)?),
            PeerName::Grpc => Box::new(grpc::open()?),
            PeerName::IpcChannel => Box::new(ipc_bytes::open()?),
            PeerName::Jsonrpc => Box::new(json_rpc::open()?),
        })
    }
}

/// The other end of a peer, until it is killed or hung up on.
pub(crate) fn serve(serve: Serve) -> Result<(), Failure> {
    child::end_with(serve.parent)?;
    match serve.role {
        Role::Grpc => grpc::serve(),
        Role::IpcChannel { name } => ipc_bytes::serve(name),
        Role::Jsonrpc => json_rpc::serve(),
    }
}
