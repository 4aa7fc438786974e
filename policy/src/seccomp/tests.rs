//! Programs against a second reading of the rules: each rule once inside and once just outside, and the assembler's
//! corners.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails that way, and random bits may be cut"
)]

use hotcell_protocol::{Filter, Instruction, Runtime};

use super::assemble::{Alternative, Table, TooLong, assemble};
use super::evaluate::{Action, SeccompData, evaluate, for_pid};
use super::names::syscall_number;
use super::set::{Answer, Condition, Granted, Rule, SyscallSet, Wanted};
use super::{opcode, syscall_name};
use crate::Arch;

const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const PID: u32 = 4711;
const DEFAULT: Action = Action::Notify;

fn sets() -> Vec<SyscallSet> {
    SyscallSet::names()
        .iter()
        .map(|name| SyscallSet::shipped(name).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

fn action(answer: Answer) -> Action {
    match answer {
        Answer::Allow => Action::Allow,
        Answer::Errno(_, number) => Action::Errno(number),
        Answer::Host => Action::Notify,
        Answer::Worker => Action::Trap,
    }
}

fn program_of(arch: Arch, number: u32, conditions: &[Condition], action: Action) -> Filter {
    let table = Table::from([(number, vec![Alternative { conditions, action }])]);
    assemble(arch, &table, DEFAULT).expect("is short")
}

fn ask(filter: &Filter, arch: Arch, number: u32, args: [u64; 6]) -> Action {
    let data = SeccompData { nr: number, arch: arch.audit(), instruction_pointer: u64::MAX, args };
    evaluate(&for_pid(filter, PID), &data)
}

/// The argument values that a condition accepts.
fn accepted(condition: &Condition) -> Vec<u64> {
    match &condition.wanted {
        Wanted::SelfPid => vec![u64::from(PID)],
        Wanted::OneOf(values) => values.clone(),
    }
}

/// The condition as its words say it, without a program.
fn holds(condition: &Condition, argument: u64) -> bool {
    let argument = if condition.wide { argument } else { argument & 0xffff_ffff };
    accepted(condition).contains(&(argument & condition.mask))
}

/// Arguments under which every condition of the rule holds, with one accepted value of one of them.
fn inside(conditions: &[Condition], chosen: usize, value: u64) -> [u64; 6] {
    let mut args = [0; 6];
    for (index, condition) in conditions.iter().enumerate() {
        args[usize::from(condition.index)] |= if index == chosen { value } else { accepted(condition)[0] };
    }
    args
}

/// Values of one argument around those that it accepts: each bit flipped, one more, one less.
fn around(value: u64) -> impl Iterator<Item = u64> {
    let flipped = (0..64).map(move |bit| value ^ (1 << bit));
    flipped.chain([
        value.wrapping_add(1),
        value.wrapping_sub(1),
        0,
        u64::MAX,
        u64::from(PID),
        u64::from(PID) + 1,
    ])
}

fn each_rule(mut check: impl FnMut(Arch, &str, u32, &Rule)) {
    for arch in ARCHES {
        for set in sets() {
            for rule in &set.rules {
                for name in &rule.names {
                    if let Some(number) = syscall_number(arch, name) {
                        check(arch, &format!("{} {name} on {arch}", set.name), number, rule);
                    }
                }
            }
        }
    }
}

#[test]
fn each_shipped_rule_answers_inside_and_not_just_outside() {
    let (mut insides, mut outsides) = (0, 0);
    each_rule(|arch, what, number, rule| {
        let filter = program_of(arch, number, &rule.conditions, action(rule.answer));
        if rule.conditions.is_empty() {
            assert_eq!(ask(&filter, arch, number, [u64::MAX; 6]), action(rule.answer), "{what}");
        }
        for (chosen, condition) in rule.conditions.iter().enumerate() {
            for value in accepted(condition) {
                let args = inside(&rule.conditions, chosen, value);
                assert_eq!(ask(&filter, arch, number, args), action(rule.answer), "{what}: {args:x?}");
                insides += 1;
                for other in around(value) {
                    let mut args = args;
                    args[usize::from(condition.index)] = other;
                    let all = rule
                        .conditions
                        .iter()
                        .all(|condition| holds(condition, args[usize::from(condition.index)]));
                    let expected = if all { action(rule.answer) } else { DEFAULT };
                    assert_eq!(ask(&filter, arch, number, args), expected, "{what}: {args:x?}");
                    outsides += usize::from(!all);
                }
            }
        }
        for neighbour in [number.wrapping_add(1), number.wrapping_sub(1)] {
            assert_ne!(ask(&filter, arch, neighbour, [0; 6]), Action::Allow, "{what}: {neighbour}");
        }
    });
    assert!(insides > 100 && outsides > 1000, "{insides} inside, {outsides} outside");
}

#[test]
fn all_sets_together_answer_as_a_second_reading_of_them_does() {
    for arch in ARCHES {
        let sets = sets();
        let mut table = Table::new();
        for rule in sets.iter().flat_map(|set| &set.rules) {
            for number in rule.names.iter().filter_map(|name| syscall_number(arch, name)) {
                let alternative = Alternative { conditions: &rule.conditions, action: action(rule.answer) };
                table.entry(number).or_default().push(alternative);
            }
        }
        let filter = assemble(arch, &table, DEFAULT).expect("fits");
        let expected = |number: u32, args: [u64; 6]| {
            let alternatives = table.get(&number).into_iter().flatten();
            let met = |alternative: &&Alternative<'_>| {
                alternative
                    .conditions
                    .iter()
                    .all(|condition| holds(condition, args[usize::from(condition.index)]))
            };
            alternatives.clone().find(met).map_or(DEFAULT, |alternative| alternative.action)
        };
        let mut random = Random(1);
        for number in 0..700 {
            for _ in 0..50 {
                let args = std::array::from_fn(|_| random.argument());
                assert_eq!(ask(&filter, arch, number, args), expected(number, args), "{number} {args:x?}");
            }
        }
    }
}

/// Values like those that system calls take: small, flags, minus one, addresses (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn argument(&mut self) -> u64 {
        let value = self.next();
        match value % 5 {
            0 => self.next() % 24,
            1 => 1 << (self.next() % 64),
            2 => u64::MAX,
            3 => u64::from(PID),
            _ => value,
        }
    }
}

#[test]
fn another_architecture_and_the_x32_numbers_kill() {
    let write = syscall_number(Arch::X86_64, "write").unwrap();
    let filter = program_of(Arch::X86_64, write, &[], Action::Allow);
    assert_eq!(ask(&filter, Arch::X86_64, write, [0; 6]), Action::Allow, "control");
    assert_eq!(ask(&filter, Arch::Aarch64, write, [0; 6]), Action::KillProcess);
    const AUDIT_ARCH_I386: u32 = 0x4000_0003;
    let data = SeccompData { nr: write, arch: AUDIT_ARCH_I386, ..SeccompData::default() };
    assert_eq!(evaluate(&filter.program, &data), Action::KillProcess);
    for number in [0x4000_0000, 0x4000_0000 | write, 0x7fff_ffff, u32::MAX] {
        assert_eq!(ask(&filter, Arch::X86_64, number, [0; 6]), Action::KillProcess, "{number:#x}");
    }
    assert_eq!(ask(&filter, Arch::X86_64, 9999, [0; 6]), DEFAULT);
}

#[test]
fn blocks_beyond_the_reach_of_a_short_jump_are_reached() {
    let condition = |value| Condition {
        index: 1,
        label: "x".to_owned(),
        wide: true,
        mask: u64::MAX - 1,
        wanted: Wanted::OneOf(vec![value]),
    };
    let conditions: Vec<_> = (0..100).map(|value| vec![condition(value << 33 | 2)]).collect();
    let mut table = Table::new();
    for number in 0..3 {
        let alternatives = conditions
            .iter()
            .zip(0..)
            .map(|(conditions, errno)| Alternative { conditions, action: Action::Errno(errno) });
        table.insert(number * 100, alternatives.collect());
    }
    let filter = assemble(Arch::X86_64, &table, Action::KillProcess).expect("fits");
    assert!(filter.program.len() > 1000, "{}", filter.program.len());
    check_jumps(&filter.program);
    for number in [0, 100, 200] {
        for errno in 0..100_u16 {
            let argument = u64::from(errno) << 33 | 3;
            assert_eq!(ask(&filter, Arch::X86_64, number, [0, argument, 0, 0, 0, 0]), Action::Errno(errno));
        }
        assert_eq!(ask(&filter, Arch::X86_64, number, [0, 100 << 33 | 2, 0, 0, 0, 0]), Action::KillProcess);
    }
}

/// What the kernel checks before it takes a program (seccomp_check_filter): forward jumps inside it, a return at its end.
fn check_jumps(program: &[Instruction]) {
    for (index, instruction) in program.iter().enumerate() {
        let farthest = match instruction.code {
            opcode::JUMP => instruction.k as usize,
            opcode::JUMP_EQUAL | opcode::JUMP_AT_LEAST => usize::from(instruction.jt.max(instruction.jf)),
            opcode::LOAD => {
                assert!(instruction.k < 64 && instruction.k.is_multiple_of(4), "{instruction:?}");
                0
            }
            opcode::AND | opcode::RETURN => 0,
            other => panic!("an instruction that no plan has: {other:#x}"),
        };
        assert!(
            index + 1 + farthest < program.len() || instruction.code == opcode::RETURN,
            "{index}: {instruction:?}"
        );
    }
    assert_eq!(program.last().map(|instruction| instruction.code), Some(opcode::RETURN));
}

#[test]
fn every_shipped_program_is_one_that_the_kernel_takes() {
    each_rule(|arch, _, number, rule| {
        check_jumps(&program_of(arch, number, &rule.conditions, action(rule.answer)).program);
    });
}

#[test]
fn a_program_longer_than_the_kernel_takes_is_refused() {
    let table: Table<'_> = (0..4096)
        .map(|number| (number, vec![Alternative { conditions: &[], action: Action::Allow }]))
        .collect();
    assert!(matches!(assemble(Arch::X86_64, &table, DEFAULT), Err(TooLong { .. })));
}

#[test]
fn an_empty_table_is_only_its_default() {
    let filter = assemble(Arch::Aarch64, &Table::new(), Action::Errno(1)).expect("is short");
    assert_eq!(ask(&filter, Arch::Aarch64, 0, [0; 6]), Action::Errno(1));
}

#[test]
fn the_process_id_is_bound_where_the_program_compares_with_it() {
    let tgkill = syscall_number(Arch::X86_64, "tgkill").unwrap();
    let compute = SyscallSet::shipped("compute").expect("parses");
    let rule = compute.rules.iter().find(|rule| rule.names == ["tgkill"]).unwrap();
    let filter = program_of(Arch::X86_64, tgkill, &rule.conditions, Action::Allow);
    assert_eq!(filter.self_pid.len(), 1);
    let abort = |pid: u32, target: u64, signal: u64| {
        let data = SeccompData {
            nr: tgkill,
            arch: Arch::X86_64.audit(),
            instruction_pointer: 0,
            args: [target, 1, signal, 0, 0, 0],
        };
        evaluate(&for_pid(&filter, pid), &data)
    };
    assert_eq!(abort(77, 77, 6), Action::Allow, "control");
    for (target, signal) in [(78, 6), (77, 9), (0, 6), (u64::MAX, 6), (1, 6)] {
        assert_eq!(abort(77, target, signal), DEFAULT, "{target} {signal}");
    }
}

#[test]
fn the_evaluator_ends_and_kills_whatever_the_program() {
    let mut random = Random(7);
    let codes = [
        opcode::LOAD,
        opcode::AND,
        opcode::JUMP,
        opcode::JUMP_EQUAL,
        opcode::JUMP_AT_LEAST,
        opcode::RETURN,
        0x00,
        0xffff,
    ];
    for _ in 0..20_000 {
        let length = random.next() % 12;
        let program: Vec<_> = (0..length)
            .map(|_| Instruction {
                code: codes[random.next() as usize % codes.len()],
                jt: random.next() as u8,
                jf: random.next() as u8,
                k: random.argument() as u32,
            })
            .collect();
        evaluate(&program, &SeccompData::default());
    }
    assert_eq!(evaluate(&[], &SeccompData::default()), Action::KillProcess);
    let far = [Instruction { code: opcode::JUMP, jt: 0, jf: 0, k: u32::MAX }];
    assert_eq!(evaluate(&far, &SeccompData::default()), Action::KillProcess);
    let outside = [Instruction { code: opcode::LOAD, jt: 0, jf: 0, k: 64 }];
    assert_eq!(evaluate(&outside, &SeccompData::default()), Action::KillProcess);
}

#[test]
fn actions_are_encoded_as_the_kernel_reads_them() {
    for (action, value) in [
        (Action::Allow, 0x7fff_0000),
        (Action::Errno(38), 0x0005_0026),
        (Action::Notify, 0x7fc0_0000),
        (Action::Trap, 0x0003_0000),
        (Action::KillProcess, 0x8000_0000),
    ] {
        assert_eq!((action.encode(), Action::decode(value)), (value, action));
    }
    assert_eq!(Action::decode(0x7ff0_0000), Action::KillProcess, "an action that no plan has");
}

/// Calls that pass Landlock, reach other processes, or make what no rlimit counts. The `absent` lines of plans rely on it.
const NEVER: &str = "socketpair sendmmsg recvmmsg recvmsg getsockname \
    kill tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd ptrace process_vm_readv \
    process_vm_writev process_madvise process_mrelease kcmp setpriority getpriority sched_setscheduler sched_setattr \
    sched_setaffinity ioprio_set setrlimit fork vfork clone execve execveat unshare setns prctl arch_prctl personality \
    chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown utimensat utime utimes futimesat setxattr lsetxattr \
    fsetxattr removexattr flock link linkat symlink symlinkat mknod mknodat fallocate copy_file_range splice tee \
    vmsplice sendfile memfd_create memfd_secret pipe pipe2 shmget shmat msgget semget mq_open userfaultfd bpf \
    perf_event_open io_uring_setup io_uring_enter io_uring_register io_setup add_key keyctl request_key \
    open_by_handle_at name_to_handle_at inotify_init inotify_init1 fanotify_init mount umount2 pivot_root chroot \
    open_tree move_mount fsopen fsconfig sethostname setdomainname syslog quotactl swapon reboot mlock mlockall \
    mlock2 remap_file_pages modify_ldt iopl ioperm setuid setgid setresuid setresgid setgroups capset \
    landlock_create_ruleset landlock_restrict_self timer_create timerfd_create signalfd signalfd4 setsid setpgid \
    open creat pkey_mprotect pkey_alloc mbind move_pages migrate_pages set_mempolicy msync get_robust_list \
    kexec_load init_module finit_module delete_module acct settimeofday clock_settime adjtimex uname";

#[test]
fn no_shipped_set_holds_what_plans_say_that_none_holds() {
    let sets = sets();
    // What becomes a program sets its thread's base, and is executed once.
    let of_programs = ["arch_prctl", "execveat"];
    for name in NEVER.split_whitespace() {
        assert!(ARCHES.iter().any(|arch| syscall_number(*arch, name).is_some()), "{name} is a system call");
        let holds = |set: &&SyscallSet| {
            let except = set.runtimes == [Runtime::Program] && of_programs.contains(&name);
            !except && set.rules.iter().any(|rule| rule.names.iter().any(|known| known == name))
        };
        let holder = sets.iter().find(holds);
        assert_eq!(holder.map(|set| set.name), None, "{name}");
    }
}

#[test]
fn sockets_are_in_the_sets_of_connections_alone_and_the_kernel_makes_connects_and_binds_none() {
    for set in sets() {
        for rule in &set.rules {
            for name in &rule.names {
                let (answer, when) = match name.as_str() {
                    "socket" if set.name == "program-pipes" => (Answer::Host, Granted::Spawn),
                    "socket" => (Answer::Host, Granted::Network),
                    "connect" => (Answer::Worker, Granted::Network),
                    "bind" | "listen" => (Answer::Worker, Granted::Listen),
                    "accept" | "accept4" => (Answer::Allow, Granted::Listen),
                    "setsockopt" | "getsockopt" if set.when == Some(Granted::Listen) => {
                        (Answer::Allow, Granted::Listen)
                    }
                    "sendto" | "recvfrom" | "shutdown" | "setsockopt" | "getsockopt" | "getpeername" => {
                        (Answer::Allow, Granted::Network)
                    }
                    _ => continue,
                };
                assert_eq!((rule.answer, set.when), (answer, Some(when)), "{name} of {}", set.name);
            }
        }
    }
}

#[test]
fn names_and_numbers_agree() {
    assert_eq!(syscall_name(Arch::X86_64, 59), Some("execve"));
    assert_eq!(syscall_name(Arch::Aarch64, 221), Some("execve"));
    assert_eq!(syscall_number(Arch::X86_64, "io_uring_setup"), Some(425));
    assert_eq!(syscall_number(Arch::Aarch64, "open"), None);
    assert_eq!(syscall_name(Arch::X86_64, u32::MAX), None);
    for arch in ARCHES {
        let known = (0..1000).filter_map(|number| Some((number, syscall_name(arch, number)?)));
        for (number, name) in known {
            assert_eq!(syscall_number(arch, name), Some(number), "{name}");
        }
    }
}

#[test]
fn the_sets_hold_the_same_calls_on_both_architectures_but_for_those_that_only_one_has() {
    const ONLY_X86_64: [&str; 13] = [
        "access",
        "arch_prctl",
        "dup2",
        "epoll_wait",
        "getpgrp",
        "mkdir",
        "poll",
        "readlink",
        "rename",
        "rmdir",
        "select",
        "time",
        "unlink",
    ];
    let sets = sets();
    let names = sets.iter().flat_map(|set| &set.rules).flat_map(|rule| &rule.names);
    for name in names {
        let [intel, arm] = ARCHES.map(|arch| syscall_number(arch, name).is_some());
        assert!(intel, "{name}");
        assert_eq!(arm, !ONLY_X86_64.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn every_set_of_the_folder_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sandbox-profiles/syscalls");
    let files = std::fs::read_dir(folder).expect("is there").flatten();
    let count = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "toml")).count();
    assert_eq!(count, SyscallSet::names().len());
}
