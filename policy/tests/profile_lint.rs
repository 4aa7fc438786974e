//! What looks wrong in a profile: `golden/profile-lint.txt` shows each warning as people see it.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use std::fmt::Write;

use common::golden;
use hotcell_policy::Profile;
use hotcell_policy::review::lint;

/// A profile without a warning; each case replaces one piece of it.
const CLEAN: &str = r#"schema = 1
summary = "A role."
runtime = "native"
landlock = 3
namespaces = ["ipc", "mount"]
syscalls = ["worker-channel", "compute", "native-load", "files-read", "files-write"]

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
why  = "It tells of faults."
"#;

/// What the case shows, the piece, and what stands there instead.
const CASES: &[(&str, &str, &str)] = &[
    (
        "a grant that another covers",
        "[[host-call]]",
        "[[file]]\npath = \"${data}/in\"\naccess = \"read\"\nwhy = \"Where requests arrive.\"\n\n[[host-call]]",
    ),
    (
        "a grant twice",
        "[[host-call]]",
        "[[file]]\npath = \"${data}\"\naccess = \"write\"\nwhy = \"The same again.\"\n\n[[host-call]]",
    ),
    (
        "a dangerous grant",
        "[[host-call]]",
        "[[file]]\npath = \"/etc/ssl/certs\"\naccess = \"read\"\nwhy = \"Which certificates hold.\"\nrisk = \"It learns whom the machine trusts.\"\n\n[[host-call]]",
    ),
    (
        "a dangerous host call",
        "why  = \"It tells of faults.\"",
        "why  = \"It tells of faults.\"\nrisk = \"It fills the log.\"",
    ),
    ("a set for nothing", "\"files-write\"]", "\"files-write\", \"files-create\"]"),
    ("a set that is missing", "\"compute\", ", ""),
    ("reading only", "access = \"write\"", "access = \"read\""),
    ("a large limit", "\"256 MiB\"", "\"1 TiB\""),
    ("as large as that may be", "\"256 MiB\"", "\"2 GiB\""),
    (
        "a large limit that shipped profiles of this runtime have not",
        "file-size   = \"1 MiB\"",
        "file-size   = \"2 GiB\"",
    ),
    ("no message", "message     = \"16 MiB\"", "message     = \"0 B\""),
    (
        "nothing to write",
        "file-size   = \"1 MiB\"\ndisk        = \"2 MiB\"",
        "file-size   = \"0 B\"\ndisk        = \"0 B\"",
    ),
    ("no descriptor and no log", "open-files  = 8", "open-files  = 0"),
    ("a log without a line", "log-rate    = \"64 KiB/s\"", "log-rate    = \"0 B/s\""),
    ("a process", "processes   = 0", "processes   = 1"),
    ("a newer Landlock than is needed", "landlock = 3", "landlock = 6"),
    ("copies of native workers", "landlock = 3", "landlock = 3\nlaunch = \"fork\""),
    ("a debugger", "landlock = 3", "landlock = 3\ndebug = \"attach\""),
    ("programs executed afresh", "landlock = 3", "landlock = 3\nlaunch = \"exec\""),
    ("files that anybody can ask about", "[\"ipc\", \"mount\"]", "[\"ipc\"]"),
    ("a short reason", "It keeps its results.", "Results."),
    (
        "a reason twice",
        "why  = \"It tells of faults.\"",
        "why  = \"It tells of faults.\"\n\n[[host-call]]\nname = \"warn\"\nwhy = \"It tells of faults.\"",
    ),
];

fn warnings(file: &str, text: &str) -> String {
    let found = lint(file, text).unwrap_or_else(|error| panic!("{error}"));
    if found.is_empty() {
        "nothing\n".to_owned()
    } else {
        found.iter().map(|warning| format!("{warning}\n")).collect()
    }
}

#[test]
fn each_warning_reads_as_committed() {
    let mut text = String::new();
    for (what, piece, instead) in CASES {
        assert!(CLEAN.contains(piece), "{what}: `{piece}` is not in the profile");
        let spoiled = CLEAN.replacen(piece, instead, 1);
        writeln!(text, "## {what}\n{}", warnings("role.toml", &spoiled)).expect("is text");
    }
    let extension = "schema = 1\nsummary = \"More.\"\nextends = \"wasi-command\"\n\n[[file]]\npath = \"${data}/in\"\naccess = \"read\"\nwhy = \"Where requests arrive.\"\n";
    writeln!(text, "## what the extended profile covers\n{}", warnings("more.toml", extension))
        .expect("is text");
    golden("policy/tests/golden/profile-lint.txt", &text);
}

#[test]
fn the_profile_that_the_cases_spoil_and_every_shipped_one_are_clean() {
    assert_eq!(warnings("role.toml", CLEAN), "nothing\n");
    for name in Profile::shipped_names() {
        let text = Profile::shipped_text(name).expect("is shipped");
        assert_eq!(warnings(&format!("{name}.toml"), text), "nothing\n", "{name}");
    }
}

#[test]
fn what_is_not_valid_is_an_error_and_no_warning() {
    let error = lint("role.toml", &CLEAN.replacen("why  =", "wyh  =", 1)).expect_err("is not valid");
    assert_eq!((error.file(), error.line()), ("role.toml", 32));
}
