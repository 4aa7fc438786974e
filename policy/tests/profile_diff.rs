//! Profiles compared: `golden/profile-diff.txt` shows each difference as people see it, and random profiles are compared
//! with what manifests get under them.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails that way")]

mod common;

use std::fmt::Write;

use common::{golden, manifest, root_platform, shipped};
use hotcell_policy::review::{Call, Mark, diff};
use hotcell_policy::{
    Action, Arch, Manifest, Plan, Policy, Profile, SeccompData, compile, evaluate, for_pid, resolve,
    syscall_name,
};
use hotcell_protocol::{Filters, Runtime};

/// A profile; each case replaces one piece of it.
const OLD: &str = r#"schema = 1
summary = "A role."
runtime = ["command", "native"]
landlock = 3
namespaces = ["ipc", "uts"]
syscalls = ["worker-channel", "compute", "native-load", "wasm-load", "seal", "wasi-run", "files-read", "files-write"]

[limits]
memory      = "256 MiB"
cpu         = "1 h"
cpu-share   = "100 %"
start       = "10 s"
call        = "500 ms"
message     = "16 MiB"
outstanding = 64
instances   = 4
state       = "0 B"
open-files  = 8
processes   = 0
threads     = 0
file-size   = "1 MiB"
disk        = "2 MiB"
log-rate    = "64 KiB/s"

[[file]]
path   = "${data}"
access = "write"
why    = "It keeps its results."

[[host-call]]
name = "log"
why  = "It tells."
"#;

/// What the case shows, the piece, and what stands there instead.
const CASES: &[(&str, &str, &str)] = &[
    ("a comment", "schema = 1", "schema = 1 # the first"),
    ("a signature that is required", "schema = 1", "schema = 1\nsignature = \"required\""),
    ("audits that refuse", "schema = 1", "schema = 1\naudit = \"medium\""),
    ("inputs in reports", "schema = 1", "schema = 1\nreports = \"inputs\""),
    ("exceptions", "schema = 1", "schema = 1\nwasm = [\"exceptions\"]"),
    ("another order of sets", "\"worker-channel\", \"compute\"", "\"compute\", \"worker-channel\""),
    ("other words", "It keeps its results.", "It keeps what it found."),
    (
        "a runtime less",
        "[\"command\", \"native\"]\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", \"native-load\", ",
        "\"command\"\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", ",
    ),
    ("debuggers", "landlock = 3", "landlock = 3\ndebug = \"attach\""),
    ("native workers that are copies", "landlock = 3", "landlock = 3\nlaunch = \"fork\""),
    ("a newer Landlock", "landlock = 3", "landlock = 6"),
    ("a namespace less", "[\"ipc\", \"uts\"]", "[\"uts\"]"),
    ("another namespace", "[\"ipc\", \"uts\"]", "[\"ipc\", \"network\"]"),
    (
        "limits",
        "cpu         = \"1 h\"\ncpu-share   = \"100 %\"",
        "cpu         = \"30 min\"\ncpu-share   = \"200 %\"",
    ),
    ("reading only", "access = \"write\"", "access = \"read\""),
    ("a folder of the folder", "\"${data}\"", "\"${data}/out\""),
    ("another folder", "\"${data}\"", "\"${scratch}\""),
    ("another host call", "name = \"log\"", "name = \"prices.get\""),
    ("a bound by a cgroup", "landlock = 3", "landlock = 3\ncgroups = [\"memory\"]"),
    (
        "a connection",
        "\"command\", \"native\"]\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", \"native-load\", \"wasm-load\", \"seal\", \"wasi-run\", ",
        "\"native\"]\nconnect = [{ address = \"example.org:443\", why = \"It asks.\" }]\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", \"native-load\", \"connections\", ",
    ),
    (
        "listening",
        "\"command\", \"native\"]\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", \"native-load\", \"wasm-load\", \"seal\", \"wasi-run\", ",
        "\"native\"]\nlisten = [{ address = \"127.0.0.1:8080\", why = \"It serves.\" }]\nlandlock = 3\nnamespaces = [\"ipc\", \"uts\"]\nsyscalls = [\"worker-channel\", \"compute\", \"native-load\", \"connections\", \"listeners\", ",
    ),
    ("a set less", "\"wasi-run\", ", ""),
    ("a set that is always needed less", "\"compute\", ", ""),
    (
        "creating",
        "\"files-write\"]\n\n[limits]",
        "\"files-write\", \"files-create\"]\n\n[[file]]\npath = \"${data}/new\"\naccess = \"write\"\ncreate = true\nwhy = \"New results.\"\n\n[limits]",
    ),
    (
        "a grant that another covers",
        "[[host-call]]",
        "[[file]]\npath = \"${data}/in\"\naccess = \"read\"\nwhy = \"It.\"\n\n[[host-call]]",
    ),
    (
        "no file",
        "[[file]]\npath   = \"${data}\"\naccess = \"write\"\nwhy    = \"It keeps its results.\"\n",
        "",
    ),
];

fn parse(text: &str) -> Profile {
    Profile::parse("role.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn lines(old: &Profile, new: &Profile) -> String {
    let found = diff(old, new);
    if found.is_empty() {
        "nothing\n".to_owned()
    } else {
        found.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn widens(old: &Profile, new: &Profile) -> bool {
    diff(old, new).iter().any(|difference| difference.mark == Mark::Widens)
}

#[test]
fn each_difference_reads_as_committed() {
    let mut text = String::new();
    let old = parse(OLD);
    for (what, piece, instead) in CASES {
        assert!(OLD.contains(piece), "{what}: `{piece}` is not in the profile");
        let new = parse(&OLD.replacen(piece, instead, 1));
        write!(text, "## {what}\n{}## and back\n{}\n", lines(&old, &new), lines(&new, &old))
            .expect("is text");
    }
    for (old, new) in [("native-strict", "image-decoder"), ("pure-compute", "wasi-command")] {
        write!(text, "## {old} to {new}\n{}\n", lines(&shipped(old), &shipped(new))).expect("is text");
    }
    golden("policy/tests/golden/profile-diff.txt", &text);
}

/// Each limit of the profile, and a greater one.
const LIMITS: [(&str, &str, &str); 15] = [
    ("memory", "\"256 MiB\"", "\"257 MiB\""),
    ("cpu", "\"1 h\"", "\"2 h\""),
    ("cpu-share", "\"100 %\"", "\"101 %\""),
    ("start", "\"10 s\"", "\"11 s\""),
    ("call", "\"500 ms\"", "\"1 s\""),
    ("message", "\"16 MiB\"", "\"17 MiB\""),
    ("outstanding", "64", "65"),
    ("instances", "4", "5"),
    ("state", "\"0 B\"", "\"1 B\""),
    ("open-files", "8", "9"),
    ("processes", "0", "1"),
    ("threads", "0", "1"),
    ("file-size", "\"1 MiB\"", "\"2 MiB\""),
    ("disk", "\"2 MiB\"", "\"1 GiB\""),
    ("log-rate", "\"64 KiB/s\"", "\"1 MiB/s\""),
];

#[test]
fn each_limit_that_is_raised_widens_and_is_named() {
    let old = parse(OLD);
    for (key, value, more) in LIMITS {
        let line = format!("{key:<11} = {value}");
        assert!(OLD.contains(&line), "{line}");
        let new = parse(&OLD.replacen(&line, &format!("{key} = {more}"), 1));
        for (from, to, mark) in [(&old, &new, Mark::Widens), (&new, &old, Mark::Narrows)] {
            let found = diff(from, to);
            let [difference] = found.as_slice() else { panic!("{key}: {found:?}") };
            assert_eq!((difference.mark, difference.topic), (mark, "limit"));
            assert!(difference.text.starts_with(&format!("{key} ")), "{key}: {difference}");
        }
    }
}

#[test]
fn a_profile_does_not_differ_from_itself() {
    for name in Profile::shipped_names() {
        assert_eq!(diff(&shipped(name), &shipped(name)), []);
    }
}

#[test]
fn an_extension_never_narrows() {
    let text = "schema = 1\nsummary = \"More.\"\nextends = \"wasi-command\"\n[[host-call]]\nname = \"a\"\nwhy = \"It.\"\n";
    let more = parse(text);
    assert!(widens(&shipped("wasi-command"), &more) && !widens(&more, &shipped("wasi-command")));
}

/// The programs of a plan, by stage.
fn program(plan: &Plan, run: bool, pid: u32) -> Vec<hotcell_protocol::Instruction> {
    let filter = match (&plan.orders.filters, run) {
        (Filters::Staged { load, run: later, .. }, true) => later.as_ref().unwrap_or(load),
        (Filters::Staged { load, .. }, false) => load,
        (Filters::Supervised { filter, .. }, true) => filter,
        (Filters::Supervised { judge, .. }, false) => judge,
    };
    for_pid(filter, pid)
}

fn allows(plan: &Plan, run: bool, name: &str, call: &Call) -> bool {
    let arch = Arch::X86_64;
    let nr = (0..1000).find(|nr| syscall_name(arch, *nr) == Some(name)).expect("is a call");
    let data = SeccompData { nr, arch: arch.audit(), instruction_pointer: 0, args: call.args };
    evaluate(&program(plan, run, call.pid.unwrap_or(1)), &data) == Action::Allow
}

#[test]
fn each_call_that_a_difference_names_is_allowed_by_one_plan_and_not_by_the_other() {
    let plan = |profile: &Profile, runtime| {
        let policy = Policy::widest(profile, runtime).expect("is for it");
        compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"))
    };
    let old = parse(OLD);
    let mut checked = 0;
    for (_, piece, instead) in CASES {
        let new = parse(&OLD.replacen(piece, instead, 1));
        for difference in diff(&old, &new) {
            let Some((name, call)) = &difference.witness else { continue };
            // Where it takes another request, the widest plans do not show it.
            if difference.text.contains("where a plugin asks") {
                continue;
            }
            let run = difference.text.starts_with("run");
            for runtime in &difference.runtimes {
                let [was, is] = [&old, &new].map(|profile| allows(&plan(profile, *runtime), run, name, call));
                assert_eq!(
                    (was, is),
                    (difference.mark == Mark::Narrows, difference.mark == Mark::Widens),
                    "{difference}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "control: {checked}");
}

/// Sets beside those that every profile of these tests names.
const MORE_SETS: [&str; 5] = ["native-load", "files-read", "files-write", "files-create", "files-delete"];

#[test]
fn where_no_call_widens_the_new_programs_allow_no_call_that_the_old_ones_refuse() {
    const VALUES: [u64; 8] = [0, 1, 2, 4, 6, 0x40, 0x241, u64::MAX];
    let mut random = Random(0x5eed_0005);
    let mut profile = || {
        let sets: Vec<_> =
            MORE_SETS.iter().filter(|_| random.below(2) == 0).map(|set| format!(", \"{set}\"")).collect();
        let (head, rest) = OLD.split_once("syscalls = ").expect("has sets");
        let (_, tail) = rest.split_once(']').expect("ends");
        let text = format!("{head}syscalls = [\"worker-channel\", \"compute\"{}]{tail}", sets.concat());
        let text = text.replacen("[\"command\", \"native\"]", "\"native\"", 1);
        // Files may be granted so far as there are sets for it.
        let has = |set: &str| text.contains(&format!("\"files-{set}\""));
        let (read, write) = (has("read"), has("read") && has("write"));
        let access = match (read, write) {
            (_, true) => format!("\"write\"\ncreate = {}\ndelete = {}", has("create"), has("delete")),
            _ => "\"read\"".to_owned(),
        };
        let text = if read {
            text.replacen("\"write\"\nwhy", &format!("{access}\nwhy"), 1)
        } else {
            without_file(&text)
        };
        parse(&text)
    };
    let plan = |profile: &Profile| {
        let policy = Policy::widest(profile, Runtime::Native).expect("is for it");
        compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"))
    };
    let mut counts = [0, 0];
    for _ in 0..40 {
        let (old, new) = (profile(), profile());
        let widens =
            diff(&old, &new).iter().any(|found| found.topic == "syscall" && found.mark == Mark::Widens);
        counts[usize::from(widens)] += 1;
        let (was, is) = (plan(&old), plan(&new));
        let mut gained = false;
        for run in [true, false] {
            let (before, after) = (program(&was, run, 77), program(&is, run, 77));
            for nr in 0..450 {
                for (value, other) in VALUES.iter().flat_map(|value| VALUES.map(|other| (*value, other))) {
                    let args = [0, value, value, other, 0, 0];
                    let data = SeccompData { nr, arch: Arch::X86_64.audit(), instruction_pointer: 0, args };
                    gained |=
                        evaluate(&after, &data) == Action::Allow && evaluate(&before, &data) != Action::Allow;
                }
            }
        }
        // These values reach a call of every rule, so that it holds both ways.
        assert_eq!(widens, gained, "{}", lines(&old, &new));
    }
    assert!(counts[0] > 5 && counts[1] > 5, "control: {counts:?}");
}

fn without_file(text: &str) -> String {
    let (head, rest) = text.split_once("[[file]]").expect("has a grant");
    let (_, tail) = rest.split_once("[[host-call]]").expect("has a host call");
    format!("{head}[[host-call]]{tail}")
}

/// Seeded and the same on every machine (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap_or_default()
    }
}

const PATHS: [&str; 8] =
    ["${data}", "${data}/a", "${data}/a/b", "${data}/ab", "${scratch}", "/srv", "/srv/a", "/srv/a/b/c"];

/// Create and delete, with writing; none of them is reading only.
const RIGHTS: [&str; 5] = ["", "write", "write create", "write delete", "write create delete"];

/// A profile whose file grants are random.
fn random_profile(random: &mut Random) -> Profile {
    let mut text =
        OLD.replacen("\"files-write\"]", "\"files-write\", \"files-create\", \"files-delete\"]", 1);
    text = text.replacen("runtime = [\"command\", \"native\"]", "runtime = \"command\"", 1).replacen(
        "\"native-load\", ",
        "",
        1,
    );
    let mut text = without_file(&text);
    for _ in 0..random.below(4) {
        let rights = RIGHTS[random.below(RIGHTS.len())];
        let flag = |word| rights.contains(word);
        writeln!(
            text,
            "[[file]]\npath = \"{}\"\naccess = \"{}\"\ncreate = {}\ndelete = {}\nwhy = \"It.\"\nrisk = \"Much.\"",
            PATHS[random.below(PATHS.len())],
            if flag("write") { "write" } else { "read" },
            flag("create"),
            flag("delete"),
        )
        .expect("is text");
    }
    parse(&text)
}

/// A manifest that asks for one path.
fn request(path: &str, rights: &str) -> Manifest {
    let flag = |word| rights.contains(word);
    let list = if flag("write") { "write_paths" } else { "read_paths" };
    let members = format!(
        r#""runtime": "command", "permissions": {{"filesystem": {{"{list}": ["{path}"], "create_files": {}, "delete_files": {}}}}}"#,
        flag("create"),
        flag("delete")
    );
    manifest("wasm", &members)
}

#[test]
fn a_file_widens_if_and_only_if_some_manifest_gets_under_the_new_profile_what_the_old_one_refuses() {
    // Each grant's own path and rights, and what is below: whoever could get more could get one of these.
    let below = PATHS.iter().flat_map(|path| [(*path).to_owned(), format!("{path}/x")]);
    let requests: Vec<_> = below.flat_map(|path| RIGHTS.map(|rights| request(&path, rights))).collect();
    let mut random = Random(0x5eed_0004);
    let mut counts = [0, 0];
    for _ in 0..150 {
        let (old, new) = (random_profile(&mut random), random_profile(&mut random));
        let gained =
            requests.iter().any(|asking| resolve(asking, &new).is_ok() && resolve(asking, &old).is_err());
        let found = diff(&old, &new);
        let claimed =
            found.iter().any(|difference| difference.topic == "file" && difference.mark == Mark::Widens);
        assert_eq!(claimed, gained, "{found:#?}");
        counts[usize::from(gained)] += 1;
    }
    assert!(counts[0] > 15 && counts[1] > 15, "control: {counts:?}");
    assert!(Policy::widest(&random_profile(&mut random), Runtime::Command).is_ok(), "control");
}
