//! The other end of a floor: this program again, with hidden arguments.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::failure::Failure;
use crate::floor;

/// First argument of an other end; the role and the size of a message follow.
const OTHER_END: &str = "floor-other-end";

/// First argument of a process that is done at once.
pub(crate) const EXIT: &str = "floor-exit";

/// What the other end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Pipe,
    Packet,
    Shared,
    Spinning,
    Stream,
    Json,
    Forker,
}

impl Role {
    const ALL: [Role; 7] =
        [Role::Pipe, Role::Packet, Role::Shared, Role::Spinning, Role::Stream, Role::Json, Role::Forker];

    fn name(self) -> &'static str {
        match self {
            Role::Pipe => "pipe",
            Role::Packet => "packet",
            Role::Shared => "shared",
            Role::Spinning => "spinning",
            Role::Stream => "stream",
            Role::Json => "json",
            Role::Forker => "forker",
        }
    }
}

/// A running other end. Dropping it ends and reaps it.
pub(crate) struct OtherEnd {
    child: Child,
}

impl OtherEnd {
    /// Starts one that has one descriptor for both directions.
    pub(crate) fn start(role: Role, size: usize, channel: OwnedFd) -> Result<OtherEnd, Failure> {
        OtherEnd::spawn(role, size, channel.into(), Stdio::null())
    }

    /// Starts one that reads and writes pipes.
    pub(crate) fn start_piped(
        role: Role,
        size: usize,
    ) -> Result<(OtherEnd, PipeReader, PipeWriter), Failure> {
        let subject = |source| Failure::io("make a pipe", source);
        let (input, to_it) = std::io::pipe().map_err(subject)?;
        let (from_it, output) = std::io::pipe().map_err(subject)?;
        let other_end = OtherEnd::spawn(role, size, input.into(), output.into())?;
        Ok((other_end, from_it, to_it))
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn(role: Role, size: usize, input: Stdio, output: Stdio) -> Result<OtherEnd, Failure> {
        let subject = |source| Failure::io("start the other end of a floor", source);
        let program = std::env::current_exe().map_err(subject)?;
        let mut command = Command::new(program);
        command.args([OTHER_END, role.name(), &size.to_string()]).stdin(input).stdout(output);
        Ok(OtherEnd { child: command.spawn().map_err(subject)? })
    }
}

impl Drop for OtherEnd {
    fn drop(&mut self) {
        // Fails only if it has ended by itself; then there is still something to reap.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process is to be, if its arguments ask for a part of a floor: the caller's `main` returns it at once.
///
/// The floors execute this program again. It has to ask before it reads its command line.
pub fn serve_if_asked() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_str()).collect();
    match arguments.as_slice() {
        [Some(EXIT)] => Some(ExitCode::SUCCESS),
        [Some(OTHER_END), Some(role), Some(size)] => Some(match serve(role, size) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("the other end of a floor: {failure}");
                ExitCode::FAILURE
            }
        }),
        _ => None,
    }
}

/// Serves until the caller hangs up.
fn serve(role: &str, size: &str) -> Result<(), Failure> {
    let role = Role::ALL.into_iter().find(|known| known.name() == role);
    let (Some(role), Ok(size)) = (role, size.parse()) else {
        return Err(Failure::other("unknown role or size"));
    };
    die_with_parent()?;
    floor::serve(role, size)
}

/// One that waits for shared memory would never notice that the other end is gone.
fn die_with_parent() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| Failure::io("tie the other end of a floor to its parent", errno.into()))
}
