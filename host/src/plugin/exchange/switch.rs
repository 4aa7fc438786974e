//! What a reload does to seats: hold calls back, run a call of its own in a seat, put another worker there.

use std::sync::Arc;

use hotcell_protocol::ring::Waker;

use super::Exchange;
use super::seat::{Seat, Serving, Trouble};
use super::seating::Place;
use crate::plugin::call::Call;
use crate::worker::Line;

/// What became of a call that is to run in one seat only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Pinned {
    /// The worker has it, behind all that it had before.
    Delivered,
    /// Its ring has no room now.
    Full,
    /// No worker is there, or one that cannot go on.
    Nobody,
}

/// What became of putting another worker in a seat.
#[derive(Debug)]
pub(in crate::plugin) enum Swapped {
    /// It is done; the line of the one that was there.
    Done(Option<Line>),
    /// The one that is there has calls, is being looked after by a caller, or cannot go on: later.
    NotYet(Option<Place>),
}

impl Exchange {
    /// From now on calls wait, until [`Exchange::release`]. What workers have already goes on.
    pub(in crate::plugin) fn hold(&self) {
        self.state().held = true;
    }

    /// Calls are delivered again; at most `capacity` may be outstanding from now on.
    pub(in crate::plugin) fn release(&self, capacity: u32) {
        let mut state = self.state();
        state.held = false;
        state.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let waker = self.deliver(&mut state);
        drop(state);
        waker.iter().for_each(Waker::wake);
    }

    /// Delivers a call to the worker of one seat, though calls are held. It moves to no other.
    pub(in crate::plugin) fn pin(&self, index: usize, call: &Arc<Call>) -> Pinned {
        let mut state = self.state();
        let healthy = |seat: &&Seat| seat.serving.is_some() && seat.trouble.is_none();
        if state.closed || state.seats.get(index).filter(healthy).is_none() {
            return Pinned::Nobody;
        }
        state.waiting.push_front(Arc::clone(call));
        match state.deliver_to(index) {
            Ok(true) => {}
            Ok(false) => {
                state.waiting.pop_front();
                return Pinned::Full;
            }
            Err(broken) => {
                state.waiting.pop_front();
                state.fail(index, Trouble::Broken(broken));
                self.tell(index);
                return Pinned::Nobody;
            }
        }
        state.outstanding += 1;
        self.arm(&mut state, call.deadline);
        let waker = state.seats.get_mut(index).and_then(Seat::rouse);
        drop(state);
        waker.iter().for_each(Waker::wake);
        Pinned::Delivered
    }

    /// Puts a worker, or none, in a seat whose worker has no call.
    pub(in crate::plugin) fn swap(&self, index: usize, place: Option<Place>) -> Swapped {
        let mut state = self.state();
        let quiet = |seat: &&mut Seat| {
            let led = seat.serving.as_ref().is_some_and(|serving| serving.led);
            seat.trouble.is_none() && seat.delivered.is_empty() && seat.starting.is_none() && !led
        };
        let Some(seat) = state.seats.get_mut(index).filter(quiet) else { return Swapped::NotYet(place) };
        seat.neglected = None;
        let before = std::mem::replace(&mut seat.serving, place.map(Serving::from));
        let waker = self.deliver(&mut state);
        drop(state);
        waker.iter().for_each(Waker::wake);
        Swapped::Done(before.map(|serving| serving.line))
    }

    /// Whether no call waits or runs.
    pub(in crate::plugin) fn is_idle(&self) -> bool {
        self.state().outstanding == 0
    }

    /// Whether no worker has a call. Some may wait.
    pub(in crate::plugin) fn is_quiet(&self) -> bool {
        self.state().seats.iter().all(|seat| seat.delivered.is_empty() && seat.starting.is_none())
    }

    /// Whether calls are held.
    pub(in crate::plugin) fn is_held(&self) -> bool {
        self.state().held
    }

    /// Whether no call is taken any more.
    pub(in crate::plugin) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whether a sound worker is in a seat.
    pub(in crate::plugin) fn is_served(&self, index: usize) -> bool {
        let state = self.state();
        state.seats.get(index).is_some_and(|seat| seat.serving.is_some() && seat.trouble.is_none())
    }
}
