//! Taking what workers have sent, and who takes it.

use std::sync::Arc;

use hotcell_protocol::CallId;
use hotcell_protocol::ring::{Ahead, Wake, Waker, Watcher};

use super::Exchange;
use super::seat::{Seat, Trouble};
use super::state::State;
use crate::broker::{Answer, Broker};
use crate::plugin::call::{Call, Ending};
use crate::worker::{Bells, Office, StopTask};

/// What a look at a worker's ring came to.
pub(in crate::plugin) enum Look {
    /// Nothing more for now; whoever looked is told of the next.
    Empty,
    /// There may be more: others get their turn first.
    More,
    /// The call of the one that leads is over.
    Over,
    /// No worker, or one that the actor must see to.
    Gone,
    /// A host call: answer it, and look again.
    HostCall(HostCall),
    /// The host's budget has no room for this many bytes: wait for it, and [`Exchange::grant`].
    Stalled(u64),
}

/// What the blocking caller that takes a worker's replies needs.
pub(in crate::plugin) struct Lead {
    pub(in crate::plugin) seat: usize,
    pub(in crate::plugin) bells: Arc<Bells>,
    /// Something came while somebody else was to be woken for it: to be looked at before the first sleep.
    pub(in crate::plugin) stirs: bool,
}

/// A host call to answer.
pub(in crate::plugin) struct HostCall {
    pub(in crate::plugin) id: CallId,
    pub(in crate::plugin) name: String,
    pub(in crate::plugin) input: Vec<u8>,
    pub(in crate::plugin) office: Office,
    pub(in crate::plugin) broker: Arc<Broker>,
    pub(in crate::plugin) call: Arc<Call>,
}

impl Exchange {
    /// Takes what a worker has sent, for whoever is woken by its first bell.
    pub(in crate::plugin) fn look(&self, index: usize) -> Look {
        self.look_as(index, None)
    }

    /// The same for the blocking caller that leads. It leads no more when its call is over, or the actor must act.
    pub(in crate::plugin) fn look_for(&self, lead: &Lead, call: &Arc<Call>) -> Look {
        self.look_as(lead.seat, Some(call))
    }

    fn look_as(&self, index: usize, leader: Option<&Arc<Call>>) -> Look {
        let mut ended = Vec::new();
        let mut state = self.state();
        let wake = if leader.is_some() { Wake::Second } else { Wake::First };
        let mut look = self.look_locked(&mut state, index, wake, &mut ended);
        let waker = if ended.is_empty() { None } else { self.deliver(&mut state) };
        if let Some(at) = state.seats.get(index).and_then(Seat::orphan_ends_at) {
            self.arm(&mut state, at);
        }
        let stuck = matches!(look, Look::Gone | Look::Stalled(_));
        let over = matches!(look, Look::Empty | Look::More) && leader.is_some_and(|call| call.is_over());
        if leader.is_some() && (stuck || over) {
            self.retire(&mut state, index, stuck);
            look = if over { Look::Over } else { look };
        }
        drop(state);
        waker.iter().for_each(Waker::wake);
        self.ended.add(ended.iter().filter(|ending| !ending.is_own).count());
        ended.into_iter().for_each(Ending::tell);
        look
    }

    pub(super) fn look_locked(
        &self,
        state: &mut State,
        index: usize,
        wake: Wake,
        ended: &mut Vec<Ending>,
    ) -> Look {
        let State { seats, outstanding, .. } = state;
        let Some(seat) = seats.get_mut(index).filter(|seat| seat.trouble.is_none()) else {
            return Look::Gone;
        };
        let before = ended.len();
        let look = seat.take(self.command, wake, ended);
        *outstanding -= ended.len() - before;
        look.unwrap_or_else(|trouble| {
            seat.fail(trouble);
            self.tell(index);
            Look::Gone
        })
    }

    /// Answers a host call, unless its worker or its call has ended meanwhile.
    pub(in crate::plugin) fn answer(&self, index: usize, generation: u32, id: CallId, answer: Answer) {
        let mut state = self.state();
        let Some(seat) = state.seats.get_mut(index) else { return };
        let waits = seat.running() == Some(id) && seat.trouble.is_none();
        let Some(serving) =
            seat.serving.as_mut().filter(|serving| serving.office.generation == generation && waits)
        else {
            return;
        };
        serving.handler = None;
        let sent = serving.line.answer(id, answer.status, answer.payload);
        let waker = seat.rouse();
        if let Err(broken) = sent {
            seat.fail(Trouble::Broken(broken));
            self.tell(index);
        }
        drop(state);
        waker.iter().for_each(Waker::wake);
    }

    /// Keeps the task that answers a host call, so that it ends with the worker.
    pub(in crate::plugin) fn keep_handler(&self, index: usize, generation: u32, handler: StopTask) {
        let mut state = self.state();
        let serving = state.seats.get_mut(index).and_then(|seat| seat.serving.as_mut());
        if let Some(serving) = serving.filter(|serving| serving.office.generation == generation) {
            serving.handler = Some(handler);
        }
    }

    /// Room in the host's budget for a worker's stalled payload.
    pub(in crate::plugin) fn grant(&self, index: usize, bytes: u64, share: crate::budget::Share) {
        let mut state = self.state();
        if let Some(serving) = state.seats.get_mut(index).and_then(|seat| seat.serving.as_mut()) {
            serving.line.grant(bytes, share);
        }
    }

    /// Makes a blocking caller the one that takes the replies of the worker that has its call. `None` where another does,
    /// or no worker has the call.
    pub(in crate::plugin) fn lead(&self, call: &Arc<Call>) -> Option<Lead> {
        self.state().lead(call)
    }

    /// Looks for new replies of a seat's worker from outside of the lock.
    pub(in crate::plugin) fn watcher(&self, index: usize) -> Option<Watcher> {
        let state = self.state();
        let seat = state.seats.get(index).filter(|seat| seat.trouble.is_none())?;
        seat.serving.as_ref().map(|serving| serving.line.watcher())
    }

    /// Where the payload that a seat's worker sends next will lie.
    pub(in crate::plugin) fn ahead(&self, index: usize) -> Option<Ahead> {
        let state = self.state();
        let serving = state.seats.get(index)?.serving.as_ref()?;
        Some(serving.line.ahead_of_worker())
    }

    /// The same for whichever worker has a call that nobody leads.
    pub(in crate::plugin) fn place_of(&self, call: &Arc<Call>) -> Option<(usize, Watcher)> {
        let mut state = self.state();
        state.leaderless(call).map(|(index, serving)| (index, serving.line.watcher()))
    }

    /// Gives the lead back without a last look.
    pub(in crate::plugin) fn give_lead_back(&self, index: usize) {
        let mut state = self.state();
        self.retire(&mut state, index, true);
    }

    /// The leader goes: it has its reply, or is stuck with what the actor must do. Another blocking caller goes on, or the
    /// actor does.
    fn retire(&self, state: &mut State, index: usize, stuck: bool) {
        let Some(seat) = state.seats.get_mut(index) else { return };
        let Some(serving) = &mut seat.serving else { return };
        serving.led = false;
        if seat.delivered.is_empty() && !stuck {
            // Nothing may come before the next call.
            serving.line.rest();
            return;
        }
        serving.line.listen(Wake::First);
        if serving.line.wants_look() || stuck {
            self.tell(index);
        }
        let next = seat.delivered.iter().find_map(|delivered| delivered.call.sleeper());
        next.iter().for_each(std::thread::Thread::unpark);
    }
}
