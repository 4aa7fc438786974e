//! From a fresh process to one that answers calls: orders, evidence, load, seal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use hotcell_protocol::{
    Channel, ChannelError, Envelope, Evidence, Failure, Filters, FromWorker, Generation, Image, PACKET_MAX,
    Start, ToWorker,
};
use tokio::io::Interest;

use super::evidence::{Expected, pid_of, read_status};
use super::supervisor::Supervisor;
use super::{Broken, Expect, Incoming, STARTING, StopTask, Worker};
use crate::broker::Broker;
use crate::error::Error;
use crate::exit::ExitCause;
use crate::reentry::Chain;
use crate::sys::watch::{Watch, watch};

/// Standard streams, worker channel, setup channel, artifact.
const DESCRIPTORS: [u32; 6] = [0, 1, 2, 3, 4, 5];

/// The compiler has its output, too.
const COMPILER_DESCRIPTORS: [u32; 7] = [0, 1, 2, 3, 4, 5, 6];

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
    /// Confines, loads and seals. Not bounded in time: the caller's start deadline is.
    pub(crate) async fn bring_up(&mut self, broker: &Broker, chain: &Chain) -> Result<Evidence, StartFault> {
        let evidence = self.set_up().await?;
        self.stage.loading();
        self.link.send(ToWorker::Load, STARTING, &[]).await?;
        match self.link.next(&self.process).await? {
            Incoming::Loaded => {}
            Incoming::Failed(failure) => return Err(StartFault::Failed(failure)),
            _ => return Err(Broken::Breach("something else than \"loaded\"".to_owned()).into()),
        }
        // From here on a native plugin's listener lets nothing continue.
        self.stage.loaded();
        self.link.expect(Expect::Ready);
        self.link.send(ToWorker::Seal, STARTING, &[]).await?;
        self.meet(broker, chain).await?;
        Ok(evidence)
    }

    /// Waits for "ready", and answers what the plugin asks of the host while it starts.
    async fn meet(&mut self, broker: &Broker, chain: &Chain) -> Result<(), StartFault> {
        let mut share = self.surroundings.budget.share();
        loop {
            match self.link.next(&self.process).await? {
                Incoming::Ready => return Ok(()),
                Incoming::Failed(failure) => return Err(StartFault::Failed(failure)),
                Incoming::Announced(len) => self.fits(len)?,
                Incoming::Grows(bytes) => share.grow(bytes).await,
                Incoming::HostCall { name, input } => {
                    self.answer(STARTING, name, input, broker, chain).await?;
                    share = self.surroundings.budget.share();
                    self.link.expect(Expect::Ready);
                }
                Incoming::Loaded | Incoming::Reply { .. } => {
                    return Err(Broken::Breach("something else than \"ready\"".to_owned()).into());
                }
            }
        }
    }

    /// The setup channel's short life: orders out, evidence in. The worker's own code is all that runs there.
    async fn set_up(&mut self) -> Result<Evidence, StartFault> {
        let setup = self.setup.take().ok_or(Broken::Closed)?;
        let setup = watch(setup, Interest::READABLE | Interest::WRITABLE)
            .map_err(host("watch a worker's setup channel"))?;
        self.send_orders(&setup).await?;
        loop {
            match self.hear(&setup).await? {
                (FromWorker::Listener, descriptors) => self.supervise(descriptors)?,
                (FromWorker::Confined(evidence), _) => {
                    self.verify(&evidence)?;
                    return Ok(evidence);
                }
                (FromWorker::Failed(failure), _) => return Err(StartFault::Failed(failure)),
                _ => return Err(Broken::Breach("an unexpected message before load".to_owned()).into()),
            }
        }
    }

    async fn send_orders(&mut self, setup: &Watch<Channel>) -> Result<(), StartFault> {
        let start = Start {
            orders: self.blueprint.orders.clone(),
            places: self.places.clone(),
            identity: self.blueprint.identity.map(|identity| (identity.uid, identity.gid)),
            arguments: std::mem::take(&mut self.particulars.arguments),
            config: self.blueprint.config.clone(),
        };
        let message = ToWorker::Start(Box::new(start));
        let envelope = Envelope { generation: Generation(self.particulars.generation), message };
        let artifact = self.blueprint.artifact.descriptor().map_err(StartFault::Host)?;
        let output = self.particulars.output.take();
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![artifact.as_fd()];
        descriptors.extend(output.as_ref().map(AsFd::as_fd));
        loop {
            let mut guard = setup.writable().await.map_err(|_| Broken::Closed)?;
            match setup.get_ref().0.send_with(&envelope, &[], &descriptors) {
                Err(ChannelError::WouldBlock) => guard.clear_ready(),
                Err(ChannelError::Closed) => return Err(Broken::Closed.into()),
                Err(error) => {
                    let what = format!("failed to send the plan, arguments and config: {error}");
                    return Err(StartFault::Host(Error::launch(what)));
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn hear(&self, setup: &Watch<Channel>) -> Result<(FromWorker, Vec<OwnedFd>), StartFault> {
        let mut buffer = Box::new([0; PACKET_MAX]);
        loop {
            let mut guard = tokio::select! {
                biased;
                guard = setup.readable() => guard.map_err(|_| Broken::Closed)?,
                () = self.process.ended() => return Err(Broken::Closed.into()),
            };
            let received = setup.get_ref().0.receive_with::<Envelope<FromWorker>>(&mut buffer);
            match received {
                Err(ChannelError::WouldBlock) => guard.clear_ready(),
                Err(ChannelError::Closed) => return Err(Broken::Closed.into()),
                Err(error) => return Err(Broken::Breach(error.to_string()).into()),
                Ok((packet, descriptors)) => return Ok((packet.message.message, descriptors)),
            }
        }
    }

    fn supervise(&mut self, descriptors: Vec<OwnedFd>) -> Result<(), StartFault> {
        let listener = descriptors.into_iter().next();
        let (Filters::Supervised { judge, .. }, Some(listener), None) =
            (&self.blueprint.orders.filters, listener, &self.supervisor)
        else {
            return Err(Broken::Breach("a listener that was not ordered".to_owned()).into());
        };
        let pid = pid_of(self.process.pidfd()).map_err(host("identify a worker"))?;
        let supervisor = Supervisor {
            judge: hotcell_policy::for_pid(judge, pid),
            stage: self.stage.clone(),
            record: Arc::clone(&self.record),
        };
        self.supervisor = Some(StopTask(tokio::spawn(supervisor.serve(listener)).abort_handle()));
        Ok(())
    }

    fn verify(&self, evidence: &Evidence) -> Result<(), StartFault> {
        let supervised = matches!(self.blueprint.orders.filters, Filters::Supervised { .. });
        if supervised && self.supervisor.is_none() {
            return Err(self.mismatch("it sent no listener"));
        }
        let compiler = self.blueprint.image == Image::Compiler;
        let expected = Expected {
            orders: &self.blueprint.orders,
            identity: self.blueprint.identity,
            descriptors: if compiler { &COMPILER_DESCRIPTORS } else { &DESCRIPTORS },
        };
        expected.check(evidence).map_err(|what| self.mismatch(&what))?;
        let status = read_status(self.process.pidfd()).map_err(host("read a worker's status"))?;
        expected.check_status(&status).map_err(|what| self.mismatch(&what))
    }

    fn mismatch(&self, what: &str) -> StartFault {
        let detail = format!("the confinement is not what was ordered: {what}");
        self.kill(ExitCause::StartFailed {
            step: hotcell_protocol::Step::SelfCheck,
            errno: 0,
            detail: detail.clone(),
        });
        StartFault::Failed(Failure { step: hotcell_protocol::Step::SelfCheck, errno: 0, detail })
    }
}

fn host(what: &'static str) -> impl FnOnce(std::io::Error) -> StartFault {
    move |source| StartFault::Host(Error::io(what, source))
}
