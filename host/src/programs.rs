//! Programs that the host runs for a plugin: each a worker of its own, confined as the plan says.
//!
//! A program is executed from a copy that was sealed when the plugin was loaded, with the arguments and the environment that the
//! plugin gives and nothing of the host's. It ends with the call (`process.run`) or with the worker (`process.spawn`) that asked for it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hotcell_policy::GrantPath;
use hotcell_protocol::{CommandLine, Image, Place};
use serde::Deserialize;
use tokio::io::AsyncWrite;
use tokio::sync::watch;

use crate::error::Error;
use crate::exit::{Exit, ExitCause};
use crate::network::Slot;
use crate::package::Package;
use crate::package::artifact::Sealed;
use crate::start;
use crate::stdio::{CommandIo, Streams, pipe_pair};
use crate::violation::Adviser;
use crate::worker::{Blueprint, Particulars, StopTask, Surroundings};

/// What a plugin asks for, each by a host call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Runs a program to its end.
    Run,
    /// Starts one, whose streams the plugin gets.
    Spawn,
    /// Waits for the end of one that was started.
    Wait,
    /// Ends one.
    Kill,
}

impl Task {
    pub(crate) fn of_host_call(name: &str) -> Option<Task> {
        match name {
            "process.run" => Some(Task::Run),
            "process.spawn" => Some(Task::Spawn),
            "process.wait" => Some(Task::Wait),
            "process.kill" => Some(Task::Kill),
            _ => None,
        }
    }
}

/// Why a plugin does not get what it asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The plan has no such program.
    NotGranted(String),
    /// It failed, with a text for the plugin.
    Failed(String),
}

fn failed<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Failed(text.into()))
}

/// The programs of one version of a plugin.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    known: Arc<[(GrantPath, Arc<Blueprint>)]>,
    surroundings: Surroundings,
}

/// The first line of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    program: String,
    #[serde(default)]
    arguments: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
}

/// Copies the programs that a plan grants. Blocks on their file systems.
pub(crate) fn copy(
    package: &Package,
    plan: &hotcell_policy::Plan,
) -> Result<Vec<(GrantPath, Arc<Sealed>)>, Error> {
    let granted = plan.programs.iter().flat_map(|programs| &programs.granted);
    let copy = |program: &GrantPath| match program.place() {
        Place::Plugin => package.program(program.path()),
        _ => {
            let (name, path) = (program.to_string(), Path::new("/").join(program.path()));
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = File::options().read(true).custom_flags(flags).open(path);
            let file = file.map_err(|source| Error::malformed(&name, source.to_string()))?;
            match file.metadata().is_ok_and(|facts| facts.is_file()) {
                true => Sealed::copy_program(&name, file),
                false => Err(Error::malformed(&name, "it is not a regular file")),
            }
        }
    };
    granted.map(|grant| Ok((grant.program.clone(), Arc::new(copy(&grant.program)?)))).collect()
}

impl Programs {
    /// `plugin` is what the plugin's own workers start from.
    pub(crate) fn new(
        surroundings: &Surroundings,
        plan: &hotcell_policy::Plan,
        copies: &[(GrantPath, Arc<Sealed>)],
        plugin: &Blueprint,
        adviser: impl Fn() -> Adviser,
    ) -> Programs {
        let blueprint = |(program, artifact): &(GrantPath, Arc<Sealed>)| {
            let programs = plan.programs.as_ref()?;
            let blueprint = Blueprint {
                plugin: plugin.plugin.clone(),
                subject: format!("program {program} of {}", plugin.plugin),
                version: plugin.version.clone(),
                origin: None,
                image: Image::Native,
                orders: programs.orders.clone(),
                cgroups: programs.cgroups.clone(),
                artifact: Arc::clone(artifact),
                package: plugin.package.clone(),
                config: None,
                identity: plugin.identity,
                has_network: false,
                observed: None,
                keeps_inputs: false,
                spin: std::time::Duration::ZERO,
                adviser: Some(adviser()),
            };
            Some((program.clone(), Arc::new(blueprint)))
        };
        Programs { known: copies.iter().filter_map(blueprint).collect(), surroundings: surroundings.clone() }
    }

    /// Does what a plugin asks for. Dropping the future ends a program that it runs. `most` bytes are answered.
    pub(crate) async fn perform(
        &self,
        task: Task,
        input: Vec<u8>,
        children: &Children,
        slot: &Slot,
        most: usize,
    ) -> Result<Vec<u8>, Refusal> {
        match task {
            Task::Run => self.run(&input, children, most).await,
            Task::Spawn => self.spawn(&input, children, slot),
            Task::Wait => children.wait(&input).await,
            Task::Kill => children.kill(&input),
        }
    }

    async fn run(&self, input: &[u8], children: &Children, most: usize) -> Result<Vec<u8>, Refusal> {
        let (head, body) =
            input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
        let (blueprint, command) = self.find(head)?;
        let _seat = children.seat()?;
        let output = Collected { bytes: Arc::new(Mutex::new(Some(Vec::new()))), most };
        let io = CommandIo {
            stdin: Some(Box::new(io::Cursor::new(body.get(1..).unwrap_or_default().to_vec()))),
            stdout: Some(Box::new(output.clone())),
            stderr: None,
        };
        let particulars = Particulars { generation: children.generation, command, output: None };
        let ran = start::run_program(&self.surroundings, blueprint, particulars, io.into()).await;
        let end = ran.map_err(|ended| Refusal::Failed(words(&ended)))?;
        let bytes = std::mem::take(&mut *output.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        match bytes {
            Some(bytes) => {
                let mut answer = ended(&end).into_bytes();
                answer.push(b'\n');
                answer.extend(bytes);
                Ok(answer)
            }
            None => failed("the program's output is over the plugin's message limit"),
        }
    }

    fn spawn(&self, input: &[u8], children: &Children, slot: &Slot) -> Result<Vec<u8>, Refusal> {
        let (blueprint, command) = self.find(input)?;
        let pipes = || -> Result<_, Error> { Ok((pipe_pair()?, pipe_pair()?)) };
        let ((stdin, to_it), (from_it, stdout)) =
            pipes().map_err(|error| Refusal::Failed(error.to_string()))?;
        let (surroundings, blueprint) = (self.surroundings.clone(), Arc::clone(blueprint));
        let particulars = Particulars { generation: children.generation, command, output: None };
        let id = children.add(async move {
            let streams = Streams::Given([stdin, stdout]);
            match start::run_program(&surroundings, &blueprint, particulars, streams).await {
                Ok(exit) => Ok(ended(&exit)),
                Err(failed) => Err(words(&failed)),
            }
        })?;
        slot.put(Ok(to_it));
        slot.add(from_it);
        Ok(id.to_string().into_bytes())
    }

    fn find(&self, head: &[u8]) -> Result<(&Arc<Blueprint>, CommandLine), Refusal> {
        let request: Request = match serde_json::from_slice(head) {
            Ok(request) => request,
            Err(error) => return failed(format!("the request is not as it must be: {error}")),
        };
        let wanted = request.program.parse::<GrantPath>().ok();
        let found = self.known.iter().find(|(program, _)| Some(program) == wanted.as_ref());
        let Some((program, blueprint)) = found else { return Err(Refusal::NotGranted(request.program)) };
        let first = match program.place() {
            Place::Root => program.to_string(),
            _ => program.path().rsplit('/').next().unwrap_or_default().to_owned(),
        };
        let arguments = std::iter::once(first).chain(request.arguments).collect();
        let environment = request.environment.into_iter().collect();
        Ok((blueprint, CommandLine { arguments, environment }))
    }
}

/// How a program ended, as JSON for the plugin, in this order of its members.
fn ended(exit: &Exit) -> String {
    let signal = |number: i32, name: &str| format!("{{\"signal\":{number},\"name\":\"{name}\"}}");
    match &exit.cause {
        ExitCause::Code(code) => format!("{{\"exit\":{code}}}"),
        ExitCause::Signal { number, name } => signal(*number, name),
        ExitCause::Violation { .. } => signal(libc::SIGSYS, "SIGSYS"),
        _ => signal(libc::SIGKILL, "SIGKILL"),
    }
}

/// Why a program did not start, for the plugin: what the worker says is escaped, and the host's own words stay here.
fn words(failed: &start::Failed) -> String {
    match failed {
        start::Failed::Ended(Exit { cause: ExitCause::StartFailed { detail, .. }, .. }) => detail.clone(),
        _ => "the program could not be started".to_owned(),
    }
}

/// Output that is kept, up to a bound; `None` once there was more.
#[derive(Clone, Debug)]
struct Collected {
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
    most: usize,
}

impl AsyncWrite for Collected {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut kept = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_mut().filter(|kept| kept.len() + bytes.len() <= self.most) {
            Some(kept) => {
                kept.extend_from_slice(bytes);
                Poll::Ready(Ok(bytes.len()))
            }
            None => {
                *kept = None;
                Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How a program ended, or why it did not start.
type End = Result<String, String>;

/// The programs of one worker: at most so many at once, those among them that have ended and were not waited for.
#[derive(Clone, Debug)]
pub(crate) struct Children {
    generation: u32,
    most: u32,
    family: Arc<Mutex<Family>>,
}

#[derive(Debug, Default)]
struct Family {
    /// The worker is gone.
    closed: bool,
    /// Programs that run to their end within a call.
    running: u32,
    last: u32,
    started: HashMap<u32, Child>,
}

#[derive(Debug)]
struct Child {
    end: watch::Receiver<Option<End>>,
    /// Its end is the program's.
    _task: StopTask,
}

/// The right to one program.
struct Seat<'c>(&'c Children);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.family().running -= 1;
    }
}

impl Children {
    /// `most` is the plan's limit `processes`.
    pub(crate) fn new(generation: u32, most: u32) -> Children {
        Children { generation, most, family: Arc::default() }
    }

    fn family(&self) -> MutexGuard<'_, Family> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_room(&self, family: &Family) -> Result<(), Refusal> {
        let count = u64::from(family.running) + family.started.len() as u64;
        match family.closed || count >= u64::from(self.most) {
            true => failed(format!("{count} programs run, and the limit `processes` is {}", self.most)),
            false => Ok(()),
        }
    }

    fn seat(&self) -> Result<Seat<'_>, Refusal> {
        let mut family = self.family();
        self.check_room(&family)?;
        family.running += 1;
        Ok(Seat(self))
    }

    fn add(&self, program: impl Future<Output = End> + Send + 'static) -> Result<u32, Refusal> {
        let mut family = self.family();
        self.check_room(&family)?;
        let (tell, end) = watch::channel(None);
        let task = tokio::spawn(async move {
            let ended = program.await;
            tell.send_replace(Some(ended));
        });
        family.last += 1;
        let id = family.last;
        family.started.insert(id, Child { end, _task: StopTask(task.abort_handle()) });
        Ok(id)
    }

    async fn wait(&self, id: &[u8]) -> Result<Vec<u8>, Refusal> {
        let id = number(id)?;
        let end = self.family().started.get(&id).map(|child| child.end.clone());
        let Some(mut end) = end else { return failed("there is no such program") };
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        self.family().started.remove(&id);
        match ended {
            Some(Ok(how)) => Ok(how.into_bytes()),
            Some(Err(text)) => failed(text),
            None => failed("the program was ended"),
        }
    }

    fn kill(&self, id: &[u8]) -> Result<Vec<u8>, Refusal> {
        let id = number(id)?;
        match self.family().started.remove(&id) {
            Some(_) => Ok(Vec::new()),
            None => failed("there is no such program"),
        }
    }
}

fn number(id: &[u8]) -> Result<u32, Refusal> {
    let number = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    number.ok_or_else(|| Refusal::Failed("the input is no number of a program".to_owned()))
}

/// Ends a worker's programs with the worker.
#[derive(Debug)]
pub(crate) struct Household(pub(crate) Children);

impl Drop for Household {
    fn drop(&mut self) {
        let mut family = self.0.family();
        family.closed = true;
        let started = std::mem::take(&mut family.started);
        drop(family);
        drop(started);
    }
}
