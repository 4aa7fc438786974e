//! The launcher: trusted, single-threaded, warmed; it forks workers and reaps them.
//!
//! No plugin byte enters it: it passes descriptors on without reading what is behind them. It ends when the host does,
//! and takes every worker with it. (Elsewhere such a process is called a zygote.)

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hotcell_protocol::launch::build_id;
use hotcell_protocol::{
    Channel, ChannelError, FromLauncher, Image, Launch, Namespace, PACKET_MAX, ToLauncher, WorkerId,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, pidfd_open, pidfd_send_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, CpuSet, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::start::Inherited;
use crate::{namespaces, native, sys};

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

/// What a forked wasm worker runs.
pub type WasmMain = fn(Inherited) -> !;

#[derive(Debug)]
struct Launcher {
    host: Channel,
    programs: Programs,
    wasm: WasmMain,
    namespaces: Vec<Namespace>,
    /// Readable when a child has ended.
    ended: OwnedFd,
    /// Its own children, none of them reaped: until then a number belongs to nobody else. A descriptor for each would be
    /// copied by every fork.
    workers: BTreeMap<i32, WorkerId>,
    guarded: BTreeMap<WorkerId, OwnedFd>,
}

/// What is executed rather than forked, opened while the launcher may still go anywhere.
#[derive(Debug)]
struct Programs {
    wasm: OwnedFd,
    native: OwnedFd,
    compiler: OwnedFd,
}

impl Programs {
    fn open(folder: &Path) -> Result<Programs, Errno> {
        let open = |name: &str| openat(CWD, folder.join(name), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok(Programs {
            wasm: open("hotcell-launcher")?,
            native: open("hotcell-worker")?,
            compiler: open("hotcell-compiler")?,
        })
    }

    /// The one to execute, unless a copy of this process will do.
    fn to_execute(&self, image: Image, launch: Launch) -> Option<&OwnedFd> {
        match (image, launch) {
            (Image::Wasm | Image::Native, Launch::Fork) => None,
            (Image::Wasm, Launch::Exec) => Some(&self.wasm),
            (Image::Native, Launch::Exec) => Some(&self.native),
            (Image::Compiler, _) => Some(&self.compiler),
        }
    }
}

/// The capabilities that a launcher keeps: to give workers their identities, and to end them.
const KEPT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

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
/// `programs` is the folder of `hotcell-worker` and `hotcell-compiler`. First it takes away from itself what all of its
/// workers must lack, so that their starts need not.
///
/// # Errors
/// The channel broke in another way than by the end of the host; every worker is killed then, too.
pub fn serve(programs: &Path, wasm: WasmMain) -> Result<(), ChannelError> {
    let host = Channel::from_socket(sys::adopt(descriptor::LAUNCHER));
    let programs = Programs::open(programs)?;
    let namespaces = namespaces::enter()?;
    drop_privileges(namespaces.contains(&Namespace::Mount))?;
    let ended = sys::child_signals()?;
    let (workers, guarded) = (BTreeMap::new(), BTreeMap::new());
    let mut launcher = Launcher { host, programs, wasm, namespaces, ended, workers, guarded };
    let result = launcher.live();
    launcher.kill_all();
    match result {
        Err(ChannelError::Closed) => Ok(()),
        other => other,
    }
}

/// Keeps [`KEPT`] of what this process has, also over exec, and nothing else for ever; with `mounting`, also what a worker
/// needs to make itself a file tree.
fn drop_privileges(mounting: bool) -> Result<(), Errno> {
    let now = capabilities(None)?;
    let mounting = if mounting { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() };
    let kept = now.permitted & (KEPT | mounting);
    // In this order: what is outside of the bounding set cannot become inheritable (capabilities(7)).
    set_capabilities(None, CapabilitySets { inheritable: kept, ..now })?;
    empty_bounding_set()?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    // Who is not root keeps over exec only what is ambient.
    if !mounting.is_empty() && !rustix::process::geteuid().is_root() {
        configure_capability_in_ambient_set(mounting, true)?;
    }
    set_no_new_privs(true)
}

/// Drops every capability that this kernel knows; the first number that it does not know is one past the last.
///
/// An ordinary user may not, and has none to gain after `no_new_privs`. The host looks at each worker's set again.
fn empty_bounding_set() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            Err(Errno::INVAL) if bit > 0 => break,
            Err(Errno::PERM) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Workers that an earlier launcher left take a descriptor each: the soft limit of most systems, 1024, is soon used up.
fn raise_descriptor_limit() -> Result<(), Errno> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

/// Takes what is free within the heap, for good, so that what workers allocate lies side by side behind it. Where they write between
/// what is here already, each page costs a fault and a copy.
fn fill_holes() {
    let large = Vec::<u8>::with_capacity(LARGE);
    let behind = large.as_ptr().addr();
    drop(large);
    let mut left = FILLED_MAX;
    // From large to small: what is left of a large hole is a small one.
    let sizes = (1..=LARGE / SMALL).rev().map(|times| times * SMALL);
    for size in sizes.chain((16..SMALL).rev().step_by(16)) {
        while left >= size {
            // Eight bytes are glibc's own.
            let block = Vec::<u8>::with_capacity(size - 8);
            let is_hole = block.as_ptr().addr() < behind;
            // A small one that was given back would be the first to be given out again, wherever it is.
            if is_hole || size <= SMALL {
                left -= size;
                std::mem::forget(block);
            }
            if !is_hole {
                break;
            }
        }
    }
}

/// Bytes that no hole has.
const LARGE: usize = 64 << 10;

/// Bytes up to which the allocator keeps what is given back for the next who asks for as much.
const SMALL: usize = 1 << 10;

/// Bytes that are taken at most, whatever the allocator does.
const FILLED_MAX: usize = 1 << 20;

impl Launcher {
    fn live(&mut self) -> Result<(), ChannelError> {
        let namespaces = self.namespaces.clone();
        self.host.send(&FromLauncher::Ready { build: build_id(), namespaces })?;
        let mut buffer = vec![0; PACKET_MAX];
        fill_holes();
        loop {
            let (message, gone) = self.wait()?;
            gone.iter().for_each(|worker| _ = self.guarded.remove(worker));
            self.bury()?;
            if message {
                self.obey(&mut buffer)?;
            }
        }
    }

    /// Sleeps until the host sent something or a worker ended. Returns whether it sent, and which guarded ones are gone.
    fn wait(&self) -> Result<(bool, Vec<WorkerId>), ChannelError> {
        let guarded = self.guarded.values().map(AsFd::as_fd);
        let mut polled: Vec<_> = [self.host.as_fd(), self.ended.as_fd()]
            .into_iter()
            .chain(guarded)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        let message = ready.next().unwrap_or(false);
        let guards = self.guarded.keys().zip(ready.skip(1));
        Ok((message, guards.filter(|(_, gone)| *gone).map(|(worker, _)| *worker).collect()))
    }

    fn obey(&mut self, buffer: &mut [u8]) -> Result<(), ChannelError> {
        let (message, descriptors) = self.host.receive::<ToLauncher>(buffer)?;
        match message {
            ToLauncher::Spawn { worker, image, launch } => self.spawn(worker, (image, launch), descriptors),
            ToLauncher::Guard { worker } => {
                self.guarded.extend(descriptors.into_iter().next().map(|pidfd| (worker, pidfd)));
                Ok(())
            }
        }
    }

    fn spawn(
        &mut self,
        worker: WorkerId,
        how: (Image, Launch),
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), ChannelError> {
        // Fewer arrive where this process has no free descriptor: one worker fails then, not all.
        let forked = <[OwnedFd; 6]>::try_from(descriptors)
            .map_err(|_| (Errno::MFILE, "receive a worker's six descriptors".to_owned()))
            .and_then(|descriptors| self.fork(how, descriptors));
        match forked {
            Ok((pid, pidfd)) => {
                self.workers.insert(pid.as_raw_pid(), worker);
                let pid = pid.as_raw_pid().cast_unsigned();
                self.host.send_with(&FromLauncher::Spawned { worker, pid }, &[pidfd.as_fd()])
            }
            Err((errno, what)) => {
                let errno = errno.raw_os_error();
                self.host.send(&FromLauncher::SpawnFailed { worker, errno, what })
            }
        }
    }

    fn fork(
        &self,
        (image, launch): (Image, Launch),
        descriptors: [OwnedFd; 6],
    ) -> Result<(Pid, OwnedFd), (Errno, String)> {
        let program = self.programs.to_execute(image, launch);
        if program.is_none() && image == Image::Native {
            native::warm();
        }
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

    /// In the child: nothing of the launcher but its code and warm memory is left after this.
    fn become_worker(&self, image: Image, program: Option<&OwnedFd>, descriptors: &[OwnedFd; 6]) {
        sys::unblock_signals();
        let in_order: [BorrowedFd<'_>; 6] = descriptors.each_ref().map(AsFd::as_fd);
        let is_executed = program.is_some();
        // The program moves out of the way of the six numbers that a worker's descriptors take.
        let program = program.and_then(|program| fcntl_dupfd_cloexec(program, ABOVE_WORKER_DESCRIPTORS).ok());
        // Of the launcher's session, which has no terminal: who leads none cannot get one either. And where the scheduler shares
        // processors among sessions first (sched(7), autogroups), all workers count as one.
        if rustix::process::setpgid(None, None).is_err() || sys::keep_only(&in_order, is_executed).is_err() {
            return;
        }
        match (program, image) {
            (Some(program), _) => _ = sys::exec(program.as_fd(), &[PROGRAM_NAME], &[]),
            // Its program could not be moved.
            (None, _) if is_executed => {}
            (None, Image::Native) => native::run_forked(Inherited::adopt()),
            (None, _) => (self.wasm)(Inherited::adopt()),
        }
    }

    /// Reaps the children that have ended, and reports them.
    fn bury(&mut self) -> Result<(), ChannelError> {
        sys::forget_child_signals(&self.ended);
        while let Some((pid, status, usage)) = sys::reap_any()? {
            if let Some(worker) = self.workers.remove(&pid.as_raw_pid()) {
                self.host.send(&FromLauncher::Exited { worker, status, usage })?;
            }
        }
        Ok(())
    }

    fn kill_all(&self) {
        // By number, which only this process could free, by reaping.
        for pid in self.workers.keys().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        for pidfd in self.guarded.values() {
            // One that has ended already answers ESRCH.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

/// First number that [`sys::keep_only`] leaves alone until the next execve.
const ABOVE_WORKER_DESCRIPTORS: i32 = 16;

/// The one argument of an executed worker: its own name, the same for every plugin.
const PROGRAM_NAME: &CStr = c"hotcell-worker";

/// Whether a launcher executed this program to be a worker.
pub fn made_this_a_worker() -> bool {
    std::env::args_os().next().is_some_and(|name| name.as_encoded_bytes() == PROGRAM_NAME.to_bytes())
}

/// Exit code of a child that could not become a worker. The host sees its setup channel closed.
const EXIT_CHILD_FAILED: i32 = 1;
