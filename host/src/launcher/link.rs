//! The task that owns the launcher's channel.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use hotcell_protocol::launch::build_id;
use hotcell_protocol::{
    Channel, ChannelError, FromLauncher, Image, Launch, Namespace, PACKET_MAX, ToLauncher, WorkerId,
};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot, watch};

use super::process::{End, Process, Spawned};
use super::program::Programs;
use super::thread::{self, Order};
use crate::error::Error;
use crate::sys::watch::{Watch, watch};

/// How long a launcher may take to warm up.
const READY_TIME: Duration = Duration::from_secs(20);

/// A worker to start. The descriptors become its stdin, stdout, stderr, two bells and setup channel.
#[derive(Debug)]
pub(crate) struct SpawnRequest {
    pub(crate) image: Image,
    pub(crate) launch: Launch,
    pub(crate) descriptors: [OwnedFd; 6],
}

#[derive(Debug)]
enum Command {
    Spawn(WorkerId, SpawnRequest, oneshot::Sender<Result<Spawned, Error>>),
    Forget(WorkerId),
    Stop,
}

/// A handle to the launcher's task.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    commands: mpsc::UnboundedSender<Command>,
    next: Arc<AtomicU64>,
    namespaces: watch::Receiver<Vec<Namespace>>,
}

impl Launcher {
    /// Starts a launcher and the task that keeps one alive. The receiver closes when both are gone.
    pub(crate) async fn start(programs: Programs) -> Result<(Launcher, oneshot::Receiver<()>), Error> {
        let (orders, buried) = thread::start(programs)?;
        let (channel, entered) = make(&orders).await?;
        let (entered, namespaces) = watch::channel(entered);
        let (commands, inbox) = mpsc::unbounded_channel();
        let task = Task {
            orders,
            channel: Some(channel),
            outbox: VecDeque::new(),
            pending: HashMap::new(),
            living: HashMap::new(),
            namespaces: entered,
        };
        tokio::spawn(task.run(inbox));
        Ok((Launcher { commands, next: Arc::new(AtomicU64::new(1)), namespaces }, buried))
    }

    /// The first namespace of these that the launcher has not entered.
    pub(crate) fn lacks(&self, wanted: &[Namespace]) -> Option<Namespace> {
        let entered = self.namespaces.borrow();
        wanted.iter().copied().find(|namespace| !entered.contains(namespace))
    }

    /// Starts a worker. Dropping the future kills what it started.
    pub(crate) async fn spawn(&self, request: SpawnRequest) -> Result<Process, Error> {
        let worker = WorkerId(self.next.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Spawn(worker, request, answer)).map_err(|_| Error::Shutdown)?;
        let spawned = answered.await.map_err(|_| Error::Shutdown)??;
        Ok(Process { worker, spawned, launcher: self.clone() })
    }

    /// Ends the task, and with it the launcher and every worker.
    pub(crate) fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    pub(super) fn forget(&self, worker: WorkerId) {
        let _ = self.commands.send(Command::Forget(worker));
    }
}

#[derive(Debug)]
struct Task {
    orders: std_mpsc::Sender<Order>,
    /// `None` after a launcher died and the next could not be started; tried again with the next worker.
    channel: Option<Watch<Channel>>,
    /// Waits for room in the channel while the task goes on listening, so that neither side can block the other.
    outbox: VecDeque<(ToLauncher, Vec<OwnedFd>)>,
    pending: HashMap<WorkerId, oneshot::Sender<Result<Spawned, Error>>>,
    living: HashMap<WorkerId, Living>,
    /// What the launcher has entered.
    namespaces: watch::Sender<Vec<Namespace>>,
}

#[derive(Debug)]
struct Living {
    pidfd: Arc<Watch<OwnedFd>>,
    /// `None` where an earlier launcher was the parent: nobody will report.
    report: Option<oneshot::Sender<End>>,
    /// Its owner has no more interest; a child of this launcher stays known until it was reaped.
    forgotten: bool,
}

/// What the task woke up for.
enum Woken {
    Command(Option<Command>),
    Heard(Result<(FromLauncher, Vec<OwnedFd>), ChannelError>),
    Sent(Result<(), ChannelError>),
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut buffer = Box::new([0; PACKET_MAX]);
        loop {
            let channel = self.channel.as_ref();
            let woken = tokio::select! {
                command = inbox.recv() => Woken::Command(command),
                heard = receive(channel, &mut buffer) => Woken::Heard(heard),
                sent = send(channel, self.outbox.front()) => Woken::Sent(sent),
            };
            let outcome = match woken {
                Woken::Command(None | Some(Command::Stop)) => return,
                Woken::Command(Some(command)) => {
                    self.obey(command).await;
                    Ok(())
                }
                Woken::Heard(heard) => heard.map(|(message, descriptors)| self.hear(message, descriptors)),
                Woken::Sent(sent) => sent.map(|()| _ = self.outbox.pop_front()),
            };
            if let Err(error) = outcome {
                tracing::warn!(target: "hotcell::launcher", %error, "the launcher is gone; starting another");
                self.lose();
                if let Err(error) = self.replace().await {
                    tracing::error!(target: "hotcell::launcher", %error, "no launcher for now");
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Spawn(worker, request, answer) => {
                if answer.is_closed() {
                    return;
                }
                if let Err(error) = self.replace().await {
                    let _ = answer.send(Err(error));
                    return;
                }
                self.pending.insert(worker, answer);
                let SpawnRequest { image, launch, descriptors } = request;
                self.outbox.push_back((ToLauncher::Spawn { worker, image, launch }, descriptors.into()));
            }
            Command::Stop => {}
            Command::Forget(worker) => {
                self.living.entry(worker).and_modify(|living| living.forgotten = true);
                self.drop_forgotten();
            }
        }
    }

    fn hear(&mut self, message: FromLauncher, mut descriptors: Vec<OwnedFd>) {
        match message {
            FromLauncher::Ready { .. } => {}
            FromLauncher::Spawned { worker, pid } => {
                match (self.pending.remove(&worker), descriptors.pop()) {
                    (Some(answer), Some(pidfd)) => self.spawned(worker, pid, pidfd, answer),
                    (Some(answer), None) => {
                        // It ends by itself: the request's channels close with the error.
                        let source = rustix::io::Errno::MFILE.into();
                        let _ = answer.send(Err(Error::io("receive a worker's descriptor", source)));
                    }
                    (None, _) => {}
                }
            }
            FromLauncher::SpawnFailed { worker, errno, what } => {
                if let Some(answer) = self.pending.remove(&worker) {
                    let source = std::io::Error::from_raw_os_error(errno);
                    let _ = answer.send(Err(Error::io(format!("start a worker ({what})"), source)));
                }
            }
            FromLauncher::Exited { worker, status, usage } => {
                let report = self.living.remove(&worker).and_then(|living| living.report);
                if let Some(report) = report {
                    // The worker's owner may be gone: it was killed when its handle was dropped.
                    let _ = report.send(End { status: Some(status), usage });
                }
            }
        }
    }

    fn spawned(
        &mut self,
        worker: WorkerId,
        pid: u32,
        pidfd: OwnedFd,
        answer: oneshot::Sender<Result<Spawned, Error>>,
    ) {
        let (report, reported) = oneshot::channel();
        let polled = match watch(pidfd, Interest::READABLE) {
            Ok(polled) => Arc::new(polled),
            Err(source) => {
                // The worker ends by itself: the request's channels close with the error.
                let _ = answer.send(Err(Error::io("watch a worker", source)));
                return;
            }
        };
        self.living
            .insert(worker, Living { pidfd: Arc::clone(&polled), report: Some(report), forgotten: false });
        if answer.send(Ok(Spawned { pid, pidfd: polled, report: reported })).is_err() {
            self.living.entry(worker).and_modify(|living| living.forgotten = true);
        }
    }

    /// The launcher died: what was asked of it fails, and nobody will report on its children.
    fn lose(&mut self) {
        self.channel = None;
        self.outbox.clear();
        for (_, answer) in self.pending.drain() {
            let _ = answer.send(Err(Error::launch("the launcher died while it started a worker")));
        }
        self.living.values_mut().for_each(|living| living.report = None);
        self.drop_forgotten();
    }

    fn drop_forgotten(&mut self) {
        self.living.retain(|_, living| !living.forgotten || living.report.is_some());
    }

    /// Starts a launcher if there is none, and has it guard the workers that go on.
    async fn replace(&mut self) -> Result<(), Error> {
        if self.channel.is_some() {
            return Ok(());
        }
        let (channel, entered) = make(&self.orders).await?;
        self.channel = Some(channel);
        self.namespaces.send_replace(entered);
        for (worker, living) in &self.living {
            let pidfd = living.pidfd.get_ref().0.try_clone();
            let pidfd = pidfd.map_err(|source| Error::io("guard a worker", source))?;
            self.outbox.push_back((ToLauncher::Guard { worker: *worker }, vec![pidfd]));
        }
        Ok(())
    }
}

/// Has the thread make a launcher, and meets it.
async fn make(orders: &std_mpsc::Sender<Order>) -> Result<(Watch<Channel>, Vec<Namespace>), Error> {
    let (answer, answered) = oneshot::channel();
    orders.send(answer).map_err(|_| Error::Shutdown)?;
    let channel = answered.await.map_err(|_| Error::Shutdown)??;
    let channel = watch(channel, Interest::READABLE | Interest::WRITABLE)
        .map_err(|source| Error::io("watch the launcher's channel", source))?;
    let mut buffer = Box::new([0; PACKET_MAX]);
    let met = tokio::time::timeout(READY_TIME, receive(Some(&channel), &mut buffer)).await;
    match met {
        Ok(Ok((FromLauncher::Ready { build, namespaces }, _))) if build == build_id() => {
            Ok((channel, namespaces))
        }
        Ok(Ok((FromLauncher::Ready { build, .. }, _))) => {
            let mine = build_id();
            Err(Error::launch(format!("the launcher is of build {build}, this library of build {mine}")))
        }
        Ok(Ok(_)) => Err(Error::launch("the launcher did not introduce itself")),
        Ok(Err(error)) => Err(Error::launch(format!("the launcher ended before it was ready: {error}"))),
        Err(_) => Err(Error::launch(format!("the launcher was not ready within {READY_TIME:?}"))),
    }
}

async fn receive(
    channel: Option<&Watch<Channel>>,
    buffer: &mut [u8; PACKET_MAX],
) -> Result<(FromLauncher, Vec<OwnedFd>), ChannelError> {
    let Some(channel) = channel else { return std::future::pending().await };
    loop {
        let mut guard = channel.readable().await.map_err(|_| ChannelError::Closed)?;
        match channel.get_ref().0.receive::<FromLauncher>(buffer) {
            Err(ChannelError::WouldBlock) => guard.clear_ready(),
            other => return other,
        }
    }
}

/// Sends one message; for ever if there is none, or no channel.
async fn send(
    channel: Option<&Watch<Channel>>,
    next: Option<&(ToLauncher, Vec<OwnedFd>)>,
) -> Result<(), ChannelError> {
    let (Some(channel), Some((message, descriptors))) = (channel, next) else {
        return std::future::pending().await;
    };
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    loop {
        let mut guard = channel.writable().await.map_err(|_| ChannelError::Closed)?;
        match channel.get_ref().0.send_with(message, &descriptors) {
            Err(ChannelError::WouldBlock) => guard.clear_ready(),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};
    use std::os::unix::process::ExitStatusExt;
    use std::sync::mpsc;

    use hotcell_protocol::{Channel, FromLauncher, WorkerId};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::sync::{oneshot, watch};

    use super::{Spawned, Task};
    use crate::error::Error;

    type Answer = oneshot::Receiver<Result<Spawned, Error>>;

    /// A task that asked for one worker.
    fn waiting() -> (Task, Answer) {
        let (answer, answered) = oneshot::channel();
        let task = Task {
            orders: mpsc::channel().0,
            channel: None,
            outbox: VecDeque::new(),
            pending: HashMap::from([(WorkerId(1), answer)]),
            living: HashMap::new(),
            namespaces: watch::Sender::new(Vec::new()),
        };
        (task, answered)
    }

    #[tokio::test]
    async fn a_worker_whose_owner_left_before_it_looked_is_killed() {
        let (mut task, answered) = waiting();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("starts");
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("opens");
        task.hear(SPAWNED, vec![pidfd]);
        assert!(child.try_wait().expect("a child").is_none(), "control: it lives while somebody may take it");
        drop(answered);
        let status = child.wait().expect("it ends");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    const SPAWNED: FromLauncher = FromLauncher::Spawned { worker: WorkerId(1), pid: 1 };

    #[tokio::test]
    async fn a_worker_whose_descriptor_did_not_fit_fails_its_request_alone() {
        let (mut task, mut answered) = waiting();
        task.hear(SPAWNED, Vec::new());
        let answer = answered.try_recv().expect("is answered");
        assert!(answer.is_err_and(|error| error.to_string().contains("Too many open files")));
        assert!(task.living.is_empty() && task.pending.is_empty());
    }

    #[tokio::test]
    async fn a_worker_that_nobody_waits_for_any_more_is_forgotten() {
        for (gone, forgotten) in [(true, true), (false, false)] {
            let (mut task, answered) = waiting();
            let kept = if gone {
                drop(answered);
                None
            } else {
                Some(answered)
            };
            // Stands for a pidfd: signals to it fail.
            let (_near, far) = Channel::pair().expect("socketpair");
            task.hear(SPAWNED, vec![far.into_socket()]);
            assert_eq!(task.living.get(&WorkerId(1)).map(|living| living.forgotten), Some(forgotten));
            drop(kept);
        }
    }
}
