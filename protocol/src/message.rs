//! Host and worker: two enums, one per direction, so that a wrong-way message has no value.
//!
//! `Start`, `Listener` and `Confined` travel on the setup channel, everything else on the rings of the worker channel. A
//! payload (input, reply, host-call input and answer) of up to [`INLINE_MAX`](crate::ring::INLINE_MAX) bytes travels in the
//! frame of the message that announces its length; a larger answer as `Data`, any other larger one through the bulk ring.
//! The receiver checks the announced length against its limit before the first byte, and grows its buffer only as bytes
//! arrive.

use serde::{Deserialize, Serialize};

use crate::evidence::{Failure, Statement};
use crate::orders::{Orders, Place};

/// Names one call of one worker; never reused within a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// Which incarnation of a plugin a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Generation(pub u32);

/// Every packet of a setup channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// The generation that the sender believes it is.
    pub generation: Generation,
    /// The message.
    pub message: M,
}

/// The first message to a worker.
///
/// It travels on the setup channel, with the memory of the worker channel, the artifact (a sealed memfd) and, for the
/// compiler, the memfd that takes its output. The setup channel is closed by both sides before the artifact is read; the
/// worker channel cannot carry a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What to do.
    pub orders: Orders,
    /// Base folders, as absolute paths.
    pub places: Vec<(Place, String)>,
    /// uid and gid to switch to, where the orders ask for it.
    pub identity: Option<(u32, u32)>,
    /// What a command is run with.
    pub command: CommandLine,
    /// The manifest's `config`, as JSON text.
    pub config: Option<String>,
    /// How long the worker looks for work before it sleeps, in microseconds.
    pub spin_us: u32,
}

/// Arguments and environment of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// Program name first.
    pub arguments: Vec<String>,
    /// Names and values.
    pub environment: Vec<(String, String)>,
}

/// Host to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Confine yourself. Travels on the setup channel, the only message that does.
    Start(Box<Start>),
    /// The evidence holds: load the artifact.
    Load,
    /// "Loaded" was seen, and nothing that only loading needs is allowed any more: seal, and meet the plugin.
    Seal,
    /// Run an export on `len` bytes of input.
    Call {
        /// Its name.
        call: CallId,
        /// The export.
        export: String,
        /// Bytes of input.
        len: u64,
    },
    /// A piece of the answer that was announced last, in the same frame.
    Data {
        /// The call that it belongs to.
        call: CallId,
    },
    /// The answer to the host call that is waited for, of `len` bytes.
    Answer {
        /// The call within which the host call was made.
        call: CallId,
        /// What came of it.
        outcome: AnswerStatus,
        /// Bytes of answer or of error text.
        len: u64,
    },
}

/// The messages of [`ToWorker`] that are sent often, without a copy of their text. Encodes as that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the same as those of `ToWorker`")]
pub enum ToWorkerRef<'m> {
    Start(&'m Start),
    Load,
    Seal,
    Call { call: CallId, export: &'m str, len: u64 },
}

/// What came of a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerStatus {
    /// The payload is the answer.
    Ok,
    /// Not requested, not granted or not known. No payload.
    Refused,
    /// The handler failed; the payload is the public error text.
    Failed,
}

/// Why guest code of a wasm worker stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "wasm's own names of its traps")]
pub enum TrapKind {
    Unreachable,
    StackOverflow,
    MemoryOutOfBounds,
    TableOutOfBounds,
    IndirectCall,
    IntegerOverflow,
    IntegerDivisionByZero,
    BadConversion,
    /// The guest passed a pointer or a text to a host function that is not what it must be.
    BadArgument,
    /// The guest asked for more than a limit before it could run.
    Limit,
    Other,
}

/// How the worker says a call ended. A claim: the worker is hostile by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyStatus {
    /// The payload is the reply.
    Ok,
    /// The plugin returned an error; the payload is its text.
    PluginError,
    /// The plugin has no such export; the payload says so.
    NoSuchExport,
    /// The input does not fit the export's types; the payload says where.
    BadInput,
    /// The reply is larger than the plan's `message` limit; the payload says how large.
    OverLimit,
    /// Guest code trapped; the payload is the explanation. The worker can serve no further call.
    Trap(TrapKind),
    /// A command ended with this code. The worker can serve no further call.
    Exited(i32),
}

/// Worker to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The seccomp listener of a native worker travels with this one, on the setup channel. From now on the host
    /// answers for every system call that the filter does not allow.
    Listener,
    /// The Load stage is in force, and was tested. Travels on the setup channel.
    Confined(Statement),
    /// A step of the start failed; the worker exits. On the setup channel until `Confined` was sent.
    Failed(Failure),
    /// The artifact is mapped. Native: constructors have run.
    Loaded,
    /// The Run stage is in force and the plugin accepted its host: calls may come.
    Ready,
    /// A call ended, with `len` bytes of payload.
    Reply {
        /// The call.
        call: CallId,
        /// How.
        status: ReplyStatus,
        /// Bytes of payload.
        len: u64,
    },
    /// The plugin calls the host with `len` bytes of input, and waits.
    HostCall {
        /// The call within which it happens.
        call: CallId,
        /// The name of the host call.
        name: String,
        /// Bytes of input.
        len: u64,
    },
}

/// Names under which the host calls a plugin's optional functions. None of them can name an export of a plugin.
pub mod hook {
    /// Can the plugin still serve? No input; an error is its answer "no".
    pub const HEALTH: &str = "hotcell:health";
    /// The reply is the plugin's state.
    pub const STATE_SAVE: &str = "hotcell:state-save";
    /// The input is the version that saved a state, as four bytes (little endian), then the state.
    pub const STATE_LOAD: &str = "hotcell:state-load";
    /// The input is the plugin's new configuration, JSON.
    pub const CONFIGURE: &str = "hotcell:configure";
    /// For native workers, not their plugins: the input is names of exports, one to a line; the reply those that are missing.
    pub const MISSING: &str = "hotcell:missing";

    /// Whether a name is one of these, or of the functions by which a component answers them: the host's to call, and nobody
    /// else's.
    pub fn is_reserved(export: &str) -> bool {
        let own = export.strip_prefix("hotcell:");
        own.is_some_and(|name| name.starts_with("plugin/") || !name.contains('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::{CallId, ToWorker, ToWorkerRef, hook};
    use crate::codec::{decode, encode};

    #[test]
    fn what_is_the_hosts_alone_is_known_by_its_name() {
        for name in
            [hook::HEALTH, hook::STATE_LOAD, hook::MISSING, "hotcell:plugin/lifecycle@0.1.0#state-load"]
        {
            assert!(hook::is_reserved(name), "{name}");
        }
        for name in ["add", "greet", "hotcell:greet/kitchen#bill", "hotcell"] {
            assert!(!hook::is_reserved(name), "{name}");
        }
    }

    #[test]
    fn the_borrowed_messages_are_those_that_are_read() {
        let read = |message: ToWorkerRef<'_>| {
            decode::<ToWorker>(&encode(&message).expect("encodes")).expect("decodes")
        };
        let call = ToWorkerRef::Call { call: CallId(300), export: "greet", len: 70_000 };
        assert_eq!(read(call), ToWorker::Call { call: CallId(300), export: "greet".to_owned(), len: 70_000 });
        assert_eq!((read(ToWorkerRef::Load), read(ToWorkerRef::Seal)), (ToWorker::Load, ToWorker::Seal));
    }
}
