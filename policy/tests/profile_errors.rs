//! What is wrong in a profile is said with its place; `golden/profile-errors.txt` shows each message as people see it.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use std::fmt::Write;

use common::golden;
use hotcell_policy::{Policy, Profile};
use hotcell_protocol::Runtime;

/// A profile that parses; each case replaces one piece of it.
const GOOD: &str = r#"schema = 1
summary = "A role."
runtime = ["command", "native"]
landlock = 3
namespaces = ["ipc"]
syscalls = ["worker-channel", "compute", "files-read", "files-write"]

[limits]
memory      = "256 MiB"
cpu         = "1 h"
cpu-share   = "100 %"
start       = "10 s"
call        = "500 ms"
message     = "16 MiB"
outstanding = 64
instances = 4
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
    ("not TOML", "schema = 1", "schema = = 1"),
    ("a key twice", "landlock = 3", "landlock = 3\nlandlock = 3"),
    ("another schema", "schema = 1", "schema = 2"),
    ("no schema", "schema = 1\n", ""),
    ("an unknown key", "namespaces =", "namespace ="),
    ("a limit left out", "call        = \"500 ms\"\n", ""),
    ("an unknown limit", "memory      =", "memroy      ="),
    ("a limit without a unit", "\"256 MiB\"", "268435456"),
    ("a limit with another unit", "\"256 MiB\"", "\"256 MB\""),
    ("a limit without a space", "\"256 MiB\"", "\"256MiB\""),
    ("a limit beyond any machine", "\"256 MiB\"", "\"99999999999 TiB\""),
    ("a limit that leaves no time", "\"500 ms\"", "\"0 ms\""),
    ("a limit that fits nothing", "\"256 MiB\"", "\"1 MiB\""),
    ("a message larger than memory", "\"16 MiB\"", "\"1 GiB\""),
    ("a share of more than the machine", "\"100 %\"", "\"100000 %\""),
    ("no call at all", "outstanding = 64", "outstanding = 0"),
    ("a fraction", "outstanding = 64", "outstanding = 6.4"),
    ("an unknown runtime", "\"native\"]", "\"naitve\"]"),
    ("the compiler's runtime", "[\"command\", \"native\"]", "\"compiler\""),
    ("an empty list", "[\"ipc\"]", "[]"),
    ("a namespace twice", "[\"ipc\"]", "[\"ipc\", \"ipc\"]"),
    ("an unknown set", "\"files-read\"", "\"file-read\""),
    ("a syscall instead of a set", "\"files-read\"", "\"socket\""),
    ("a set of another runtime", "\"files-read\"", "\"compiler\""),
    ("a Landlock ABI that nobody knows", "landlock = 3", "landlock = 99"),
    ("files below ABI 3", "landlock = 3", "landlock = 2"),
    ("files for a runtime without", "[\"command\", \"native\"]", "\"core\""),
    ("a grant without its syscall set", ", \"files-write\"", ""),
    ("a grant without a reason", "why    = \"It keeps its results.\"\n", ""),
    ("a grant with an empty reason", "\"It keeps its results.\"", "\"\""),
    ("a dangerous grant without its risk", "${data}", "/srv/shared"),
    (
        "a whole system folder without its risk",
        "\"${data}\"\naccess = \"write\"",
        "\"/usr\"\naccess = \"read\"",
    ),
    (
        "secrets without their risk",
        "\"${data}\"\naccess = \"write\"",
        "\"/etc/ssl/private\"\naccess = \"read\"",
    ),
    ("writing into the package", "${data}", "${plugin}/x"),
    ("creating without writing", "access = \"write\"", "access = \"read\"\ncreate = true"),
    ("a path that climbs", "${data}", "${data}/../x"),
    ("one bracket too few", "[[file]]", "[file]"),
    (
        "a host call twice",
        "[[host-call]]",
        "[[host-call]]\nname = \"log\"\nwhy = \"Once more.\"\n\n[[host-call]]",
    ),
    ("what is not built", "[[host-call]]", "[[storage]]\nquota = \"1 MiB\"\nwhy = \"x\"\n\n[[host-call]]"),
    (
        "a connection for a runtime without",
        "[[host-call]]",
        "[[connect]]\naddress = \"example.org:443\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "a connection to whatever a name says, without its risk",
        "[[host-call]]",
        "[[connect]]\naddress = \"intranet:443\"\nprivate = true\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "a connection to every port",
        "[[host-call]]",
        "[[connect]]\naddress = \"example.org\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "a connection twice",
        "[[host-call]]",
        "[[connect]]\naddress = \"example.org:1\"\nwhy = \"x\"\n\n[[connect]]\naddress = \"example.org:1\"\nwhy = \"y\"\n\n[[host-call]]",
    ),
    (
        "listening for a runtime without",
        "[[host-call]]",
        "[[listen]]\naddress = \"127.0.0.1:8080\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "listening for everybody, without its risk",
        "[[host-call]]",
        "[[listen]]\naddress = \"0.0.0.0:8080\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "listening at a name",
        "[[host-call]]",
        "[[listen]]\naddress = \"localhost:8080\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "listening twice",
        "[[host-call]]",
        "[[listen]]\naddress = \"[::1]:8080\"\nwhy = \"x\"\n\n[[listen]]\naddress = \"[::1]:8080\"\nwhy = \"y\"\n\n[[host-call]]",
    ),
    (
        "a program and no process",
        "[[host-call]]",
        "[[spawn]]\nprogram = \"/usr/bin/gzip\"\nwhy = \"x\"\nrisk = \"y\"\n\n[[host-call]]",
    ),
    (
        "a program without its risk",
        "[[host-call]]",
        "[[spawn]]\nprogram = \"/usr/bin/gzip\"\nwhy = \"x\"\n\n[[host-call]]",
    ),
    (
        "a program that the plugin can write",
        "[[host-call]]",
        "[[spawn]]\nprogram = \"${data}/tool\"\nwhy = \"x\"\nrisk = \"y\"\n\n[[host-call]]",
    ),
    (
        "code everywhere",
        "[[host-call]]",
        "[[spawn]]\nprogram = \"/usr/bin/gzip\"\ncode = [\"/\"]\nwhy = \"x\"\nrisk = \"y\"\n\n[[host-call]]",
    ),
    ("a cgroup controller that is none", "schema = 1", "schema = 1\ncgroups = [\"io\"]"),
    ("weaker enforcement", "schema = 1", "schema = 1\nenforcement = \"rlimits\""),
    ("a base and a runtime", "schema = 1", "schema = 1\nextends = \"native-strict\""),
];

#[test]
fn the_profile_that_the_cases_spoil_parses() {
    Profile::parse("role.toml", GOOD).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_error_reads_as_committed() {
    let mut text = String::new();
    for (what, piece, instead) in CASES {
        assert!(GOOD.contains(piece), "{what}: `{piece}` is not in the profile");
        let spoiled = GOOD.replacen(piece, instead, 1);
        let error = Profile::parse("role.toml", &spoiled)
            .map(|_| panic!("{what}: was accepted"))
            .unwrap_or_else(|error| error);
        writeln!(text, "## {what}\n{error}\n").expect("a string takes all");
    }
    golden("policy/tests/golden/profile-errors.txt", &text);
}

#[test]
fn leaving_any_line_out_is_an_error_or_grants_less() {
    let lines: Vec<&str> = GOOD.lines().collect();
    let files =
        |profile: &Profile| Policy::widest(profile, Runtime::Native).map(|policy| policy.files().len());
    for left_out in 0..lines.len() {
        let rest: Vec<_> =
            lines.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, line)| *line).collect();
        if let Ok(profile) = Profile::parse("role.toml", &rest.join("\n")) {
            assert!(files(&profile).is_ok_and(|count| count <= 1), "without line {}", left_out + 1);
        }
    }
}

#[test]
fn a_profile_may_extend_a_shipped_one_and_only_adds() {
    let extension = r#"schema = 1
summary = "Computes, and asks the application for prices."
extends = "pure-compute"

[[host-call]]
name = "prices.get"
why = "The current price of an item."
"#;
    let base = common::shipped("pure-compute");
    let profile = Profile::parse("prices.toml", extension).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((profile.name(), profile.limits()), ("prices", base.limits()));
    let calls = |profile: &Profile| {
        let policy = Policy::widest(profile, Runtime::Core).expect("is for core");
        policy.host_calls().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(calls(&base), ["log"]);
    assert_eq!(calls(&profile), ["log", "prices.get"]);

    let some_limits = format!("{extension}\n[limits]\ncall = \"1 min\"\n");
    let error = Profile::parse("prices.toml", &some_limits).expect_err("limits are written out in full");
    assert!(error.message().contains("missing key"), "{error}");
    for base in ["mine", "compiler", "../pure-compute"] {
        let other = extension.replace("pure-compute", base);
        Profile::parse("prices.toml", &other).expect_err("is not a shipped profile");
    }
}

#[test]
fn the_name_of_a_profile_is_that_of_its_file() {
    let named = |file: &str| Profile::parse(file, GOOD).map(|profile| profile.name().to_owned());
    assert_eq!(named("some/folder/my-role.toml").expect("is a name"), "my-role");
    named("My Role.toml").expect_err("is no name");
    named("").expect_err("is no name");
}

#[test]
fn every_shipped_profile_parses_and_no_other_is_shipped() {
    for name in Profile::shipped_names() {
        assert_eq!(common::shipped(name).name(), *name);
        assert!(!common::shipped(name).summary().is_empty());
    }
    assert!(Profile::shipped("compiler").is_none());
    assert!(Profile::shipped("").is_none());
    let folder = std::fs::read_dir(common::root().join("sandbox-profiles")).expect("is there");
    let files = folder.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "toml"));
    assert_eq!(files.count(), Profile::shipped_names().len(), "every profile of the folder is shipped");
}
