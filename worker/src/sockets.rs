//! connect(2), bind(2) and listen(2) of a native plugin that knows nothing of hotcell.
//!
//! Its seccomp program turns each into a signal, on the thread that made it and before the kernel has looked at an address. The
//! handler asks the host by the same host call that a plugin could make, takes what the host has connected or bound, and puts it
//! in the socket's place. The plugin shares this memory and could do all of this itself: nothing here protects anybody from it,
//! and the host decides by its own copy of the address.

#![allow(unsafe_code, reason = "a signal handler that answers system calls")]

use std::ffi::{c_int, c_long, c_void};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::sys::last_errno;

/// Asks the host for a socket by a host call, with an address. Whether it made one, the next socket(2) says.
pub(crate) type Ask = fn(&str, &str);

/// Bytes of `struct sockaddr_in` that are looked at, and of `struct sockaddr_in6`.
const INET_LEN: usize = 8;
const INET6_LEN: usize = 24;

static ASK: std::sync::OnceLock<Ask> = std::sync::OnceLock::new();

/// Installs the handler. Before confinement.
pub(crate) fn install(ask: Ask) -> Result<(), Errno> {
    // The first stays.
    let _ = ASK.set(ask);
    // SAFETY: all zeroes is a valid sigaction: no signal is blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_trapped_call;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the type that SA_SIGINFO asks for. The signal comes with a system call, never between two
    // instructions of something that holds a lock.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

extern "C" fn on_trapped_call(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's saved context, which SA_SIGINFO asks for and which it restores from after this.
    let machine = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    // SAFETY: it takes nothing.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own errno.
    let before = unsafe { *errno };
    let answer = match call(machine) {
        (libc::SYS_connect, [socket, address, len]) => replace(socket, address, len, Purpose::Connect),
        (libc::SYS_bind, [socket, address, len]) => replace(socket, address, len, Purpose::Listen),
        (libc::SYS_listen, [socket, ..]) => listen(socket),
        _ => Err(Errno::PERM),
    };
    // SAFETY: likewise. The code that called connect(2) expects it to change only by a failure that it is told of.
    unsafe { *errno = before };
    let value = answer.map_or_else(|errno| -i64::from(errno.raw_os_error()), |()| 0);
    set_result(machine, value);
}

/// What a program wants a socket for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Connect,
    Listen,
}

impl Purpose {
    fn host_call(self) -> &'static str {
        match self {
            Purpose::Connect => "net.connect",
            Purpose::Listen => "net.listen",
        }
    }

    /// What a socket that is in use already is refused with.
    fn in_use(self) -> Errno {
        match self {
            Purpose::Connect => Errno::ISCONN,
            Purpose::Listen => Errno::INVAL,
        }
    }
}

/// connect(2) and bind(2). What is bound listens from then on.
fn replace(socket: u64, address: u64, len: u64, purpose: Purpose) -> Result<(), Errno> {
    let socket = number(socket)?;
    // SAFETY: the number is borrowed for the next calls, which change nothing and may find that it is not in use.
    let asked = unsafe { BorrowedFd::borrow_raw(socket) };
    rustix::net::sockopt::socket_type(asked)?;
    match rustix::net::getpeername(asked) {
        Err(Errno::NOTCONN) => {}
        Err(errno) => return Err(errno),
        Ok(_) => return Err(purpose.in_use()),
    }
    let waits = !rustix::fs::fcntl_getfl(asked)?.contains(OFlags::NONBLOCK);
    let len = usize::try_from(len & u64::from(u32::MAX)).unwrap_or_default();
    let address = read_address(address as *const u8, len)?;
    let ask = ASK.get().ok_or(Errno::PERM)?;
    let address = SocketAddr::new(address.ip().to_canonical(), address.port()).to_string();
    ask(purpose.host_call(), &address);
    take(socket, if waits { 0 } else { libc::SOCK_NONBLOCK })
}

/// listen(2), on what listens already.
fn listen(socket: u64) -> Result<(), Errno> {
    let socket = number(socket)?;
    // SAFETY: as above.
    let asked = unsafe { BorrowedFd::borrow_raw(socket) };
    match rustix::net::sockopt::socket_acceptconn(asked)? {
        true => Ok(()),
        false => Err(Errno::INVAL),
    }
}

/// An `int` of a system call that is a descriptor.
fn number(socket: u64) -> Result<c_int, Errno> {
    c_int::try_from(socket & u64::from(u32::MAX)).map_err(|_| Errno::BADF)
}

/// Reads `struct sockaddr_in` or `struct sockaddr_in6`, as far as it is read here.
fn read_address(address: *const u8, len: usize) -> Result<SocketAddr, Errno> {
    if address.is_null() || len < INET_LEN {
        return Err(Errno::INVAL);
    }
    // SAFETY: the plugin promises that so many bytes are readable; if they are not, only its process ends.
    let bytes = unsafe { std::slice::from_raw_parts(address, len.min(INET6_LEN)) };
    let port = u16::from_be_bytes(piece(bytes, 2)?);
    let ip = match c_int::from(u16::from_ne_bytes(piece(bytes, 0)?)) {
        libc::AF_INET => IpAddr::from(piece::<4>(bytes, 4)?),
        libc::AF_INET6 => IpAddr::from(piece::<16>(bytes, 8)?),
        _ => return Err(Errno::AFNOSUPPORT),
    };
    Ok(SocketAddr::new(ip, port))
}

fn piece<const LEN: usize>(bytes: &[u8], at: usize) -> Result<[u8; LEN], Errno> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Errno::INVAL)
}

/// Takes the socket that the host made, or learns why it made none, and gives it the number of the other.
fn take(socket: c_int, nonblocking: c_int) -> Result<(), Errno> {
    // SAFETY: makes a descriptor, or none.
    let made = unsafe { libc::socket(libc::AF_UNSPEC, nonblocking, 0) };
    if made == -1 {
        return Err(last_errno());
    }
    // SAFETY: both numbers are in use, and whatever had the second belongs to the plugin, which asked for this.
    let moved = unsafe { libc::dup3(made, socket, libc::O_CLOEXEC) };
    let failed = (moved == -1).then(last_errno);
    // SAFETY: it was made above, and nobody else knows it.
    unsafe { libc::close(made) };
    failed.map_or(Ok(()), Err)
}

/// The trapped call and its first three arguments.
#[cfg(target_arch = "x86_64")]
fn call(machine: &libc::mcontext_t) -> (c_long, [u64; 3]) {
    let register = |index: c_int| {
        usize::try_from(index).ok().and_then(|index| machine.gregs.get(index)).copied().unwrap_or_default()
    };
    let arguments = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX];
    (register(libc::REG_RAX), arguments.map(|index| register(index).cast_unsigned()))
}

#[cfg(target_arch = "x86_64")]
fn set_result(machine: &mut libc::mcontext_t, value: i64) {
    let index = usize::try_from(libc::REG_RAX).unwrap_or(usize::MAX);
    if let Some(register) = machine.gregs.get_mut(index) {
        *register = value;
    }
}

/// The trapped call and its first three arguments.
#[cfg(target_arch = "aarch64")]
fn call(machine: &libc::mcontext_t) -> (c_long, [u64; 3]) {
    let [first, second, third, _, _, _, _, _, number, ..] = machine.regs;
    (number.cast_signed(), [first, second, third])
}

#[cfg(target_arch = "aarch64")]
fn set_result(machine: &mut libc::mcontext_t, value: i64) {
    let [result, ..] = &mut machine.regs;
    *result = value.cast_unsigned();
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use rustix::io::Errno;

    use super::read_address;

    fn read(bytes: &[u8]) -> Result<String, Errno> {
        read_address(bytes.as_ptr(), bytes.len()).map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let mut inet = vec![0; 16];
        inet[..2].copy_from_slice(&2_u16.to_ne_bytes());
        inet[2..8].copy_from_slice(&[1, 187, 192, 0, 2, 7]);
        assert_eq!(read(&inet).as_deref(), Ok("192.0.2.7:443"));
        assert_eq!(read(&inet[..8]).as_deref(), Ok("192.0.2.7:443"), "without the padding");
        for short in 0..8 {
            assert_eq!(read(&inet[..short]), Err(Errno::INVAL));
        }
        let mut inet6 = vec![0; 28];
        inet6[..2].copy_from_slice(&10_u16.to_ne_bytes());
        inet6[2..4].copy_from_slice(&[0, 80]);
        inet6[23] = 1;
        assert_eq!(read(&inet6).as_deref(), Ok("[::1]:80"));
        assert_eq!(read(&inet6[..23]), Err(Errno::INVAL));
        inet6[0] = 1;
        assert_eq!(read(&inet6), Err(Errno::AFNOSUPPORT));
        assert_eq!(read_address(std::ptr::null(), 28), Err(Errno::INVAL));
    }
}
