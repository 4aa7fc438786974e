//! Messages that cross a process border.

use std::fmt::Debug;

use hotcell_protocol::compile::LibraryFacts;
use hotcell_protocol::crash::{Analysis, AnalyzeRequest, Notes, REGISTERS, layout};
use hotcell_protocol::{
    CompileFailure, CompileRequest, Description, Envelope, FromLauncher, FromWorker, ToLauncher, ToWorker,
    ToWorkerRef, codec,
};
use serde::{Serialize, de::DeserializeOwned};

/// What a worker says to its host, on the rings and on the setup channel.
pub fn from_worker(data: &[u8]) {
    round_trip::<FromWorker>(data);
    round_trip::<Envelope<FromWorker>>(data);
}

/// What a host says to its worker.
pub fn to_worker(data: &[u8]) {
    if let Some(message) = round_trip::<ToWorker>(data) {
        borrowed(&message);
    }
    round_trip::<Envelope<ToWorker>>(data);
}

/// What host and launcher say to each other.
pub fn launcher(data: &[u8]) {
    round_trip::<ToLauncher>(data);
    round_trip::<FromLauncher>(data);
}

/// What host and compiler say to each other, and what a worker notes of its crash.
pub fn compile(data: &[u8]) {
    round_trip::<CompileRequest>(data);
    round_trip::<Description>(data);
    round_trip::<CompileFailure>(data);
    round_trip::<LibraryFacts>(data);
    round_trip::<AnalyzeRequest>(data);
    round_trip::<Analysis>(data);
    notes(data);
}

/// Notes are read whatever they hold, and never beyond what is there.
fn notes(data: &[u8]) {
    let Some(notes) = Notes::read(data) else { return };
    assert_eq!(notes.registers.len(), REGISTERS.len());
    assert!(notes.stack.len() <= layout::STACK_MAX.min(data.len().saturating_sub(layout::STACK_AT)));
    assert!(notes.modules.len() <= layout::MODULES_MAX);
}

/// What decodes encodes to an equal value, in no more bytes. Not always in the same ones: bincode reads a number in a
/// longer form than it writes.
fn round_trip<M: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<M> {
    let message = codec::decode::<M>(data).ok()?;
    let bytes = codec::encode(&message).expect("what was decoded encodes");
    assert!(bytes.len() <= data.len(), "{} bytes of {}", bytes.len(), data.len());
    assert_eq!(codec::decode::<M>(&bytes).expect("what was encoded decodes"), message);
    whole::<M>(&bytes);
    for_a_moment(&message, &bytes);
    Some(message)
}

/// A message is neither shorter nor longer than its bytes.
fn whole<M: DeserializeOwned>(bytes: &[u8]) {
    if let Some((_, cut)) = bytes.split_last() {
        assert!(codec::decode::<M>(cut).is_err(), "a byte less");
    }
    assert!(codec::decode::<M>(&[bytes, &[0]].concat()).is_err(), "a byte more");
}

/// A message that is encoded for a moment has the same bytes.
fn for_a_moment<M: Serialize>(message: &M, bytes: &[u8]) {
    codec::encoded(message, |encoded| assert_eq!(encoded, bytes)).expect("it was encoded before");
}

/// The messages without copies of their text encode as those with.
fn borrowed(message: &ToWorker) {
    let same = match message {
        ToWorker::Start(start) => ToWorkerRef::Start(start),
        ToWorker::Load => ToWorkerRef::Load,
        ToWorker::Seal => ToWorkerRef::Seal,
        ToWorker::Call { call, export, len } => ToWorkerRef::Call { call: *call, export, len: *len },
        ToWorker::Data { .. } | ToWorker::Answer { .. } => return,
    };
    assert_eq!(codec::encode(&same).expect("encodes"), codec::encode(message).expect("encodes"));
}
