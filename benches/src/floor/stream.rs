//! A unix stream socket with an asynchronous caller on a runtime of one thread; the other end blocks.

use std::os::unix::net::UnixStream as Socket;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::{check_echo, hung_up, message, pipe};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::other_end::{OtherEnd, Role};
use crate::runtimes::Runtimes;

struct Stream {
    runtime: Arc<Runtime>,
    socket: UnixStream,
    sent: Vec<u8>,
    received: Vec<u8>,
    _other_end: OtherEnd,
}

pub(super) fn open(size: usize, runtimes: &Rc<Runtimes>) -> Opened {
    let (socket, peer) = Socket::pair().map_err(|source| Failure::io("make a socket pair", source))?;
    socket.set_nonblocking(true).map_err(hung_up)?;
    let other_end = OtherEnd::start(Role::Stream, size, peer.into())?;
    let runtime = runtimes.one_thread()?;
    let socket = {
        let _inside = runtime.enter();
        UnixStream::from_std(socket).map_err(hung_up)?
    };
    let mut stream =
        Stream { runtime, socket, sent: message(size), received: vec![0; size], _other_end: other_end };
    stream.sample(1, &mut Samples::default())?;
    check_echo(&stream.sent, &stream.received)?;
    Ok(Box::new(stream))
}

impl Case for Stream {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Stream { runtime, socket, sent, received, .. } = self;
        runtime.block_on(async {
            for _ in 0..count {
                let start = std::time::Instant::now();
                socket.write_all(sent).await.map_err(hung_up)?;
                socket.read_exact(received).await.map_err(hung_up)?;
                samples.add(start.elapsed());
            }
            Ok(())
        })
    }
}

pub(super) fn serve(size: usize) -> Result<(), Failure> {
    let socket: Socket = rustix::stdio::stdin().try_clone_to_owned().map_err(hung_up)?.into();
    pipe::echo(&mut &socket, &mut &socket, size)
}
