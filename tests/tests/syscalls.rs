//! No system call is allowed that nothing needs: each rule of a native worker's Run program is used, and one step outside
//! of its arguments is refused.
//!
//! The rules are read from the plan, so that a new one fails here until somebody writes down what uses it. What the
//! program means for all other arguments, and for wasm workers, is the policy crate's property test.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use hotcell::policy::{Arch, Profile, Topic, syscall_number};
use hotcell::{CallError, Host, LoadOptions, Plugin};
use hotcell_tests::{Folders, fixture};

mod common;

/// What comes of the last line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It succeeds.
    Works,
    /// The kernel looks at it and refuses it with this errno.
    Errno(i32),
    /// It ends the worker, as it is meant to.
    Ends,
}
use Outcome::{Ends, Errno, Works};

/// Lines of system calls, as the crash lab's `try_syscall` reads them, after a name; `DATA` is the plugin's own folder.
type Script = &'static str;

const TEXT: Script = "openat -100 s:DATA/text 0x80042 0x180\npwrite64 $1 s:text 4 0";

/// A rule as the plan prints it; a script that it allows, and what comes of it; scripts that it does not allow.
const RULES: &[(&str, Script, Outcome, &[Script])] = &[
    // worker-channel
    ("sendmsg(fd == 5)", "sendmsg 5 z:56 0", Errno(libc::EBADF), &["sendmsg 3 z:56 0"]),
    ("read", "read 0 z:8 8", Works, &[]),
    ("write", "write 2 s:x 0", Works, &[]),
    ("writev", "writev 2 z:16 0", Works, &[]),
    ("close", "close 0", Works, &[]),
    ("fstat", "fstat 0 z:144", Works, &[]),
    ("fcntl(cmd in {1, 2, 3})", "fcntl 0 1", Works, &["fcntl 0 4 0x2000", "fcntl 0 8 1", "fcntl 0 6 z:32"]),
    (
        "ioctl(cmd == 0x5401) fails with ENOTTY",
        "ioctl 0 0x5401 z:64",
        Errno(libc::ENOTTY),
        &["ioctl 0 0x5413 z:8"],
    ),
    // compute
    (
        "mmap(prot & 0x4 == 0x0, flags & 0x4000f == 0x2)",
        "mmap 0 4096 3 0x22 -1 0",
        Works,
        &["mmap 0 4096 7 0x22 -1 0", "mmap 0 4096 3 0x21 -1 0", "mmap 0 4096 3 0x40022 -1 0"],
    ),
    (
        "mprotect(prot & 0x4 == 0x0)",
        "mmap 0 4096 3 0x22 -1 0\nmprotect $1 4096 1",
        Works,
        &["mmap 0 4096 3 0x22 -1 0\nmprotect $1 4096 5"],
    ),
    ("munmap", "mmap 0 4096 3 0x22 -1 0\nmunmap $1 4096", Works, &[]),
    ("mremap", "mmap 0 4096 3 0x22 -1 0\nmremap $1 4096 8192 1", Works, &[]),
    ("brk", "brk 0", Works, &[]),
    (
        "madvise(advice in {0, 1, 2, 3, 4, 8, 14, 15, 16, 20})",
        "mmap 0 4096 3 0x22 -1 0\nmadvise $1 4096 4",
        Works,
        &["mmap 0 4096 3 0x22 -1 0\nmadvise $1 4096 9", "mmap 0 4096 3 0x22 -1 0\nmadvise $1 4096 12"],
    ),
    (
        "futex(op & 0xfffffe7f in {0x0, 0x1, 0x9, 0xa})",
        "futex z:8 1 1",
        Works,
        &["futex z:8 3 1 1 z:8 0", "futex z:8 6 0", "futex z:8 11 0 0 z:8"],
    ),
    ("clock_gettime(clockid & 0x80000000 == 0x0)", "clock_gettime 1 z:16", Works, &["clock_gettime -6 z:16"]),
    ("clock_getres(clockid & 0x80000000 == 0x0)", "clock_getres 1 z:16", Works, &["clock_getres -6 z:16"]),
    (
        "clock_nanosleep(clockid & 0x80000000 == 0x0)",
        "clock_nanosleep 1 0 z:16 0",
        Works,
        &["clock_nanosleep -6 0 z:16 0"],
    ),
    ("gettimeofday", "gettimeofday z:16 0", Works, &[]),
    ("restart_syscall", "restart_syscall", Errno(libc::EINTR), &[]),
    ("sched_yield", "sched_yield", Works, &[]),
    ("getrandom", "getrandom z:16 16 0", Works, &[]),
    ("getpid", "getpid", Works, &[]),
    ("gettid", "gettid", Works, &[]),
    ("rt_sigprocmask", "rt_sigprocmask 0 0 z:8 8", Works, &[]),
    ("rt_sigreturn", "rt_sigreturn", Ends, &[]),
    ("sigaltstack", "sigaltstack 0 z:24", Works, &[]),
    ("exit", "exit 0", Ends, &[]),
    ("exit_group", "exit_group 0", Ends, &[]),
    (
        "tgkill(tgid == self-pid, sig in {4, 6, 7, 8, 11})",
        "getpid\ngettid\ntgkill $1 $2 6",
        Ends,
        &["getpid\ngettid\ntgkill $1 $2 9", "tgkill 1 1 6"],
    ),
    (
        "sched_getaffinity(pid == 0)",
        "sched_getaffinity 0 128 z:128",
        Works,
        &["sched_getaffinity 1 128 z:128"],
    ),
    ("clone3 fails with ENOSYS", "clone3 z:88 88", Errno(libc::ENOSYS), &[]),
    ("openat2 fails with ENOSYS", "openat2 -100 s:/ z:24 24", Errno(libc::ENOSYS), &[]),
    ("set_robust_list fails with ENOSYS", "set_robust_list z:24 24", Errno(libc::ENOSYS), &[]),
    ("rseq fails with ENOSYS", "rseq z:32 32 0 0", Errno(libc::ENOSYS), &[]),
    ("sysinfo fails with ENOSYS", "sysinfo z:112", Errno(libc::ENOSYS), &[]),
    // connections
    (
        "socket(domain in {0, 2, 10}) is answered by the host",
        "socket 2 0x80801 6",
        Works,
        &["socket 2 2 0", "socket 2 3 1", "socket 2 1 262", "socket 1 1 0", "socket 16 3 0", "socket 0 0 0"],
    ),
    (
        "connect is answered by the worker, which asks the host",
        "socket 2 1 0\nconnect $1 z:16 16",
        Errno(libc::EAFNOSUPPORT),
        &[],
    ),
    ("dup3", "dup3 0 20 0x80000", Works, &[]),
    (
        "sendto(flags & 0xffff3fbf == 0x0, dest_addr == 0)",
        "socket 2 1 0\nsendto $1 s:x 1 0x4000 0 0",
        Errno(libc::EPIPE),
        &[
            "socket 2 1 0\nsendto $1 s:x 1 1 0 0",
            "socket 2 1 0\nsendto $1 s:x 1 0x20000000 0 0",
            "socket 2 1 0\nsendto $1 s:x 1 0 z:16 16",
        ],
    ),
    (
        "recvfrom(flags & 0xfffffebd == 0x0, src_addr == 0)",
        "socket 2 1 0\nrecvfrom $1 z:8 8 0x40 0 0",
        Errno(libc::ENOTCONN),
        &["socket 2 1 0\nrecvfrom $1 z:8 8 0x2000 0 0", "socket 2 1 0\nrecvfrom $1 z:8 8 0 z:16 z:4"],
    ),
    ("shutdown", "socket 2 1 0\nshutdown $1 1", Errno(libc::ENOTCONN), &[]),
    (
        "setsockopt(level == 6, optname in {1, 4, 5, 6, 18})",
        "socket 2 1 0\nsetsockopt $1 6 1 z:4 4",
        Works,
        &[
            "socket 2 1 0\nsetsockopt $1 6 31 z:4 4",
            "socket 2 1 0\nsetsockopt $1 6 30 z:4 4",
            "socket 2 1 0\nsetsockopt $1 0 1 z:4 4",
        ],
    ),
    (
        "setsockopt(level == 1, optname in {9, 20, 21})",
        "socket 2 1 0\nsetsockopt $1 1 9 z:4 4",
        Works,
        &["socket 2 1 0\nsetsockopt $1 1 7 z:4 4", "socket 2 1 0\nsetsockopt $1 1 15 z:4 4"],
    ),
    (
        "getsockopt(level == 1, optname in {3, 4})",
        "socket 2 1 0\ngetsockopt $1 1 4 z:4 z:4",
        Works,
        &["socket 2 1 0\ngetsockopt $1 1 17 z:4 z:4", "socket 2 1 0\ngetsockopt $1 6 11 z:4 z:4"],
    ),
    ("getpeername", "socket 2 1 0\ngetpeername $1 z:16 z:4", Errno(libc::ENOTCONN), &[]),
    ("poll", "poll 0 0 0", Works, &[]),
    ("ppoll", "ppoll 0 0 z:16 0 0", Works, &[]),
    (
        "fcntl(cmd == 4, flags & 0xfffff7fd == 0x0)",
        "fcntl 0 4 0x800",
        Works,
        &["fcntl 0 4 0x2800", "fcntl 0 4 0x400"],
    ),
    ("ioctl(cmd == 0x5421)", "ioctl 0 0x5421 z:4", Works, &["ioctl 0 0x5452 z:4"]),
    // listeners
    (
        "bind is answered by the worker, which asks the host",
        "socket 2 1 0\nbind $1 z:16 16",
        Errno(libc::EAFNOSUPPORT),
        &[],
    ),
    (
        "listen is answered by the worker, which asks the host",
        "socket 2 1 0\nlisten $1 1",
        Errno(libc::EINVAL),
        &[],
    ),
    ("accept", "socket 2 1 0\naccept $1 0 0", Errno(libc::EINVAL), &[]),
    (
        "accept4(flags & 0xfff7f7ff == 0x0)",
        "socket 2 1 0\naccept4 $1 0 0 0x80800",
        Errno(libc::EINVAL),
        &["socket 2 1 0\naccept4 $1 0 0 1"],
    ),
    (
        "setsockopt(level == 1, optname == 2)",
        "socket 2 1 0\nsetsockopt $1 1 2 z:4 4",
        Works,
        &["socket 2 1 0\nsetsockopt $1 0 2 z:4 4"],
    ),
    (
        "getsockopt(level == 1, optname == 30)",
        "socket 2 1 0\ngetsockopt $1 1 30 z:4 z:4",
        Works,
        &["socket 2 1 0\ngetsockopt $1 0 30 z:4 z:4"],
    ),
    // program-pipes: nothing waits to be taken
    ("socket(domain == 0) is answered by the host", "socket 0 0 0", Errno(libc::EPERM), &["socket 1 1 0"]),
    // files-read
    (
        "openat(flags & 0x400243 == 0x0)",
        "openat -100 s:DATA/text 0x80000",
        Works,
        &["openat -100 s:DATA 0x490002 0x180"],
    ),
    ("newfstatat", "newfstatat -100 s:DATA/text z:144 0", Works, &[]),
    ("statx", "statx -100 s:DATA/text 0 0x7ff z:256", Works, &[]),
    ("access", "access s:DATA/text 4", Works, &[]),
    ("faccessat", "faccessat -100 s:DATA/text 4", Works, &[]),
    ("faccessat2", "faccessat2 -100 s:DATA/text 4 0", Works, &[]),
    ("readlink", "readlink s:DATA/text z:64 64", Errno(libc::EINVAL), &[]),
    ("readlinkat", "readlinkat -100 s:DATA/text z:64 64", Errno(libc::EINVAL), &[]),
    ("getdents64", "openat -100 s:DATA 0x90000\ngetdents64 $1 z:4096 4096", Works, &[]),
    ("pread64", "openat -100 s:DATA/text 0x80000\npread64 $1 z:4 4 0", Works, &[]),
    ("preadv", "openat -100 s:DATA/text 0x80000\npreadv $1 z:16 0 0", Works, &[]),
    ("lseek", "openat -100 s:DATA/text 0x80000\nlseek $1 1 0", Works, &[]),
    ("fadvise64", "openat -100 s:DATA/text 0x80000\nfadvise64 $1 0 0 0", Works, &[]),
    ("fcntl(cmd == 1030)", "fcntl 0 1030 0", Works, &["fcntl 0 0 0"]),
    // files-write
    (
        "openat(flags & 0x400040 == 0x0)",
        "openat -100 s:DATA/text 0x80001",
        Works,
        &["openat -100 s:DATA 0x490001 0x180"],
    ),
    ("pwrite64", "openat -100 s:DATA/text 0x80001\npwrite64 $1 s:text 4 0", Works, &[]),
    ("pwritev", "openat -100 s:DATA/text 0x80001\npwritev $1 z:16 0 0", Works, &[]),
    (
        "pwritev2(flags & 0xffffffef == 0x0)",
        "openat -100 s:DATA/text 0x80001\npwritev2 $1 z:16 0 0 0 0x10",
        Works,
        &["openat -100 s:DATA/text 0x80001\npwritev2 $1 z:16 0 0 0 0x2"],
    ),
    ("ftruncate", "openat -100 s:DATA/text 0x80001\nftruncate $1 4", Works, &[]),
    ("truncate", "truncate s:DATA/text 4", Works, &[]),
    ("fsync", "openat -100 s:DATA/text 0x80001\nfsync $1", Works, &[]),
    ("fdatasync", "openat -100 s:DATA/text 0x80001\nfdatasync $1", Works, &[]),
    // files-create
    (
        "openat(flags & 0x400000 == 0x0, mode & 0xe00 == 0x0)",
        "openat -100 s:DATA/new 0x80042 0x180",
        Works,
        &["openat -100 s:DATA/set-id 0x80042 0x980"],
    ),
    ("mkdirat(mode & 0xe00 == 0x0)", "mkdirat -100 s:DATA/a 0x1c0", Works, &["mkdirat -100 s:DATA/b 0x3c0"]),
    ("mkdir(mode & 0xe00 == 0x0)", "mkdir s:DATA/c 0x1c0", Works, &["mkdir s:DATA/d 0x3c0"]),
    // files-delete
    ("unlinkat", "openat -100 s:DATA/e 0x80042 0x180\nunlinkat -100 s:DATA/e 0", Works, &[]),
    ("unlink", "openat -100 s:DATA/f 0x80042 0x180\nunlink s:DATA/f", Works, &[]),
    ("rmdir", "mkdir s:DATA/g 0x1c0\nrmdir s:DATA/g", Works, &[]),
    ("renameat", "mkdir s:DATA/h 0x1c0\nrenameat -100 s:DATA/h -100 s:DATA/i", Works, &[]),
    ("rename", "mkdir s:DATA/j 0x1c0\nrename s:DATA/j s:DATA/k", Works, &[]),
    (
        "renameat2(flags == 0)",
        "mkdir s:DATA/l 0x1c0\nrenameat2 -100 s:DATA/l -100 s:DATA/m 0",
        Works,
        &["mkdir s:DATA/n 0x1c0\nrenameat2 -100 s:DATA/n -100 s:DATA/m 2"],
    ),
];

/// The same for programs that the host runs: what they have beside [`RULES`].
const PROGRAM_RULES: &[(&str, Script, Outcome, &[Script])] = &[
    // The first library that a loader would map: here the file that others use.
    (
        "mmap(prot & 0x6 == 0x4, flags & 0x4002f == 0x2)",
        "openat -100 s:DATA/text 0x80000\nmmap 0 4096 5 0x2 $1 0",
        Works,
        &["openat -100 s:DATA/text 0x80000\nmmap 0 4096 7 0x2 $1 0", "mmap 0 4096 5 0x22 -1 0"],
    ),
    ("getcwd", "getcwd z:64 64", Works, &[]),
    ("readv", "readv 0 z:16 0", Works, &[]),
    // No program goes on without its thread-local data.
    ("arch_prctl(op == 0x1002)", "arch_prctl 0x1002 0", Ends, &[]),
    ("arch_prctl fails with EINVAL", "arch_prctl 0x1001 0", Errno(libc::EINVAL), &[]),
    ("set_tid_address", "set_tid_address z:8", Works, &[]),
    ("getuid", "getuid", Works, &[]),
    ("geteuid", "geteuid", Works, &[]),
    ("getgid", "getgid", Works, &[]),
    ("getegid", "getegid", Works, &[]),
    ("getppid", "getppid", Works, &[]),
    ("getpgrp", "getpgrp", Works, &[]),
    ("umask", "umask 0x12", Works, &[]),
    (
        "prlimit64(pid == 0, new_limit == 0)",
        "prlimit64 0 7 0 z:16",
        Works,
        &["prlimit64 1 7 0 z:16", "prlimit64 0 7 z:16 0"],
    ),
    ("rt_sigaction", "rt_sigaction 10 0 z:32 8", Works, &[]),
    ("dup", "dup 0", Works, &[]),
    ("dup2", "dup2 0 20", Works, &[]),
    ("dup3", "dup3 0 20 0x80000", Works, &[]),
    ("fcntl(cmd in {0, 1030})", "fcntl 0 0 20", Works, &["fcntl 0 4 0x800", "fcntl 0 8 1"]),
    ("poll", "poll 0 0 0", Works, &[]),
    ("ppoll", "ppoll 0 0 z:16 0 0", Works, &[]),
    ("select", "select 0 0 0 0 z:16", Works, &[]),
    ("pselect6", "pselect6 0 0 0 0 z:16 0", Works, &[]),
    ("nanosleep", "nanosleep z:16 0", Works, &[]),
    ("times", "times z:32", Works, &[]),
    ("getrusage", "getrusage 0 z:144", Works, &[]),
    (
        "ioctl(cmd == 0x5413) fails with ENOTTY",
        "ioctl 1 0x5413 z:8",
        Errno(libc::ENOTTY),
        &["ioctl 1 0x5421 z:4"],
    ),
];

#[tokio::test]
async fn every_rule_of_programs_is_used_and_refuses_what_is_one_step_outside_of_it() {
    let folders = Folders::new();
    let profile = common::native_files(&folders, "1 MiB");
    let host = fixture::host(&folders).profile(profile.clone()).build().await.expect("a host starts");
    let path = common::filer(&folders);
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(run_program(&plugin, &folders, TEXT).await, Works, "the file that others use");
    let plan = hotcell::plan(&path, &LoadOptions::default(), &[profile]);
    let facts = plan.unwrap_or_else(|error| panic!("{error}")).facts;
    let of_programs = facts.iter().filter(|fact| fact.topic == Topic::Spawn);
    let rules = of_programs.filter_map(|fact| fact.text.strip_prefix("its syscall run "));
    let rules: BTreeSet<&str> =
        rules.map(str::trim).filter(|rule| !rule.starts_with("everything else")).collect();
    for rule in &rules {
        let mut known = PROGRAM_RULES.iter().chain(RULES).filter(|(known, ..)| known == rule);
        let (_, allowed, outcome, refused) =
            known.next().unwrap_or_else(|| panic!("{rule}: nobody knows a use"));
        assert_eq!(run_program(&plugin, &folders, allowed).await, *outcome, "{rule}: {allowed}");
        for script in *refused {
            let call = script.lines().last().and_then(|line| line.split(' ').next()).unwrap_or_default();
            // What is outside of one rule may be inside of another for the same call.
            let alone = !rules.iter().any(|other| other != rule && other.starts_with(&format!("{call}(")));
            let found = run_program(&plugin, &folders, script).await;
            assert!(found == Errno(libc::EPERM) || !alone, "{rule}: {script} {found:?}");
        }
    }
    host.shutdown().await;
}

/// Runs a script in a program of its own.
async fn run_program(plugin: &Plugin, folders: &Folders, script: Script) -> Outcome {
    let lines = numbered(folders, script).unwrap_or_else(|| panic!("`{script}` names no system call"));
    let request = "process.run\n{\"program\":\"${plugin}/tool\",\"arguments\":[\"try\"]}\n";
    let said = plugin.call_raw("host_call", format!("{request}{lines}").into_bytes()).await;
    let said = String::from_utf8(said.unwrap_or_else(|error| panic!("{script}: {error}"))).expect("text");
    match said.split_once('\n') {
        Some(("{\"exit\":0}", said)) if !said.is_empty() => outcome(said),
        _ => Ends,
    }
}

#[tokio::test]
async fn every_rule_is_used_and_refuses_what_is_one_step_outside_of_it() {
    let folders = Folders::new();
    let profile = common::native_files(&folders, "1 MiB");
    let host = fixture::host(&folders).profile(profile.clone()).build().await.expect("a host starts");
    let path = common::filer(&folders);
    assert_eq!(run(&host, &path, &folders, TEXT).await, Some(Works), "the file that others use");
    let rules = rules(&path, &profile);
    let known: BTreeSet<String> = RULES.iter().map(|(rule, ..)| (*rule).to_owned()).collect();
    assert_eq!(rules, known, "left: rules of the plan; right: what is known to use them");
    for (rule, allowed, outcome, refused) in RULES {
        let found = run(&host, &path, &folders, allowed).await;
        let found = found.unwrap_or_else(|| panic!("{rule}: `{allowed}` names no system call"));
        assert_eq!(found, *outcome, "{rule}: {allowed}");
        assert!(!refused.is_empty() || !rule.contains('('), "{rule}: nothing outside of it is tried");
        for script in *refused {
            let found = run(&host, &path, &folders, script).await;
            assert_eq!(found, Some(Errno(libc::EPERM)), "{rule}: {script}");
        }
    }
    host.shutdown().await;
}

/// What the Run program of the plugin's plan allows or answers.
fn rules(path: &Path, profile: &Profile) -> BTreeSet<String> {
    let plan = hotcell::plan(path, &LoadOptions::default(), std::slice::from_ref(profile));
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let facts = plan.facts.iter().filter(|fact| fact.topic == Topic::Syscall);
    let run = facts.filter_map(|fact| fact.text.strip_prefix("run").map(|rule| rule.trim().to_owned()));
    run.filter(|rule| !rule.starts_with("everything else")).collect()
}

/// A script with the numbers of its system calls; `None` where this processor lacks one of them.
fn numbered(folders: &Folders, script: Script) -> Option<String> {
    let data = folders.join("state").join("data").join("dev.hotcell.test.filer");
    let arch = Arch::of_this_build()?;
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(format!("{} {}", syscall_number(arch, name)?, rest.replace("DATA", &data.display().to_string())))
    };
    let lines: Vec<String> = script.lines().map(line).collect::<Option<_>>()?;
    Some(lines.join("\n"))
}

/// What came of the last line of a script.
fn outcome(said: &str) -> Outcome {
    let last = said.lines().last().and_then(|line| line.split_once(' '));
    match last.expect("a result and an errno for each call") {
        ("-1", errno) => Errno(errno.parse().expect("a number")),
        _ => Works,
    }
}

/// Runs a script in a worker of its own; `None` where this processor lacks one of the calls.
async fn run(host: &Host, path: &Path, folders: &Folders, script: Script) -> Option<Outcome> {
    let lines = numbered(folders, script)?;
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    let said = plugin.call_raw("try_syscall", lines.into_bytes()).await;
    plugin.unload().await;
    Some(match said {
        Err(CallError::Crashed(_)) => Ends,
        Err(error) => panic!("{script}: {error}"),
        Ok(said) => outcome(&String::from_utf8(said).expect("text")),
    })
}
