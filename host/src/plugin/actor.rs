//! The task of one plugin: takes its calls in turn, keeps its worker, and ends every call exactly once.
//!
//! Nothing that happens here waits on another plugin, and nothing that the worker does can keep a call from ending at
//! its deadline.

use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::{CallId, Evidence, ReplyStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use super::call::{Call, Outcome};
use crate::broker::Broker;
use crate::error::{CallError, Error};
use crate::event::EventKind;
use crate::exit::{ExitCause, Limit};
use crate::host::{Alive, Shared};
use crate::prepare::Prepared;
use crate::queue::Queue;
use crate::reentry::Chain;
use crate::start::start;
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Broken, Conversation, Particulars, Reply, Worker};

/// How long a call that nobody waits for any more may go on before its worker is killed.
const GRACE: Duration = Duration::from_secs(1);

/// The task's state.
pub(super) struct Actor {
    number: u64,
    shared: Arc<Shared>,
    prepared: Arc<Prepared>,
    queue: Arc<Queue<Call>>,
    closing: Closing,
    broker: Broker,
    worker: Option<Worker>,
    generation: u32,
    next_call: u64,
    evidence: watch::Sender<Option<Evidence>>,
    _alive: Alive,
}

/// The two reasons to end: this plugin's, and the host's.
#[derive(Clone)]
struct Closing {
    plugin: watch::Receiver<bool>,
    host: watch::Receiver<bool>,
}

impl Closing {
    /// Completes when either is said. Safe to cancel.
    async fn said(&mut self) {
        // A sender that is gone says nothing more, which for the plugin's own means that no handle is left.
        tokio::select! {
            _ = self.plugin.wait_for(|closing| *closing) => {}
            _ = self.host.wait_for(|closing| *closing) => {}
        }
    }
}

/// How a conversation ended, as the task saw it.
enum Ended {
    Replied(Reply),
    Broken(Broken),
    Deadline,
    Abandoned,
    Closing,
}

impl Actor {
    pub(super) fn new(
        number: u64,
        shared: Arc<Shared>,
        prepared: Arc<Prepared>,
        queue: Arc<Queue<Call>>,
        closed: watch::Receiver<bool>,
    ) -> Result<(Actor, watch::Receiver<Option<Evidence>>), Error> {
        let (evidence, seen) = watch::channel(None);
        let actor = Actor {
            number,
            broker: shared.handlers.broker(&prepared.plan.orders.host_calls),
            closing: Closing { plugin: closed, host: shared.closing() },
            _alive: shared.alive()?,
            shared,
            prepared,
            queue,
            worker: None,
            generation: 0,
            next_call: 1,
            evidence,
        };
        Ok((actor, seen))
    }

    /// Serves until the plugin is unloaded or the host shut down.
    pub(super) async fn run(mut self) {
        loop {
            let mut closing = self.closing.clone();
            tokio::select! {
                biased;
                () = closing.said() => break,
                broken = idle(&mut self.worker) => self.lose(broken).await,
                () = self.queue.filled() => self.serve().await,
            }
        }
        for call in self.queue.close() {
            let _ = call.answer.send(Err(CallError::HostShutdown));
        }
        if let Some(worker) = self.worker.take() {
            worker.kill(ExitCause::KilledByHost("unloaded".to_owned()));
            worker.finish().await;
        }
    }

    /// Starts a worker if there is none.
    pub(super) async fn ensure_worker(&mut self) -> Result<(), Error> {
        if self.worker.is_none() {
            self.worker = Some(self.start(Vec::new(), CommandIo::default()).await?);
        }
        Ok(())
    }

    async fn start(&mut self, arguments: Vec<String>, io: CommandIo) -> Result<Worker, Error> {
        self.generation += 1;
        let particulars = Particulars { generation: self.generation, arguments, output: None };
        let mut closing = self.closing.clone();
        let blueprint = &self.prepared.blueprint;
        let chain = Chain::default().with(self.number);
        let started = tokio::select! {
            biased;
            () = closing.said() => return Err(Error::Shutdown),
            started = start(&self.shared.surroundings, blueprint, particulars, io, &self.broker, &chain) => started,
        };
        let (worker, evidence) =
            started.map_err(|failed| failed.into_error(&blueprint.plugin, &blueprint.subject))?;
        self.evidence.send_replace(Some(evidence));
        self.tell(EventKind::Ready);
        if self.generation > 1 && !self.is_command() {
            self.tell(EventKind::Restarted);
        }
        Ok(worker)
    }

    fn is_command(&self) -> bool {
        self.prepared.plan.orders.runtime == hotcell_protocol::Runtime::Command
    }

    fn tell(&self, kind: EventKind) {
        self.shared.surroundings.events.send(&self.prepared.blueprint.plugin, self.generation, kind);
    }

    /// An idle worker ended, or did what it may not.
    async fn lose(&mut self, broken: Broken) {
        if let Some(worker) = self.worker.take() {
            worker.condemn(broken).await;
            worker.finish().await;
        }
    }

    /// Serves the oldest call. It stays in the queue while a worker starts, so that its deadline holds and its caller may
    /// withdraw it.
    async fn serve(&mut self) {
        let started = match self.is_command() {
            true => Ok(()),
            false => self.ensure_worker().await,
        };
        let Some(mut call) = self.queue.take() else { return };
        let export = call.export.clone();
        let outcome = match started {
            Err(Error::Shutdown) => Err(CallError::HostShutdown),
            Err(error) => Err(CallError::Start(Box::new(error))),
            Ok(()) if self.is_command() => self.run_command(&mut call).await,
            Ok(()) => self.converse(&mut call).await,
        };
        if let Err(error) = &outcome {
            self.tell(EventKind::CallFailed { export, outcome: error.to_string() });
        }
        self.queue.done();
        // A caller that gave up reads nothing.
        let _ = call.answer.send(outcome);
    }

    async fn converse(&mut self, call: &mut Call) -> Result<Outcome, CallError> {
        let Some(mut worker) = self.worker.take() else { return Err(CallError::HostShutdown) };
        match self.conduct(&mut worker, call).await {
            Ended::Replied(reply) if serves_on(&reply.status) => {
                self.worker = Some(worker);
                outcome(reply)
            }
            ended => Err(end(worker, ended).await),
        }
    }

    /// A command lives for one run.
    async fn run_command(&mut self, call: &mut Call) -> Result<Outcome, CallError> {
        let (arguments, io) = call.command.take().unwrap_or_default();
        let deadline = call.deadline;
        let started = tokio::select! {
            biased;
            started = self.start(arguments, io) => started,
            () = tokio::time::sleep_until(deadline) => return Err(CallError::Timeout),
            () = call.answer.closed() => return Err(CallError::Cancelled),
        };
        let mut worker = started.map_err(|error| match error {
            Error::Shutdown => CallError::HostShutdown,
            error => CallError::Start(Box::new(error)),
        })?;
        match self.conduct(&mut worker, call).await {
            Ended::Replied(Reply { status: ReplyStatus::Exited(code), .. }) => {
                worker.note(ExitCause::Code(code));
                worker.kill(ExitCause::Code(code));
                // What it wrote belongs to its result.
                let mut closing = self.closing.clone();
                tokio::select! {
                    biased;
                    () = closing.said() => {}
                    () = worker.drained() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                    () = call.answer.closed() => {}
                }
                worker.finish().await;
                Ok(Outcome::Exited(code))
            }
            Ended::Replied(reply) if serves_on(&reply.status) => {
                worker.kill(ExitCause::KilledByHost("its run is over".to_owned()));
                worker.finish().await;
                outcome(reply)
            }
            ended => Err(end(worker, ended).await),
        }
    }

    /// Talks to the worker until the call's end, its deadline, or the end of all interest in it.
    async fn conduct(&mut self, worker: &mut Worker, call: &mut Call) -> Ended {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let conversation = Conversation {
            id,
            export: std::mem::take(&mut call.export),
            input: std::mem::take(&mut call.input),
            broker: &self.broker,
            chain: call.chain.with(self.number),
        };
        let talk = worker.call(conversation);
        tokio::pin!(talk);
        let mut until = call.deadline;
        let mut abandoned = false;
        loop {
            tokio::select! {
                biased;
                () = self.closing.said() => return Ended::Closing,
                talked = &mut talk => return talked.map_or_else(Ended::Broken, Ended::Replied),
                () = tokio::time::sleep_until(until) => {
                    return if abandoned { Ended::Abandoned } else { Ended::Deadline };
                }
                () = call.answer.closed(), if !abandoned => {
                    abandoned = true;
                    until = until.min(Instant::now() + GRACE);
                }
            }
        }
    }
}

/// Watches a worker that nothing was asked of; for ever if there is none.
async fn idle(worker: &mut Option<Worker>) -> Broken {
    match worker {
        Some(worker) => worker.idle().await,
        None => std::future::pending().await,
    }
}

/// Whether a worker that replied so can serve the next call.
fn serves_on(status: &ReplyStatus) -> bool {
    !matches!(status, ReplyStatus::Trap(_) | ReplyStatus::Exited(_))
}

/// What a reply of a worker that lives on means.
fn outcome(reply: Reply) -> Result<Outcome, CallError> {
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

/// Ends a worker whose call did not leave it fit for another, and says what became of the call.
async fn end(worker: Worker, ended: Ended) -> CallError {
    match ended {
        Ended::Replied(Reply { status, payload, .. }) => {
            match status {
                ReplyStatus::Trap(kind) => worker.kill(ExitCause::Trap { kind, text: escape(&payload) }),
                ReplyStatus::Exited(code) => worker.kill(ExitCause::Code(code)),
                _ => {}
            }
            CallError::Crashed(Box::new(worker.finish().await))
        }
        Ended::Broken(Broken::OverBudget(len)) => {
            worker.condemn(Broken::OverBudget(len)).await;
            worker.finish().await;
            let detail = format!("a payload of {len} bytes is over the host's budget");
            CallError::OverLimit { limit: Limit::Message, detail }
        }
        Ended::Broken(broken) => {
            worker.condemn(broken).await;
            CallError::from_exit(worker.finish().await)
        }
        Ended::Deadline => {
            worker.kill(ExitCause::Deadline);
            worker.finish().await;
            CallError::Timeout
        }
        Ended::Abandoned => {
            worker.kill(ExitCause::KilledByHost("its caller gave up".to_owned()));
            worker.finish().await;
            CallError::Cancelled
        }
        Ended::Closing => {
            worker.kill(ExitCause::KilledByHost("unloaded".to_owned()));
            worker.finish().await;
            CallError::HostShutdown
        }
    }
}
