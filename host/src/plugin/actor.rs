//! The task of one seat: starts its worker, takes replies that no blocking caller takes, and buries it.
//!
//! Nothing that happens here waits on another plugin, and nothing that the worker does can keep a call from ending at its
//! deadline: the plugin's clock ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hotcell_protocol::ReplyStatus;
use hotcell_protocol::{Evidence, Runtime};
use tokio::sync::watch;

use super::call::{Answered, Call, Outcome, outcome};
use super::exchange::{Exchange, Look, Parting, Trouble};
use super::wait::answer;
use crate::broker::Broker;
use crate::error::{CallError, Error};
use crate::event::EventKind;
use crate::exit::{Exit, ExitCause, Limit};
use crate::host::{Alive, Shared};
use crate::prepare::Prepared;
use crate::reentry::Chain;
use crate::start::{Failed, load, start};
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Blueprint, Broken, Particulars, Reply, Worker};

/// What the seats of one plugin share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) prepared: Arc<Prepared>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) broker: Arc<Broker>,
    pub(super) closing: Closing,
    /// The latest incarnation, over all seats.
    pub(super) generation: Arc<AtomicU32>,
    pub(super) evidence: watch::Sender<Option<Evidence>>,
}

/// The task's state.
pub(super) struct Actor {
    common: Common,
    seat: usize,
    worker: Option<Worker>,
    generation: u32,
    _alive: Alive,
}

/// The two reasons to end: this plugin's, and the host's.
#[derive(Clone)]
pub(super) struct Closing {
    pub(super) plugin: watch::Receiver<bool>,
    pub(super) host: watch::Receiver<bool>,
}

impl Closing {
    /// Completes when either is said. Safe to cancel.
    pub(super) async fn said(&mut self) {
        // A sender that is gone says nothing more, which for the plugin's own means that no handle is left.
        tokio::select! {
            _ = self.plugin.wait_for(|closing| *closing) => {}
            _ = self.host.wait_for(|closing| *closing) => {}
        }
    }
}

impl Actor {
    pub(super) fn new(common: Common, seat: usize) -> Result<Actor, Error> {
        let alive = common.shared.alive()?;
        Ok(Actor { common, seat, worker: None, generation: 0, _alive: alive })
    }

    /// Serves until the plugin is unloaded or the host shut down.
    pub(super) async fn run(mut self) {
        let mut closing = self.common.closing.clone();
        let said = closing.said();
        tokio::pin!(said);
        loop {
            tokio::select! {
                biased;
                () = &mut said => break,
                () = self.stirred() => {}
            }
            tokio::select! {
                biased;
                () = self.turn() => {}
                () = &mut said => break,
            }
        }
        self.common.exchange.close();
        if let Some(worker) = self.worker.take() {
            worker.kill(ExitCause::KilledByHost("unloaded".to_owned()));
            self.common.exchange.trouble(self.seat, Trouble::Broken(Broken::Closed));
            let Parting { culprit, others, .. } = self.common.exchange.part(self.seat);
            worker.finish().await;
            for call in culprit.into_iter().chain(others) {
                call.end(Err(CallError::HostShutdown)).tell();
            }
            // What its worker had not begun with waits again.
            self.common.exchange.close();
        }
    }

    /// Waits for something to see to. Safe to cancel.
    async fn stirred(&self) {
        let Some(worker) = &self.worker else { return self.common.exchange.told(self.seat).await };
        tokio::select! {
            biased;
            () = worker.watched_bells().rung() => {}
            () = self.common.exchange.told(self.seat) => {}
            () = worker.ended() => self.common.exchange.worker_ended(self.seat),
        }
    }

    /// Sees to everything that there is.
    async fn turn(&mut self) {
        self.take_replies().await;
        if self.common.exchange.is_troubled(self.seat) {
            self.part().await;
        }
        while self.common.exchange.wants_worker(self.seat) {
            match self.is_command() {
                true => self.begin_command().await,
                false => self.begin_library().await,
            }
            if self.common.exchange.is_troubled(self.seat) {
                self.part().await;
            }
        }
    }

    async fn take_replies(&mut self) {
        let Common { exchange, broker, number, .. } = &self.common;
        loop {
            match exchange.look(self.seat) {
                Look::Empty | Look::Gone | Look::Over => return,
                Look::More => tokio::task::yield_now().await,
                Look::HostCall(host_call) => answer(exchange, broker, *number, self.seat, host_call),
                Look::Stalled(bytes) => {
                    let mut share = self.common.shared.surroundings.budget.share();
                    tokio::select! {
                        biased;
                        () = share.grow(bytes) => exchange.grant(self.seat, bytes, share),
                        () = exchange.told(self.seat) => {}
                    }
                }
            }
        }
    }

    /// Starts a worker and seats it.
    pub(super) async fn ensure_worker(&mut self) -> Result<(), Error> {
        let worker = self.start(Vec::new(), CommandIo::default()).await?;
        self.take_seat(worker);
        Ok(())
    }

    fn take_seat(&mut self, mut worker: Worker) {
        // The exchange holds what asks.
        let (exchange, seat, generation) =
            (Arc::downgrade(&self.common.exchange), self.seat, self.generation);
        worker.ask_for_running(move || exchange.upgrade()?.running_export(seat, generation));
        if let Some(line) = worker.take_line() {
            self.common.exchange.seat(self.seat, line, worker.bells(), worker.office());
        }
        self.worker = Some(worker);
    }

    async fn begin_library(&mut self) {
        if let Err(error) = self.ensure_worker().await {
            let error = match error {
                Error::Shutdown => CallError::HostShutdown,
                error => CallError::Start(Box::new(error)),
            };
            self.common.exchange.fail_oldest(error);
        }
    }

    /// A command lives for one run.
    async fn begin_command(&mut self) {
        let Some(call) = self.common.exchange.begin_command(self.seat) else { return };
        let (arguments, io) = call.take_command();
        let (exchange, seat) = (Arc::clone(&self.common.exchange), self.seat);
        let started = tokio::select! {
            biased;
            started = self.start(arguments, io) => started,
            () = exchange.told_of_trouble(seat) => return,
        };
        match started {
            Ok(worker) => self.take_seat(worker),
            Err(error) => {
                let error = match error {
                    Error::Shutdown => CallError::HostShutdown,
                    error => CallError::Start(Box::new(error)),
                };
                exchange.part(seat);
                call.end(Err(error)).tell();
            }
        }
    }

    async fn start(&mut self, arguments: Vec<String>, io: CommandIo) -> Result<Worker, Error> {
        let restarts = self.generation > 0;
        let mut closing = self.common.closing.clone();
        let prepared = Arc::clone(&self.common.prepared);
        let started = tokio::select! {
            biased;
            () = closing.said() => return Err(Error::Shutdown),
            started = self.bring_up(arguments, io) => started,
        };
        prepared.spares.replenish();
        let Blueprint { plugin, subject, .. } = prepared.blueprint.as_ref();
        let (worker, evidence) = started.map_err(|failed| failed.into_error(plugin, subject))?;
        self.common.evidence.send_replace(Some(evidence));
        self.tell(EventKind::Ready);
        if restarts && !self.is_command() {
            self.tell(EventKind::Restarted);
        }
        Ok(worker)
    }

    /// A worker from the spares, or a new one.
    async fn bring_up(
        &mut self,
        arguments: Vec<String>,
        io: CommandIo,
    ) -> Result<(Worker, Evidence), Failed> {
        let Common { prepared, shared, broker, number, .. } = self.common.clone();
        let chain = Chain::default().with(number);
        if let Some(spare) = prepared.spares.take().await {
            self.incarnate(spare.worker.generation());
            return load(spare, &broker, &chain).await;
        }
        let generation = prepared.spares.next_generation();
        self.incarnate(generation);
        let particulars = Particulars { generation, arguments, output: None };
        start(&shared.surroundings, &prepared.blueprint, particulars, io, &broker, &chain).await
    }

    fn incarnate(&mut self, generation: u32) {
        self.generation = generation;
        self.common.generation.fetch_max(generation, Ordering::Relaxed);
    }

    fn is_command(&self) -> bool {
        self.common.prepared.plan.orders.runtime == Runtime::Command
    }

    fn tell(&self, kind: EventKind) {
        let blueprint = &self.common.prepared.blueprint;
        self.common.shared.surroundings.events.send(&blueprint.plugin, self.generation, kind);
    }

    /// Parts with a worker that cannot go on, and ends the calls that end with it.
    async fn part(&mut self) {
        let Parting { trouble, culprit, others, _line } = self.common.exchange.part(self.seat);
        // An unload ends this function wherever it waits.
        let _unended = Unended(culprit.iter().chain(&others).map(Arc::clone).collect());
        let Some(worker) = self.worker.take() else {
            // A command's worker that was still starting.
            let error = match trouble {
                Some(Trouble::Deadline) => CallError::Timeout,
                _ => CallError::Cancelled,
            };
            culprit.into_iter().zip([error]).for_each(|(call, error)| call.end(Err(error)).tell());
            return;
        };
        let (answered, exit) = self.bury(worker, trouble, culprit.as_deref()).await;
        culprit.into_iter().zip([answered]).for_each(|(call, answered)| call.end(answered).tell());
        for call in others {
            call.end(Err(CallError::Crashed(Box::new(exit.clone())))).tell();
        }
    }

    /// Ends a worker. Returns what became of the call that caused it, and the worker's end.
    async fn bury(&self, worker: Worker, trouble: Option<Trouble>, call: Option<&Call>) -> (Answered, Exit) {
        match trouble {
            Some(Trouble::Last(reply)) => self.bury_replied(worker, reply, call).await,
            Some(Trouble::Broken(Broken::OverBudget(len))) => {
                worker.condemn(Broken::OverBudget(len)).await;
                let detail = format!("a payload of {len} bytes is over the host's budget");
                (Err(CallError::OverLimit { limit: Limit::Message, detail }), worker.finish().await)
            }
            Some(Trouble::Deadline) => {
                worker.kill(ExitCause::Deadline);
                (Err(CallError::Timeout), worker.finish().await)
            }
            Some(Trouble::Abandoned) => {
                worker.kill(ExitCause::KilledByHost("its caller gave up".to_owned()));
                (Err(CallError::Cancelled), worker.finish().await)
            }
            Some(Trouble::Broken(broken)) => {
                worker.condemn(broken).await;
                let exit = worker.finish().await;
                (Err(CallError::from_exit(exit.clone())), exit)
            }
            None => {
                worker.kill(ExitCause::KilledByHost("unloaded".to_owned()));
                (Err(CallError::HostShutdown), worker.finish().await)
            }
        }
    }

    /// Ends a worker that has replied for the last time.
    async fn bury_replied(&self, mut worker: Worker, reply: Reply, call: Option<&Call>) -> (Answered, Exit) {
        match reply.status {
            ReplyStatus::Exited(code) => {
                worker.kill(ExitCause::Code(code));
                if self.is_command() {
                    // What it wrote belongs to its result.
                    let mut closing = self.common.closing.clone();
                    tokio::select! {
                        biased;
                        () = closing.said() => {}
                        () = worker.drained() => {}
                        () = over(call) => {}
                    }
                    return (Ok(Outcome::Exited(code)), worker.finish().await);
                }
            }
            ReplyStatus::Trap(kind) => worker.kill(ExitCause::Trap { kind, text: escape(&reply.payload) }),
            _ => {
                worker.kill(ExitCause::KilledByHost("its run is over".to_owned()));
                return (outcome(reply), worker.finish().await);
            }
        }
        let exit = worker.finish().await;
        (Err(CallError::Crashed(Box::new(exit.clone()))), exit)
    }
}

/// Calls that are in no queue any more. What has not ended when this is dropped ends then.
struct Unended(Vec<Arc<Call>>);

impl Drop for Unended {
    fn drop(&mut self) {
        for call in &self.0 {
            call.end(Err(CallError::HostShutdown)).tell();
        }
    }
}

/// Completes at a call's deadline.
async fn over(call: Option<&Call>) {
    match call {
        Some(call) => tokio::time::sleep_until(call.deadline).await,
        None => std::future::pending().await,
    }
}
