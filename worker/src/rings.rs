//! The worker's two ends of the rings: waits in them, and bells that tell the host.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hotcell_protocol::ring::{Corrupt, Receiver, Sender, Wake};
use hotcell_protocol::{FromWorker, codec};

use crate::link::LinkError;

/// The two ends of the rings, and how the host is told.
#[derive(Debug)]
pub(crate) struct Rings {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    /// The host's runtime watches the first; a blocking caller sleeps on the second.
    pub(crate) bells: [OwnedFd; 2],
    /// How long to look for work before sleeping.
    pub(crate) spin: Duration,
}

impl Rings {
    /// Sends a frame, when there is room for it.
    pub(crate) fn frame(
        &mut self,
        generation: u32,
        message: &FromWorker,
        payload: &[u8],
    ) -> Result<(), LinkError> {
        codec::encoded(message, |head| {
            self.until_room(|sender| sender.send(generation, head, payload)).map(drop)
        })?
    }

    /// Tries until there is room, and sleeps in between.
    pub(crate) fn until_room<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Sender) -> Result<Option<T>, Corrupt>,
    ) -> Result<T, LinkError> {
        loop {
            if let Some(done) = attempt(&mut self.sender)? {
                return Ok(done);
            }
            self.sender.want_room(Wake::First);
            if let Some(done) = attempt(&mut self.sender)? {
                return Ok(done);
            }
            self.rouse();
            self.sender.sleep();
        }
    }

    /// Wakes the host if it sleeps.
    pub(crate) fn rouse(&self) {
        self.ring(self.sender.rouse());
    }

    /// Wakes the host if it waits for room.
    pub(crate) fn tell_of_room(&self) {
        self.ring(self.receiver.rouse());
    }

    fn ring(&self, wake: Wake) {
        let [first, second] = &self.bells;
        let bell = match wake {
            Wake::Not => return,
            Wake::First => first,
            Wake::Second => second,
        };
        // A bell that is full rings already.
        let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
    }

    /// Looks until something is there: for a moment by polling, if the host says so, then asleep.
    pub(crate) fn wait<T>(
        &mut self,
        mut look: impl FnMut(&Receiver) -> Result<Option<T>, Corrupt>,
    ) -> Result<T, LinkError> {
        let receiver = &self.receiver;
        if let Some(found) = look(receiver)? {
            return Ok(found);
        }
        if !self.spin.is_zero() {
            let until = Instant::now() + self.spin;
            while Instant::now() < until {
                if let Some(found) = look(receiver)? {
                    return Ok(found);
                }
                std::hint::spin_loop();
            }
        }
        loop {
            receiver.want(Wake::First);
            if let Some(found) = look(receiver)? {
                receiver.awake();
                return Ok(found);
            }
            receiver.sleep();
        }
    }
}
