//! One worker, from the host's side: launch it, bring it up, talk to it, and learn how it ended.
//!
//! Nothing here trusts what a worker says after its artifact was mapped.

mod bring_up;
mod evidence;
mod inbox;
mod link;
mod record;
mod supervisor;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::{CallId, Channel, Generation, Image, Orders, ReplyStatus, ToWorker};
use tokio::task::AbortHandle;

use crate::broker::{Answer, Broker, HostCallContext};
use crate::budget::{Budget, Share};
use crate::error::Error;
use crate::event::{EventKind, EventSender};
use crate::exit::{Exit, ExitCause};
use crate::identity::Identity;
use crate::launcher::{Launcher, Process, SpawnRequest};
use crate::log::Logger;
use crate::package::artifact::Sealed;
use crate::places::{Places, Scratch};
use crate::reentry::Chain;
use crate::stdio::{CommandIo, Pumps, connect};
pub(crate) use bring_up::StartFault;
use inbox::{Expect, Incoming, STARTING};
pub(crate) use link::Broken;
use link::Link;
use record::Record;
use supervisor::Stage;

/// How long a worker that closed its channel may take to end by itself.
const END_TIME: Duration = Duration::from_secs(1);

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
    pub(crate) image: Image,
    pub(crate) orders: Orders,
    pub(crate) artifact: Arc<Sealed>,
    pub(crate) package: Option<PathBuf>,
    pub(crate) config: Option<String>,
    pub(crate) identity: Option<Identity>,
}

/// What workers need of their host.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) launcher: Launcher,
    pub(crate) events: EventSender,
    pub(crate) places: Arc<Places>,
    pub(crate) budget: Budget,
}

/// What differs between the workers of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Particulars {
    pub(crate) generation: u32,
    /// Arguments of a command, its name first.
    pub(crate) arguments: Vec<String>,
    /// Takes the compiler's output.
    pub(crate) output: Option<OwnedFd>,
}

/// A reply, with its part of the host's budget.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: ReplyStatus,
    pub(crate) payload: Vec<u8>,
    pub(crate) share: Share,
}

/// A worker process and everything that belongs to it. Dropping it kills the process and frees the rest.
#[derive(Debug)]
pub(crate) struct Worker {
    // The order of the fields is the order of their end: first the process, last its scratch folder.
    process: Process,
    link: Link,
    setup: Option<Channel>,
    pumps: Pumps,
    supervisor: Option<StopTask>,
    record: Arc<Record>,
    stage: Stage,
    logger: Logger,
    blueprint: Arc<Blueprint>,
    surroundings: Surroundings,
    particulars: Particulars,
    places: Vec<(hotcell_protocol::Place, String)>,
    scratch: Option<Scratch>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct StopTask(AbortHandle);

impl Drop for StopTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Worker {
    /// Has the launcher start a process. It waits for [`Worker::bring_up`].
    pub(crate) async fn launch(
        surroundings: &Surroundings,
        blueprint: &Arc<Blueprint>,
        particulars: Particulars,
        io: CommandIo,
    ) -> Result<Worker, Error> {
        let Blueprint { plugin, orders, package, identity, .. } = blueprint.as_ref();
        let generation = particulars.generation;
        let places = surroundings.places.prepare(orders, package.as_deref(), plugin, *identity).await?;
        let logger = Logger::new(plugin, generation, orders.limits.log_rate);
        let ([stdin, stdout, stderr], pumps) = connect(io, &logger)?;
        let pair = || Channel::pair().map_err(|error| Error::launch(error.to_string()));
        let ((near, far), (setup_near, setup_far)) = (pair()?, pair()?);
        let descriptors = [far.into_socket(), setup_far.into_socket(), stdin, stdout, stderr];
        let process =
            surroundings.launcher.spawn(SpawnRequest { image: blueprint.image, descriptors }).await?;
        let link = Link::new(near, Generation(generation), orders.limits.message)
            .map_err(|source| Error::io("watch a worker's channel", source))?;
        let events = surroundings.events.clone();
        Ok(Worker {
            record: Arc::new(Record::new(plugin, generation, events, process.killer())),
            process,
            link,
            setup: Some(setup_near),
            pumps,
            supervisor: None,
            stage: Stage::confining(),
            logger,
            blueprint: Arc::clone(blueprint),
            surroundings: surroundings.clone(),
            particulars,
            places: places.paths,
            scratch: places.scratch,
        })
    }

    /// Runs one call to its reply. Not bounded in time: the caller's deadline is.
    pub(crate) async fn call(&mut self, call: Conversation<'_>) -> Result<Reply, Broken> {
        let Conversation { id, export, input, broker, chain } = call;
        let message = ToWorker::Call { call: id, export, len: input.len() as u64 };
        self.link.send(message, id, &input).await?;
        drop(input);
        self.link.expect(Expect::Reply(id));
        let mut share = self.surroundings.budget.share();
        loop {
            match self.link.next(&self.process).await? {
                Incoming::Announced(len) => self.fits(len)?,
                Incoming::Grows(bytes) => share.grow(bytes).await,
                Incoming::Reply { status, payload } => return Ok(Reply { status, payload, share }),
                Incoming::HostCall { name, input } => {
                    self.answer(id, name, input, broker, &chain).await?;
                    share = self.surroundings.budget.share();
                    self.link.expect(Expect::Reply(id));
                }
                Incoming::Loaded | Incoming::Ready | Incoming::Failed(_) => {
                    return Err(Broken::Breach("a message of the start during a call".to_owned()));
                }
            }
        }
    }

    /// Waits for what may not happen: anything from an idle worker, or its end. Safe to cancel.
    pub(crate) async fn idle(&mut self) -> Broken {
        match self.link.next(&self.process).await {
            Ok(_) => Broken::Breach("a message while nothing was asked".to_owned()),
            Err(broken) => broken,
        }
    }

    /// Whether the host can ever hold a payload.
    fn fits(&self, len: u64) -> Result<(), Broken> {
        if self.surroundings.budget.fits(len) { Ok(()) } else { Err(Broken::OverBudget(len)) }
    }

    async fn answer(
        &self,
        call: CallId,
        name: String,
        input: Vec<u8>,
        broker: &Broker,
        chain: &Chain,
    ) -> Result<(), Broken> {
        let plugin = self.blueprint.plugin.clone();
        let context = HostCallContext { plugin, generation: self.particulars.generation, name: name.clone() };
        let limit = self.blueprint.orders.limits.message;
        let answer = tokio::select! {
            biased;
            () = self.process.ended() => return Err(Broken::Closed),
            answer = broker.answer(context, input, limit, &self.logger, chain.clone()) => answer,
        };
        if answer.status == hotcell_protocol::AnswerStatus::Refused {
            self.record.violation(format!("host call {}", crate::text::escape(name.as_bytes())), Vec::new());
        }
        let Answer { status: outcome, payload } = answer;
        let message = ToWorker::Answer { call, outcome, len: payload.len() as u64 };
        self.link.send(message, call, &payload).await
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

    /// Remembers why the worker ends; an earlier cause stays.
    pub(crate) fn note(&self, cause: ExitCause) {
        self.record.note(cause);
    }

    /// Kills the worker; an earlier cause stays.
    pub(crate) fn kill(&self, cause: ExitCause) {
        self.record.kill(cause);
    }

    /// Waits for the end of a worker that was killed, or ends by itself, and reports it.
    pub(crate) async fn finish(mut self) -> Exit {
        if tokio::time::timeout(DEATH_TIME, self.process.ended()).await.is_err() {
            tracing::error!(target: "hotcell::worker", plugin = %self.blueprint.plugin, "a killed worker does not end");
        }
        let _ = tokio::time::timeout(DRAIN_TIME, self.pumps.drained()).await;
        let Worker { process, record, blueprint, surroundings, particulars, scratch, supervisor, .. } = self;
        drop(supervisor);
        let end = process.end().await;
        drop(scratch);
        let exit =
            Exit::judge(record.cause(), end.status, end.usage, &blueprint.orders.limits, record.violations());
        if exit.cause == (ExitCause::Violation { syscall: None }) {
            record.kernel_violation();
        }
        if blueprint.image != Image::Compiler {
            let event = EventKind::Exited(exit.clone());
            surroundings.events.send(&blueprint.plugin, particulars.generation, event);
        }
        exit
    }

    /// Waits until everything that a command wrote has been taken. Safe to cancel.
    pub(crate) async fn drained(&mut self) {
        self.process.ended().await;
        self.pumps.drained().await;
    }
}

/// One call, and who answers what it asks of the host.
pub(crate) struct Conversation<'a> {
    pub(crate) id: CallId,
    pub(crate) export: String,
    pub(crate) input: Vec<u8>,
    pub(crate) broker: &'a Broker,
    pub(crate) chain: Chain,
}
