//! Installing the seccomp programs of the plan (seccomp(2)).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use hotcell_protocol::{
    Channel, ChannelError, Envelope, Failure, Filter, Filters, FromWorker, Generation, Step,
};
use rustix::io::Errno;

use super::failed;
use crate::sys::{Install, install_filter};

/// Installs the Load program. A native worker hands the listener of its one program to the host, which answers every
/// system call that the program does not allow from now on; a wasm worker with connections that of its Load program.
pub(super) fn install(filters: &Filters, setup: &Channel, generation: Generation) -> Result<(), Failure> {
    match filters {
        Filters::Staged { load, listener: false, .. } => all_threads(load, "install the Load program"),
        Filters::Staged { load, listener: true, .. } => supervised(load, setup, generation),
        Filters::Supervised { filter, .. } => supervised(filter, setup, generation),
    }
}

/// Installs the Run program on top of the Load program; the stricter answer of both holds.
pub(super) fn seal(run: &Filter) -> Result<(), Failure> {
    all_threads(run, "install the Run program").map_err(|failure| Failure { step: Step::Seal, ..failure })
}

fn all_threads(filter: &Filter, act: &str) -> Result<(), Failure> {
    install_filter(filter, Install::AllThreads).map_err(failed(Step::Seccomp, act))?;
    Ok(())
}

fn supervised(filter: &Filter, setup: &Channel, generation: Generation) -> Result<(), Failure> {
    let listener = install_filter(filter, Install::WithListener)
        .and_then(|listener| listener.ok_or(Errno::BADF))
        .map_err(failed(Step::Seccomp, "install the program with a listener"))?;
    hand_over(&listener, setup, generation).map_err(|error| Failure {
        step: Step::Seccomp,
        errno: 0,
        detail: format!("failed to hand over the listener: {error}"),
    })
}

/// The kernel counts the descriptors that all processes of a user have in flight against the sender's own limit, which
/// is small here (unix(7), ETOOMANYREFS): many plugins that start at once wait for each other. The host's start deadline
/// bounds the wait.
fn hand_over(listener: &OwnedFd, setup: &Channel, generation: Generation) -> Result<(), ChannelError> {
    let message = Envelope { generation, message: FromWorker::Listener };
    loop {
        match setup.send_with(&message, &[listener.as_fd()]) {
            Err(ChannelError::System(Errno::TOOMANYREFS)) => std::thread::sleep(IN_FLIGHT),
            other => return other,
        }
    }
}

/// How long descriptors of other workers are usually in flight.
const IN_FLIGHT: Duration = Duration::from_millis(1);
