//! The other end of a floor: this program again, with a hidden argument.

use std::ffi::OsStr;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::failure::Failure;
use crate::floor;

/// First argument of a peer; the role and the size of a message follow.
const PEER: &str = "floor-peer";

/// First argument of a process that is done at once.
pub(crate) const EXIT: &str = "floor-exit";

/// What a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Pipe,
    Packet,
    Shared,
    Stream,
    Json,
    Forker,
}

impl Role {
    const ALL: [Role; 6] = [Role::Pipe, Role::Packet, Role::Shared, Role::Stream, Role::Json, Role::Forker];

    fn name(self) -> &'static str {
        match self {
            Role::Pipe => "pipe",
            Role::Packet => "packet",
            Role::Shared => "shared",
            Role::Stream => "stream",
            Role::Json => "json",
            Role::Forker => "forker",
        }
    }
}

/// A running peer. Dropping it ends and reaps it.
pub(crate) struct Peer {
    child: Child,
}

impl Peer {
    /// Starts a peer that has one descriptor for both directions.
    pub(crate) fn start(role: Role, size: usize, channel: OwnedFd) -> Result<Peer, Failure> {
        Peer::spawn(role, size, channel.into(), Stdio::null())
    }

    /// Starts a peer that reads and writes pipes.
    pub(crate) fn start_piped(role: Role, size: usize) -> Result<(Peer, PipeReader, PipeWriter), Failure> {
        let subject = |source| Failure::io("make a pipe", source);
        let (input, to_peer) = std::io::pipe().map_err(subject)?;
        let (from_peer, output) = std::io::pipe().map_err(subject)?;
        let peer = Peer::spawn(role, size, input.into(), output.into())?;
        Ok((peer, from_peer, to_peer))
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn(role: Role, size: usize, input: Stdio, output: Stdio) -> Result<Peer, Failure> {
        let subject = |source| Failure::io("start the other end of a floor", source);
        let program = std::env::current_exe().map_err(subject)?;
        let mut command = Command::new(program);
        command.args([PEER, role.name(), &size.to_string()]).stdin(input).stdout(output);
        Ok(Peer { child: command.spawn().map_err(subject)? })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only if it has ended by itself; then there is still something to reap.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a peer if the arguments ask for one, until the other end hangs up. Returns whether they did.
pub(crate) fn run_if_asked() -> Result<bool, Failure> {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|argument| argument.into_string()).collect();
    let [Ok(first), Ok(role), Ok(size)] = arguments.as_slice() else { return Ok(false) };
    if first != PEER {
        return Ok(false);
    }
    let role = Role::ALL.into_iter().find(|known| known.name() == role);
    let (Some(role), Ok(size)) = (role, size.parse()) else {
        return Err(Failure::other("unknown role or size of a peer"));
    };
    die_with_parent()?;
    floor::serve(role, size)?;
    Ok(true)
}

/// Whether the arguments ask for a process that is done at once.
pub(crate) fn is_exit_asked() -> bool {
    std::env::args_os().nth(1).as_deref() == Some(OsStr::new(EXIT))
}

/// A peer that waits for shared memory would never notice that the other end is gone.
fn die_with_parent() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| Failure::io("tie a peer to its parent", errno.into()))
}
