//! Where callers meet workers: the calls of one plugin, from entry to their one end.
//!
//! A call waits in the queue, is delivered to the ring of a seat's worker, and ends. Callers deliver and take replies
//! themselves; the task of a seat (the actor) does what remains: it starts workers, buries them, and takes replies while
//! no blocking caller does. Everything is under one lock, which nobody holds while waiting or while a handler runs.
//!
//! Delivered calls that the worker has not begun with can be taken back exactly: when their deadline passes, when their
//! caller gives up, and when the worker ends, in which case they move to the next one.

mod ended;
mod ending;
mod replies;
mod seat;
mod seating;
mod state;
mod switch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell_protocol::ring::Waker;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::Call;
use crate::error::CallError;
use ended::Ended;
pub(super) use replies::{HostCall, Lead, Look};
use seat::Seat;
pub(super) use seat::Trouble;
pub(super) use seating::{Parting, Place};
use state::State;
pub(super) use switch::{Pinned, Swapped};

/// How long a call that nobody waits for any more may go on before its worker is killed.
const GRACE: Duration = Duration::from_secs(1);

/// The calls of one plugin and the seats of its workers.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    /// One for each seat: something happened that its actor must see to.
    told: Vec<Notify>,
    /// The clock has to be set anew.
    pub(super) clock: Notify,
    ended: Ended,
    /// A command's worker serves one call, which its actor delivers.
    command: bool,
    pub(super) spin: Duration,
    /// Whether the host's tasks take turns on one thread, so that a wake-up can be put off until those that are ready had theirs.
    puts_off: bool,
}

impl Exchange {
    pub(super) fn new(seats: usize, capacity: u32, command: bool, spin: Duration) -> Exchange {
        let state = State::new(seats, usize::try_from(capacity).unwrap_or(usize::MAX));
        let told = (0..seats).map(|_| Notify::new()).collect();
        Exchange {
            state: Mutex::new(state),
            told,
            clock: Notify::new(),
            ended: Ended::default(),
            command,
            spin,
            puts_off: Handle::try_current()
                .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the seat's actor has something to see to. Safe to cancel.
    pub(super) async fn told(&self, seat: usize) {
        match self.told.get(seat) {
            Some(told) => told.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Completes when the seat's actor must part with its worker. Safe to cancel.
    pub(super) async fn told_of_trouble(&self, seat: usize) {
        while !self.is_troubled(seat) {
            self.told(seat).await;
        }
    }

    fn tell(&self, seat: usize) {
        self.told.get(seat).into_iter().for_each(Notify::notify_one);
    }

    /// Enters a call: delivered at once if a worker has room, else it waits.
    pub(super) fn enter(&self, call: &Arc<Call>) -> Result<(), CallError> {
        self.enter_as(call, false).map(drop)
    }

    /// The same for a blocking caller, which leads at once if it can: see [`Exchange::lead`].
    pub(super) fn enter_and_lead(&self, call: &Arc<Call>) -> Result<Option<Lead>, CallError> {
        self.enter_as(call, true)
    }

    fn enter_as(&self, call: &Arc<Call>, blocks: bool) -> Result<Option<Lead>, CallError> {
        let mut state = self.state();
        if state.closed {
            return Err(CallError::HostShutdown);
        }
        if state.outstanding >= state.capacity {
            return Err(CallError::Refused("as many calls are outstanding as the plan allows"));
        }
        state.outstanding += 1;
        state.waiting.push_back(Arc::clone(call));
        let mut waker = self.deliver(&mut state);
        if blocks {
            let mut put_off = state.seats.iter_mut().filter_map(|seat| seat.put_off.take());
            waker = waker.or_else(|| put_off.next().map(|(waker, _)| waker));
        } else if self.puts_off
            && let Some(seat) = state.crowded()
        {
            let is_first = waker.is_some();
            waker = seat.put_off_waking(waker);
            if is_first {
                self.tell(0);
            }
        }
        let look = state.seats.iter().filter_map(|seat| seat.looks_slow_at(call.entered)).min();
        self.arm(&mut state, look.map_or(call.deadline, |look| look.min(call.deadline)));
        // Before the worker is woken, so that it rings the right bell.
        let lead = if blocks { state.lead(call) } else { None };
        drop(state);
        waker.iter().for_each(Waker::wake);
        Ok(lead)
    }

    /// Whether the seat's worker is to be woken by its actor.
    pub(in crate::plugin) fn is_put_off(&self, index: usize) -> bool {
        self.state().seats.get(index).is_some_and(|seat| seat.put_off.is_some())
    }

    /// What is to wake the seat's worker, once the callers that are ready now have entered their calls.
    pub(in crate::plugin) fn take_put_off(&self, index: usize) -> Option<Waker> {
        self.state().seats.get_mut(index)?.put_off.take().map(|(waker, _)| waker)
    }

    /// Has the clock look no later than this.
    fn arm(&self, state: &mut State, at: Instant) {
        if state.armed.is_none_or(|armed| at < armed) {
            state.armed = Some(at);
            self.clock.notify_one();
        }
    }

    /// Delivers what can be delivered, in order. Returns what wakes the one worker that got something; others are woken.
    fn deliver(&self, state: &mut State) -> Option<Waker> {
        let mut waker: Option<Waker> = None;
        let mut full = None;
        while !self.command && !state.held && !state.waiting.is_empty() {
            let Some((load, index)) = state.roomiest(full) else { break };
            match state.deliver_to(index) {
                Ok(true) => full = None,
                Ok(false) => {
                    full = Some((load, index));
                    continue;
                }
                Err(broken) => {
                    state.fail(index, Trouble::Broken(broken));
                    self.tell(index);
                    continue;
                }
            }
            if let Some(next) = state.seats.get_mut(index).and_then(Seat::rouse) {
                waker.replace(next).iter().for_each(Waker::wake);
            }
        }
        if !state.waiting.is_empty() && !state.held {
            let idle = |seat: &Seat| seat.serving.is_none();
            (0..).zip(&state.seats).filter(|(_, seat)| idle(seat)).for_each(|(index, _)| self.tell(index));
        }
        waker
    }
}
