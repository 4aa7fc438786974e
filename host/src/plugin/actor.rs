//! The task of one seat: starts its worker, takes replies that no blocking caller takes, and buries it.
//!
//! Nothing that happens here waits on another plugin, and nothing that the worker does can keep a call from ending at its
//! deadline: the plugin's clock ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hotcell_policy::RestartMode;
use hotcell_protocol::ring::Waker;
use hotcell_protocol::{CommandLine, Evidence, ReplyStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::call::{Answered, Call, Outcome, outcome};
use super::custody::{Custody, Probation};
use super::exchange::{Exchange, Look, Parting, Place, Swapped, Trouble};
use super::launch::{bring_up, newest, restore};
use super::memory::Memory;
use super::restarts::{Down, Restarts};
use super::steward::{Order, Succession};
use super::version::{Config, Current, Version};
use super::wait::answer;
use crate::checkpoint::Checkpoints;
use crate::error::{CallError, Error};
use crate::event::EventKind;
use crate::exit::{Exit, ExitCause, Limit};
use crate::host::{Alive, Shared};
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Blueprint, Broken, Reply, Worker};

/// How long a worker that is to be exchanged may take to be quiet, once it has ended its calls.
const QUIET_TIME: Duration = Duration::from_secs(1);

/// Between two looks for that.
const PAUSE: Duration = Duration::from_millis(1);

/// What the seats of one plugin share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) id: Arc<str>,
    pub(super) command: bool,
    pub(super) current: Arc<Current>,
    pub(super) custody: Arc<Custody>,
    pub(super) restarts: Arc<Restarts>,
    pub(super) config: Arc<Config>,
    pub(super) memory: Arc<Memory>,
    /// `None` for a plugin that keeps none.
    pub(super) checkpoints: Option<Arc<Checkpoints>>,
    pub(super) exchange: Arc<Exchange>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
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
    /// A worker crashed whose place is to be taken at once.
    eager: bool,
    /// A worker that is to take the seat.
    successor: Option<Box<Succession>>,
    successions: mpsc::UnboundedReceiver<Box<Succession>>,
    _alive: Alive,
}

/// The two reasons to end: this plugin's, and the host's.
#[derive(Clone, Debug)]
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
    pub(super) fn new(
        common: Common,
        seat: usize,
        successions: mpsc::UnboundedReceiver<Box<Succession>>,
    ) -> Result<Actor, Error> {
        let alive = common.shared.alive()?;
        Ok(Actor {
            common,
            seat,
            worker: None,
            generation: 0,
            eager: false,
            successor: None,
            successions,
            _alive: alive,
        })
    }

    /// Serves until the plugin is unloaded or the host shut down.
    pub(super) async fn run(&mut self) {
        let mut closing = self.common.closing.clone();
        let said = closing.said();
        tokio::pin!(said);
        loop {
            tokio::select! {
                biased;
                () = &mut said => break,
                succession = self.stirred() => self.successor = succession,
            }
            tokio::select! {
                biased;
                () = self.turn() => {}
                () = &mut said => break,
            }
        }
        Box::pin(self.end()).await;
    }

    /// Ends the worker, and every call with it.
    async fn end(&mut self) {
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

    /// Waits for something to see to, such as another worker for the seat. Safe to cancel.
    async fn stirred(&mut self) -> Option<Box<Succession>> {
        let (exchange, seat) = (&self.common.exchange, self.seat);
        if exchange.is_put_off(seat) {
            return None;
        }
        let worker_stirs = async {
            let Some(worker) = &self.worker else { return std::future::pending().await };
            tokio::select! {
                biased;
                () = worker.watched_bells().rung() => {}
                () = worker.ended() => exchange.worker_ended(seat),
            }
        };
        tokio::select! {
            biased;
            () = exchange.told(seat) => None,
            () = worker_stirs => None,
            // The steward keeps the other end for as long as this task lives.
            succession = self.successions.recv() => succession,
        }
    }

    /// Sees to everything that there is. What is rare is boxed, which keeps the task of a plugin small that nobody calls.
    async fn turn(&mut self) {
        self.take_replies().await;
        if self.common.exchange.is_troubled(self.seat) {
            Box::pin(self.part()).await;
        }
        if let Some(succession) = self.successor.take() {
            Box::pin(self.succeed(*succession)).await;
        }
        while self.common.exchange.wants_worker(self.seat) || self.is_eager() {
            match self.is_command() {
                true => Box::pin(self.begin_command()).await,
                false => Box::pin(self.begin_library()).await,
            }
            if self.common.exchange.is_troubled(self.seat) {
                Box::pin(self.part()).await;
            }
        }
    }

    /// Wakes the worker for all the calls that were entered since its wake-up was put off, by whoever was ready.
    async fn wake_for_many(&self) {
        if self.common.exchange.is_put_off(self.seat) {
            tokio::task::yield_now().await;
            self.common.exchange.take_put_off(self.seat).iter().for_each(Waker::wake);
        }
    }

    async fn take_replies(&mut self) {
        let Common { exchange, number, .. } = &self.common;
        self.wake_for_many().await;
        loop {
            match exchange.look(self.seat) {
                Look::Empty | Look::Gone | Look::Over => return,
                Look::More => tokio::task::yield_now().await,
                Look::HostCall(host_call) => answer(exchange, *number, self.seat, host_call),
                Look::Stalled(bytes) => {
                    let mut share = self.common.shared.surroundings.budget.share();
                    tokio::select! {
                        biased;
                        () = share.grow(bytes) => exchange.grant(self.seat, bytes, share),
                        () = exchange.told(self.seat) => self.wake_for_many().await,
                    }
                }
            }
        }
    }

    /// Starts a worker and seats it.
    pub(super) async fn ensure_worker(&mut self) -> Result<(), Error> {
        let version = self.common.current.get();
        let worker = self.start_with_state(&version).await?;
        self.take_seat(worker, &version);
        Ok(())
    }

    /// A worker with the newest state that was kept and that it takes, or without.
    async fn start_with_state(&mut self, version: &Version) -> Result<Worker, Error> {
        for _ in 0..Checkpoints::KEPT {
            // The state is read while the worker starts.
            let common = self.common.clone();
            let newest = newest(&common, self.seat);
            let (worker, kept) =
                tokio::join!(self.start(version, CommandLine::default(), CommandIo::default()), newest);
            let Some(kept) = kept? else { return worker };
            if let Some(restored) = restore(&self.common, worker?, version, kept).await {
                return Ok(restored);
            }
        }
        self.start(version, CommandLine::default(), CommandIo::default()).await
    }

    fn take_seat(&mut self, mut worker: Worker, version: &Version) {
        if let Some(place) = self.place(&mut worker, version) {
            self.common.exchange.seat(self.seat, place);
        }
        self.worker = Some(worker);
        self.seated();
    }

    /// Tells who has the seat now.
    fn seated(&mut self) {
        if let Some(worker) = &self.worker {
            self.generation = worker.generation();
            self.common.evidence.send_replace(worker.evidence().map(|evidence| evidence.as_ref().clone()));
        }
    }

    /// The host's ends of a worker that takes the seat.
    fn place(&self, worker: &mut Worker, version: &Version) -> Option<Place> {
        // The exchange holds what asks.
        let (exchange, seat, generation) =
            (Arc::downgrade(&self.common.exchange), self.seat, worker.generation());
        worker.ask_for_running(move || exchange.upgrade()?.running_export(seat, generation));
        let (bells, office) = (worker.bells(), worker.office());
        Some(Place { line: worker.take_line()?, bells, office, broker: Arc::clone(&version.broker) })
    }

    /// Exchanges the worker as soon as the one that is there is quiet.
    async fn succeed(&mut self, Succession { mut next, version, done }: Succession) {
        let deadline = Instant::now() + QUIET_TIME;
        let mut place = next.as_mut().and_then(|worker| self.place(worker, &version));
        loop {
            match self.common.exchange.swap(self.seat, place) {
                Swapped::Done(line) => {
                    let mut before = std::mem::replace(&mut self.worker, next);
                    before.iter_mut().zip(line).for_each(|(worker, line)| worker.return_line(line));
                    self.seated();
                    // The steward waits for it.
                    let _ = done.send(Ok(before));
                    return;
                }
                Swapped::NotYet(back) => place = back,
            }
            if Instant::now() >= deadline || self.common.exchange.is_troubled(self.seat) {
                next.iter_mut().zip(place).for_each(|(worker, place)| worker.return_line(place.line));
                let _ = done.send(Err(next));
                return;
            }
            self.take_replies().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A worker of a version on probation failed: the version before it comes back, here at once.
    fn fall_back(&mut self, trouble: Option<&Trouble>) -> bool {
        let reason = match trouble {
            Some(Trouble::Deadline) => "a worker of it was killed at a deadline",
            Some(trouble) if trouble.is_crash() => "a worker of it ended",
            _ => return false,
        };
        let Some(Probation { version, mut parked, .. }) = self.common.fail_probation() else { return false };
        self.common.current.set(Arc::clone(&version));
        if let Some(worker) = parked.get_mut(self.seat).and_then(Option::take) {
            self.take_seat(worker, &version);
        }
        // Other seats, and what bounds the queue, are the steward's, if it is still there: before anybody who is told of this
        // asks it for more.
        let _ = self.common.orders.send(Order::FallBack(Arc::clone(&version), parked, self.seat));
        self.common.tell_of_fall_back(&version, reason);
        true
    }

    /// Whether a worker is to be started though no call waits. Says so once.
    fn is_eager(&mut self) -> bool {
        std::mem::take(&mut self.eager) && self.worker.is_none() && !self.common.exchange.is_held()
    }

    async fn begin_library(&mut self) {
        let policy = self.common.current.get().prepared.manifest.restart().clone();
        if let Err(down) = self.common.restarts.permit(&policy, Instant::now()) {
            return self.common.exchange.fail_oldest(down.into());
        }
        match self.ensure_worker().await {
            Ok(()) => {
                self.common.restarts.started();
                self.common.memory.released();
            }
            Err(Error::Shutdown) => self.common.exchange.fail_oldest(CallError::HostShutdown),
            Err(error) => {
                let news = self.common.restarts.failed(&policy, Instant::now(), &error);
                news.into_iter().for_each(|down| self.common.quarantine(down));
                self.common.exchange.fail_oldest(CallError::Start(Box::new(error)));
            }
        }
    }

    /// Counts the end of a worker that was ready.
    fn count_crash(&mut self, exit: &Exit) {
        if !self.is_command() {
            self.eager = self.common.count_crash(exit);
        }
    }

    /// A command lives for one run.
    async fn begin_command(&mut self) {
        let Some(call) = self.common.exchange.begin_command(self.seat) else { return };
        let (command, io) = call.take_command();
        let (exchange, seat) = (Arc::clone(&self.common.exchange), self.seat);
        let version = self.common.current.get();
        let started = tokio::select! {
            biased;
            started = self.start(&version, command, io) => started,
            () = exchange.told_of_trouble(seat) => return,
        };
        match started {
            Ok(worker) => self.take_seat(worker, &version),
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

    async fn start(
        &mut self,
        version: &Version,
        command: CommandLine,
        io: CommandIo,
    ) -> Result<Worker, Error> {
        let restarts = self.generation > 0;
        let mut closing = self.common.closing.clone();
        let prepared = &version.prepared;
        let started = tokio::select! {
            biased;
            () = closing.said() => return Err(Error::Shutdown),
            started = bring_up(&self.common, version, command, io) => started,
        };
        prepared.spares.replenish();
        let Blueprint { plugin, subject, .. } = prepared.blueprint.as_ref();
        let (worker, _) = started.map_err(|failed| failed.into_error(plugin, subject))?;
        self.generation = worker.generation();
        self.tell(EventKind::Ready);
        if restarts && !self.is_command() {
            self.tell(EventKind::Restarted);
        }
        Ok(worker)
    }

    fn is_command(&self) -> bool {
        self.common.command
    }

    fn tell(&self, kind: EventKind) {
        self.common.shared.surroundings.events.send(&self.common.id, self.generation, kind);
    }

    /// Parts with a worker that cannot go on, and ends the calls that end with it.
    async fn part(&mut self) {
        let Parting { trouble, culprit, others, line } = self.common.exchange.part(self.seat);
        // An unload ends this function wherever it waits.
        let _unended = Unended(culprit.iter().chain(&others).map(Arc::clone).collect());
        let Some(mut worker) = self.worker.take() else {
            // A command's worker that was still starting.
            let error = match trouble {
                Some(Trouble::Deadline) => CallError::Timeout,
                _ => CallError::Cancelled,
            };
            culprit.into_iter().zip([error]).for_each(|(call, error)| call.end(Err(error)).tell());
            return;
        };
        line.into_iter().for_each(|line| worker.return_line(line));
        let fell_back = self.fall_back(trouble.as_ref());
        let cause = trouble.as_ref().map(Trouble::is_crash);
        let (answered, exit) = self.bury(worker, trouble, culprit.as_deref()).await;
        if !fell_back && cause == Some(true) {
            self.count_crash(&exit);
        }
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
                worker.kill_overdue().await;
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

impl From<Down> for CallError {
    fn from(Down { until, reason, class, .. }: Down) -> CallError {
        let retry_after = until.map(|until| until.saturating_duration_since(Instant::now()));
        CallError::Down { reason, retry_after, class }
    }
}

impl Common {
    /// Tells of something that concerns the plugin as a whole.
    pub(super) fn tell(&self, kind: EventKind) {
        let generation = self.generation.load(Ordering::Relaxed);
        self.shared.surroundings.events.send(&self.id, generation, kind);
    }

    /// Counts the end of a worker that was ready. Returns whether its place is to be taken at once.
    pub(super) fn count_crash(&self, exit: &Exit) -> bool {
        let policy = self.current.get().prepared.manifest.restart().clone();
        let news = self.restarts.crashed(&policy, Instant::now(), exit);
        let eager = policy.mode == RestartMode::OnCrash && news.is_none();
        news.into_iter().for_each(|down| self.quarantine(down));
        eager
    }

    fn quarantine(&self, down: Down) {
        let version = self.current.get();
        self.memory.quarantined(&version.prepared.fingerprint(), &down);
        self.tell(EventKind::Quarantined { reason: down.reason });
    }

    /// Ends the probation because the new version failed, which is remembered.
    pub(super) fn fail_probation(&self) -> Option<Probation> {
        let probation = self.custody.take()?;
        self.memory.failed(&probation.failing);
        Some(probation)
    }

    pub(super) fn tell_of_fall_back(&self, version: &Version, reason: &str) {
        let to = version.prepared.manifest.version().to_string();
        self.tell(EventKind::RolledBack { to, reason: reason.to_owned() });
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
