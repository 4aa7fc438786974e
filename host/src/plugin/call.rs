//! One call, from the handle to its one end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::Duration;

use hotcell_protocol::{CommandLine, ReplyStatus};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Plugin;
use crate::budget::Share;
use crate::error::CallError;
use crate::exit::Limit;
use crate::reentry::Chain;
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Errand, Reply};

/// The export under which a command runs.
const RUN: &str = "run";

/// A call on its way.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) export: String,
    input: Mutex<Vec<u8>>,
    pub(super) entered: Instant,
    pub(super) deadline: Instant,
    pub(super) chain: Chain,
    /// Arguments, environment and streams, where a command is run.
    pub(super) command: Mutex<Option<(CommandLine, CommandIo)>>,
    moves: AtomicU32,
    /// The host's own: a hook, and no call that anybody counts.
    pub(super) is_own: bool,
    slot: Mutex<Slot>,
}

/// Where the one end of a call is left for its caller.
#[derive(Debug, Default)]
struct Slot {
    outcome: Option<Answered>,
    ended: bool,
    waiter: Waiter,
}

#[derive(Debug, Default)]
enum Waiter {
    #[default]
    Nobody,
    Task(Waker),
    Thread(Thread),
}

/// How a call ended.
pub(super) type Answered = Result<Outcome, CallError>;

/// Whom to tell that a call has ended, once no lock is held.
#[derive(Debug)]
#[must_use = "the caller waits"]
pub(super) struct Ending {
    waiter: Waiter,
    /// It was a call of the host's own.
    pub(super) is_own: bool,
}

impl Ending {
    pub(super) fn tell(self) {
        match self.waiter {
            Waiter::Nobody => {}
            Waiter::Task(waker) => waker.wake(),
            Waiter::Thread(thread) => thread.unpark(),
        }
    }
}

impl Errand for Call {
    fn export(&self) -> &str {
        &self.export
    }

    fn input(&self) -> MutexGuard<'_, Vec<u8>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    fn new(
        export: String,
        input: Vec<u8>,
        entered: Instant,
        deadline: Instant,
        chain: Chain,
        command: Option<(CommandLine, CommandIo)>,
    ) -> Call {
        let (input, command) = (Mutex::new(input), Mutex::new(command));
        let (moves, slot) = (AtomicU32::new(0), Mutex::default());
        Call { export, input, entered, deadline, chain, command, moves, is_own: false, slot }
    }

    /// A call of the host's own, for one worker and no other.
    pub(super) fn pinned(export: &str, input: Vec<u8>, deadline: Instant, chain: Chain) -> Call {
        let mut call = Call::new(export.to_owned(), input, Instant::now(), deadline, chain, None);
        call.is_own = true;
        call.moves.store(MOVES, Ordering::Relaxed);
        call
    }

    /// Completes with the outcome. Dropping this does not give the call up.
    pub(super) async fn outcome(&self) -> Answered {
        std::future::poll_fn(|context| self.poll(context.waker())).await
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the call; a later end changes nothing.
    pub(super) fn end(&self, outcome: Answered) -> Ending {
        let mut slot = self.slot();
        if !slot.ended {
            slot.ended = true;
            slot.outcome = Some(outcome);
        }
        Ending { waiter: std::mem::take(&mut slot.waiter), is_own: self.is_own }
    }

    /// The outcome, once.
    pub(super) fn take(&self) -> Option<Answered> {
        self.slot().outcome.take()
    }

    /// Whether its outcome is known.
    pub(super) fn is_over(&self) -> bool {
        self.slot().ended
    }

    /// The outcome; else the task is woken when it is there.
    fn poll(&self, waker: &Waker) -> Poll<Answered> {
        let mut slot = self.slot();
        if let Some(outcome) = slot.outcome.take() {
            return Poll::Ready(outcome);
        }
        if !matches!(&slot.waiter, Waiter::Task(known) if known.will_wake(waker)) {
            slot.waiter = Waiter::Task(waker.clone());
        }
        Poll::Pending
    }

    /// Has the calling thread woken when the call has ended.
    pub(super) fn wake_this_thread(&self) {
        let mut slot = self.slot();
        if !slot.ended {
            slot.waiter = Waiter::Thread(std::thread::current());
        }
    }

    /// The thread that sleeps until the call has ended.
    pub(super) fn sleeper(&self) -> Option<Thread> {
        match &self.slot().waiter {
            Waiter::Thread(thread) => Some(thread.clone()),
            _ => None,
        }
    }

    /// Arguments, environment and streams of a command, once.
    pub(super) fn take_command(&self) -> (CommandLine, CommandIo) {
        self.command.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Whether the call may move to another worker, once more: a worker that lies about not having begun has no end.
    pub(super) fn may_move(&self) -> bool {
        self.moves.fetch_add(1, Ordering::Relaxed) < MOVES
    }

    /// The memory of the input, for the reply. The call moves no more.
    pub(super) fn recycle(&self) -> Vec<u8> {
        self.moves.store(MOVES, Ordering::Relaxed);
        std::mem::take(&mut *self.input())
    }
}

/// How often a call may move on because its worker ended before it began.
const MOVES: u32 = 3;

/// The longest deadline that a call may be given where a debugger may stop it.
const DEBUGGED: Duration = Duration::from_secs(24 * 3600);

/// A caller's wait. Dropping it gives the call up.
struct Wait<'p> {
    plugin: &'p Plugin,
    call: Arc<Call>,
    looked: bool,
}

impl Future for Wait<'_> {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        if let Poll::Ready(outcome) = self.call.poll(context.waker()) {
            return Poll::Ready(outcome);
        }
        let spin = self.plugin.inner.exchange.spin;
        if spin.is_zero() || std::mem::replace(&mut self.looked, true) {
            return Poll::Pending;
        }
        super::wait::look_for(self.plugin, &self.call, spin);
        self.call.poll(context.waker())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.call.is_over() {
            self.plugin.inner.exchange.give_up(&self.call);
            self.plugin.tell_of_failure(&self.call.export, &CallError::Cancelled);
        }
    }
}

/// How a call ended well.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A reply, with its part of the host's budget, held until the caller has it.
    Reply(Vec<u8>, #[allow(dead_code, reason = "held, never read")] Option<Share>),
    /// A command's exit code.
    Exited(i32),
}

/// A call that is being prepared.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'p> {
    plugin: &'p Plugin,
    export: String,
    deadline: Option<Duration>,
}

impl<'p> Request<'p> {
    pub(super) fn new(plugin: &'p Plugin, export: &str) -> Request<'p> {
        Request { plugin, export: export.to_owned(), deadline: None }
    }

    /// Ends the call after this time in queue and worker together. Can only shorten the plan's `call` limit.
    pub fn deadline(mut self, deadline: Duration) -> Request<'p> {
        self.deadline = Some(deadline);
        self
    }

    /// Sends bytes, gets bytes. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Every way in which a call can end without a reply.
    pub async fn raw(self, input: Vec<u8>) -> Result<Vec<u8>, CallError> {
        bytes_of(self.plugin.send(self.export, input, self.deadline, None).await?)
    }

    /// Sends a value as JSON, gets one back. Dropping the future cancels the call.
    ///
    /// # Errors
    /// As [`Request::raw`], and where the reply is not the JSON of a `T`.
    pub async fn json<I: Serialize + ?Sized, T: DeserializeOwned>(self, input: &I) -> Result<T, CallError> {
        let input = serde_json::to_vec(input).map_err(|error| CallError::BadInput(error.to_string()))?;
        let reply = self.raw(input).await?;
        serde_json::from_slice(&reply).map_err(CallError::Decode)
    }
}

/// A command that is being prepared.
#[derive(Debug)]
#[must_use = "a command does nothing until it is run"]
pub struct CommandRequest<'p> {
    plugin: &'p Plugin,
    line: CommandLine,
    io: CommandIo,
    deadline: Option<Duration>,
}

impl<'p> CommandRequest<'p> {
    pub(super) fn new(plugin: &'p Plugin) -> CommandRequest<'p> {
        let line = CommandLine { arguments: vec![plugin.name().to_owned()], environment: Vec::new() };
        CommandRequest { plugin, line, io: CommandIo::default(), deadline: None }
    }

    /// Adds arguments, after the plugin's name, which is always the first.
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<String>>) -> CommandRequest<'p> {
        self.line.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the command's environment, which is empty otherwise: nothing of this process's own is there.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> CommandRequest<'p> {
        self.line.environment.push((name.into(), value.into()));
        self
    }

    /// Connects the standard streams.
    pub fn io(mut self, io: CommandIo) -> CommandRequest<'p> {
        self.io = io;
        self
    }

    /// As [`Request::deadline`].
    pub fn deadline(mut self, deadline: Duration) -> CommandRequest<'p> {
        self.deadline = Some(deadline);
        self
    }

    /// Runs it in a fresh worker to its exit code. Dropping the future ends it.
    ///
    /// # Errors
    /// Every way in which it can end without an exit code of its own.
    pub async fn run(self) -> Result<i32, CallError> {
        let CommandRequest { plugin, line, io, deadline } = self;
        if let Some((name, _)) =
            line.environment.iter().find(|(name, _)| name.is_empty() || name.contains('='))
        {
            return Err(CallError::BadInput(format!("`{name}` cannot name a variable")));
        }
        match plugin.send(RUN.to_owned(), Vec::new(), deadline, Some((line, io))).await? {
            Outcome::Exited(code) => Ok(code),
            Outcome::Reply(..) => Ok(0),
        }
    }
}

impl Plugin {
    /// Enters a call and waits for its one end.
    async fn send(
        &self,
        export: String,
        input: Vec<u8>,
        deadline: Option<Duration>,
        command: Option<(CommandLine, CommandIo)>,
    ) -> Answered {
        let call = self.prepare(export, input, deadline, command)?;
        self.inner.exchange.enter(&call)?;
        let outcome = Wait { plugin: self, call: Arc::clone(&call), looked: false }.await;
        self.note(&call, &outcome);
        outcome
    }

    /// The same for a thread that blocks until then. `runtime` is the one that drives the host.
    pub(crate) fn send_blocking(
        &self,
        runtime: &Handle,
        export: &str,
        input: Vec<u8>,
        deadline: Option<Duration>,
    ) -> Result<Vec<u8>, CallError> {
        let call = self.prepare(export.to_owned(), input, deadline, None)?;
        let outcome = super::wait::run(self, &call, runtime);
        self.note(&call, &outcome);
        bytes_of(outcome?)
    }

    fn prepare(
        &self,
        export: String,
        input: Vec<u8>,
        deadline: Option<Duration>,
        command: Option<(CommandLine, CommandIo)>,
    ) -> Result<Arc<Call>, CallError> {
        let version = self.inner.current.get();
        let orders = &version.prepared.plan.orders;
        let limits = &orders.limits;
        let limit = Duration::from_millis(limits.call_ms);
        let longest = if orders.debuggable { limit.max(DEBUGGED) } else { limit };
        let entered = Instant::now();
        let deadline = entered + deadline.map_or(limit, |wanted| wanted.min(longest));
        let chain = Chain::current();
        self.check(&export, &input, limits.message, &chain, command.is_some())?;
        Ok(Arc::new(Call::new(export, input, entered, deadline, chain, command)))
    }

    /// Tells of a call that ended in another way than with a reply.
    fn note(&self, call: &Call, outcome: &Answered) {
        if let Err(error) = outcome {
            self.tell_of_failure(&call.export, error);
        }
    }

    fn check(
        &self,
        export: &str,
        input: &[u8],
        limit: u64,
        chain: &Chain,
        command: bool,
    ) -> Result<(), CallError> {
        let size = input.len() as u64;
        if size > limit {
            let detail = format!("the input has {size} bytes, the limit is {limit}");
            return Err(CallError::OverLimit { limit: Limit::Message, detail });
        }
        if export.len() > EXPORT_MAX {
            return Err(CallError::NoSuchExport(format!("a name of {} bytes", export.len())));
        }
        if self.is_command() != command {
            let what =
                if command { "it is called, not run" } else { "it is a command: it is run, not called" };
            return Err(CallError::NoSuchExport(format!("{export}: {what}")));
        }
        if chain.holds(self.inner.number) {
            return Err(CallError::Refused("the plugin waits for the host call that makes this call"));
        }
        Ok(())
    }
}

fn bytes_of(outcome: Outcome) -> Result<Vec<u8>, CallError> {
    match outcome {
        Outcome::Reply(bytes, _) => Ok(bytes),
        Outcome::Exited(code) => {
            Err(CallError::BadInput(format!("the plugin is a command; it exited with {code}")))
        }
    }
}

/// Whether a worker that replied so can serve the next call.
pub(super) fn serves_on(status: ReplyStatus) -> bool {
    !matches!(status, ReplyStatus::Trap(_) | ReplyStatus::Exited(_))
}

/// What a reply of a worker that lives on means.
pub(super) fn outcome(reply: Reply) -> Answered {
    let text = || crate::text::text(&reply.payload);
    match reply.status {
        ReplyStatus::Ok => Ok(Outcome::Reply(reply.payload, reply.share)),
        ReplyStatus::PluginError => Err(CallError::Plugin(text())),
        ReplyStatus::NoSuchExport => Err(CallError::NoSuchExport(text())),
        ReplyStatus::BadInput => Err(CallError::BadInput(text())),
        ReplyStatus::OverLimit => {
            Err(CallError::OverLimit { limit: Limit::Message, detail: escape(&reply.payload) })
        }
        ReplyStatus::Trap(_) | ReplyStatus::Exited(_) => Err(CallError::Cancelled),
    }
}

/// Longest export name, in bytes: fits one packet with room to spare.
const EXPORT_MAX: usize = 4096;
