//! What the lock of an exchange guards.

use std::collections::VecDeque;
use std::sync::Arc;

use hotcell_protocol::CallId;
use hotcell_protocol::ring::Wake;
use tokio::time::Instant;

use super::GRACE;
use super::replies::Lead;
use super::seat::{Delivered, Fate, Seat, Serving, Trouble};
use crate::error::CallError;
use crate::plugin::call::{Call, Ending};
use crate::worker::Broken;

/// Calls that a worker may have at once, where it is the plugin's only one: enough to keep it busy.
const WINDOW: usize = 256;

/// Calls of a worker from which it is not woken for each.
const CROWD: usize = 8;

#[derive(Debug)]
pub(super) struct State {
    pub(super) waiting: VecDeque<Arc<Call>>,
    pub(super) seats: Vec<Seat>,
    pub(super) next_call: u64,
    pub(super) outstanding: usize,
    pub(super) capacity: usize,
    pub(super) closed: bool,
    /// No call is delivered: a reload is about to change what would run it.
    pub(super) held: bool,
    /// When the clock looks next.
    pub(super) armed: Option<Instant>,
}

impl State {
    pub(super) fn new(seats: usize, capacity: usize) -> State {
        State {
            waiting: VecDeque::new(),
            seats: (0..seats).map(|_| Seat::default()).collect(),
            next_call: 1,
            outstanding: 0,
            capacity,
            closed: false,
            held: false,
            armed: None,
        }
    }

    /// The only worker's seat, if it has many calls. One that sleeps has replied to them, and their callers are about to enter the
    /// next ones: woken for each of those, it would take the callers' processor for each.
    pub(super) fn crowded(&mut self) -> Option<&mut Seat> {
        let [seat] = self.seats.as_mut_slice() else { return None };
        (seat.delivered.len() >= CROWD).then_some(seat)
    }

    pub(super) fn fail(&mut self, index: usize, trouble: Trouble) {
        if let Some(seat) = self.seats.get_mut(index) {
            seat.fail(trouble);
        }
    }

    /// Load and index of the seat that has the fewest calls, among those whose worker may have one more and that come after
    /// another one in this order.
    pub(super) fn roomiest(&self, after: Option<(usize, usize)>) -> Option<(usize, usize)> {
        // Behind several workers, one that is busy gets nothing: a call would wait although another may soon be idle.
        let window = if self.seats.len() == 1 { WINDOW } else { 1 };
        let load = |seat: &Seat| {
            let serves = seat.serving.is_some() && seat.trouble.is_none();
            Some(seat.delivered.len()).filter(|count| serves && *count < window)
        };
        let loads = (0..).zip(&self.seats).filter_map(|(index, seat)| Some((load(seat)?, index)));
        loads.filter(|load| after.is_none_or(|after| *load > after)).min()
    }

    /// Delivers the oldest waiting call to a seat's worker; `false` if it has no room.
    pub(super) fn deliver_to(&mut self, index: usize) -> Result<bool, Broken> {
        let (Some(call), Some(seat)) = (self.waiting.front(), self.seats.get_mut(index)) else {
            return Ok(false);
        };
        let Some(serving) = &mut seat.serving else { return Ok(false) };
        seat.neglected = seat.neglected.filter(|(position, _)| !serving.line.has_passed(*position));
        if seat.neglected.is_some_and(|(_, since)| since.elapsed() >= GRACE) {
            return Err(Broken::Breach("it takes no calls".to_owned()));
        }
        let turn = seat.delivered.is_empty().then(Instant::now);
        if turn.is_some() {
            serving.line.attend()?;
        }
        let id = CallId(self.next_call);
        let Some(position) = serving.line.call(id, call)? else { return Ok(false) };
        self.next_call += 1;
        let Some(call) = self.waiting.pop_front() else { return Ok(false) };
        let deadline = call.deadline;
        seat.delivered.push_back(Delivered { id, call, position, deadline, turn, fate: Fate::Awaited });
        Ok(true)
    }

    pub(super) fn lead(&mut self, call: &Arc<Call>) -> Option<Lead> {
        let (seat, serving) = self.leaderless(call)?;
        serving.led = true;
        serving.line.listen(Wake::Second);
        Some(Lead { seat, bells: Arc::clone(&serving.bells), stirs: serving.line.wants_look() })
    }

    /// The healthy worker that has a call, if no blocking caller leads there and the actor does not wait for room.
    pub(super) fn leaderless(&mut self, call: &Arc<Call>) -> Option<(usize, &mut Serving)> {
        let has = |seat: &Seat| seat.delivered.iter().any(|delivered| Arc::ptr_eq(&delivered.call, call));
        let (index, seat) = (0..).zip(&mut self.seats).find(|(_, seat)| has(seat))?;
        let healthy = seat.trouble.is_none();
        let free = |serving: &&mut Serving| healthy && !serving.led && !serving.line.is_stalled();
        seat.serving.as_mut().filter(free).map(|serving| (index, serving))
    }

    pub(super) fn find(&self, call: &Arc<Call>) -> Option<(usize, usize)> {
        (0..).zip(&self.seats).find_map(|(index, seat)| {
            let is_it = |delivered: &Delivered| delivered.is_open() && Arc::ptr_eq(&delivered.call, call);
            Some((index, seat.delivered.iter().position(is_it)?))
        })
    }

    /// Takes a delivered call out of the game if its worker has not begun with it, or runs another one. Whoever asks for
    /// this delivers what waits for the place.
    pub(super) fn withdraw(&mut self, index: usize, place: usize) -> bool {
        let Some(seat) = self.seats.get_mut(index) else { return false };
        let (Some(delivered), Some(serving)) = (seat.delivered.get_mut(place), &mut seat.serving) else {
            return false;
        };
        if serving.line.cancel(delivered.position) {
            // No reply comes: its place is free.
            if place == 0 {
                let since = delivered.turn.unwrap_or_else(Instant::now);
                seat.neglected.get_or_insert((delivered.position, since));
            }
            seat.delivered.remove(place);
        } else if place > 0 {
            delivered.fate = Fate::Orphaned;
        } else {
            return false;
        }
        self.outstanding -= 1;
        true
    }

    pub(super) fn expire_waiting(&mut self, now: Instant, ended: &mut Vec<Ending>) {
        let before = self.waiting.len();
        self.waiting.retain(|call| {
            let due = call.deadline <= now;
            ended.extend(due.then(|| call.end(Err(CallError::Timeout))));
            !due
        });
        self.outstanding -= before - self.waiting.len();
    }

    /// Ends what is due in one seat; `true` if its actor must see to it.
    pub(super) fn expire_delivered(&mut self, index: usize, now: Instant, ended: &mut Vec<Ending>) -> bool {
        let Some(seat) = self.seats.get_mut(index) else { return false };
        if seat.trouble.is_some() {
            return false;
        }
        if seat.starting.as_ref().is_some_and(|call| call.deadline <= now) {
            seat.fail(Trouble::Deadline);
            return true;
        }
        seat.release_slow(now);
        let mut troubled = false;
        // From the last one on, since those that are taken back leave their places.
        for place in (0..seat.delivered.len()).rev() {
            let delivered = self.seats.get(index).and_then(|seat| seat.delivered.get(place));
            let counts = |d: &&Delivered| d.deadline <= now && (d.is_open() || place == 0);
            let Some(due) = delivered.filter(counts) else { continue };
            let (call, fate) = (Arc::clone(&due.call), due.fate);
            if fate != Fate::Orphaned && self.withdraw(index, place) {
                ended.push(call.end(Err(CallError::Timeout)));
                continue;
            }
            self.fail(index, if fate == Fate::Awaited { Trouble::Deadline } else { Trouble::Abandoned });
            troubled = true;
        }
        troubled
    }

    /// The next deadline, or the next time to see whether a call takes long.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|call| call.deadline);
        let healthy = self.seats.iter().filter(|seat| seat.trouble.is_none());
        let open = healthy.flat_map(|seat| {
            let starting = seat.starting.iter().map(|call| call.deadline);
            let slow = seat.looks_slow_at(now);
            let orphan = seat.orphan_ends_at();
            let open = seat.delivered.iter().filter(|d| d.is_open()).map(|d| d.deadline);
            open.chain(orphan).chain(starting).chain(slow)
        });
        waiting.chain(open).min()
    }
}
