//! From a fresh process to one that answers calls: orders, evidence, load, seal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use hotcell_protocol::{
    Channel, ChannelError, Envelope, Evidence, Failure, Filters, FromWorker, Generation, Image, Place,
    Runtime, Start, Statement, Step, ToWorker,
};
use tokio::io::Interest;

use super::evidence::{Expected, look_at};
use super::lookout::Lookout;
use super::supervisor::Supervisor;
use super::{Blueprint, Broken, Incoming, Particulars, Placement, STARTING, StopTask, Worker};
use crate::broker::Broker;
use crate::error::Error;
use crate::reentry::Chain;
use crate::sys::watch::{Watch, watch};

/// Standard streams, bells, setup channel, artifact. (6 was the memory of the worker channel, which is mapped.)
const DESCRIPTORS: [u32; 7] = [0, 1, 2, 3, 4, 5, 7];

/// The compiler has its output, too.
const COMPILER_DESCRIPTORS: [u32; 8] = [0, 1, 2, 3, 4, 5, 7, 8];

/// Longest message of a worker on its setup channel, in bytes: a failure's text is at most 4 KiB.
const STATEMENT_MAX: usize = 8 << 10;

/// Why a worker is not ready.
#[derive(Debug)]
pub(crate) enum StartFault {
    /// It says what failed, and ends.
    Failed(Failure),
    /// Its channels broke, or it broke the protocol.
    Broken(Broken),
    /// The host failed.
    Host(Error),
}

impl From<Broken> for StartFault {
    fn from(broken: Broken) -> StartFault {
        StartFault::Broken(broken)
    }
}

impl Worker {
    /// Loads and seals. Not bounded in time: the caller's start deadline is.
    pub(crate) async fn load(&mut self, broker: &Broker, chain: &Chain) -> Result<(), StartFault> {
        self.stage.loading();
        self.order(&ToWorker::Load)?;
        let code_runs_in_load = matches!(self.blueprint.orders.filters, Filters::Supervised { .. });
        if !code_runs_in_load {
            // Nothing of the plugin runs before it is sealed, and it seals before anything of the plugin runs.
            self.order(&ToWorker::Seal)?;
        }
        match self.next(STARTING, broker, chain).await? {
            Incoming::Loaded => {}
            Incoming::Failed(failure) => return Err(StartFault::Failed(failure)),
            _ => return Err(Broken::Breach("something else than \"loaded\"".to_owned()).into()),
        }
        if code_runs_in_load {
            // From here on a native plugin's listener lets nothing continue.
            self.stage.loaded();
            self.order(&ToWorker::Seal)?;
        }
        match self.next(STARTING, broker, chain).await? {
            Incoming::Ready => Ok(()),
            Incoming::Failed(failure) => Err(StartFault::Failed(failure)),
            _ => Err(Broken::Breach("something else than \"ready\"".to_owned()).into()),
        }
    }

    /// Has it become its program, and waits for the end of that; its limits bound it, and whoever drops the future.
    pub(crate) async fn execute(&mut self) -> Result<(), StartFault> {
        self.stage.loading();
        self.order(&ToWorker::Load)?;
        match self.next(STARTING, &Broker::default(), &Chain::default()).await {
            // What the process is now has no channel.
            Err(Broken::Closed) => Ok(()),
            Err(broken) => Err(broken.into()),
            Ok(Incoming::Failed(failure)) => Err(StartFault::Failed(failure)),
            Ok(_) => Err(Broken::Breach("something else than its end".to_owned()).into()),
        }
    }

    fn order(&mut self, message: &ToWorker) -> Result<(), Broken> {
        let line = self.line.as_mut().ok_or(Broken::Closed)?;
        line.order(message)
    }

    /// The setup channel's short life: orders out, evidence in. The worker's own code is all that runs there. Bounded in
    /// time as [`Worker::load`] is.
    pub(crate) async fn confine(&mut self) -> Result<Evidence, StartFault> {
        let setup = self.setup.take().ok_or(Broken::Closed)?;
        let setup = watch(setup, Interest::READABLE | Interest::WRITABLE)
            .map_err(host("watch a worker's setup channel"))?;
        loop {
            match self.hear(&setup).await? {
                (FromWorker::Listener, descriptors) => self.supervise(descriptors)?,
                (FromWorker::Confined(statement), _) => {
                    return match self.verify(statement) {
                        // Of what has ended meanwhile, there is little to read.
                        Err(_) if !self.process.lives() => Err(self.last_words().await),
                        verdict => verdict,
                    };
                }
                (FromWorker::Failed(failure), _) => return Err(StartFault::Failed(failure)),
                _ => return Err(Broken::Breach("an unexpected message before load".to_owned()).into()),
            }
        }
    }

    /// Why a worker has ended that was not told to load yet: what it could not do, if it said so, else its end says why.
    async fn last_words(&mut self) -> StartFault {
        match self.next(STARTING, &Broker::default(), &Chain::default()).await {
            Ok(Incoming::Failed(failure)) => StartFault::Failed(failure),
            Ok(_) => Broken::Closed.into(),
            Err(broken) => broken.into(),
        }
    }

    async fn hear(&self, setup: &Watch<Channel>) -> Result<(FromWorker, Vec<OwnedFd>), StartFault> {
        let mut buffer = vec![0; STATEMENT_MAX];
        loop {
            // What it said before its end is there, whether or not the reactor has told of it yet.
            let guard = tokio::select! {
                biased;
                guard = setup.readable() => Some(guard.map_err(|_| Broken::Closed)?),
                () = self.process.ended() => None,
            };
            let received = setup.get_ref().0.receive::<Envelope<FromWorker>>(&mut buffer);
            match received {
                Err(ChannelError::WouldBlock) => guard.ok_or(Broken::Closed)?.clear_ready(),
                Err(ChannelError::Closed) => return Err(Broken::Closed.into()),
                Err(error) => return Err(Broken::Breach(error.to_string()).into()),
                Ok((envelope, descriptors)) => return Ok((envelope.message, descriptors)),
            }
        }
    }

    fn supervise(&mut self, descriptors: Vec<OwnedFd>) -> Result<(), StartFault> {
        let listener = descriptors.into_iter().next();
        let judge = match &self.blueprint.orders.filters {
            Filters::Supervised { judge, .. } => Some(hotcell_policy::for_pid(judge, self.process.pid())),
            Filters::Staged { listener: true, .. } => Some(Vec::new()),
            Filters::Staged { listener: false, .. } => None,
        };
        let (Some(judge), Some(listener), None) = (judge, listener, &self.supervisor) else {
            return Err(Broken::Breach("a listener that was not ordered".to_owned()).into());
        };
        let supervisor = Supervisor {
            judge,
            lends_sockets: self.blueprint.orders.runtime == Runtime::Native && self.blueprint.has_network,
            stage: self.stage.clone(),
            record: Arc::clone(&self.record),
            slot: self.slot.clone(),
            lookout: self.lookout().map(Arc::new),
        };
        self.supervisor = Some(StopTask(tokio::spawn(supervisor.serve(listener)).abort_handle()));
        Ok(())
    }

    fn lookout(&self) -> Option<Lookout> {
        let Blueprint { observed, orders, .. } = self.blueprint.as_ref();
        let allowed = hotcell_policy::for_pid(observed.as_ref()?, self.process.pid());
        let rules = &orders.landlock.rules;
        Some(Lookout::new(allowed, rules, &self.places, self.process.pid(), self.process.shared_pidfd()))
    }

    fn verify(&mut self, statement: Statement) -> Result<Evidence, StartFault> {
        let supervised = match self.blueprint.orders.filters {
            Filters::Supervised { .. } => true,
            Filters::Staged { listener, .. } => listener,
        };
        if supervised && self.supervisor.is_none() {
            return Err(Self::mismatch("it sent no listener"));
        }
        let compiler = self.blueprint.image == Image::Compiler;
        let expected = Expected {
            orders: &self.blueprint.orders,
            identity: self.blueprint.identity,
            descriptors: if compiler { &COMPILER_DESCRIPTORS } else { &DESCRIPTORS },
        };
        let pidfd = self.process.shared_pidfd();
        let view = look_at(self.process.pid(), pidfd.get_ref()).map_err(host("read a worker's status"))?;
        let checked = expected.check(statement, self.process.pid(), &view);
        let mut evidence = checked.map_err(|what| Self::mismatch(&what))?;
        evidence.cgroups = self.check_group()?;
        self.evidence = Some(Arc::new(evidence.clone()));
        let placement = Placement::new(self.process.pid(), pidfd, !self.blueprint.spin.is_zero());
        self.line.iter_mut().for_each(|line| *line.placement() = placement.clone());
        Ok(evidence)
    }

    /// The controllers that bound it, if they are all that were ordered.
    fn check_group(&self) -> Result<Vec<String>, StartFault> {
        let bounds = match &self.group {
            Some(group) => group.bounds(self.process.pid()).map_err(host("read a worker's cgroups"))?,
            None => Vec::new(),
        };
        let ordered = self.blueprint.cgroups.iter().map(|limit| limit.controller);
        if !ordered.eq(bounds.iter().copied()) {
            return Err(Self::mismatch("its cgroups are not as ordered"));
        }
        Ok(bounds.iter().map(|controller| controller.name().to_owned()).collect())
    }

    fn mismatch(what: &str) -> StartFault {
        let detail = format!("the confinement is not what was ordered: {what}");
        StartFault::Failed(Failure { step: Step::SelfCheck, errno: 0, detail })
    }
}

/// Puts a worker's orders, channel and artifact into its setup channel, before it exists.
pub(super) fn send_orders(
    setup: &Channel,
    blueprint: &Blueprint,
    particulars: &mut Particulars,
    places: &[(Place, String)],
    memory: OwnedFd,
) -> Result<(), Error> {
    let start = Start {
        orders: blueprint.orders.clone(),
        places: places.to_vec(),
        identity: blueprint.identity.map(|identity| (identity.uid, identity.gid)),
        command: std::mem::take(&mut particulars.command),
        config: blueprint.config.clone(),
        spin_us: u32::try_from(blueprint.spin.as_micros()).unwrap_or(u32::MAX),
    };
    let message = ToWorker::Start(Box::new(start));
    let envelope = Envelope { generation: Generation(particulars.generation), message };
    let artifact = blueprint.artifact.descriptor()?;
    let output = particulars.output.take();
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![memory.as_fd(), artifact.as_fd()];
    descriptors.extend(output.as_ref().map(AsFd::as_fd));
    let sent = setup.send_with(&envelope, &descriptors);
    sent.map_err(|error| {
        Error::launch(format!("failed to send the plan, arguments, environment and config: {error}"))
    })
}

fn host(what: &'static str) -> impl FnOnce(std::io::Error) -> StartFault {
    move |source| StartFault::Host(Error::io(what, source))
}
