//! A worker that becomes a program of the system or of the package, confined as its orders say.
//!
//! What is executed is the sealed copy that the host has read, never a path. The host's listener lets this one execveat(2) go on, and
//! no other. The program keeps the confinement, and of descriptors its standard streams.

use std::ffi::CString;
use std::os::fd::AsFd;

use hotcell_protocol::{CommandLine, Failure, FromWorker, ToWorker};

use crate::link::LinkError;
use crate::start::{Meeting, Started, load_failure};
use crate::sys;

/// The first descriptor that is the worker's own: bells, setup channel, the program.
const FIRST_OWN: u32 = 3;

/// Returns only if the program could not be executed; the host was told why.
pub(crate) fn become_one(meeting: Meeting) -> Result<(), LinkError> {
    let prepare = |started: &mut Started| {
        // No program notes its crash.
        started.output = None;
        sys::close_on_exec_from(FIRST_OWN).map_err(|errno| {
            load_failure(format!("failed to keep the worker's descriptors from the program: {errno}"))
        })
    };
    let Some((_confined, mut started, mut link)) = meeting.confine(prepare, |_| Ok(()))? else {
        return Ok(());
    };
    link.expect(&ToWorker::Load)?;
    let failure = execute(&mut started);
    link.tell(&FromWorker::Failed(failure))
}

fn execute(started: &mut Started) -> Failure {
    let CommandLine { arguments, environment } = &started.start.command;
    let environment = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let strings = |texts: Vec<String>| texts.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let (Ok(arguments), Ok(environment)) = (strings(arguments.clone()), strings(environment.collect()))
    else {
        return load_failure("an argument or a variable has a NUL in it");
    };
    match started.artifact.take() {
        Some(program) => {
            let errno = sys::exec(program.as_fd(), &arguments, &environment);
            load_failure(format!("failed to execute the program: {errno}; {}", advice(errno)))
        }
        None => load_failure("the host sent no program"),
    }
}

/// What an execveat(2) that failed most often means here.
fn advice(errno: rustix::io::Errno) -> &'static str {
    match errno {
        rustix::io::Errno::ACCESS => {
            "its loader is not in the `code` of the grant, which names where loader and libraries really are"
        }
        rustix::io::Errno::NOENT => "its loader is not there; in a file tree of its own no link to one is",
        rustix::io::Errno::NOEXEC => "it is no program of this machine; scripts are none",
        _ => "see execveat(2)",
    }
}
