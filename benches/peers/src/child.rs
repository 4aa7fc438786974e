//! The other end of a peer: this program again, in a process of its own.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::failure::{Failure, failed};

/// A running process. Dropping it ends and reaps it.
pub(crate) struct OtherEnd {
    child: Child,
}

impl OtherEnd {
    /// Starts this program with the arguments of a role.
    pub(crate) fn start(role: &[&str], input: Stdio, output: Stdio) -> Result<OtherEnd, Failure> {
        let program = std::env::current_exe().map_err(failed("find this program"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--parent", &std::process::id().to_string()]).args(role);
        command.stdin(input).stdout(output);
        let child = command.spawn().map_err(failed("start the other end"))?;
        Ok(OtherEnd { child })
    }

    /// The process, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for OtherEnd {
    fn drop(&mut self) {
        // Fails only if it has ended by itself; then there is still something to reap.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes this process end when its parent ends, even if it never looks at its connection again.
pub(crate) fn end_with(parent: u32) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("tie the other end to its parent"))?;
    let is_there = i32::try_from(parent).ok().and_then(Pid::from_raw) == getppid();
    if is_there { Ok(()) } else { Err(Failure::HungUp) }
}
