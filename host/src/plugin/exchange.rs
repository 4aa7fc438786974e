//! Where callers meet workers: the calls of one plugin, from entry to their one end.
//!
//! A call waits in the queue, is delivered to the ring of a seat's worker, and ends. Callers deliver and take replies
//! themselves; the task of a seat (the actor) does what remains: it starts workers, buries them, and takes replies while
//! no blocking caller does. Everything is under one lock, which nobody holds while waiting or while a handler runs.
//!
//! Delivered calls that the worker has not begun with can be taken back exactly: when their deadline passes, when their
//! caller gives up, and when the worker ends, in which case they move to the next one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell_protocol::CallId;
use hotcell_protocol::ring::{Position, Wake, Waker, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Call, Ending, outcome};
use crate::broker::Answer;
use crate::error::CallError;
use crate::worker::{Bells, Broken, Incoming, Line, Office, Reply, StopTask};

/// Calls that a worker may have at once, where it is the plugin's only one: enough to keep it busy.
const WINDOW: usize = 256;

/// How long a call that nobody waits for any more may go on before its worker is killed.
const GRACE: Duration = Duration::from_secs(1);

/// A call that takes longer is not quick: its worker need not stay on its caller's processor.
const QUICK: Duration = Duration::from_micros(200);

/// How long a call may run before its worker is set free from its caller's processor.
const PATIENCE: Duration = Duration::from_millis(20);

/// The calls of one plugin and the seats of its workers.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    /// One for each seat: something happened that its actor must see to.
    told: Vec<Notify>,
    /// The clock has to be set anew.
    pub(super) clock: Notify,
    /// A command's worker serves one call, which its actor delivers.
    command: bool,
    pub(super) spin: Duration,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Arc<Call>>,
    seats: Vec<Seat>,
    next_call: u64,
    outstanding: usize,
    capacity: usize,
    closed: bool,
    /// When the clock looks next.
    armed: Option<Instant>,
}

/// A place for one worker.
#[derive(Debug, Default)]
struct Seat {
    serving: Option<Serving>,
    delivered: VecDeque<Delivered>,
    /// A command's call, while its worker starts.
    starting: Option<Arc<Call>>,
    /// Why the worker cannot go on, for the actor. The first reason stays.
    trouble: Option<Trouble>,
    /// A call that was taken back though it was the worker's turn, and when: a sound worker soon goes past it.
    neglected: Option<(Position, Instant)>,
}

/// A worker that serves calls.
#[derive(Debug)]
struct Serving {
    line: Line,
    bells: Arc<Bells>,
    office: Office,
    /// A blocking caller takes the replies.
    led: bool,
    /// The handler of a host call that did not answer at once.
    handler: Option<StopTask>,
}

#[derive(Debug)]
struct Delivered {
    id: CallId,
    call: Arc<Call>,
    position: Position,
    deadline: Instant,
    since: Instant,
    /// When it was delivered, if its worker had nothing else to do.
    first_since: Option<Instant>,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its caller waits.
    Awaited,
    /// It runs, and its caller has given up.
    Abandoned,
    /// It has ended, and its reply will be dropped.
    Orphaned,
}

/// Why a worker cannot go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Its channel or its process broke.
    Broken(Broken),
    /// The running call's deadline passed.
    Deadline,
    /// The running call's caller gave up a while ago.
    Abandoned,
    /// It replied for the last time: a trap, or a command's exit.
    Last(Reply),
}

/// What a look at a worker's ring came to.
pub(super) enum Look {
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
pub(super) struct Lead {
    pub(super) seat: usize,
    pub(super) bells: Arc<Bells>,
    /// Something came while somebody else was to be woken for it: to be looked at before the first sleep.
    pub(super) stirs: bool,
}

/// A host call to answer.
pub(super) struct HostCall {
    pub(super) id: CallId,
    pub(super) name: String,
    pub(super) input: Vec<u8>,
    pub(super) office: Office,
    pub(super) call: Arc<Call>,
}

/// A worker that left its seat, and the calls that end with it.
pub(super) struct Parting {
    pub(super) trouble: Option<Trouble>,
    /// The call that caused the trouble, or ran when it came.
    pub(super) culprit: Option<Arc<Call>>,
    /// Others that it had begun with.
    pub(super) others: Vec<Arc<Call>>,
    /// Its memory stays mapped until its process has ended.
    pub(super) _line: Option<Line>,
}

/// Frames that are taken from one worker before others get their turn.
const BURST: u32 = 64;

impl Exchange {
    pub(super) fn new(seats: usize, capacity: u32, command: bool, spin: Duration) -> Exchange {
        let state = State {
            waiting: VecDeque::new(),
            seats: (0..seats).map(|_| Seat::default()).collect(),
            next_call: 1,
            outstanding: 0,
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            closed: false,
            armed: None,
        };
        let told = (0..seats).map(|_| Notify::new()).collect();
        Exchange { state: Mutex::new(state), told, clock: Notify::new(), command, spin }
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
        let waker = self.deliver(&mut state);
        let look = state.seats.iter().filter_map(|seat| seat.looks_slow_at(call.entered)).min();
        self.arm(&mut state, look.map_or(call.deadline, |look| look.min(call.deadline)));
        // Before the worker is woken, so that it rings the right bell.
        let lead = if blocks { state.lead(call) } else { None };
        drop(state);
        waker.iter().for_each(Waker::wake);
        Ok(lead)
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
        while !self.command && !state.waiting.is_empty() {
            let Some(index) = state.roomiest() else { break };
            match state.deliver_to(index) {
                Ok(true) => {}
                Ok(false) => break,
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
        if !state.waiting.is_empty() {
            let idle = |seat: &Seat| seat.serving.is_none();
            (0..).zip(&state.seats).filter(|(_, seat)| idle(seat)).for_each(|(index, _)| self.tell(index));
        }
        waker
    }

    /// Takes what a worker has sent, for whoever is woken by its first bell.
    pub(super) fn look(&self, index: usize) -> Look {
        self.look_as(index, None)
    }

    /// The same for the blocking caller that leads. It leads no more when its call is over, or the actor must act.
    pub(super) fn look_for(&self, lead: &Lead, call: &Arc<Call>) -> Look {
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
        ended.into_iter().for_each(Ending::tell);
        look
    }

    fn look_locked(&self, state: &mut State, index: usize, wake: Wake, ended: &mut Vec<Ending>) -> Look {
        let State { seats, outstanding, .. } = state;
        let Some(seat) = seats.get_mut(index).filter(|seat| seat.trouble.is_none()) else {
            return Look::Gone;
        };
        for _ in 0..BURST {
            if seat.delivered.is_empty() {
                seat.serving.iter_mut().for_each(|serving| serving.line.rest());
                return Look::Empty;
            }
            let running = seat.running_call();
            let Some(serving) = &mut seat.serving else { return Look::Gone };
            if serving.led && wake == Wake::First {
                return Look::Empty;
            }
            match serving.step(running.as_ref(), wake) {
                Ok(None) => return Look::Empty,
                Ok(Some(Incoming::Reply(reply))) => match seat.replied(reply, self.command) {
                    Ok(ending) => {
                        let Some(ending) = ending else { continue };
                        *outstanding -= 1;
                        ended.push(ending);
                    }
                    Err(last) => {
                        seat.fail(Trouble::Last(last));
                        self.tell(index);
                        return Look::Gone;
                    }
                },
                Ok(Some(Incoming::HostCall { name, input })) => {
                    let office = serving.office.clone();
                    let Some((id, call)) = seat.running_call() else { return Look::Gone };
                    return Look::HostCall(HostCall { id, name, input, office, call });
                }
                Ok(Some(Incoming::Stalled(bytes))) => return Look::Stalled(bytes),
                Ok(Some(Incoming::Failed(_) | Incoming::Loaded | Incoming::Ready)) => {
                    let what = "a message of the start while it serves".to_owned();
                    seat.fail(Trouble::Broken(Broken::Breach(what)));
                    self.tell(index);
                    return Look::Gone;
                }
                Err(broken) => {
                    seat.fail(Trouble::Broken(broken));
                    self.tell(index);
                    return Look::Gone;
                }
            }
        }
        Look::More
    }

    /// Answers a host call, unless its worker or its call has ended meanwhile.
    pub(super) fn answer(&self, index: usize, generation: u32, id: CallId, answer: Answer) {
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
    pub(super) fn keep_handler(&self, index: usize, generation: u32, handler: StopTask) {
        let mut state = self.state();
        let serving = state.seats.get_mut(index).and_then(|seat| seat.serving.as_mut());
        if let Some(serving) = serving.filter(|serving| serving.office.generation == generation) {
            serving.handler = Some(handler);
        }
    }

    /// Room in the host's budget for a worker's stalled payload.
    pub(super) fn grant(&self, index: usize, bytes: u64, share: crate::budget::Share) {
        let mut state = self.state();
        if let Some(serving) = state.seats.get_mut(index).and_then(|seat| seat.serving.as_mut()) {
            serving.line.grant(bytes, share);
        }
    }

    /// Makes a blocking caller the one that takes the replies of the worker that has its call. `None` where another does,
    /// or no worker has the call.
    pub(super) fn lead(&self, call: &Arc<Call>) -> Option<Lead> {
        self.state().lead(call)
    }

    /// Looks for new replies of a seat's worker from outside of the lock.
    pub(super) fn watcher(&self, index: usize) -> Option<Watcher> {
        let state = self.state();
        let seat = state.seats.get(index).filter(|seat| seat.trouble.is_none())?;
        seat.serving.as_ref().map(|serving| serving.line.watcher())
    }

    /// The same for whichever worker has a call that nobody leads.
    pub(super) fn place_of(&self, call: &Arc<Call>) -> Option<(usize, Watcher)> {
        let mut state = self.state();
        state.leaderless(call).map(|(index, serving)| (index, serving.line.watcher()))
    }

    /// Gives the lead back without a last look.
    pub(super) fn give_lead_back(&self, index: usize) {
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
        if serving.line.stirs() || stuck {
            self.tell(index);
        }
        let next = seat.delivered.iter().find_map(|delivered| delivered.call.sleeper());
        next.iter().for_each(std::thread::Thread::unpark);
    }

    /// Puts a worker in its seat.
    pub(super) fn seat(&self, index: usize, mut line: Line, bells: Arc<Bells>, office: Office) {
        line.listen(Wake::First);
        let mut state = self.state();
        let Some(seat) = state.seats.get_mut(index) else { return };
        seat.serving = Some(Serving { line, bells, office, led: false, handler: None });
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
    pub(super) fn wants_worker(&self, index: usize) -> bool {
        let state = self.state();
        !state.waiting.is_empty() && state.seats.get(index).is_some_and(|seat| seat.serving.is_none())
    }

    /// Takes the oldest waiting call for a command's worker that is to be started in this seat.
    pub(super) fn begin_command(&self, index: usize) -> Option<Arc<Call>> {
        let mut state = self.state();
        let call = state.waiting.pop_front()?;
        state.seats.get_mut(index)?.starting = Some(Arc::clone(&call));
        Some(call)
    }

    /// Whether the actor must part with this seat's worker.
    pub(super) fn is_troubled(&self, index: usize) -> bool {
        self.state().seats.get(index).is_some_and(|seat| seat.trouble.is_some())
    }

    /// Says why a worker cannot go on; an earlier reason stays.
    pub(super) fn trouble(&self, index: usize, trouble: Trouble) {
        self.state().fail(index, trouble);
    }

    /// Takes a worker out of its seat. Calls that it has not begun with wait again.
    pub(super) fn part(&self, index: usize) -> Parting {
        let mut state = self.state();
        let State { seats, waiting, outstanding, .. } = &mut *state;
        let Some(seat) = seats.get_mut(index) else {
            return Parting { trouble: None, culprit: None, others: Vec::new(), _line: None };
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
        Parting { trouble, culprit, others, _line: line }
    }

    /// Ends the oldest waiting call with an error; used where no worker can be started.
    pub(super) fn fail_oldest(&self, error: CallError) {
        let mut state = self.state();
        let Some(call) = state.waiting.pop_front() else { return };
        state.outstanding -= 1;
        drop(state);
        call.end(Err(error)).tell();
    }

    /// Ends a call whose caller gave up, or lets it run on for a moment.
    pub(super) fn give_up(&self, call: &Arc<Call>) {
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
    pub(super) fn tick(&self, now: Instant) -> Option<Instant> {
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
    pub(super) fn armed(&self) -> Option<Instant> {
        self.state().armed
    }

    /// Takes no call any more, and ends those that wait.
    pub(super) fn close(&self) {
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

impl State {
    fn fail(&mut self, index: usize, trouble: Trouble) {
        if let Some(seat) = self.seats.get_mut(index) {
            seat.fail(trouble);
        }
    }

    /// The seat that has the fewest calls, among those whose worker may have one more.
    fn roomiest(&self) -> Option<usize> {
        // Behind several workers, one that is busy gets nothing: a call would wait although another may soon be idle.
        let window = if self.seats.len() == 1 { WINDOW } else { 1 };
        let load = |seat: &Seat| {
            let serves = seat.serving.is_some() && seat.trouble.is_none();
            Some(seat.delivered.len()).filter(|count| serves && *count < window)
        };
        let loads = (0..).zip(&self.seats).filter_map(|(index, seat)| Some((load(seat)?, index)));
        loads.min().map(|(_, index)| index)
    }

    /// Delivers the oldest waiting call to a seat's worker; `false` if it has no room.
    fn deliver_to(&mut self, index: usize) -> Result<bool, Broken> {
        let (Some(call), Some(seat)) = (self.waiting.front(), self.seats.get_mut(index)) else {
            return Ok(false);
        };
        let Some(serving) = &mut seat.serving else { return Ok(false) };
        seat.neglected = seat.neglected.filter(|(position, _)| !serving.line.has_passed(*position));
        if seat.neglected.is_some_and(|(_, since)| since.elapsed() >= GRACE) {
            return Err(Broken::Breach("it takes no calls".to_owned()));
        }
        let first_since = seat.delivered.is_empty().then(Instant::now);
        if first_since.is_some() {
            serving.line.attend()?;
        }
        let id = CallId(self.next_call);
        let Some(position) = serving.line.call(id, call)? else { return Ok(false) };
        self.next_call += 1;
        let Some(call) = self.waiting.pop_front() else { return Ok(false) };
        let (deadline, since) = (call.deadline, call.entered);
        seat.delivered.push_back(Delivered {
            id,
            call,
            position,
            deadline,
            since,
            first_since,
            fate: Fate::Awaited,
        });
        Ok(true)
    }

    fn lead(&mut self, call: &Arc<Call>) -> Option<Lead> {
        let (seat, serving) = self.leaderless(call)?;
        serving.led = true;
        serving.line.listen(Wake::Second);
        Some(Lead { seat, bells: Arc::clone(&serving.bells), stirs: serving.line.stirs() })
    }

    /// The healthy worker that has a call, if no blocking caller leads there and the actor does not wait for room.
    fn leaderless(&mut self, call: &Arc<Call>) -> Option<(usize, &mut Serving)> {
        let has = |seat: &Seat| seat.delivered.iter().any(|delivered| Arc::ptr_eq(&delivered.call, call));
        let (index, seat) = (0..).zip(&mut self.seats).find(|(_, seat)| has(seat))?;
        let healthy = seat.trouble.is_none();
        let free = |serving: &&mut Serving| healthy && !serving.led && !serving.line.is_stalled();
        seat.serving.as_mut().filter(free).map(|serving| (index, serving))
    }

    fn find(&self, call: &Arc<Call>) -> Option<(usize, usize)> {
        (0..).zip(&self.seats).find_map(|(index, seat)| {
            let is_it = |delivered: &Delivered| delivered.is_open() && Arc::ptr_eq(&delivered.call, call);
            Some((index, seat.delivered.iter().position(is_it)?))
        })
    }

    /// Takes a delivered call out of the game if its worker has not begun with it, or runs another one. Whoever asks for
    /// this delivers what waits for the place.
    fn withdraw(&mut self, index: usize, place: usize) -> bool {
        let Some(seat) = self.seats.get_mut(index) else { return false };
        let (Some(delivered), Some(serving)) = (seat.delivered.get_mut(place), &mut seat.serving) else {
            return false;
        };
        if serving.line.cancel(delivered.position) {
            // No reply comes: its place is free.
            if place == 0 {
                let since = delivered.first_since.unwrap_or_else(Instant::now);
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

    fn expire_waiting(&mut self, now: Instant, ended: &mut Vec<Ending>) {
        let before = self.waiting.len();
        self.waiting.retain(|call| {
            let due = call.deadline <= now;
            ended.extend(due.then(|| call.end(Err(CallError::Timeout))));
            !due
        });
        self.outstanding -= before - self.waiting.len();
    }

    /// Ends what is due in one seat; `true` if its actor must see to it.
    fn expire_delivered(&mut self, index: usize, now: Instant, ended: &mut Vec<Ending>) -> bool {
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
    fn next_look(&self, now: Instant) -> Option<Instant> {
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

impl Seat {
    fn fail(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }

    /// What wakes the worker, if something was sent to it and it sleeps.
    fn rouse(&mut self) -> Option<Waker> {
        let depth = self.delivered.len();
        self.serving.as_mut()?.line.rouse(depth)
    }

    fn starts(&self, call: &Arc<Call>) -> bool {
        self.starting.as_ref().is_some_and(|starting| Arc::ptr_eq(starting, call))
    }

    /// The call that may be replied to: the oldest.
    fn running(&self) -> Option<CallId> {
        self.delivered.front().map(|delivered| delivered.id)
    }

    fn running_call(&self) -> Option<(CallId, Arc<Call>)> {
        self.delivered.front().map(|running| (running.id, Arc::clone(&running.call)))
    }

    /// The running call was replied to. The reply comes back if it is the worker's last.
    fn replied(&mut self, reply: Reply, is_last: bool) -> Result<Option<Ending>, Reply> {
        if is_last || !super::call::serves_on(reply.status) {
            return Err(reply);
        }
        let Some(Delivered { call, since, fate, .. }) = self.delivered.pop_front() else { return Ok(None) };
        if let Some(serving) = &mut self.serving
            && self.delivered.is_empty()
        {
            let quick = since.elapsed() < QUICK;
            if quick { serving.line.placement().was_quick() } else { serving.line.placement().set_free() }
        }
        if let Some(next) = self.delivered.front_mut().filter(|next| next.fate == Fate::Orphaned) {
            next.deadline = Instant::now() + GRACE;
        }
        Ok(match fate {
            Fate::Awaited | Fate::Abandoned => Some(call.end(outcome(reply))),
            Fate::Orphaned => None,
        })
    }

    /// When the worker is ended if it still runs a call that nobody waits for.
    fn orphan_ends_at(&self) -> Option<Instant> {
        self.delivered
            .front()
            .filter(|running| running.fate == Fate::Orphaned)
            .map(|running| running.deadline)
    }

    /// Sets the worker free from its caller's processor if its call takes long.
    fn release_slow(&mut self, now: Instant) {
        let slow = self.delivered.front().is_some_and(|delivered| now >= delivered.since + PATIENCE);
        if let Some(serving) = self.serving.as_mut().filter(|_| slow) {
            serving.line.placement().set_free();
        }
    }

    fn looks_slow_at(&self, now: Instant) -> Option<Instant> {
        let held = self.serving.as_ref().is_some_and(|serving| serving.line.is_held());
        self.delivered.front().filter(|_| held).map(|front| (front.since + PATIENCE).max(now))
    }
}

impl Serving {
    /// The next thing that has arrived; if nothing has, the worker is told whom to wake.
    fn step(
        &mut self,
        running: Option<&(CallId, Arc<Call>)>,
        wake: Wake,
    ) -> Result<Option<Incoming>, Broken> {
        let id = running.map(|(id, _)| *id);
        let recycled = || running.map(|(_, call)| call.recycle()).unwrap_or_default();
        self.line.flush()?;
        if let Some(incoming) = self.line.next(id, recycled)? {
            return Ok(Some(incoming));
        }
        self.line.rouse(1).iter().for_each(Waker::wake);
        self.line.listen(wake);
        self.line.next(id, recycled)
    }
}

impl Delivered {
    /// Its caller, or nobody yet, knows an end.
    fn is_open(&self) -> bool {
        matches!(self.fate, Fate::Awaited | Fate::Abandoned)
    }
}
