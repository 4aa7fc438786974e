//! The task that replaces one version of a plugin by another, and puts the old one back if the new one fails.
//!
//! Nothing that a plugin does here keeps a call from its one end: calls that wait keep their deadlines, and every step is
//! bounded in time by the plan or by the reload's options.

use std::sync::Arc;
use std::time::Duration;

use hotcell_policy::{Manifest, PluginId};
use hotcell_protocol::{CommandLine, Runtime, hook};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::actor::Common;
use super::call::{Call, Outcome};
use super::clock::due;
use super::custody::{ErrorBound, Probation};
use super::errand::{ask, bury, chain, state_input, too_large};
use super::exchange::Pinned;
use super::launch::{bring_up, newest, restore};
use super::peers::PLUGIN_CALL;
use super::reload::{
    CheckpointError, ConfigureError, IncompatibleState, ReloadError, ReloadOptions, Reloaded, StateMove,
};
use super::room::{Room, Size};
use super::version::Version;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::compile::blocking;
use crate::contract::check_config;
use crate::error::{CallError, Error};
use crate::event::EventKind;
use crate::host::Alive;
use crate::prepare::{LoadOptions, Prepared, prepare};
use crate::stdio::CommandIo;
use crate::worker::Worker;

/// Between two tries to find a worker's quiet moment.
const PAUSE: Duration = Duration::from_millis(1);

/// What a steward is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Another version.
    Reload(Box<ReloadOptions>, oneshot::Sender<Result<Reloaded, ReloadError>>),
    /// Another configuration.
    Configure(String, oneshot::Sender<Result<(), ConfigureError>>),
    /// Keep the state of every worker.
    Checkpoint(oneshot::Sender<Result<usize, CheckpointError>>),
    /// The version that was parked, in every seat where a worker of the one that failed may still be.
    FallBack(Arc<Version>, Vec<Option<Worker>>, usize),
}

/// A worker that an actor is to put in its seat, or none, once the one that is there is quiet.
#[derive(Debug)]
pub(super) struct Succession {
    pub(super) next: Option<Worker>,
    pub(super) version: Arc<Version>,
    /// Takes the worker that was there; or, if it had no quiet moment, the one that should have come.
    pub(super) done: oneshot::Sender<Result<Option<Worker>, Option<Worker>>>,
}

/// A moment, and how many calls had ended by then.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) calls: u64,
}

impl Moment {
    pub(super) fn now(common: &Common) -> Moment {
        Moment { at: Instant::now(), calls: common.exchange.ended() }
    }
}

/// One plugin's steward.
pub(super) struct Steward {
    pub(super) common: Common,
    pub(super) seats: Vec<mpsc::UnboundedSender<Box<Succession>>>,
    state_size: Size,
    _alive: Alive,
}

impl Steward {
    pub(super) fn new(
        common: Common,
        seats: Vec<mpsc::UnboundedSender<Box<Succession>>>,
    ) -> Result<Steward, Error> {
        let alive = common.shared.alive()?;
        Ok(Steward { common, seats, state_size: Size::default(), _alive: alive })
    }

    /// Serves until the plugin is unloaded or the host shut down. Whatever there is to do is boxed, which keeps the task small while
    /// there is nothing.
    pub(super) async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut closing = self.common.closing.clone();
        let said = closing.said();
        tokio::pin!(said);
        // What is due is not put off by what comes between.
        let begun = Moment::now(&self.common);
        let (mut kept, mut called, mut asked) = (begun, begun, begun.at);
        loop {
            let turn = async {
                tokio::select! {
                    biased;
                    order = orders.recv() => Box::pin(self.serve(order?)).await,
                    () = due(self.common.custody.until()) => Box::pin(self.end_probation()).await,
                    () = self.errs_too_often() => Box::pin(self.end_for_errors()).await,
                    () = self.checkpoint_is_due(kept) => {
                        if let Err(error) = Box::pin(self.checkpoint()).await {
                            self.common.tell(EventKind::CheckpointFailed { reason: error.to_string() });
                        }
                        kept = Moment::now(&self.common);
                    }
                    () = self.idleness(&mut called) => Box::pin(self.rest()).await,
                    () = self.health_is_due(asked) => {
                        Box::pin(self.check_health()).await;
                        asked = Instant::now();
                    }
                }
                Some(())
            };
            tokio::select! {
                biased;
                () = &mut said => break,
                turned = turn => if turned.is_none() { break },
            }
        }
        if let Some(Probation { parked, .. }) = self.common.custody.take() {
            Box::pin(bury(parked, "unloaded")).await;
        }
    }

    async fn serve(&self, order: Order) {
        match order {
            Order::Reload(options, done) => {
                let result = self.reload(*options).await;
                if let Err(error) = &result {
                    self.common.tell(EventKind::ReloadFailed { reason: error.to_string() });
                }
                // Whoever asked may have left.
                let _ = done.send(result);
            }
            Order::Configure(config, done) => {
                // Whoever asked may have left.
                let _ = done.send(self.configure(config).await);
            }
            Order::Checkpoint(done) => {
                // Whoever asked may have left.
                let _ = done.send(self.checkpoint().await);
            }
            Order::FallBack(version, parked, settled) => self.fall_back(version, parked, Some(settled)).await,
        }
    }

    async fn configure(&self, config: String) -> Result<(), ConfigureError> {
        if self.common.command {
            return Err(ConfigureError::Unfit(
                "a command gets its configuration when it is loaded".to_owned(),
            ));
        }
        let size = config.len();
        if size > Manifest::CONFIG_MAX {
            let most = Manifest::CONFIG_MAX;
            return Err(ConfigureError::Unfit(format!(
                "the configuration has {size} bytes, the limit is {most}"
            )));
        }
        let manifest = &self.common.current.get().prepared.manifest;
        if let Err(error) = check_config(&self.common.shared, manifest, &config).await {
            return Err(ConfigureError::Unfit(error.to_string()));
        }
        let before = self.common.config.replace(Some(config.clone()));
        let given = before.clone().or_else(|| self.common.current.get().prepared.blueprint.config.clone());
        for seat in 0..self.seats.len() {
            if let Err(error) = self.give(seat, &config).await {
                self.common.config.replace(before);
                for earlier in 0..seat {
                    let Some(given) = &given else { break };
                    if let Err(error) = self.give(earlier, given).await {
                        self.common.tell(EventKind::ConfigureFailed { reason: error.to_string() });
                    }
                }
                return Err(ConfigureError::NotTaken(error));
            }
        }
        self.common.tell(EventKind::Configured);
        Ok(())
    }

    /// Gives the worker in a seat a configuration, if one is there.
    pub(super) async fn give(&self, seat: usize, config: &str) -> Result<(), CallError> {
        if !self.common.exchange.is_served(seat) {
            return Ok(());
        }
        let deadline = Instant::now() + self.call_time();
        self.run_pinned(seat, hook::CONFIGURE, config.into(), deadline).await.map(drop)
    }

    /// Completes when the state is to be kept again. Safe to cancel.
    async fn checkpoint_is_due(&self, last: Moment) {
        let exchange = &self.common.exchange;
        match self.common.current.get().prepared.options.checkpoint {
            Checkpoint::Never | Checkpoint::OnRequest => std::future::pending().await,
            Checkpoint::Calls(calls) => exchange.until_ended(last.calls + u64::from(calls.max(1))).await,
            Checkpoint::Every(time) => {
                sleep_until(last.at + time).await;
                exchange.until_ended(last.calls + 1).await;
            }
        }
    }

    /// Keeps the state of every worker. Returns its bytes, of all together.
    pub(super) async fn checkpoint(&self) -> Result<usize, CheckpointError> {
        let Some(checkpoints) = &self.common.checkpoints else { return Err(CheckpointError::Off) };
        let mut bytes = 0;
        for seat in 0..self.seats.len() {
            let version = self.common.current.get();
            let saved = self.save(seat, &version, Instant::now() + self.call_time(), Vec::new()).await;
            let state = match saved {
                Ok(Some(state)) => state,
                Ok(None) => continue,
                Err(ReloadError::NotSaved(error)) => return Err(CheckpointError::NotSaved(error)),
                Err(_) => return Err(CheckpointError::Shutdown),
            };
            if !Arc::ptr_eq(&version, &self.common.current.get()) {
                // Rolled back meanwhile: nobody can tell whose state it is.
                continue;
            }
            bytes += state.len();
            let (checkpoints, number) = (Arc::clone(checkpoints), version.prepared.manifest.state_version());
            let kept = blocking(move || {
                let kept = checkpoints.save(seat, number, &state);
                kept.map_err(|source| Error::io("keep a plugin's state", source))
            });
            kept.await.map_err(CheckpointError::Disk)?;
        }
        Ok(bytes)
    }

    async fn reload(&self, options: ReloadOptions) -> Result<Reloaded, ReloadError> {
        let Common { shared, current, command, .. } = &self.common;
        let before = current.get();
        let Prepared { path, options: load, spares, .. } = before.prepared.as_ref();
        let path = options.path.as_ref().unwrap_or(path).clone();
        let load = LoadOptions { may_go_back: options.may_go_back, ..load.clone() };
        let prepared = prepare(shared, path, load, spares.coming_generation()).await?;
        let after = Arc::new(Version::new(shared, Arc::new(prepared), before.open_listeners()));
        self.check(&before.prepared, &after.prepared, &options)?;
        let states = if !command {
            self.replace(&before, &after, &options).await?
        } else {
            if !options.check_only {
                current.set(Arc::clone(&after));
            }
            Vec::new()
        };
        let version = |version: &Version| version.prepared.manifest.version().to_string();
        let (from, to) = (version(&before), version(&after));
        if !options.check_only {
            let state: Vec<_> = states.iter().map(ToString::to_string).collect();
            let (from, to, state) = (from.clone(), to.clone(), state.join("; "));
            self.common.tell(EventKind::Reloaded { from, to, state });
        }
        Ok(Reloaded { from, to, states })
    }

    /// Has workers of the new version take the places of the old ones, or only tries whether they would.
    async fn replace(
        &self,
        before: &Arc<Version>,
        after: &Arc<Version>,
        options: &ReloadOptions,
    ) -> Result<Vec<StateMove>, ReloadError> {
        let Common { exchange, current, custody, .. } = &self.common;
        let mut next = Vec::new();
        for _ in &self.seats {
            next.push(Some(self.start_healthy(after).await?));
        }
        if !options.check_only
            && let Some(Probation { parked, .. }) = custody.take()
        {
            self.bury_later(parked, "another version ends its wait");
        }
        if !Arc::ptr_eq(before, &current.get()) {
            // Rolled back meanwhile. From now on that cannot happen.
            self.bury_later(next, "its reload failed");
            return Err(ReloadError::Busy);
        }
        let served = (0..self.seats.len()).filter_map(|seat| exchange.ahead(seat));
        let rings = served.chain(next.iter().flatten().filter_map(Worker::ahead)).collect();
        let room = self.state_size.make_room(rings).await;
        exchange.hold();
        let states = self.replace_held(before, after, next, room, options).await;
        exchange.release(current.get().prepared.plan.orders.limits.outstanding);
        states
    }

    /// The same, while calls wait.
    async fn replace_held(
        &self,
        before: &Arc<Version>,
        after: &Arc<Version>,
        mut next: Vec<Option<Worker>>,
        room: Room,
        options: &ReloadOptions,
    ) -> Result<Vec<StateMove>, ReloadError> {
        let states = match self.move_states(before, after, &mut next, room, options).await {
            Ok(states) if !options.check_only => states,
            ended => {
                self.bury_later(next, "it does not take the place");
                return ended;
            }
        };
        let parked = self.switch(before, after, next).await?;
        if options.probation.is_zero() {
            self.bury_later(parked, "a new version has its place");
        } else {
            // Before the first call, which may be the one that fails.
            let (failing, until) = (after.prepared.fingerprint(), Instant::now() + options.probation);
            let version = Arc::clone(before);
            let errors = ErrorBound::new(&self.common, options.max_error_rate);
            self.common.custody.put(Probation { version, parked, failing, until, errors });
        }
        self.common.restarts.forget();
        self.common.memory.released();
        Ok(states)
    }

    /// Ends workers that have no calls, beside everything else. The host's end waits for it.
    pub(super) fn bury_later(&self, workers: Vec<Option<Worker>>, why: &'static str) {
        let alive = self.common.shared.alive();
        tokio::spawn(async move {
            bury(workers, why).await;
            drop(alive);
        });
    }

    /// Whether one version may take the place of the other.
    fn check(&self, before: &Prepared, after: &Prepared, options: &ReloadOptions) -> Result<(), ReloadError> {
        let (old, new) = (&before.plan.orders, &after.plan.orders);
        if before.manifest.id() != after.manifest.id() {
            return Err(ReloadError::Differs("id"));
        }
        if (old.runtime == Runtime::Command) != (new.runtime == Runtime::Command) {
            return Err(ReloadError::Differs("runtime"));
        }
        if old.limits.instances != new.limits.instances {
            return Err(ReloadError::Differs("instances"));
        }
        if !options.retry && self.common.memory.has_failed(&after.fingerprint()) {
            return Err(ReloadError::FailedBefore);
        }
        let broken = self.common.shared.loaded.broken_by(&after.manifest, &before.manifest);
        if !broken.is_empty() {
            return Err(ReloadError::Breaks(broken));
        }
        self.common.shared.loaded.check(&after.manifest)?;
        let mut more = hotcell_policy::review::widened(&before.plan, &after.plan);
        if before.manifest.profile() != after.manifest.profile() {
            more.insert(0, format!("profile `{}`", after.manifest.profile()));
        }
        if after.plan.orders.host_calls.iter().any(|call| call == PLUGIN_CALL) {
            let known =
                |id: &PluginId| before.manifest.dependencies().iter().any(|dependency| dependency.id == *id);
            let new = after.manifest.dependencies().iter().filter(|dependency| !known(&dependency.id));
            more.extend(new.map(|dependency| format!("calls to plugin {}", dependency.id)));
        }
        if !options.may_widen && !more.is_empty() {
            return Err(ReloadError::Widens(more));
        }
        Ok(())
    }

    /// A worker of the new version that says that it can serve, or has no function to say so.
    async fn start_healthy(&self, version: &Arc<Version>) -> Result<Worker, ReloadError> {
        let worker = self.start(version).await?;
        let (worker, healthy) =
            ask(&self.common, worker, version, hook::HEALTH, Vec::new()).await.map_err(ReloadError::Ended)?;
        match healthy {
            Ok(_) | Err(CallError::NoSuchExport(_)) => Ok(worker),
            Err(error) => {
                bury(vec![Some(worker)], "it is not healthy").await;
                Err(ReloadError::Unhealthy(error))
            }
        }
    }

    async fn start(&self, version: &Arc<Version>) -> Result<Worker, ReloadError> {
        let started = bring_up(&self.common, version, CommandLine::default(), CommandIo::default()).await;
        version.prepared.spares.replenish();
        let blueprint = &version.prepared.blueprint;
        let failed = started.map_err(|failed| failed.into_error(&blueprint.plugin, &blueprint.subject));
        Ok(failed?.0)
    }

    /// Has each worker save its state, and its successor take it. `next` holds the successors, less those that ended.
    async fn move_states(
        &self,
        before: &Version,
        after: &Arc<Version>,
        next: &mut [Option<Worker>],
        mut room: Room,
        options: &ReloadOptions,
    ) -> Result<Vec<StateMove>, ReloadError> {
        let deadline = Instant::now() + options.drain;
        let mut moves = Vec::new();
        for (seat, successor) in next.iter_mut().enumerate() {
            let Room { saved, input } = std::mem::take(&mut room);
            let Some(state) = self.save(seat, before, deadline, saved).await? else {
                // It has none, or its worker crashed and left what was kept.
                if !self.common.exchange.is_served(seat) {
                    self.restore(seat, successor, after, options.check_only).await?;
                }
                moves.push(StateMove::None);
                continue;
            };
            let Some(worker) = successor.take() else { continue };
            let size = state.len();
            let input = state_input(before.prepared.manifest.state_version(), &state, input);
            let limits = &after.prepared.plan.orders.limits;
            let (worker, taken) = if size as u64 > limits.state || input.len() as u64 > limits.message {
                (worker, Err(too_large(size, limits.state.min(limits.message))))
            } else {
                ask(&self.common, worker, after, hook::STATE_LOAD, input).await.map_err(ReloadError::Ended)?
            };
            match taken {
                Ok(_) => {
                    *successor = Some(worker);
                    moves.push(StateMove::Kept(size));
                }
                Err(error) => {
                    bury(vec![Some(worker)], "it does not take the state").await;
                    if options.on_incompatible_state == IncompatibleState::Refuse {
                        return Err(ReloadError::NotTaken(error));
                    }
                    // One that has seen nothing of the state that it refused.
                    *successor = Some(self.start(after).await?);
                    moves.push(StateMove::Dropped(error.to_string()));
                }
            }
        }
        Ok(moves)
    }

    /// Gives a successor in a seat without a worker the state that was kept, as a worker of the old version would get it.
    async fn restore(
        &self,
        seat: usize,
        successor: &mut Option<Worker>,
        after: &Arc<Version>,
        check_only: bool,
    ) -> Result<(), ReloadError> {
        for _ in 0..Checkpoints::KEPT {
            let Some(kept) = newest(&self.common, seat).await? else { break };
            let Some(worker) = successor.take_if(|_| !check_only) else { break };
            *successor = restore(&self.common, worker, after, kept).await;
            if successor.is_some() {
                break;
            }
            *successor = Some(self.start(after).await?);
        }
        Ok(())
    }

    /// The state of the worker in a seat, once it has ended the calls that it has, in this memory if it is enough. `None` if it has
    /// no state, or there is no worker.
    async fn save(
        &self,
        seat: usize,
        version: &Version,
        deadline: Instant,
        memory: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, ReloadError> {
        if !self.common.exchange.is_served(seat) {
            return Ok(None);
        }
        let saved = match self.run_pinned(seat, hook::STATE_SAVE, memory, deadline).await {
            Ok(saved) => saved,
            Err(CallError::NoSuchExport(_)) => return Ok(None),
            Err(error) => return Err(ReloadError::NotSaved(error)),
        };
        let limit = version.prepared.plan.orders.limits.state;
        if saved.len() as u64 > limit {
            return Err(ReloadError::NotSaved(too_large(saved.len(), limit)));
        }
        self.state_size.note(saved.len());
        Ok(Some(saved))
    }

    /// Runs a hook in one seat, behind the calls that its worker has.
    pub(super) async fn run_pinned(
        &self,
        seat: usize,
        export: &str,
        input: Vec<u8>,
        deadline: Instant,
    ) -> Result<Vec<u8>, CallError> {
        let call = Arc::new(Call::pinned(export, input, deadline, chain(&self.common)));
        loop {
            match self.common.exchange.pin(seat, &call) {
                Pinned::Delivered => break,
                Pinned::Nobody => return Err(CallError::Cancelled),
                Pinned::Full if Instant::now() >= deadline => return Err(CallError::Timeout),
                Pinned::Full => sleep(PAUSE).await,
            }
        }
        match call.outcome().await? {
            Outcome::Reply(bytes, _) => Ok(bytes),
            Outcome::Exited(_) => Err(CallError::Cancelled),
        }
    }

    /// Puts the successors in their seats, all or none. Returns the workers that were there.
    async fn switch(
        &self,
        before: &Arc<Version>,
        after: &Arc<Version>,
        next: Vec<Option<Worker>>,
    ) -> Result<Vec<Option<Worker>>, ReloadError> {
        self.common.current.set(Arc::clone(after));
        let mut parked = Vec::new();
        let mut unseated = Vec::new();
        let mut failed = false;
        for (seat, worker) in next.into_iter().enumerate() {
            if failed {
                unseated.push(worker);
                continue;
            }
            match self.succeed(seat, worker, after).await {
                Ok(displaced) => parked.push(displaced),
                Err(back) => {
                    failed = true;
                    unseated.push(back);
                }
            }
        }
        if !failed {
            return Ok(parked);
        }
        self.common.current.set(Arc::clone(before));
        for (seat, worker) in parked.into_iter().enumerate() {
            let (Ok(left) | Err(left)) = self.succeed(seat, worker, before).await;
            unseated.push(left);
        }
        self.bury_later(unseated, "its reload failed");
        Err(ReloadError::Busy)
    }

    /// Has an actor exchange its worker. Gives back the one that left, or the one that could not come.
    pub(super) async fn succeed(
        &self,
        seat: usize,
        next: Option<Worker>,
        version: &Arc<Version>,
    ) -> Result<Option<Worker>, Option<Worker>> {
        let (done, result) = oneshot::channel();
        let succession = Succession { next, version: Arc::clone(version), done };
        // An actor that is gone has no seat to give: the plugin is unloaded.
        match self.seats.get(seat).map(|actor| actor.send(Box::new(succession))) {
            Some(Ok(())) => result.await.unwrap_or(Err(None)),
            Some(Err(_)) | None => Err(None),
        }
    }

    pub(super) fn call_time(&self) -> Duration {
        Duration::from_millis(self.common.current.get().prepared.plan.orders.limits.call_ms)
    }
}

impl From<Error> for ReloadError {
    fn from(error: Error) -> ReloadError {
        match error {
            Error::Shutdown => ReloadError::Shutdown,
            error => ReloadError::Start(error),
        }
    }
}
