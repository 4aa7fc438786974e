//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

const PROTOCOL: &str = r#"Standard input takes one JSON object per line; standard output gives one for each:
  {"ask":"list"}
      {"peers":[{"name":"grpc","about":"...","isolated":true}, ...]}
  {"ask":"open","peer":"grpc"}
      {"ok":true}             started, and one call was checked
  {"ask":"call","peer":"grpc","size":64,"count":200}
      {"nanos":[...]}         one figure per call, one call after the other
  {"ask":"pipeline","peer":"grpc","size":64,"count":5000,"outstanding":256}
      {"nanos":[...]}         one figure: the time of all calls divided by their number
  {"ask":"close","peer":"grpc"}
      {"ok":true}
Whatever fails is answered with {"error":"..."}. The end of standard input closes everything."#;

/// Measures what people use in place of hotcell: every reply is compared with its input.
#[derive(Debug, Parser)]
#[command(name = "hotcell-peers", version, after_help = PROTOCOL, max_term_width = 110)]
pub(crate) struct Args {
    /// The native library that the peer "dlopen" loads; its export "ok" replies with its input.
    #[arg(long, value_name = "FILE", default_value = "plugins/crash-lab/native/crash_lab.so")]
    pub(crate) library: PathBuf,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The other end of a peer.
    #[command(hide = true)]
    Serve(Serve),
}

/// What the other end of a peer is started with.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The process that it must not outlive.
    #[arg(long, value_name = "PID")]
    pub(crate) parent: u32,

    #[command(subcommand)]
    pub(crate) role: Role,
}

/// Which peer's other end.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Standard input is the connection.
    Grpc,
    /// NAME is where the first message goes.
    IpcChannel {
        /// A name that ipc-channel made.
        name: String,
    },
    /// Requests on standard input, responses on standard output.
    Jsonrpc,
}
