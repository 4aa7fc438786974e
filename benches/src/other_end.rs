//! Other processes of a measurement: this program again, with hidden arguments.

use std::ffi::{OsStr, OsString};
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::failure::Failure;
use crate::floor;
use crate::isolated::start;

/// First argument of an other end; the role and the size of a message follow.
const OTHER_END: &str = "floor-other-end";

/// First argument of a process that is done at once.
pub(crate) const EXIT: &str = "floor-exit";

/// First argument of a small application with hosts of its own; a folder and the folder of hotcell's programs follow.
const APPLICATION: &str = "bench-application";

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
        let arguments = [OTHER_END, role.name(), &size.to_string()].map(OsString::from);
        let arguments = arguments.each_ref().map(OsString::as_os_str);
        OtherEnd::spawn(&arguments, channel.into(), Stdio::null())
    }

    /// Starts one that reads and writes pipes.
    pub(crate) fn start_piped(
        role: Role,
        size: usize,
    ) -> Result<(OtherEnd, PipeReader, PipeWriter), Failure> {
        OtherEnd::spawn_piped(&[OTHER_END.as_ref(), role.name().as_ref(), size.to_string().as_ref()])
    }

    /// Starts a small application, which reads and writes pipes.
    pub(crate) fn start_application(
        folder: &Path,
        worker_dir: Option<&Path>,
    ) -> Result<(OtherEnd, PipeReader, PipeWriter), Failure> {
        let mut arguments = vec![APPLICATION.as_ref(), folder.as_os_str()];
        arguments.extend(worker_dir.map(Path::as_os_str));
        OtherEnd::spawn_piped(&arguments)
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn spawn_piped(arguments: &[&OsStr]) -> Result<(OtherEnd, PipeReader, PipeWriter), Failure> {
        let subject = |source| Failure::io("make a pipe", source);
        let (input, to_it) = std::io::pipe().map_err(subject)?;
        let (from_it, output) = std::io::pipe().map_err(subject)?;
        let other_end = OtherEnd::spawn(arguments, input.into(), output.into())?;
        Ok((other_end, from_it, to_it))
    }

    fn spawn(arguments: &[&OsStr], input: Stdio, output: Stdio) -> Result<OtherEnd, Failure> {
        let subject = |source| Failure::io("start this program again", source);
        let program = std::env::current_exe().map_err(subject)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(input).stdout(output);
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

/// What this process is to be, if its arguments ask for a part of a measurement: the caller's `main` returns it at once.
///
/// The benchmarks execute this program again. It has to ask before it reads its command line.
pub fn serve_if_asked() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (first, rest) = arguments.split_first()?;
    let served = match (first.to_str()?, rest) {
        (EXIT, []) => Ok(()),
        (OTHER_END, [role, size]) => serve(role.to_str()?, size.to_str()?),
        (APPLICATION, [folder, worker_dir @ ..]) => {
            die_with_parent().and_then(|()| start::serve(folder.into(), worker_dir.first().map(Into::into)))
        }
        _ => return None,
    };
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("the other end of a measurement: {failure}");
            ExitCode::FAILURE
        }
    })
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
        .map_err(|errno| Failure::io("tie the other end of a measurement to its parent", errno.into()))
}
