//! What an update may do that the plugin could not do before: nothing that widens is missed, nothing else is told.

#![allow(clippy::panic, reason = "a test fails that way")]

use hotcell_policy::review::widened;
use hotcell_policy::{Plan, Profile, compile, resolve};

mod common;

use common::{manifest, root_platform, shipped};

fn command(members: &str) -> Plan {
    let manifest = manifest("wasm", &format!(r#""runtime": "command"{members}"#));
    let policy = resolve(&manifest, &shipped("wasi-command")).unwrap_or_else(|error| panic!("{error}"));
    compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"))
}

fn files(filesystem: &str) -> Plan {
    command(&format!(r#", "permissions": {{"filesystem": {{{filesystem}}}}}"#))
}

fn native(profile: &Profile, permissions: &str) -> Plan {
    let manifest = manifest("dylib", &format!(r#""permissions": {{{permissions}}}"#));
    let policy = resolve(&manifest, profile).unwrap_or_else(|error| panic!("{error}"));
    compile(&policy, &root_platform()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_wider_path_is_told_and_a_narrower_one_is_not() {
    let pairs = [
        ("", r#""read_paths": ["${plugin}"]"#),
        (r#""read_paths": ["${plugin}/a"]"#, r#""read_paths": ["${plugin}"]"#),
        (r#""read_paths": ["${plugin}/a"]"#, r#""read_paths": ["${plugin}/ab"]"#),
        (r#""read_paths": ["${data}"]"#, r#""write_paths": ["${data}"]"#),
        (r#""write_paths": ["${data}"]"#, r#""write_paths": ["${data}"], "create_files": true"#),
        (r#""write_paths": ["${data}"]"#, r#""write_paths": ["${data}"], "delete_files": true"#),
        (r#""read_paths": ["${plugin}"]"#, r#""read_paths": ["${plugin}", "${scratch}"]"#),
    ];
    for (narrow, wide) in pairs {
        let more = widened(&files(narrow), &files(wide));
        assert!(!more.is_empty() && more.iter().all(|line| line.starts_with("files: ")), "{wide}: {more:?}");
        if narrow != r#""read_paths": ["${plugin}/a"]"# || !wide.contains("/ab") {
            assert_eq!(widened(&files(wide), &files(narrow)), Vec::<String>::new(), "{wide} to {narrow}");
        }
        assert_eq!(widened(&files(wide), &files(wide)), Vec::<String>::new(), "{wide}");
    }
}

#[test]
fn host_calls_connections_and_limits_are_told_one_by_one() {
    let path = common::root().join("sandbox-profiles/native-strict.toml");
    let grants = "\n[[connect]]\naddress = \"a.example:1\"\nwhy = \"x\"\n[[connect]]\naddress = \"b.example:1\"\nwhy = \"x\"\n";
    let text = std::fs::read_to_string(path).expect("it ships") + grants;
    let text = text + "\n[[listen]]\naddress = \"127.0.0.1:8080\"\nwhy = \"x\"\n";
    let text = text.replacen("syscalls = [", "syscalls = [\"connections\", \"listeners\", ", 1);
    let profile = Profile::parse("native-connects.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let one = native(&profile, r#""network": {"connect": ["a.example:1"]}"#);
    let two =
        native(&profile, r#""network": {"connect": ["a.example:1", "b.example:1"]}, "host_calls": ["log"]"#);
    assert_eq!(widened(&one, &two), ["host call `log`", "connection to b.example:1"]);
    assert_eq!(widened(&two, &one), Vec::<String>::new());
    let listening =
        native(&profile, r#""network": {"connect": ["a.example:1"], "listen": ["127.0.0.1:8080"]}"#);
    assert_eq!(widened(&one, &listening), ["listening at 127.0.0.1:8080"]);
    assert_eq!(widened(&listening, &one), Vec::<String>::new());
    let size = |size: &str| files(&format!(r#""write_paths": ["${{data}}"], "max_file_size": {size}"#));
    assert_eq!(widened(&size("4096"), &size("8192")), ["limit file-size: 8 KiB in place of 4 KiB"]);
    assert_eq!(widened(&size("8192"), &size("4096")), Vec::<String>::new());
}
