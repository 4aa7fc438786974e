//! The launcher: trusted, single-threaded, warmed; it forks workers and reaps them.
//!
//! No plugin byte enters it: it passes descriptors on without reading what is behind them. It ends when the host does,
//! and takes every worker with it. (Elsewhere such a process is called a zygote.)

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hotcell_protocol::launch::build_id;
use hotcell_protocol::{Channel, ChannelError, FromLauncher, Image, PACKET_MAX, ToLauncher, WorkerId};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_open, pidfd_send_signal,
};
use rustix::thread::CpuSet;

use crate::start::Inherited;
use crate::sys;

/// The descriptor numbers of a worker, in the order in which [`ToLauncher::Spawn`] fills them.
pub mod descriptor {
    /// Standard input.
    pub const STDIN: i32 = 0;
    /// Standard output.
    pub const STDOUT: i32 = 1;
    /// Standard error.
    pub const STDERR: i32 = 2;
    /// The bell that the host's runtime watches; for the launcher itself, its channel to the host.
    pub const FIRST_BELL: i32 = 3;
    /// The bell on which a blocking caller sleeps.
    pub const SECOND_BELL: i32 = 4;
    /// The setup channel, closed before the artifact is read.
    pub const SETUP: i32 = 5;
    /// The launcher's own channel.
    pub const LAUNCHER: i32 = FIRST_BELL;
}

/// What a wasm worker runs after the fork.
pub type WasmMain = fn(Inherited) -> !;

#[derive(Debug)]
struct Launcher {
    host: Channel,
    programs: PathBuf,
    wasm: WasmMain,
    workers: BTreeMap<WorkerId, Worker>,
    guarded: BTreeMap<WorkerId, OwnedFd>,
}

#[derive(Debug)]
struct Worker {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Leaves what the host's process left in this one: signal dispositions, keyring, limits, affinity.
///
/// First of all, since a runtime's warm-up installs signal handlers that must stay.
///
/// # Errors
/// The errno of the step that the kernel refused.
pub fn detach() -> Result<(), Errno> {
    sys::reset_signals();
    sys::ignore_broken_pipes();
    sys::new_session_keyring()?;
    raise_descriptor_limit()?;
    let mut every_cpu = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| every_cpu.set(cpu));
    rustix::thread::sched_setaffinity(None, &every_cpu)?;
    // Only root may lower a niceness that the host had raised; an ordinary user's workers keep it.
    let _ = rustix::process::setpriority_process(None, 0);
    Ok(())
}

/// Runs the launcher on the channel that the host left at [`descriptor::LAUNCHER`], until the host is gone.
///
/// `programs` is the folder of `hotcell-worker` and `hotcell-compiler`.
///
/// # Errors
/// The channel broke in another way than by the end of the host; every worker is killed then, too.
pub fn serve(programs: &Path, wasm: WasmMain) -> Result<(), ChannelError> {
    let host = Channel::from_socket(sys::adopt(descriptor::LAUNCHER));
    let mut launcher = Launcher {
        host,
        programs: programs.to_owned(),
        wasm,
        workers: BTreeMap::new(),
        guarded: BTreeMap::new(),
    };
    let result = launcher.live();
    launcher.kill_all();
    match result {
        Err(ChannelError::Closed) => Ok(()),
        other => other,
    }
}

/// One pidfd per worker: the soft limit of most systems, 1024, is soon used up.
fn raise_descriptor_limit() -> Result<(), Errno> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

impl Launcher {
    fn live(&mut self) -> Result<(), ChannelError> {
        self.host.send(&FromLauncher::Ready { build: build_id() })?;
        let mut buffer = Box::new([0; PACKET_MAX]);
        loop {
            let (message, ended) = self.wait()?;
            for worker in ended {
                self.bury(worker)?;
            }
            if message {
                self.obey(&mut buffer)?;
            }
        }
    }

    /// Sleeps until the host sent something or a worker ended.
    fn wait(&self) -> Result<(bool, Vec<WorkerId>), ChannelError> {
        let pidfds = self.workers.iter().map(|(id, worker)| (*id, worker.pidfd.as_fd()));
        let guards = self.guarded.iter().map(|(id, pidfd)| (*id, pidfd.as_fd()));
        let (ids, descriptors): (Vec<_>, Vec<_>) = pidfds.chain(guards).unzip();
        let mut polled: Vec<_> = std::iter::once(self.host.as_fd())
            .chain(descriptors)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let message = ready.next().unwrap_or(false);
        Ok((message, ids.into_iter().zip(ready).filter(|(_, ended)| *ended).map(|(id, _)| id).collect()))
    }

    fn obey(&mut self, buffer: &mut [u8; PACKET_MAX]) -> Result<(), ChannelError> {
        let (message, descriptors) = self.host.receive::<ToLauncher>(buffer)?;
        match message {
            ToLauncher::Spawn { worker, image } => self.spawn(worker, image, descriptors),
            ToLauncher::Guard { worker } => {
                self.guarded.extend(descriptors.into_iter().next().map(|pidfd| (worker, pidfd)));
                Ok(())
            }
        }
    }

    fn spawn(
        &mut self,
        worker: WorkerId,
        image: Image,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        // Fewer arrive where this process has no free descriptor: one worker fails then, not all.
        let forked = <[OwnedFd; 6]>::try_from(descriptors)
            .map_err(|_| (Errno::MFILE, "receive a worker's six descriptors".to_owned()))
            .and_then(|descriptors| self.fork(image, descriptors));
        match forked {
            Ok((pid, pidfd)) => {
                self.host.send_with(&FromLauncher::Spawned { worker }, &[pidfd.as_fd()])?;
                self.workers.insert(worker, Worker { pid, pidfd });
                Ok(())
            }
            Err((errno, what)) => {
                let errno = errno.raw_os_error();
                self.host.send(&FromLauncher::SpawnFailed { worker, errno, what })
            }
        }
    }

    fn fork(&self, image: Image, descriptors: [OwnedFd; 6]) -> Result<(Pid, OwnedFd), (Errno, String)> {
        let program = match image {
            Image::Wasm => None,
            Image::Native => Some(self.open_program("hotcell-worker")?),
            Image::Compiler => Some(self.open_program("hotcell-compiler")?),
        };
        let pid = sys::fork().map_err(|errno| (errno, "fork".to_owned()))?;
        let Some(pid) = pid else {
            let child = AssertUnwindSafe(|| self.become_worker(image, program, &descriptors));
            let _ = catch_unwind(child);
            sys::exit_now(EXIT_CHILD_FAILED)
        };
        let opened = pidfd_open(pid, PidfdFlags::empty());
        opened.map(|pidfd| (pid, pidfd)).map_err(|errno| {
            // By number, which is safe only for a child that nobody has reaped yet.
            let _ = kill_process(pid, Signal::KILL);
            let _ = sys::reap(pid);
            (errno, "pidfd_open".to_owned())
        })
    }

    fn open_program(&self, name: &str) -> Result<OwnedFd, (Errno, String)> {
        let path = self.programs.join(name);
        openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| (errno, format!("open {}", path.display())))
    }

    /// In the child: nothing of the launcher but its code and warm memory is left after this.
    fn become_worker(&self, image: Image, program: Option<OwnedFd>, descriptors: &[OwnedFd; 6]) {
        let in_order: [BorrowedFd<'_>; 6] = descriptors.each_ref().map(AsFd::as_fd);
        // The program moves out of the way of the six numbers that a worker's descriptors take.
        let program = program.and_then(|program| fcntl_dupfd_cloexec(program, ABOVE_WORKER_DESCRIPTORS).ok());
        if rustix::process::setsid().is_err() || sys::keep_only(&in_order, image != Image::Wasm).is_err() {
            return;
        }
        match program {
            Some(program) => _ = sys::exec(program.as_fd(), PROGRAM_NAME),
            None if image != Image::Wasm => {}
            None => (self.wasm)(Inherited::adopt()),
        }
    }

    fn bury(&mut self, worker: WorkerId) -> Result<(), ChannelError> {
        let Some(Worker { pid, .. }) = self.workers.remove(&worker) else {
            self.guarded.remove(&worker);
            return Ok(());
        };
        let (status, usage) = sys::reap(pid)?;
        self.host.send(&FromLauncher::Exited { worker, status, usage })
    }

    fn kill_all(&self) {
        for pidfd in self.workers.values().map(|worker| &worker.pidfd).chain(self.guarded.values()) {
            // One that has ended already answers ESRCH.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// First number that [`sys::keep_only`] leaves alone until the next execve.
const ABOVE_WORKER_DESCRIPTORS: i32 = 16;

/// The one argument of an executed worker: its own name, the same for every plugin.
const PROGRAM_NAME: &CStr = c"hotcell-worker";

/// Exit code of a child that could not become a worker. The host sees its setup channel closed.
const EXIT_CHILD_FAILED: i32 = 1;
