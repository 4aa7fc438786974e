//! The peers that are open, and the answers to the driver's questions.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::{Failure, failed};
use crate::measure::{Input, Load, Peer};
use crate::peers::PeerName;
use crate::protocol::{Answer, Question};

/// Payload of the call that `open` checks.
const FIRST_SIZE: usize = 64;
/// Most bytes in flight at a time: several times as much is in memory on both sides.
const MOST_IN_FLIGHT: usize = 256 << 20;

/// What one driver has opened. Dropping it ends all of it.
pub(crate) struct Session {
    library: PathBuf,
    peers: BTreeMap<PeerName, Box<dyn Peer>>,
}

impl Session {
    /// Nothing is open yet; `library` is for the peer "dlopen".
    pub(crate) fn new(library: PathBuf) -> Session {
        Session { library, peers: BTreeMap::new() }
    }

    /// The answer to one line.
    pub(crate) fn answer(&mut self, line: &[u8]) -> Answer {
        serde_json::from_slice(line)
            .map_err(failed("read the question"))
            .and_then(|question| self.carry_out(question))
            .unwrap_or_else(|failure| Answer::Error { error: failure.text() })
    }

    fn carry_out(&mut self, question: Question) -> Result<Answer, Failure> {
        match question {
            Question::List {} => Ok(Answer::Peers { peers: PeerName::ALL.map(PeerName::about).into() }),
            Question::Open { peer } => self.open(peer),
            Question::Call { peer, size, count } => {
                let nanos = self.peer(peer)?.call(&mut Input::new(size.get()), count.get())?;
                Ok(Answer::Nanos { nanos })
            }
            Question::Pipeline { peer, size, count, outstanding } => {
                let load = Load { count: count.get(), outstanding: outstanding.get() };
                if size.get() * load.outstanding > MOST_IN_FLIGHT {
                    return Err(Failure::Question("more than 256 MiB would be in flight"));
                }
                let nanos = self.peer(peer)?.pipeline(&mut Input::new(size.get()), load)?;
                Ok(Answer::Nanos { nanos: vec![nanos] })
            }
            Question::Close { peer } => {
                self.peers.remove(&peer).map(|_| Answer::Done { ok: true }).ok_or(NOT_OPEN)
            }
        }
    }

    fn open(&mut self, name: PeerName) -> Result<Answer, Failure> {
        if self.peers.contains_key(&name) {
            return Err(Failure::Question("the peer is open already"));
        }
        let mut peer = name.open(&self.library)?;
        peer.call(&mut Input::new(FIRST_SIZE), 1)?;
        self.peers.insert(name, peer);
        Ok(Answer::Done { ok: true })
    }

    fn peer(&mut self, name: PeerName) -> Result<&mut dyn Peer, Failure> {
        self.peers.get_mut(&name).map(|peer| &mut **peer as _).ok_or(NOT_OPEN)
    }
}

const NOT_OPEN: Failure = Failure::Question("the peer is not open");
