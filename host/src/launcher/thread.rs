//! The thread that is the launcher's parent.
//!
//! A parent-death signal fires when the creating *thread* ends, so the launcher is made by one that lives as long as the
//! host. It also reaps the launcher, by its pidfd and with `__WALL`: an application that reaps everything itself can
//! take the status away, and it does not matter.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc;

use hotcell_protocol::Channel;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::sync::oneshot;

use super::program::Programs;
use crate::error::Error;
use crate::sys::{clone, probe};

/// How long a launcher whose channel is closed may take to kill its workers and end.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Asks the thread for a launcher; the answer is the host's end of its channel.
pub(super) type Order = oneshot::Sender<Result<Channel, Error>>;

/// Starts the thread. It ends, and the launcher with it, when the sender is dropped; the receiver then closes.
pub(super) fn start(programs: Programs) -> Result<(mpsc::Sender<Order>, oneshot::Receiver<()>), Error> {
    let (orders, inbox) = mpsc::channel::<Order>();
    let (gone, buried) = oneshot::channel();
    std::thread::Builder::new()
        .name("hotcell-launch".to_owned())
        .spawn(move || {
            keep(&programs, &inbox);
            drop(gone);
        })
        .map_err(|source| Error::io("start the launcher's thread", source))?;
    Ok((orders, buried))
}

fn keep(programs: &Programs, inbox: &mpsc::Receiver<Order>) {
    let mut child: Option<OwnedFd> = None;
    while let Ok(order) = inbox.recv() {
        child.take().into_iter().for_each(bury);
        let made = make(programs);
        let answer = made.map(|(channel, pidfd)| {
            child = Some(pidfd);
            channel
        });
        // A host that gave up meanwhile drops the channel, and with it the launcher.
        let _ = order.send(answer);
    }
    child.into_iter().for_each(bury);
}

fn make(programs: &Programs) -> Result<(Channel, OwnedFd), Error> {
    let (near, far) = Channel::pair().map_err(|error| Error::launch(error.to_string()))?;
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|source| Error::io("open /dev/null", source))?;
    let folder = CString::new(programs.folder.as_os_str().as_bytes())
        .map_err(|_| Error::launch("the worker folder's path holds a NUL byte"))?;
    let pidfd = clone::launch(&clone::Launch {
        program: programs.launcher.as_fd(),
        arguments: &[c"hotcell-launcher", &folder],
        channel: far.as_fd(),
        null: null.as_fd(),
    })
    .map_err(|errno| Error::io("start the launcher", errno.into()))?;
    Ok((near, pidfd))
}

/// Waits for a launcher whose channel is closed, kills it if it lingers, and reaps it.
fn bury(pidfd: OwnedFd) {
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    // An interrupted wait begins again: interruptions are few, and a launcher that ends by itself is worth it.
    let ended = loop {
        match poll(&mut polled, Some(&FAREWELL)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break matches!(other, Ok(1)),
        }
    };
    if !ended {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(probe::wall());
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), options) {}
}
