//! Ends of calls that no reply brings: their deadline, their caller's leave, the end of the plugin.

use std::sync::Arc;

use hotcell_protocol::ring::Waker;
use tokio::time::Instant;

use super::seat::{Fate, Trouble};
use super::state::State;
use super::{Exchange, GRACE};
use crate::error::CallError;
use crate::plugin::call::{Call, Ending};

impl Exchange {
    /// Ends a call whose caller gave up, or lets it run on for a moment.
    pub(in crate::plugin) fn give_up(&self, call: &Arc<Call>) {
        self.cut_off(call, CallError::Cancelled, |state, index, place| {
            let now = Instant::now();
            let delivered = state.seats.get_mut(index)?.delivered.get_mut(place)?;
            delivered.fate = Fate::Abandoned;
            delivered.deadline = delivered.deadline.min(now + GRACE);
            Some(delivered.deadline)
        });
    }

    /// Ends a call before its reply: removed from the queue, taken back from a worker, or else `running` decides.
    fn cut_off(
        &self,
        call: &Arc<Call>,
        error: CallError,
        running: impl FnOnce(&mut State, usize, usize) -> Option<Instant>,
    ) {
        let mut state = self.state();
        if let Some(place) = state.waiting.iter().position(|other| Arc::ptr_eq(other, call)) {
            state.waiting.remove(place);
            state.outstanding -= 1;
            drop(state);
            call.end(Err(error)).tell();
            return;
        }
        if let Some(index) = state.seats.iter().position(|seat| seat.starts(call)) {
            state.fail(index, Trouble::Abandoned);
            drop(state);
            self.tell(index);
            return;
        }
        let Some((index, place)) = state.find(call) else { return };
        if state.withdraw(index, place) {
            let waker = self.deliver(&mut state);
            drop(state);
            waker.iter().for_each(Waker::wake);
            call.end(Err(error)).tell();
        } else if let Some(at) = running(&mut state, index, place) {
            self.arm(&mut state, at);
        }
    }

    /// Ends what is due, and returns when to look again.
    pub(in crate::plugin) fn tick(&self, now: Instant) -> Option<Instant> {
        let mut ended = Vec::new();
        let mut state = self.state();
        state.expire_waiting(now, &mut ended);
        for index in 0..state.seats.len() {
            if state.expire_delivered(index, now, &mut ended) {
                self.tell(index);
            }
        }
        let waker = if ended.is_empty() { None } else { self.deliver(&mut state) };
        state.armed = state.next_look(now);
        let armed = state.armed;
        drop(state);
        waker.iter().for_each(Waker::wake);
        ended.into_iter().for_each(Ending::tell);
        armed
    }

    /// When the clock is to look.
    pub(in crate::plugin) fn armed(&self) -> Option<Instant> {
        self.state().armed
    }

    /// Takes no call any more, and ends those that wait.
    pub(in crate::plugin) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.outstanding -= waiting.len();
        drop(state);
        for call in waiting {
            call.end(Err(CallError::HostShutdown)).tell();
        }
    }
}
