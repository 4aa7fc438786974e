//! `hotcell profile`: the reviewer's tools as a reviewer runs them.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;

use hotcell_tests::command::{Said, hotcell};
use hotcell_tests::{Folders, root};

fn profile(arguments: &[&str]) -> Said {
    hotcell(&[&["profile"], arguments].concat())
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let said = profile(&[arguments, &["--json"]].concat());
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// A profile of the reviewer's own, in a file.
fn file(folders: &Folders, name: &str, text: &str) -> PathBuf {
    let path = folders.join(name);
    std::fs::write(&path, text).expect("the folder is writable");
    path
}

const PRICES: &str = "schema = 1\nsummary = \"Computes prices.\"\nextends = \"pure-compute\"\n\n[[host-call]]\nname = \"prices.get\"\nwhy = \"The current price of an item.\"\n";

#[test]
fn a_plan_for_a_platform_in_words_is_the_committed_one() {
    for name in ["pure-compute", "native-strict", "image-decoder", "wasi-command"] {
        for (who, words) in [("root", "root,arch=x86_64"), ("user", "user,arch=x86_64")] {
            let committed = root().join(format!("sandbox-profiles/plans/{name}.{who}.plan"));
            let committed = std::fs::read_to_string(committed).expect("is committed");
            let runtime = if name == "pure-compute" { vec!["--runtime", "core"] } else { Vec::new() };
            let said = profile(&[&["plan", name, "--platform", words], runtime.as_slice()].concat());
            assert_eq!((said.code, said.out), (Some(0), committed), "{name} {who}: {}", said.err);
        }
    }
}

#[test]
fn a_plan_for_this_machine_names_every_runtime_and_one_that_cannot_be_made_exits_8() {
    let said = profile(&["plan", "pure-compute"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("runtime core") && said.out.contains("runtime component"), "{}", said.out);
    let plans = json(&["plan", "pure-compute", "--runtime", "component"]);
    assert_eq!(plans.pointer("/0/runtime"), Some(&"component".into()), "{plans}");
    let old = profile(&["plan", "wasi-command", "--platform", "kernel=6.1"]);
    assert!(old.code == Some(8) && old.err.contains("Landlock ABI 3"), "{old:?}");
}

#[test]
fn what_is_allowed_exits_0_and_what_is_not_exits_3_and_says_what_would_allow_it() {
    let folders = Folders::new();
    let prices = file(&folders, "prices.toml", PRICES);
    let prices = prices.to_str().expect("is text");
    for (arguments, code, part) in [
        (&["native-strict", "--syscall", "mprotect", "--arg", "2=1"][..], 0, "by set compute"),
        (&["native-strict", "--syscall", "mprotect", "--arg", "2=0x4"], 3, "no set holds it so"),
        (&["native-strict", "--syscall", "mprotect"], 3, "depends"),
        (&["native-strict", "--syscall", "tgkill", "--arg", "0=self-pid", "--arg", "2=6"], 0, "abort(3)"),
        (&["wasi-command", "--path", "${data}/a", "--access", "delete"], 0, "by wasi-command [[file]]"),
        (&["wasi-command", "--path", "/srv", "--access", "read"], 3, "file = [{ path = \"/srv\""),
        (&["pure-compute", "--host-call", "prices.get"], 3, "host-call = [{ name = \"prices.get\""),
        (&[prices, "--host-call", "prices.get"], 0, "The current price of an item."),
        (&[prices], 0, "host-call prices.get  why: The current price of an item."),
    ] {
        let said = profile(&[&["explain"], arguments].concat());
        assert!(said.code == Some(code) && said.out.contains(part), "{arguments:?}: {said:?}");
    }
    let answers = json(&["explain", "pure-compute", "--syscall", "socket", "--runtime", "core"]);
    assert_eq!(answers.pointer("/0/verdict"), Some(&"refused".into()), "{answers}");
}

#[test]
fn a_diff_exits_1_if_and_only_if_something_widens() {
    let folders = Folders::new();
    let prices = file(&folders, "prices.toml", PRICES);
    let prices = prices.to_str().expect("is text");
    let wider = profile(&["diff", "pure-compute", prices]);
    assert_eq!(
        (wider.code, wider.out.as_str()),
        (Some(1), "WIDENS   core,component  host-call prices.get\n"),
        "{}",
        wider.err
    );
    let narrower = profile(&["diff", prices, "pure-compute"]);
    assert!(narrower.code == Some(0) && narrower.out.starts_with("NARROWS"), "{narrower:?}");
    let same = profile(&["diff", "pure-compute", "pure-compute"]);
    assert_eq!((same.code, same.out.as_str()), (Some(0), ""), "{}", same.err);
    let differences = json(&["diff", "native-strict", "image-decoder"]);
    let list = differences.as_array().expect("is a list");
    let opens =
        |difference: &&serde_json::Value| difference.pointer("/witness/syscall") == Some(&"openat".into());
    assert!(list.iter().any(|difference| opens(&difference)), "{differences}");
}

#[test]
fn a_lint_exits_1_if_and_only_if_it_warns_and_names_the_line() {
    let clean = profile(&["lint", "pure-compute", "native-strict", "image-decoder", "wasi-command"]);
    assert_eq!((clean.code, clean.out.as_str()), (Some(0), ""), "{}", clean.err);
    let folders = Folders::new();
    let vague = file(&folders, "vague.toml", &PRICES.replace("The current price of an item.", "Prices."));
    let vague = vague.to_str().expect("is text");
    let said = profile(&["lint", "pure-compute", vague]);
    assert!(said.code == Some(1) && said.out.starts_with(&format!("{vague}:5: ")), "{said:?}");
    let warnings = json(&["lint", vague]);
    assert_eq!(warnings.pointer("/0/code"), Some(&"short-reason".into()), "{warnings}");
}

#[test]
fn what_cannot_be_asked_exits_2() {
    let folders = Folders::new();
    let spoiled = file(&folders, "spoiled.toml", "schema = 2\n");
    let spoiled = spoiled.to_str().expect("is text");
    for arguments in [
        &["plan", "no-such-profile"][..],
        &["plan", "no-such-file.toml"],
        &["plan", "pure-compute", "--runtime", "native"],
        &["plan", "pure-compute", "--platform", "windows"],
        &["explain", "pure-compute", "--syscall", "no_such_call"],
        &["explain", "pure-compute", "--syscall", "read", "--arg", "6=0"],
        &["explain", "pure-compute", "--syscall", "read", "--host-call", "log"],
        &["explain", "pure-compute", "--path", "/a"],
        &["diff", "pure-compute"],
        &["diff", "pure-compute", spoiled],
        &["lint", spoiled],
        &["lint"],
    ] {
        let said = profile(arguments);
        assert!(said.code == Some(2) && !said.err.is_empty(), "{arguments:?}: {said:?}");
    }
}
