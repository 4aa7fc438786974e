//! One worker, from the host's side: launch it, bring it up, talk to it, and learn how it ended.
//!
//! Nothing here trusts what a worker says after its artifact was mapped.

mod bells;
mod bring_up;
mod evidence;
mod line;
mod lookout;
mod office;
mod placement;
mod quota;
mod record;
mod supervisor;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hotcell_policy::CgroupLimit;
use hotcell_protocol::ring::{Ahead, NotesArea};
use hotcell_protocol::{
    CallId, Channel, CommandLine, Evidence, Filter, Generation, Image, Orders, Place, Runtime, ring,
};
use tokio::task::AbortHandle;

use crate::broker::{Answer, Broker};
use crate::budget::Budget;
use crate::cgroup::{Group, Groups};
use crate::compile::blocking;
use crate::crash::{Remains, Reporter};
use crate::error::Error;
use crate::event::{EventKind, EventSender};
use crate::exit::{Exit, ExitCause, Used};
use crate::identity::Identity;
use crate::launcher::{Launcher, Process, SpawnRequest};
use crate::log::Logger;
use crate::network::Slot;
use crate::package::artifact::Sealed;
use crate::places::{Places, Scratch};
use crate::programs::{Children, Household};
use crate::receipt::Origin;
use crate::reentry::Chain;
use crate::stdio::{Pumps, Streams, open, silence};
use crate::sys::pidfd::lives;
use crate::violation::Adviser;
pub(crate) use bells::{Bells, stirs_within};
pub(crate) use bring_up::StartFault;
use line::STARTING;
pub(crate) use line::{Broken, Errand, Incoming, Line, Reply};
pub(crate) use office::{Office, Sight};
use placement::Placement;
pub(crate) use record::Record;
use supervisor::Stage;

/// How long a worker that closed its channel may take to end by itself.
const END_TIME: Duration = Duration::from_secs(1);

/// How long a native worker that takes too long may note where it is.
const NOTING_TIME: Duration = Duration::from_millis(50);

/// How long a killed process may take to end: the kernel waits for disk and device operations only.
const DEATH_TIME: Duration = Duration::from_secs(10);

/// How long the output of an ended worker may take to arrive in the log.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What every worker of a plugin starts from.
#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) plugin: String,
    /// The artifact, as messages name it.
    pub(crate) subject: String,
    /// Of the plugin.
    pub(crate) version: String,
    /// `None` for the compiler and for programs, of which there are no receipts.
    pub(crate) origin: Option<Origin>,
    pub(crate) image: Image,
    pub(crate) orders: Orders,
    pub(crate) cgroups: Vec<CgroupLimit>,
    pub(crate) artifact: Arc<Sealed>,
    pub(crate) package: Option<PathBuf>,
    pub(crate) config: Option<String>,
    pub(crate) identity: Option<Identity>,
    /// Whether the plan grants connections.
    pub(crate) has_network: bool,
    /// Where paths are observed, what the plugin may call.
    pub(crate) observed: Option<Filter>,
    /// Whether reports of crashes have the beginnings of inputs.
    pub(crate) keeps_inputs: bool,
    /// How long worker and caller look for each other's messages before they sleep.
    pub(crate) spin: Duration,
    /// `None` for the compiler.
    pub(crate) adviser: Option<Adviser>,
}

impl Blueprint {
    /// Whether it is for workers of the plugin itself.
    fn is_plugin(&self) -> bool {
        !matches!(self.orders.runtime, Runtime::Compiler | Runtime::Program)
    }
}

/// What workers need of their host.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) launcher: Launcher,
    pub(crate) events: EventSender,
    pub(crate) places: Arc<Places>,
    pub(crate) budget: Budget,
    pub(crate) groups: Arc<Groups>,
    pub(crate) reporter: Reporter,
}

/// What differs between the workers of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Particulars {
    pub(crate) generation: u32,
    /// What a command is run with.
    pub(crate) command: CommandLine,
    /// Takes the compiler's output.
    pub(crate) output: Option<OwnedFd>,
}

/// A worker process and everything that belongs to it. Dropping it kills the process and frees the rest.
#[derive(Debug)]
pub(crate) struct Worker {
    // The order of the fields is the order of their end: first the process, last its scratch folder.
    process: Process,
    /// The programs that run for it.
    household: Household,
    /// Until it serves calls.
    line: Option<Line>,
    bells: Arc<Bells>,
    setup: Option<Channel>,
    pumps: Pumps,
    supervisor: Option<StopTask>,
    quota: Option<StopTask>,
    record: Arc<Record>,
    stage: Stage,
    logger: Logger,
    blueprint: Arc<Blueprint>,
    surroundings: Surroundings,
    particulars: Particulars,
    /// Base folders, as absolute paths.
    places: Vec<(Place, String)>,
    scratch: Option<Scratch>,
    group: Option<Group>,
    /// Once it is confined.
    evidence: Option<Arc<Evidence>>,
    /// A connection on its way to it.
    slot: Slot,
    /// Where it notes its end.
    notes: Option<NotesArea>,
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct StopTask(pub(crate) AbortHandle);

impl Drop for StopTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Worker {
    /// Has the launcher start a process. It waits for [`Worker::confine`].
    pub(crate) async fn launch(
        surroundings: &Surroundings,
        blueprint: &Arc<Blueprint>,
        mut particulars: Particulars,
        streams: Streams,
    ) -> Result<Worker, Error> {
        let Blueprint { plugin, orders, package, identity, .. } = blueprint.as_ref();
        if let Some(namespace) = surroundings.launcher.lacks(&orders.namespaces) {
            return Err(crate::start::no_namespace(namespace));
        }
        let generation = particulars.generation;
        let places = surroundings.places.prepare(orders, package.as_deref(), plugin, *identity).await?;
        let logger = Logger::new(plugin, generation, orders.limits.log_rate);
        let mute = orders.runtime == Runtime::Core;
        let ([stdin, stdout, stderr], pumps) = if mute { silence()? } else { open(streams, &logger)? };
        let (setup, setup_far) = Channel::pair().map_err(|error| Error::launch(error.to_string()))?;
        let failed = |errno: rustix::io::Errno| Error::io("make a worker's channel", errno.into());
        let (ends, memory) = ring::create().map_err(failed)?;
        let (bells, [first, second]) =
            Bells::make().map_err(|source| Error::io("make a worker's bells", source))?;
        let notes = blueprint.is_plugin().then(|| ends.0.notes());
        bring_up::send_orders(&setup, blueprint, &mut particulars, &places.paths, memory)?;
        let descriptors = [stdin, stdout, stderr, first, second, setup_far.into_socket()];
        let request = SpawnRequest { image: blueprint.image, launch: orders.launch, descriptors };
        let process = surroundings.launcher.spawn(request).await?;
        bells.belong_to(process.shared_pidfd());
        let group = enter_group(surroundings, blueprint, &process).await?;
        let (generation_word, limit) = (Generation(generation), orders.limits.message);
        let mut line = Line::new(ends, generation_word, limit, surroundings.budget.clone());
        if blueprint.keeps_inputs {
            line.keep_inputs();
        }
        let events = surroundings.events.clone();
        let record = Arc::new(Record::new(Arc::clone(blueprint), generation, events, process.killer()));
        Ok(Worker {
            quota: quota::watch(orders, &places.paths, process.pid(), &record),
            record,
            process,
            line: Some(line),
            bells: Arc::new(bells),
            setup: Some(setup),
            pumps,
            supervisor: None,
            stage: Stage::confining(),
            logger,
            blueprint: Arc::clone(blueprint),
            surroundings: surroundings.clone(),
            particulars,
            places: places.paths,
            scratch: places.scratch,
            group,
            evidence: None,
            slot: Slot::default(),
            household: Household(Children::new(generation, orders.limits.processes)),
            notes,
        })
    }

    /// Runs one call to its reply, for whoever talks to a worker that serves nobody else. Not bounded in time: the
    /// caller's deadline is.
    pub(crate) async fn call<E: Errand + 'static>(
        &mut self,
        errand: Arc<E>,
        broker: &Broker,
    ) -> Result<Reply, Broken> {
        const ONLY: CallId = CallId(1);
        let line = self.line.as_mut().ok_or(Broken::Closed)?;
        if line.call(ONLY, &errand)?.is_none() {
            return Err(Broken::Breach("a full ring before its first call".to_owned()));
        }
        match self.next(ONLY, broker, &Chain::default()).await? {
            Incoming::Reply(reply) => Ok(reply),
            _ => Err(Broken::Breach("a message of the start during a call".to_owned())),
        }
    }

    /// The next thing that is neither a host call, which is answered, nor a wait for room.
    async fn next(&mut self, running: CallId, broker: &Broker, chain: &Chain) -> Result<Incoming, Broken> {
        loop {
            let line = self.line.as_mut().ok_or(Broken::Closed)?;
            line.flush()?;
            line.rouse(1).iter().for_each(ring::Waker::wake);
            match line.next(Some(running), Vec::new)? {
                Some(Incoming::HostCall { name, input }) => {
                    let answer = self.answer(name, input, broker, chain).await?;
                    let line = self.line.as_mut().ok_or(Broken::Closed)?;
                    line.answer(running, answer.status, answer.payload)?;
                }
                Some(Incoming::Stalled(bytes)) => {
                    let mut share = self.surroundings.budget.share();
                    share.grow(bytes).await;
                    if let Some(line) = &mut self.line {
                        line.grant(bytes, share);
                    }
                }
                Some(other) => return Ok(other),
                None => self.rung().await?,
            }
        }
    }

    /// Waits until the worker has rung since the last look.
    async fn rung(&mut self) -> Result<(), Broken> {
        let Some(line) = &mut self.line else { return Err(Broken::Closed) };
        line.listen(ring::Wake::First);
        if line.stirs() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.bells.rung() => Ok(()),
            () = self.process.ended() => match self.line.as_ref().is_some_and(Line::stirs) {
                true => Ok(()),
                false => Err(Broken::Closed),
            },
        }
    }

    /// What it was started from.
    pub(crate) fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    /// Which incarnation of the plugin it is.
    pub(crate) fn generation(&self) -> u32 {
        self.particulars.generation
    }

    /// Whether its process has not ended.
    pub(crate) fn lives(&self) -> bool {
        self.process.lives()
    }

    /// Where the payload that is sent to it next will lie.
    pub(crate) fn ahead(&self) -> Option<Ahead> {
        self.line.as_ref().map(Line::ahead_of_host)
    }

    /// Gives the line to whoever serves calls on it.
    pub(crate) fn take_line(&mut self) -> Option<Line> {
        self.line.take()
    }

    /// Takes its line back from whoever served calls on it.
    pub(crate) fn return_line(&mut self, line: Line) {
        self.line = Some(line);
    }

    /// What its confinement looks like, once it is confined.
    pub(crate) fn evidence(&self) -> Option<&Arc<Evidence>> {
        self.evidence.as_ref()
    }

    /// The bells, to listen for.
    pub(crate) fn watched_bells(&self) -> &Bells {
        &self.bells
    }

    pub(crate) fn bells(&self) -> Arc<Bells> {
        Arc::clone(&self.bells)
    }

    /// Says how to find out which export runs, for the violations that are told.
    pub(crate) fn ask_for_running(&self, running: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.record.ask_for_running(running);
    }

    /// What host calls of this worker need.
    pub(crate) fn office(&self) -> Office {
        Office {
            plugin: self.blueprint.plugin.clone(),
            generation: self.particulars.generation,
            limit: self.blueprint.orders.limits.message,
            logger: self.logger.clone(),
            record: Arc::clone(&self.record),
            slot: self.slot.clone(),
            children: self.household.0.clone(),
            sight: self.evidence.as_ref().map(|evidence| Sight {
                generation: self.particulars.generation,
                evidence: Arc::clone(evidence),
                pidfd: self.process.shared_pidfd(),
            }),
        }
    }

    /// Completes when the process has ended. Safe to cancel.
    pub(crate) async fn ended(&self) {
        self.process.ended().await;
    }

    async fn answer(
        &self,
        name: String,
        input: Vec<u8>,
        broker: &Broker,
        chain: &Chain,
    ) -> Result<Answer, Broken> {
        let office = self.office();
        tokio::select! {
            biased;
            () = self.process.ended() => Err(Broken::Closed),
            answer = office.answer(name, input, broker, chain.clone()) => Ok(answer),
        }
    }

    /// Judges a broken conversation: a breach is answered by SIGKILL; a worker that closed its channel has a moment to
    /// end by itself.
    pub(crate) async fn condemn(&self, broken: Broken) {
        match broken {
            Broken::Breach(what) => self.kill(ExitCause::ProtocolViolation(what)),
            Broken::OverBudget(len) => self.kill(ExitCause::KilledByHost(format!(
                "its payload of {len} bytes is over the host's budget"
            ))),
            Broken::Closed => {
                if tokio::time::timeout(END_TIME, self.process.ended()).await.is_err() {
                    self.kill(ExitCause::ProtocolViolation("it closed its channel and went on".to_owned()));
                }
            }
        }
    }

    /// Kills the worker; an earlier cause stays.
    pub(crate) fn kill(&self, cause: ExitCause) {
        self.record.kill(cause);
    }

    /// Kills a worker that takes too long. A plugin's is asked by a signal first, as if it crashed, to note where it is, which
    /// takes a moment; whether it does is its own affair. Dropping the future ends it all the same.
    pub(crate) async fn kill_overdue(&self) {
        self.record.note(ExitCause::Deadline);
        if self.notes.is_some() {
            self.process.killer().abort();
            // It has ended then, or ends now.
            let _ = tokio::time::timeout(NOTING_TIME, self.process.ended()).await;
        }
        self.kill(ExitCause::Deadline);
    }

    /// Waits for the end of a worker that was killed, or ends by itself, and reports it.
    pub(crate) async fn finish(mut self) -> Exit {
        if tokio::time::timeout(DEATH_TIME, self.process.ended()).await.is_err() {
            tracing::error!(target: "hotcell::worker", plugin = %self.blueprint.plugin, "a killed worker does not end");
        }
        let _ = tokio::time::timeout(DRAIN_TIME, self.pumps.drained()).await;
        let Worker {
            process,
            record,
            blueprint,
            surroundings,
            particulars,
            scratch,
            supervisor,
            quota,
            group,
            notes,
            line,
            logger,
            evidence,
            household,
            ..
        } = self;
        drop((household, supervisor, quota));
        let end = process.end().await;
        drop(scratch);
        let starved = group.as_ref().is_some_and(|group| group.memory_kills() > 0);
        drop(group);
        let usage = Used { usage: end.usage, starved, violations: record.violations() };
        let exit = Exit::judge(record.cause(), end.status, usage, &blueprint.orders.limits);
        if exit.cause == (ExitCause::Violation { syscall: None }) {
            record.kernel_violation();
        }
        if blueprint.is_plugin() {
            let event = EventKind::Exited(exit.clone());
            surroundings.events.send(&blueprint.plugin, particulars.generation, event);
            surroundings.reporter.take(Remains {
                generation: particulars.generation,
                exit: exit.clone(),
                notes,
                calls: line.map(Line::into_calls).unwrap_or_default(),
                lines: logger.last_lines(),
                violations: record.told(),
                evidence,
                blueprint,
            });
        }
        exit
    }

    /// Waits until everything that a command wrote has been taken. Safe to cancel.
    pub(crate) async fn drained(&mut self) {
        self.process.ended().await;
        self.pumps.drained().await;
    }
}

/// Puts a worker into a group of its own while it confines itself, if its plan bounds it so.
async fn enter_group(
    surroundings: &Surroundings,
    blueprint: &Blueprint,
    process: &Process,
) -> Result<Option<Group>, Error> {
    if blueprint.cgroups.is_empty() {
        return Ok(None);
    }
    let (groups, limits) = (Arc::clone(&surroundings.groups), blueprint.cgroups.clone());
    let (pid, pidfd) = (process.pid(), process.shared_pidfd());
    let failed = |source| Error::io("bound a worker by a cgroup", source);
    let entered = blocking(move || {
        let group = groups.make(&limits).map_err(failed)?;
        let entered = group.enter(pid);
        // Whose number it was while it lives. Why it has ended, if it has, the start finds out.
        match lives(pidfd.get_ref()) {
            true => entered.map(|()| Some(group)).map_err(failed),
            false => Ok(None),
        }
    });
    entered.await
}
