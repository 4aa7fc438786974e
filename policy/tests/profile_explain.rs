//! Questions about profiles: `golden/profile-explain.txt` shows each answer as people see it.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use std::fmt::Write;

use common::{golden, root_platform, shipped};
use hotcell_policy::review::{Access, Argument, Question, QuestionError, Verdict, explain, grants};
use hotcell_policy::{Action, Arch, Policy, Profile, SeccompData, compile, evaluate, for_pid, syscall_name};
use hotcell_protocol::{Filters, Runtime};

fn call(name: &str, args: &[(u8, u64)]) -> Question {
    let args = args.iter().map(|(index, value)| (*index, Argument::Value(*value))).collect();
    Question::Syscall { name: name.to_owned(), args }
}

fn path(path: &str, access: Access) -> Question {
    Question::Path { path: path.parse().expect("is a path"), access }
}

fn host_call(name: &str) -> Question {
    Question::HostCall(name.parse().expect("is a name"))
}

fn cases() -> Vec<(&'static str, Question)> {
    let own_abort = vec![(0, Argument::SelfPid), (2, Argument::Value(6))];
    vec![
        ("native-strict", call("read", &[])),
        ("native-strict", call("socket", &[])),
        ("native-strict", call("openat", &[(2, 0)])),
        ("native-strict", call("epoll_wait", &[])),
        ("native-strict", call("mprotect", &[])),
        ("native-strict", call("mprotect", &[(2, 1)])),
        ("native-strict", call("mprotect", &[(2, 4)])),
        ("native-strict", call("clone3", &[])),
        ("native-strict", Question::Syscall { name: "tgkill".to_owned(), args: own_abort }),
        ("native-strict", call("tgkill", &[(0, 1), (2, 6)])),
        ("native-strict", call("tgkill", &[(0, 0)])),
        ("pure-compute", call("rt_sigaction", &[])),
        ("pure-compute", call("ioctl", &[])),
        ("image-decoder", call("openat", &[(2, 0x241)])),
        ("wasi-command", call("openat", &[(2, 0x241), (3, 0o644)])),
        ("wasi-command", call("openat", &[(2, 0x241)])),
        ("native-strict", path("/srv/in", Access::Read)),
        ("image-decoder", path("${plugin}/icc/srgb.icc", Access::Read)),
        ("image-decoder", path("${plugin}", Access::Read)),
        ("image-decoder", path("${plugin}/icc", Access::Write)),
        ("image-decoder", path("/etc/motd", Access::Create)),
        ("wasi-command", path("${data}/cache", Access::Delete)),
        ("wasi-command", path("/srv", Access::Write)),
        ("pure-compute", path("${data}", Access::Read)),
        ("pure-compute", host_call("log")),
        ("pure-compute", host_call("prices.get")),
        ("native-strict", Question::Connect("api.example.org:443".parse().expect("is an address"))),
        ("native-strict", Question::Listen("127.0.0.1:8080".parse().expect("is an address"))),
        ("pure-compute", Question::Listen("[::]:80".parse().expect("is an address"))),
        ("native-strict", Question::Program("/usr/bin/gzip".parse().expect("is a path"))),
        ("wasi-command", Question::Program("/usr/bin/gzip".parse().expect("is a path"))),
        ("pure-compute", Question::Connect("[2001:db8::1]:80".parse().expect("is an address"))),
    ]
}

fn words(question: &Question) -> String {
    match question {
        Question::Syscall { name, args } => {
            let args = args.iter().map(|(index, argument)| match argument {
                Argument::Value(value) => format!(" {index}={value:#x}"),
                Argument::SelfPid => format!(" {index}=self-pid"),
            });
            format!("{name}{}", args.collect::<String>())
        }
        Question::Path { path, access } => format!("{access:?} {path}").to_lowercase(),
        Question::HostCall(name) => format!("host call {name}"),
        Question::Connect(address) => format!("connect {address}"),
        Question::Listen(address) => format!("listen {address}"),
        Question::Program(program) => format!("program {program}"),
    }
}

#[test]
fn each_answer_reads_as_committed() {
    let mut text = String::new();
    for (name, question) in cases() {
        let profile = shipped(name);
        writeln!(text, "## {name}: {}", words(&question)).expect("is text");
        for runtime in profile.runtimes() {
            let answer = explain(&profile, *runtime, &question).unwrap_or_else(|error| panic!("{error}"));
            writeln!(text, "{answer}").expect("is text");
        }
        text.push('\n');
    }
    for name in Profile::shipped_names() {
        writeln!(text, "## the grants of {name}").expect("is text");
        grants(&shipped(name)).iter().for_each(|grant| writeln!(text, "{grant}").expect("is text"));
        text.push('\n');
    }
    golden("policy/tests/golden/profile-explain.txt", &text);
}

#[test]
fn what_does_not_exist_is_not_explained() {
    let profile = shipped("native-strict");
    let ask = |question: &Question| explain(&profile, Runtime::Native, question);
    assert_eq!(ask(&call("opne", &[])), Err(QuestionError::NoSuchCall("opne".to_owned())));
    assert_eq!(ask(&call("read", &[(6, 0)])), Err(QuestionError::Argument(6)));
    assert_eq!(ask(&call("read", &[(1, 0), (1, 2)])), Err(QuestionError::Argument(1)));
    assert!(matches!(explain(&profile, Runtime::Core, &call("read", &[])), Err(QuestionError::Runtime(_))));
}

/// Every call with arguments like those that real ones take.
#[test]
fn each_answer_about_a_call_is_what_the_programs_answer() {
    const VALUES: [u64; 3] = [0, 4, 0x241];
    let arch = Arch::X86_64;
    let (mut allowed, mut refused) = (0, 0);
    for name in Profile::shipped_names() {
        let profile = shipped(name);
        let runtime = *profile.runtimes().first().expect("has one");
        let policy = Policy::widest(&profile, runtime).expect("fits");
        let plan = compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"));
        let program = match &plan.orders.filters {
            Filters::Staged { load, run, .. } => for_pid(run.as_ref().unwrap_or(load), 77),
            Filters::Supervised { filter, .. } => for_pid(filter, 77),
        };
        for nr in 0..470 {
            let Some(call_name) = syscall_name(arch, nr) else { continue };
            for value in VALUES {
                let args = [value, value, value, 2, 0, 0];
                let known: Vec<_> = (0..6).zip(args).collect();
                let answer = explain(&profile, runtime, &call(call_name, &known))
                    .unwrap_or_else(|error| panic!("{error}"));
                let data = SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args };
                let expected = evaluate(&program, &data) == Action::Allow;
                assert_eq!(
                    answer.verdict == Verdict::Allowed,
                    expected,
                    "{name}: {call_name} {args:x?}: {answer}"
                );
                *(if expected { &mut allowed } else { &mut refused }) += 1;
            }
        }
    }
    assert!(allowed > 300 && refused > 300, "control: {allowed} allowed, {refused} refused");
}
