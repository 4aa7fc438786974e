//! The listener of a native worker: answers for every system call that its filter does not allow. A wasm worker with
//! connections has one, too, which is asked about socket(2) alone.
//!
//! While the library loads, a second program, the judge, says what may continue; once the host has seen "loaded", nothing
//! may, but the calls whose paths are observed (`lookout`), which the program allows anyway. Nothing is decided by the worker's
//! memory, so there is nothing that it could change between check and use.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hotcell_policy::{Action, Arch, SeccompData};
use hotcell_protocol::Instruction;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use tokio::io::Interest;

use super::lookout::Lookout;
use super::record::Record;
use crate::network::{Slot, unconnected};
use crate::sys::notify::{self, Notification, Verdict};
use crate::sys::watch::watch;

/// Notifications that are answered before others get their turn.
const BURST: u32 = 16;

/// How far the worker is.
#[derive(Clone, Debug)]
pub(crate) struct Stage(Arc<AtomicU8>);

/// Its own binary confines and tests itself: what is refused then is no misdeed of the plugin.
const CONFINING: u8 = 0;
const LOADING: u8 = 1;
const LOADED: u8 = 2;

impl Stage {
    pub(crate) fn confining() -> Stage {
        Stage(Arc::new(AtomicU8::new(CONFINING)))
    }

    pub(crate) fn loading(&self) {
        self.0.store(LOADING, Ordering::SeqCst);
    }

    /// From now on nothing continues.
    pub(crate) fn loaded(&self) {
        self.0.store(LOADED, Ordering::SeqCst);
    }

    fn now(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Serves one listener.
pub(crate) struct Supervisor {
    /// Bound to the worker's process id; nothing, which allows nothing, for a wasm worker.
    pub(crate) judge: Vec<Instruction>,
    /// Whether its plugin is native code with connections, which may make sockets before it connects them.
    pub(crate) lends_sockets: bool,
    pub(crate) stage: Stage,
    pub(crate) record: Arc<Record>,
    /// A connection that the host has made for the worker.
    pub(crate) slot: Slot,
    /// Where paths are observed.
    pub(crate) lookout: Option<Arc<Lookout>>,
}

impl Supervisor {
    /// Answers until no process uses the filter any more.
    pub(crate) async fn serve(self, listener: OwnedFd) {
        let Ok(listener) = watch(listener, Interest::READABLE) else { return };
        let mut burst = BURST;
        loop {
            if burst == 0 {
                burst = BURST;
                tokio::task::yield_now().await;
            }
            let Ok(mut guard) = listener.readable().await else { return };
            match notify::receive(listener.get_ref().0.as_fd()) {
                Ok(Some(notification)) => {
                    burst -= 1;
                    self.look(&notification).await;
                    if self.answer(listener.get_ref().0.as_fd(), &notification).is_err() {
                        return;
                    }
                }
                Ok(None) => guard.clear_ready(),
                // Nobody is left to answer.
                Err(_) => return,
            }
        }
    }

    /// The lookout, where this call is one that it looks at, and goes on.
    fn watched(&self, notification: &Notification) -> Option<&Arc<Lookout>> {
        let lookout = self.lookout.as_ref().filter(|_| self.stage.now() == LOADED)?;
        evaluates(lookout.allowed(), notification).then_some(lookout)
    }

    /// Tells what the kernel will refuse by its path. On another thread: the plugin chooses the path, and a file system may hang.
    async fn look(&self, notification: &Notification) {
        let Some((lookout, name)) = self.watched(notification).zip(name(notification)) else { return };
        let (lookout, notification) = (Arc::clone(lookout), *notification);
        let looked = tokio::task::spawn_blocking(move || lookout.look(name, &notification)).await;
        for (path, access) in looked.unwrap_or_default() {
            self.record.refused_path(&path, access);
        }
    }

    fn answer(&self, listener: BorrowedFd<'_>, notification: &Notification) -> Result<(), Errno> {
        let socket = if self.stage.now() == CONFINING { None } else { self.socket(notification) };
        let refused = match socket {
            None => return notify::answer(listener, notification, self.judge(notification)),
            Some(Ok(socket)) => notify::install(listener, notification, socket.as_fd()),
            Some(Err(errno)) => Err(errno),
        };
        match refused {
            Ok(()) => Ok(()),
            // There is no connection, or no free descriptor; or the worker is gone.
            Err(errno) => notify::answer(listener, notification, Verdict::Refuse(errno.raw_os_error())),
        }
    }

    /// What socket(2) is answered with; `None` for other calls, and where there is nothing to answer with.
    fn socket(&self, notification: &Notification) -> Option<Result<OwnedFd, Errno>> {
        let [family, kind, protocol, ..] = notification.arguments;
        // Each is an `int`.
        let [family, kind, protocol] = [family, kind, protocol].map(|value| value & u64::from(u32::MAX));
        let flags = u64::from((libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).cast_unsigned());
        let made = match (is_socket(notification), i32::try_from(family).ok()?) {
            (false, _) => return None,
            (true, libc::AF_UNSPEC) => self.slot.take()?,
            (true, family @ (libc::AF_INET | libc::AF_INET6)) => {
                let is_tcp = kind & !flags == libc::SOCK_STREAM as u64
                    && [0, libc::IPPROTO_TCP as u64].contains(&protocol);
                let family = AddressFamily::from_raw(u16::try_from(family).ok()?);
                (self.lends_sockets && is_tcp).then(|| unconnected(family))?
            }
            (true, _) => return None,
        };
        let waits = kind & u64::from(libc::SOCK_NONBLOCK.cast_unsigned()) == 0;
        Some(made.and_then(|socket| {
            rustix::io::ioctl_fionbio(&socket, !waits)?;
            Ok(socket)
        }))
    }

    fn judge(&self, notification: &Notification) -> Verdict {
        let stage = self.stage.now();
        if stage != LOADED && self.allows(notification) {
            // What is executed is the program itself: loading ends with that.
            if i64::from(notification.number) == libc::SYS_execveat {
                self.stage.loaded();
            }
            return Verdict::Continue;
        }
        if self.watched(notification).is_some() {
            return Verdict::Continue;
        }
        if stage != CONFINING {
            self.record.refused_syscall(shown_name(notification), notification.arguments.to_vec());
        }
        Verdict::Refuse(libc::EPERM)
    }

    fn allows(&self, notification: &Notification) -> bool {
        evaluates(&self.judge, notification)
    }
}

/// Whether a program allows a call.
fn evaluates(program: &[Instruction], notification: &Notification) -> bool {
    let data = SeccompData {
        nr: notification.number.cast_unsigned(),
        arch: notification.arch,
        instruction_pointer: notification.instruction_pointer,
        args: notification.arguments,
    };
    hotcell_policy::evaluate(program, &data) == Action::Allow
}

/// Whether this is socket(2), by which a worker takes the connection that waits for it.
fn is_socket(notification: &Notification) -> bool {
    Arch::of_this_build().is_some_and(|arch| arch.audit() == notification.arch)
        && i64::from(notification.number) == libc::SYS_socket
}

/// The name of a system call of this architecture.
fn name(notification: &Notification) -> Option<&'static str> {
    let arch = Arch::of_this_build().filter(|arch| arch.audit() == notification.arch)?;
    hotcell_policy::syscall_name(arch, notification.number.cast_unsigned())
}

/// The name; the number for one of another architecture or a newer kernel.
fn shown_name(notification: &Notification) -> String {
    let number = notification.number.cast_unsigned();
    let unknown = || format!("system call {number} of architecture {:#x}", notification.arch);
    name(notification).map_or_else(unknown, str::to_owned)
}
