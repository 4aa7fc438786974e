//! What a worker's host calls are answered from, for whoever takes them out of its ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hotcell_protocol::{AnswerStatus, Evidence};
use rustix::io::Errno;

use super::record::Record;
use crate::broker::{Answer, Broker, HostCallContext};
use crate::log::Logger;
use crate::network::{Ask, Connector, NoConnection, Slot};
use crate::programs::{Children, Programs, Refusal, Task};
use crate::reentry::Chain;
use crate::sys::watch::Watch;

/// Whose host calls are answered, and where what is refused is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Office {
    pub(super) plugin: String,
    pub(crate) generation: u32,
    pub(super) limit: u64,
    pub(super) logger: Logger,
    pub(super) record: Arc<Record>,
    pub(super) slot: Slot,
    pub(super) children: Children,
    pub(crate) sight: Option<Sight>,
}

/// What is needed to look at a worker's process from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) generation: u32,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) pidfd: Arc<Watch<OwnedFd>>,
}

impl Office {
    /// Answers a host call. Dropping the future stops the handler.
    pub(crate) fn answer(
        &self,
        name: String,
        input: Vec<u8>,
        broker: &Broker,
        chain: Chain,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let context =
            HostCallContext { plugin: self.plugin.clone(), generation: self.generation, name: name.clone() };
        let (record, slot) = (Arc::clone(&self.record), self.slot.clone());
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let asked = match (broker.connector(&name), broker.programs(&name)) {
            (Some((connector, ask)), _) => Asked::Connector(connector.clone(), ask, input),
            (_, Some((programs, task))) => {
                Asked::Programs(programs.clone(), task, input, self.children.clone())
            }
            (None, None) => Asked::Handler(broker.answer(context, input, self.limit, &self.logger, chain)),
        };
        async move {
            match asked {
                // Large and rare: not a part of every host call's state.
                Asked::Connector(connector, ask, wanted) => {
                    let mut answer = match ask {
                        Ask::Connect => Box::pin(hand_over(connector, wanted, slot, record)).await,
                        Ask::Resolve => Box::pin(resolve(connector, wanted, record)).await,
                        Ask::Listen => listen(&connector, &wanted, &slot, &record),
                        Ask::Roots => roots(&connector, limit),
                    };
                    answer.payload.truncate(limit);
                    answer
                }
                Asked::Programs(programs, task, input, children) => {
                    // The first line of an answer is short.
                    let most = limit.saturating_sub(END_SHOWN);
                    let performed = Box::pin(programs.perform(task, input, &children, &slot, most)).await;
                    let mut answer = of_program(performed, &record);
                    answer.payload.truncate(limit);
                    answer
                }
                Asked::Handler(answering) => {
                    let answer = answering.await;
                    if answer.status == AnswerStatus::Refused {
                        record.refused_host_call(&name);
                    }
                    answer
                }
            }
        }
    }
}

/// What a host call is about.
enum Asked<A> {
    Connector(Connector, Ask, Vec<u8>),
    Programs(Programs, Task, Vec<u8>, Children),
    Handler(A),
}

/// Bytes of how a program ended, at most.
const END_SHOWN: usize = 64;

/// What a plugin is told of a program.
fn of_program(performed: Result<Vec<u8>, Refusal>, record: &Record) -> Answer {
    match performed {
        Ok(payload) => Answer { status: AnswerStatus::Ok, payload },
        Err(Refusal::NotGranted(program)) => {
            record.refused_program(&program);
            Answer { status: AnswerStatus::Refused, payload: Vec::new() }
        }
        Err(Refusal::Failed(text)) => Answer { status: AnswerStatus::Failed, payload: text.into_bytes() },
    }
}

/// Connects for a plugin; it takes the descriptor, or the errno, with the next `socket`.
async fn hand_over(connector: Connector, wanted: Vec<u8>, slot: Slot, record: Arc<Record>) -> Answer {
    match connector.connect(&wanted).await {
        Ok((connection, peer)) => {
            slot.put(Ok(connection));
            record.connected(&wanted, peer);
            Answer { status: AnswerStatus::Ok, payload: Vec::new() }
        }
        Err(NoConnection::NotGranted) => {
            slot.put(Err(Errno::ACCESS));
            record.refused_connection(&wanted);
            Answer { status: AnswerStatus::Refused, payload: Vec::new() }
        }
        Err(NoConnection::Failed(text, errno)) => {
            slot.put(Err(errno));
            Answer { status: AnswerStatus::Failed, payload: text.into_bytes() }
        }
    }
}

/// The certificates to trust: all of them or none.
fn roots(connector: &Connector, limit: usize) -> Answer {
    let pem = connector.roots().and_then(|pem| {
        let over = || format!("the certificates have {} bytes, a message has {limit}", pem.len());
        if pem.len() <= limit { Ok(pem) } else { Err(over()) }
    });
    match pem {
        Ok(payload) => Answer { status: AnswerStatus::Ok, payload },
        Err(text) => Answer { status: AnswerStatus::Failed, payload: text.into_bytes() },
    }
}

/// Listens for a plugin; it takes the descriptor as it takes a connection.
fn listen(connector: &Connector, wanted: &[u8], slot: &Slot, record: &Record) -> Answer {
    match connector.listen(wanted) {
        Ok((listener, address)) => {
            slot.put(Ok(listener));
            record.listening(address);
            Answer { status: AnswerStatus::Ok, payload: Vec::new() }
        }
        Err(NoConnection::NotGranted) => {
            slot.put(Err(Errno::ACCESS));
            record.refused_listening(wanted);
            Answer { status: AnswerStatus::Refused, payload: Vec::new() }
        }
        Err(NoConnection::Failed(text, errno)) => {
            slot.put(Err(errno));
            Answer { status: AnswerStatus::Failed, payload: text.into_bytes() }
        }
    }
}

/// Looks a granted name up for a plugin.
async fn resolve(connector: Connector, name: Vec<u8>, record: Arc<Record>) -> Answer {
    match connector.resolve(&name).await {
        Ok(addresses) => Answer { status: AnswerStatus::Ok, payload: addresses.into_bytes() },
        Err(NoConnection::NotGranted) => {
            record.refused_look_up(&name);
            Answer { status: AnswerStatus::Refused, payload: Vec::new() }
        }
        Err(NoConnection::Failed(text, _)) => {
            Answer { status: AnswerStatus::Failed, payload: text.into_bytes() }
        }
    }
}
