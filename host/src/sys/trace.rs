//! Looking at a process that runs (ptrace(2)): it is stopped for a moment, its registers and a piece of its stack are read, and it goes on.
//!
//! It sees nothing of it but time. All requests have to come from the thread that began.

use std::fs::File;
use std::os::unix::fs::FileExt;

use hotcell_protocol::crash::{Notes, REGISTERS};
use rustix::io::Errno;
use rustix::process::Pid;

use super::last_errno;

/// The event of a stop that was asked for (linux/ptrace.h).
const PTRACE_EVENT_STOP: i32 = 128;

/// The general registers among the sets of PTRACE_GETREGSET (elf.h).
const NT_PRSTATUS: usize = 1;

/// A process that this thread traces. It is let go when this is dropped.
#[derive(Debug)]
pub(crate) struct Traced {
    pid: libc::pid_t,
    memory: File,
}

impl Traced {
    /// Begins to trace a process, which goes on running.
    ///
    /// # Errors
    /// It has ended, is traced already, or may not be looked at: it has another user, is not dumpable, or the system's policy is
    /// against it (Yama).
    pub(crate) fn seize(pid: Pid) -> std::io::Result<Traced> {
        let number = pid.as_raw_nonzero().get();
        request(libc::PTRACE_SEIZE, number, 0, 0)?;
        match File::open(format!("/proc/{number}/mem")) {
            Ok(memory) => Ok(Traced { pid: number, memory }),
            Err(error) => {
                let _ = detach(number);
                Err(error)
            }
        }
    }

    /// Registers, and at most so many bytes of the stack, from the stack pointer on. `None` where it has ended.
    pub(crate) fn look(&self, most: usize) -> std::io::Result<Option<Notes>> {
        if !stop(self.pid)? {
            return Ok(None);
        }
        let registers = registers(self.pid);
        let mut notes = Notes { registers: registers.unwrap_or_default(), ..Notes::default() };
        notes.stack_address = notes.register(if cfg!(target_arch = "x86_64") { "rsp" } else { "sp" });
        notes.stack = vec![0; most];
        // What is not mapped is not there: a stack pointer can be anything.
        let read = self.memory.read_at(&mut notes.stack, notes.stack_address).unwrap_or_default();
        notes.stack.truncate(read);
        request(libc::PTRACE_CONT, self.pid, 0, 0)?;
        Ok(Some(notes))
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // One that has ended needs no letting go.
        let _ = detach(self.pid);
    }
}

fn detach(pid: libc::pid_t) -> std::io::Result<()> {
    if stop(pid)? {
        request(libc::PTRACE_DETACH, pid, 0, 0)?;
    }
    Ok(())
}

/// Stops a process. Signals that come in between are passed on. Whether it lives.
fn stop(pid: libc::pid_t) -> std::io::Result<bool> {
    // One that has ended cannot be stopped, and is waited for all the same: until then its parent does not learn of its end.
    let _ = request(libc::PTRACE_INTERRUPT, pid, 0, 0);
    loop {
        let mut status = 0;
        // SAFETY: `status` is an int that lives for the call.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        match waited {
            -1 if last_errno() == Errno::INTR => {}
            -1 => return Err(last_errno().into()),
            _ if !libc::WIFSTOPPED(status) => return Ok(false),
            _ if status >> 16 == PTRACE_EVENT_STOP => return Ok(true),
            // A signal on its way to the process.
            _ => request(libc::PTRACE_CONT, pid, 0, i64::from(libc::WSTOPSIG(status)))?,
        }
    }
}

/// In the order of [`REGISTERS`].
fn registers(pid: libc::pid_t) -> std::io::Result<Vec<u64>> {
    // SAFETY: the structure is numbers, for which zero is a value.
    let mut set: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let mut place = libc::iovec { iov_base: (&raw mut set).cast(), iov_len: size_of_val(&set) };
    // SAFETY: the kernel writes at most `iov_len` bytes to `set`, which lives for the call.
    let result = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, &raw mut place) };
    if result == -1 {
        return Err(last_errno().into());
    }
    let registers = in_order(&set);
    debug_assert_eq!(registers.len(), REGISTERS.len(), "each has its place");
    Ok(registers)
}

#[cfg(target_arch = "x86_64")]
fn in_order(set: &libc::user_regs_struct) -> Vec<u64> {
    vec![
        set.r8, set.r9, set.r10, set.r11, set.r12, set.r13, set.r14, set.r15, set.rdi, set.rsi, set.rbp,
        set.rbx, set.rdx, set.rax, set.rcx, set.rsp, set.rip, set.eflags,
    ]
}

#[cfg(target_arch = "aarch64")]
fn in_order(set: &libc::user_regs_struct) -> Vec<u64> {
    set.regs.iter().copied().chain([set.sp, set.pc, set.pstate]).collect()
}

/// A request whose arguments are numbers.
fn request(what: libc::c_uint, pid: libc::pid_t, address: i64, data: i64) -> std::io::Result<()> {
    // SAFETY: none of these requests takes a pointer; the process is not this one.
    let result = unsafe { libc::ptrace(what, pid, address, data) };
    if result == -1 { Err(last_errno().into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use rustix::process::Pid;

    use super::Traced;

    #[test]
    fn a_process_is_looked_at_and_goes_on_and_its_end_is_seen() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let traced = Traced::seize(Pid::from_child(&child)).expect("it is a child of this process");
        for _ in 0..3 {
            let seen = traced.look(1000).expect("it is looked at").expect("it lives");
            assert_eq!(seen.stack.len(), 1000);
            assert_ne!(seen.stack_address, 0);
        }
        drop(child.stdin.take());
        let mut rest = Vec::new();
        child.stdout.take().expect("a pipe").read_to_end(&mut rest).expect("it ends");
        while traced.look(1000).is_ok_and(|seen| seen.is_some()) {}
        drop(traced);
        // Its parent and its tracer are one: the last look has reaped it.
        let _ = child.wait();
        let mut child = Command::new("sleep").arg("100").spawn().expect("starts");
        drop(Traced::seize(Pid::from_child(&child)).expect("it lives"));
        child.kill().expect("it lives");
        assert!(!child.wait().expect("it is a child of this process").success());
    }
}
