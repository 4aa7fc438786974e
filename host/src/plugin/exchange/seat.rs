//! The place of one worker, and the calls that it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::ring::{Position, Wake, Waker};
use hotcell_protocol::{CallId, ReplyStatus};
use tokio::time::Instant;

use super::GRACE;
use super::replies::{HostCall, Look};
use crate::broker::Broker;
use crate::plugin::call::{Call, Ending, outcome, serves_on};
use crate::worker::{Bells, Broken, Incoming, Line, Office, Reply, StopTask};

/// A call that takes longer is not quick: its worker need not stay on its caller's processor.
const QUICK: Duration = Duration::from_micros(200);

/// How long a call may run before its worker is set free from its caller's processor, and weighs less than its host.
const PATIENCE: Duration = Duration::from_millis(20);

/// Calls for which a worker is woken once.
const BATCH: u32 = 64;

/// Frames that are taken from one worker before others get their turn.
const BURST: u32 = 64;

/// A place for one worker.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) serving: Option<Serving>,
    pub(super) delivered: VecDeque<Delivered>,
    /// A command's call, while its worker starts.
    pub(super) starting: Option<Arc<Call>>,
    /// Why the worker cannot go on, for the actor. The first reason stays.
    pub(super) trouble: Option<Trouble>,
    /// Replies that were the plugin's own errors.
    pub(super) errors: u64,
    /// A call that was taken back though it was the worker's turn, and when: a sound worker soon goes past it.
    pub(super) neglected: Option<(Position, Instant)>,
    /// What wakes the worker, left to the actor, and the calls that were entered since.
    pub(super) put_off: Option<(Waker, u32)>,
}

/// A worker that serves calls.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) line: Line,
    pub(super) bells: Arc<Bells>,
    pub(super) office: Office,
    pub(super) broker: Arc<Broker>,
    /// A blocking caller takes the replies.
    pub(super) led: bool,
    /// The handler of a host call that did not answer at once.
    pub(super) handler: Option<StopTask>,
}

#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) id: CallId,
    pub(super) call: Arc<Call>,
    pub(super) position: Position,
    pub(super) deadline: Instant,
    /// Since when it is its turn, as far as anybody has looked.
    pub(super) turn: Option<Instant>,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its caller waits.
    Awaited,
    /// It runs, and its caller has given up.
    Abandoned,
    /// It has ended, and its reply will be dropped.
    Orphaned,
}

/// Why a worker cannot go on.
#[derive(Debug)]
pub(in crate::plugin) enum Trouble {
    /// Its channel or its process broke.
    Broken(Broken),
    /// The running call's deadline passed.
    Deadline,
    /// The running call's caller gave up a while ago.
    Abandoned,
    /// It replied for the last time: a trap, or a command's exit.
    Last(Reply),
}

impl Trouble {
    /// Whether the worker is to blame, and not who called it.
    pub(in crate::plugin) fn is_crash(&self) -> bool {
        matches!(self, Trouble::Broken(_) | Trouble::Last(_) | Trouble::Deadline)
    }
}

impl Seat {
    pub(super) fn fail(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
    }

    /// What wakes the worker, if something was sent to it and it sleeps.
    pub(super) fn rouse(&mut self) -> Option<Waker> {
        let depth = self.delivered.len();
        self.serving.as_mut()?.line.rouse(depth)
    }

    /// Leaves it to the actor to wake the worker, until too many calls wait for that.
    pub(super) fn put_off_waking(&mut self, waker: Option<Waker>) -> Option<Waker> {
        let (waker, calls) = waker.map(|waker| (waker, 0)).or_else(|| self.put_off.take())?;
        if calls == BATCH {
            return Some(waker);
        }
        self.put_off = Some((waker, calls + 1));
        None
    }

    pub(super) fn starts(&self, call: &Arc<Call>) -> bool {
        self.starting.as_ref().is_some_and(|starting| Arc::ptr_eq(starting, call))
    }

    /// The call that may be replied to: the oldest.
    pub(super) fn running(&self) -> Option<CallId> {
        self.delivered.front().map(|delivered| delivered.id)
    }

    pub(super) fn running_call(&self) -> Option<(CallId, Arc<Call>)> {
        self.delivered.front().map(|running| (running.id, Arc::clone(&running.call)))
    }

    /// Takes what the worker has sent: calls that ended are added to `ended`.
    pub(super) fn take(
        &mut self,
        command: bool,
        wake: Wake,
        ended: &mut Vec<Ending>,
    ) -> Result<Look, Trouble> {
        for _ in 0..BURST {
            if self.delivered.is_empty() {
                self.serving.iter_mut().for_each(|serving| serving.line.rest());
                return Ok(Look::Empty);
            }
            let running = self.running_call();
            let Some(serving) = &mut self.serving else { return Ok(Look::Gone) };
            if serving.led && wake == Wake::First {
                return Ok(Look::Empty);
            }
            match serving.step(running.as_ref(), wake).map_err(Trouble::Broken)? {
                None => return Ok(Look::Empty),
                Some(Incoming::Reply(reply)) => {
                    ended.extend(self.replied(reply, command).map_err(Trouble::Last)?);
                }
                Some(Incoming::HostCall { name, input }) => {
                    let (office, broker) = (serving.office.clone(), Arc::clone(&serving.broker));
                    let Some((id, call)) = running else { return Ok(Look::Gone) };
                    return Ok(Look::HostCall(HostCall { id, name, input, office, broker, call }));
                }
                Some(Incoming::Stalled(bytes)) => return Ok(Look::Stalled(bytes)),
                Some(Incoming::Failed(_) | Incoming::Loaded | Incoming::Ready) => {
                    let what = "a message of the start while it serves".to_owned();
                    return Err(Trouble::Broken(Broken::Breach(what)));
                }
            }
        }
        Ok(Look::More)
    }

    /// The running call was replied to. The reply comes back if it is the worker's last.
    pub(super) fn replied(&mut self, reply: Reply, is_last: bool) -> Result<Option<Ending>, Reply> {
        if is_last || !serves_on(reply.status) {
            return Err(reply);
        }
        let Some(Delivered { call, turn, fate, .. }) = self.delivered.pop_front() else { return Ok(None) };
        self.errors += u64::from(reply.status == ReplyStatus::PluginError && !call.is_own);
        if let Some(serving) = &mut self.serving
            && self.delivered.is_empty()
        {
            let quick = turn.is_some_and(|turn| turn.elapsed() < QUICK);
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
    pub(super) fn orphan_ends_at(&self) -> Option<Instant> {
        self.delivered
            .front()
            .filter(|running| running.fate == Fate::Orphaned)
            .map(|running| running.deadline)
    }

    /// Sets the worker free from its caller's processor, and lowers its weight, if its call takes long.
    pub(super) fn release_slow(&mut self, now: Instant) {
        let runs = self.delivered.front_mut().map(|running| now - *running.turn.get_or_insert(now));
        let slow = runs.is_some_and(|runs| runs >= PATIENCE);
        if let Some(serving) = self.serving.as_mut().filter(|_| slow) {
            serving.line.placement().takes_long();
        }
    }

    pub(super) fn looks_slow_at(&self, now: Instant) -> Option<Instant> {
        let favoured = self.serving.as_ref().is_some_and(|serving| serving.line.is_favoured());
        self.delivered
            .front()
            .filter(|_| favoured)
            .map(|front| (front.turn.unwrap_or(now) + PATIENCE).max(now))
    }
}

impl Serving {
    /// The next thing that has arrived; if nothing has, the worker is told whom to wake.
    pub(super) fn step(
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
        self.line.listen(wake);
        // Room that was made before is told of to nobody any more.
        self.line.flush()?;
        self.line.rouse(1).iter().for_each(Waker::wake);
        self.line.next(id, recycled)
    }
}

impl Delivered {
    /// Its caller, or nobody yet, knows an end.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.fate, Fate::Awaited | Fate::Abandoned)
    }
}
