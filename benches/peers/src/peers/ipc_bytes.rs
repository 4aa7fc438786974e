//! ipc-channel: bytes to another process and back, blocking.
//!
//! It has no defence against a hostile other end.

use std::process::Stdio;

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::child::OtherEnd;
use crate::failure::{Failure, failed};
use crate::measure::Echo;

/// What the other end sends first: how to reach it.
type Ends = (IpcBytesSender, IpcBytesReceiver);

/// Starts the other end and waits until it says how to reach it.
///
/// The wait has no end if the other end dies before that: `accept` takes no deadline.
pub(super) fn open() -> Result<IpcBytes, Failure> {
    let (server, name) = IpcOneShotServer::<Ends>::new().map_err(failed("make a channel"))?;
    let other_end = OtherEnd::start(&["ipc-channel", &name], Stdio::null(), Stdio::null())?;
    let (_, (sender, receiver)) = server.accept().map_err(failed("hear from the other end"))?;
    Ok(IpcBytes { sender, receiver, _other_end: other_end })
}

pub(super) struct IpcBytes {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
    _other_end: OtherEnd,
}

impl Echo for IpcBytes {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        self.sender.send(input).map_err(failed("send bytes"))?;
        self.receiver.recv().map_err(failed("receive bytes"))
    }
}

/// Sends back what it receives, until the other end hangs up.
pub(super) fn serve(name: String) -> Result<(), Failure> {
    let (their_sender, receiver) = ipc::bytes_channel().map_err(failed("make a channel"))?;
    let (sender, their_receiver) = ipc::bytes_channel().map_err(failed("make a channel"))?;
    let first = IpcSender::<Ends>::connect(name).map_err(failed("reach the other end"))?;
    first.send((their_sender, their_receiver)).map_err(failed("send the channels"))?;
    drop(first);
    loop {
        let bytes = match receiver.recv() {
            Ok(bytes) => bytes,
            Err(IpcError::Disconnected) => return Ok(()),
            Err(error) => return Err(failed("receive bytes")(error)),
        };
        sender.send(&bytes).map_err(failed("send bytes"))?;
    }
}
