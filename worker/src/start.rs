//! A worker's life: read the orders, confine, load, seal, serve.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use hotcell_protocol::ring::{self, Input, NotesArea};
use hotcell_protocol::{
    Channel, ChannelError, Envelope, Failure, FromWorker, Generation, PACKET_MAX, ReplyStatus, Start, Step,
    ToWorker,
};

use crate::confine::{self, Confined};
use crate::launcher::descriptor;
use crate::link::{Incoming, Link, LinkError};
use crate::rings::Rings;
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
    /// Where this worker notes its end.
    pub notes: NotesArea,
}

/// The descriptors of a worker beside its standard streams, as the launcher leaves them.
#[derive(Debug)]
pub struct Inherited {
    /// Wakes the host's runtime.
    pub first_bell: OwnedFd,
    /// Wakes a blocking caller.
    pub second_bell: OwnedFd,
    /// Closed before the artifact is read.
    pub setup: OwnedFd,
}

impl Inherited {
    /// Takes the three descriptors over, once, first of all.
    pub fn adopt() -> Inherited {
        Inherited {
            first_bell: sys::adopt(descriptor::FIRST_BELL),
            second_bell: sys::adopt(descriptor::SECOND_BELL),
            setup: sys::adopt(descriptor::SETUP),
        }
    }
}

/// How a call ended, with its payload: reply bytes or text, as [`ReplyStatus`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How.
    pub status: ReplyStatus,
    /// Reply bytes, or explanation.
    pub payload: Payload,
}

/// Where the payload of a reply is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Here.
    Bytes(Vec<u8>),
    /// Handed to [`Link::give`] during the call.
    Given,
}

/// One kind of plugin.
pub trait Runtime: Sized {
    /// Whether [`Runtime::load`] may run code of the plugin, so that it waits for the host to have seen the evidence.
    const LOAD_RUNS_CODE: bool;

    /// What has to be done before the confinement.
    ///
    /// # Errors
    /// What failed, as [`Step::Load`].
    fn prepare(_: &mut Started) -> Result<(), Failure> {
        Ok(())
    }

    /// Starts the threads that the plan allows, at most so many, before none can be started any more.
    ///
    /// # Errors
    /// What failed, as [`Step::Load`].
    fn assemble(_threads: u32) -> Result<(), Failure> {
        Ok(())
    }

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

    /// Runs one export. The host kills this process if it takes too long; after a trap it is not called again.
    fn call(&mut self, export: &str, input: &Input, link: &mut Link) -> Reply;
}

impl Reply {
    /// A plugin's error text, or hotcell's own explanation.
    pub fn text(status: ReplyStatus, text: impl Into<String>) -> Reply {
        Reply::bytes(status, text.into().into_bytes())
    }

    /// Bytes that are here.
    pub fn bytes(status: ReplyStatus, payload: Vec<u8>) -> Reply {
        Reply { status, payload: Payload::Bytes(payload) }
    }

    /// What was given during the call.
    pub fn given(status: ReplyStatus) -> Reply {
        Reply { status, payload: Payload::Given }
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

/// Runs a worker to the end of its life: the host kills it.
///
/// Ends without destructors, so that a plugin's cannot hang.
pub fn run<R: Runtime>(inherited: Inherited) -> ! {
    // Nobody reads why: the host learns of every other end from the kernel.
    let _ = live::<R>(inherited);
    sys::exit_now(1)
}

fn live<R: Runtime>(inherited: Inherited) -> Result<(), LinkError> {
    serve::<R>(Meeting::begin(inherited)?)
}

/// A worker that knows its orders, and is not confined yet.
pub(crate) struct Meeting {
    pub(crate) started: Started,
    generation: Generation,
    setup: Channel,
    rings: Rings,
}

impl Meeting {
    pub(crate) fn begin(inherited: Inherited) -> Result<Meeting, LinkError> {
        let Inherited { first_bell, second_bell, setup } = inherited;
        let setup = Channel::from_socket(setup);
        let (start, generation, [channel, artifact, output]) = receive_start(&setup)?;
        let channel = channel.ok_or(LinkError::Unexpected("the host sent no channel"))?;
        let (sender, receiver) = ring::attach(channel.as_fd()).map_err(ChannelError::System)?;
        let (artifact, output) = (artifact.map(File::from), output.map(File::from));
        let started = Started { start, artifact, output, notes: sender.notes() };
        let spin = Duration::from_micros(started.start.spin_us.into());
        let rings = Rings { sender, receiver, bells: [first_bell, second_bell], spin };
        Ok(Meeting { started, generation, setup, rings })
    }

    /// Confines this process and tells the host, who waits for nothing else on the setup channel. `None` if it failed: the
    /// host knows.
    pub(crate) fn confine(
        self,
        prepare: impl FnOnce(&mut Started) -> Result<(), Failure>,
        assemble: impl FnOnce(u32) -> Result<(), Failure>,
    ) -> Result<Option<(Confined, Started, Link)>, LinkError> {
        let Meeting { mut started, generation, setup, rings } = self;
        let confined =
            prepare(&mut started).and_then(|()| confine::confine(&started, &setup, generation, assemble));
        let confined = match confined {
            Ok(confined) => confined,
            Err(failure) => return fail(&setup, generation, failure).map(|()| None),
        };
        tell(&setup, generation, FromWorker::Confined(confined.statement().clone()))?;
        drop(setup);
        let link = Link::new(rings, generation, started.start.orders.limits.message);
        Ok(Some((confined, started, link)))
    }
}

/// Confines, loads, seals, and answers calls.
pub(crate) fn serve<R: Runtime>(meeting: Meeting) -> Result<(), LinkError> {
    let Some((confined, mut started, mut link)) = meeting.confine(R::prepare, R::assemble)? else {
        return Ok(());
    };
    if R::LOAD_RUNS_CODE {
        link.expect(&ToWorker::Load)?;
    }
    let mut runtime = match R::load(&confined, &mut started) {
        Ok(runtime) => runtime,
        Err(failure) => return link.tell(&FromWorker::Failed(failure)),
    };
    link.tell(&FromWorker::Loaded)?;
    if !R::LOAD_RUNS_CODE {
        link.expect(&ToWorker::Load)?;
    }
    link.expect(&ToWorker::Seal)?;
    let sealed = confined.seal(&started.start.orders).and_then(|()| runtime.ready(&started, &mut link));
    if let Err(failure) = sealed {
        return link.tell(&FromWorker::Failed(failure));
    }
    link.tell(&FromWorker::Ready)?;
    loop {
        let Incoming { call, export, input } = link.next_call()?;
        let reply = runtime.call(&export, &input, &mut link);
        let trapped = matches!(reply.status, ReplyStatus::Trap(_));
        link.reply(call, reply)?;
        if trapped {
            // What it has not begun with goes to another worker.
            return Ok(());
        }
    }
}

/// What the host sent on the setup channel before this process existed: orders, channel, artifact, output.
fn receive_start(setup: &Channel) -> Result<(Start, Generation, [Option<OwnedFd>; 3]), LinkError> {
    // No longer than the packet, since each touched page costs a fresh process more than the question.
    let mut buffer = vec![0; setup.next_len()?.min(PACKET_MAX)];
    let (Envelope { generation, message }, descriptors) = setup.receive::<Envelope<ToWorker>>(&mut buffer)?;
    let ToWorker::Start(start) = message else {
        return Err(LinkError::Unexpected("a worker's first message is Start"));
    };
    let mut files = descriptors.into_iter();
    Ok((*start, generation, std::array::from_fn(|_| files.next())))
}

fn tell(setup: &Channel, generation: Generation, message: FromWorker) -> Result<(), ChannelError> {
    setup.send(&Envelope { generation, message })
}

fn fail(setup: &Channel, generation: Generation, failure: Failure) -> Result<(), LinkError> {
    Ok(tell(setup, generation, FromWorker::Failed(failure))?)
}
