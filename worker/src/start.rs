//! A worker's life: read the orders, confine, load, seal, serve.

use std::fs::File;
use std::os::fd::OwnedFd;

use hotcell_protocol::{
    Channel, ChannelError, Envelope, Failure, FromWorker, Generation, PACKET_MAX, ReplyStatus, Start, Step,
    ToWorker,
};

use crate::confine::{self, Confined};
use crate::link::{Incoming, Link, LinkError};
use crate::sys;

/// What the host sent to this worker, and to no other.
#[derive(Debug)]
pub struct Started {
    /// Orders, places, arguments.
    pub start: Start,
    /// The sealed memfd with the plugin (for the compiler: with the module); taken by [`Runtime::load`].
    pub artifact: Option<File>,
    /// The memfd that takes the compiler's output.
    pub output: Option<File>,
}

/// How a call ended, with its payload: reply bytes or text, as [`ReplyStatus`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How.
    pub status: ReplyStatus,
    /// Reply bytes, or explanation.
    pub payload: Vec<u8>,
}

/// One kind of plugin.
pub trait Runtime: Sized {
    /// Maps the artifact under the Load stage. Runs no guest code of a wasm module; a native library's constructors run
    /// here.
    ///
    /// # Errors
    /// What is wrong with the artifact, as [`Step::Load`].
    fn load(confined: &Confined, started: &mut Started) -> Result<Self, Failure>;

    /// Meets the plugin under the Run stage: instantiates it, asks its entry function, gives it its configuration.
    ///
    /// # Errors
    /// What the plugin refused, as [`Step::Load`].
    fn ready(&mut self, started: &Started, link: &mut Link) -> Result<(), Failure>;

    /// Runs one export. The host kills this process if it takes too long.
    fn call(&mut self, export: &str, input: Vec<u8>, link: &mut Link) -> Reply;
}

impl Reply {
    /// A plugin's error text, or hotcell's own explanation.
    pub fn text(status: ReplyStatus, text: impl Into<String>) -> Reply {
        Reply { status, payload: text.into().into_bytes() }
    }
}

/// Splits the input of [`hook::STATE_LOAD`](hotcell_protocol::hook::STATE_LOAD) into version and state.
///
/// # Errors
/// The reply to a shorter one.
pub fn split_state(input: &[u8]) -> Result<(u32, &[u8]), Reply> {
    match input.split_first_chunk() {
        Some((version, state)) => Ok((u32::from_le_bytes(*version), state)),
        None => Err(Reply::text(ReplyStatus::BadInput, "a state starts with the version that saved it")),
    }
}

/// The reply where a plugin lacks an optional function.
pub fn no_hook(symbol: &str) -> Reply {
    Reply::text(ReplyStatus::NoSuchExport, format!("the plugin has no function `{symbol}`"))
}

/// A failure to load the artifact. A plugin's own words may be in it, so it is cut to what fits a packet.
pub fn load_failure(detail: impl Into<String>) -> Failure {
    let mut detail = detail.into();
    detail.truncate(detail.floor_char_boundary(DETAIL_MAX));
    Failure { step: Step::Load, errno: 0, detail }
}

/// Bytes of a failure's detail.
const DETAIL_MAX: usize = 4096;

/// Runs a worker on its two channels, to the end of its life: the host closes the channel, or kills.
///
/// Ends without destructors, so that a plugin's cannot hang.
pub fn run<R: Runtime>(setup: OwnedFd, channel: OwnedFd) -> ! {
    let code = match live::<R>(Channel::from_socket(setup), Channel::from_socket(channel)) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    sys::exit_now(code)
}

fn live<R: Runtime>(setup: Channel, channel: Channel) -> Result<(), LinkError> {
    let (mut started, generation) = receive_start(&setup)?;
    let confined = match confine::confine(&started, &setup, generation) {
        Ok(confined) => confined,
        Err(failure) => return fail(&setup, generation, failure),
    };
    tell(&setup, generation, FromWorker::Confined(confined.evidence().clone()))?;
    drop(setup);

    let mut link = Link::new(channel, generation, started.start.orders.limits.message);
    link.expect(&ToWorker::Load)?;
    let mut runtime = match R::load(&confined, &mut started) {
        Ok(runtime) => runtime,
        Err(failure) => return link.tell(FromWorker::Failed(failure)),
    };
    link.tell(FromWorker::Loaded)?;
    link.expect(&ToWorker::Seal)?;
    let sealed = confined.seal(&started.start.orders).and_then(|()| runtime.ready(&started, &mut link));
    if let Err(failure) = sealed {
        return link.tell(FromWorker::Failed(failure));
    }
    link.tell(FromWorker::Ready)?;
    serve(&mut runtime, &mut link)
}

fn serve<R: Runtime>(runtime: &mut R, link: &mut Link) -> Result<(), LinkError> {
    while let Some(Incoming { call, export, input }) = link.next_call()? {
        let reply = runtime.call(&export, input, link);
        link.reply(call, reply)?;
    }
    Ok(())
}

fn receive_start(setup: &Channel) -> Result<(Started, Generation), LinkError> {
    let mut buffer = Box::new([0; PACKET_MAX]);
    let (packet, descriptors) = setup.receive_with::<Envelope<ToWorker>>(&mut buffer)?;
    let ToWorker::Start(start) = packet.message.message else {
        return Err(LinkError::Unexpected("a worker's first message is Start"));
    };
    let mut files = descriptors.into_iter().map(File::from);
    let started = Started { start: *start, artifact: files.next(), output: files.next() };
    Ok((started, packet.message.generation))
}

fn tell(setup: &Channel, generation: Generation, message: FromWorker) -> Result<(), ChannelError> {
    setup.send(&Envelope { generation, message }, &[])
}

fn fail(setup: &Channel, generation: Generation, failure: Failure) -> Result<(), LinkError> {
    Ok(tell(setup, generation, FromWorker::Failed(failure))?)
}
