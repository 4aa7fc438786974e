//! Workers that come and go, and what becomes of the calls that they had.

use std::sync::Arc;

use hotcell_protocol::ring::{Wake, Waker};

use super::seat::{Delivered, Seat, Serving, Trouble};
use super::state::State;
use super::{Exchange, Look};
use crate::broker::Broker;
use crate::error::CallError;
use crate::plugin::call::{Call, Ending};
use crate::worker::{Bells, Broken, Line, Office, Sight};

/// A worker that left its seat, and the calls that end with it.
pub(in crate::plugin) struct Parting {
    pub(in crate::plugin) trouble: Option<Trouble>,
    /// The call that caused the trouble, or ran when it came.
    pub(in crate::plugin) culprit: Option<Arc<Call>>,
    /// Others that it had begun with.
    pub(in crate::plugin) others: Vec<Arc<Call>>,
    /// Its memory stays mapped until its process has ended.
    pub(in crate::plugin) line: Option<Line>,
}

/// What takes a place: the host's ends of a worker.
#[derive(Debug)]
pub(in crate::plugin) struct Place {
    pub(in crate::plugin) line: Line,
    pub(in crate::plugin) bells: Arc<Bells>,
    pub(in crate::plugin) office: Office,
    /// Answers its host calls.
    pub(in crate::plugin) broker: Arc<Broker>,
}

impl From<Place> for Serving {
    fn from(Place { mut line, bells, office, broker }: Place) -> Serving {
        line.listen(Wake::First);
        Serving { line, bells, office, broker, led: false, handler: None }
    }
}

impl Exchange {
    /// Puts a worker in its seat.
    pub(in crate::plugin) fn seat(&self, index: usize, place: Place) {
        let serving = Serving::from(place);
        let mut state = self.state();
        let Some(seat) = state.seats.get_mut(index) else { return };
        seat.serving = Some(serving);
        let waker = match seat.starting.take() {
            Some(call) => {
                state.waiting.push_front(call);
                if let Err(broken) = state.deliver_to(index) {
                    state.fail(index, Trouble::Broken(broken));
                    self.tell(index);
                }
                state.seats.get_mut(index).and_then(Seat::rouse)
            }
            None => self.deliver(&mut state),
        };
        drop(state);
        waker.iter().for_each(Waker::wake);
    }

    /// Whether a call waits and no worker has this seat.
    pub(in crate::plugin) fn wants_worker(&self, index: usize) -> bool {
        let state = self.state();
        !state.waiting.is_empty()
            && !state.held
            && state.seats.get(index).is_some_and(|seat| seat.serving.is_none())
    }

    /// Takes the oldest waiting call for a command's worker that is to be started in this seat.
    pub(in crate::plugin) fn begin_command(&self, index: usize) -> Option<Arc<Call>> {
        let mut state = self.state();
        let call = state.waiting.pop_front()?;
        state.seats.get_mut(index)?.starting = Some(Arc::clone(&call));
        Some(call)
    }

    /// The export that a worker of this seat runs.
    pub(in crate::plugin) fn running_export(&self, index: usize, generation: u32) -> Option<String> {
        let state = self.state();
        let seat = state.seats.get(index)?;
        seat.serving.as_ref().filter(|serving| serving.office.generation == generation)?;
        seat.running_call().map(|(_, call)| call.export.clone())
    }

    /// The workers that serve now.
    pub(in crate::plugin) fn sights(&self) -> Vec<Sight> {
        let state = self.state();
        state.seats.iter().filter_map(|seat| seat.serving.as_ref()?.office.sight.clone()).collect()
    }

    /// Whether the actor must part with this seat's worker.
    pub(in crate::plugin) fn is_troubled(&self, index: usize) -> bool {
        self.state().seats.get(index).is_some_and(|seat| seat.trouble.is_some())
    }

    /// Says why a worker cannot go on; an earlier reason stays.
    pub(in crate::plugin) fn trouble(&self, index: usize, trouble: Trouble) {
        self.state().fail(index, trouble);
    }

    /// A worker's process has ended. What it sent before counts.
    pub(in crate::plugin) fn worker_ended(&self, index: usize) {
        let mut ended = Vec::new();
        let mut state = self.state();
        if let Some(serving) = state.seats.get_mut(index).and_then(|seat| seat.serving.as_mut()) {
            serving.led = false;
        }
        while let Look::More = self.look_locked(&mut state, index, Wake::First, &mut ended) {}
        state.fail(index, Trouble::Broken(Broken::Closed));
        drop(state);
        ended.into_iter().for_each(Ending::tell);
    }

    /// Takes a worker out of its seat. Calls that it has not begun with wait again.
    pub(in crate::plugin) fn part(&self, index: usize) -> Parting {
        let mut state = self.state();
        let State { seats, waiting, outstanding, .. } = &mut *state;
        let Some(seat) = seats.get_mut(index) else {
            return Parting { trouble: None, culprit: None, others: Vec::new(), line: None };
        };
        let trouble = seat.trouble.take();
        seat.neglected = None;
        let mut line = seat.serving.take().map(|serving| serving.line);
        line.iter_mut().for_each(Line::stop_sending);
        let mut culprit = seat.starting.take();
        // Where nobody waits for the call that runs, no other call is to blame.
        let blames = seat.delivered.front().is_some_and(Delivered::is_open);
        let (mut others, mut back) = (Vec::new(), Vec::new());
        let caused = matches!(trouble, Some(Trouble::Last(_) | Trouble::Deadline | Trouble::Abandoned));
        for delivered in seat.delivered.drain(..).filter(|delivered| delivered.is_open()) {
            let first = culprit.is_none() && others.is_empty() && back.is_empty();
            let is_culprit = caused && first && blames;
            let untouched = !is_culprit && line.as_mut().is_some_and(|line| line.cancel(delivered.position));
            match delivered.call {
                call if is_culprit => culprit = Some(call),
                call if untouched && call.may_move() => back.push(call),
                call if first && blames => culprit = Some(call),
                call => others.push(call),
            }
        }
        *outstanding -= others.len() + usize::from(culprit.is_some());
        back.into_iter().rev().for_each(|call| waiting.push_front(call));
        Parting { trouble, culprit, others, line }
    }

    /// Ends the oldest waiting call with an error; used where no worker can be started.
    pub(in crate::plugin) fn fail_oldest(&self, error: CallError) {
        let mut state = self.state();
        let Some(call) = state.waiting.pop_front() else { return };
        state.outstanding -= 1;
        drop(state);
        call.end(Err(error)).tell();
    }
}
