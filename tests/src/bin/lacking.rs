//! `lacking WHAT... -- COMMAND [ARGS...]`: runs a command on a kernel that seems to lack something.
//!
//! A seccomp program answers an errno to the system calls of the named layer, in this process and all its descendants.
//! For tests that prove that a missing layer stops a start.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What can be made to lack: name, system calls, the errno that a kernel without it answers.
const LAYERS: [(&str, &[libc::c_long], i32); 6] = [
    (
        "landlock",
        &[libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self],
        libc::ENOSYS,
    ),
    ("namespaces", &[libc::SYS_unshare], libc::EPERM),
    // As AppArmor's usual profile of a container does, which lets namespaces be entered.
    (
        "mounts",
        &[
            libc::SYS_fsopen,
            libc::SYS_mount,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_pivot_root,
            libc::SYS_umount2,
        ],
        libc::EACCES,
    ),
    ("seccomp", &[libc::SYS_seccomp], libc::ENOSYS),
    ("pidfd", &[libc::SYS_pidfd_open], libc::ENOSYS),
    // What the usual filter of a container refuses to who has no capability beyond the usual ones.
    (
        "container",
        &[
            libc::SYS_add_key,
            libc::SYS_bpf,
            libc::SYS_fanotify_init,
            libc::SYS_fsopen,
            libc::SYS_keyctl,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_perf_event_open,
            libc::SYS_pivot_root,
            libc::SYS_process_vm_readv,
            libc::SYS_quotactl,
            libc::SYS_request_key,
            libc::SYS_setns,
            libc::SYS_syslog,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_userfaultfd,
        ],
        libc::EPERM,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let layers: Vec<String> = arguments.by_ref().take_while(|word| word != "--").collect();
    let Some(command) = arguments.next() else {
        eprintln!("usage: lacking WHAT... -- COMMAND [ARGS...]");
        return ExitCode::from(2);
    };
    for layer in &layers {
        let Some((_, calls, errno)) = LAYERS.iter().find(|(name, ..)| name == layer) else {
            eprintln!("lacking: unknown layer `{layer}`");
            return ExitCode::from(2);
        };
        if let Err(error) = refuse(calls, *errno) {
            eprintln!("lacking: failed to take {layer} away: {error}");
            return ExitCode::FAILURE;
        }
    }
    let error = Command::new(&command).args(arguments).exec();
    eprintln!("lacking: failed to run {command}: {error}");
    ExitCode::FAILURE
}

/// Installs a program that answers `errno` to each of `calls` and allows the rest. For tests on one architecture, so
/// it does not look at it.
fn refuse(calls: &[libc::c_long], errno: i32) -> std::io::Result<()> {
    let statement = |code: u32, jt: usize, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt: u8::try_from(jt).unwrap_or(0),
        jf: 0,
        k,
    };
    // The system call number is the first word of struct seccomp_data.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (place, call) in calls.iter().enumerate() {
        // Past the remaining comparisons and the "allow" behind them.
        let to_refusal = calls.len() - place;
        let number = u32::try_from(*call).unwrap_or(u32::MAX);
        program.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_refusal, number));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(0);
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, answer));
    install(&program)
}

fn install(program: &[libc::sock_filter]) -> std::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let fprog = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points at `program`, which outlives the call; the kernel copies it. prctl is used and not
    // seccomp(2), so that taking seccomp(2) away does not stop the next layer.
    let result = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&fprog), 0, 0)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
