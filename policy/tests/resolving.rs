//! Requests and grants: absence denies, and nothing is dropped.

#![allow(clippy::panic, reason = "a test fails that way")]

mod common;

use common::{manifest, shipped};
use hotcell_policy::{Manifest, Policy, PolicyError, Profile, compile, resolve};
use hotcell_protocol::{FileAccess, Runtime};

fn command(permissions: &str) -> Manifest {
    manifest("wasm", &format!("\"runtime\": \"command\", \"permissions\": {{{permissions}}}"))
}

fn error_of(result: Result<Policy, PolicyError>) -> PolicyError {
    result.map(|policy| panic!("was accepted: {policy:?}")).unwrap_or_else(|error| error)
}

#[test]
fn a_policy_is_the_requests_and_not_all_that_is_granted() {
    let nothing = resolve(&command(""), &shipped("wasi-command")).expect("asks for nothing");
    assert_eq!((nothing.files().len(), nothing.host_calls().count()), (0, 0));
    let some = command(r#""filesystem": {"read_paths": ["${data}/in"]}"#);
    let some = resolve(&some, &shipped("wasi-command")).expect("is covered");
    let [grant] = some.files() else { panic!("{some:?}") };
    assert_eq!(grant.path.to_string(), "${data}/in");
    assert_eq!((grant.access, grant.create, grant.delete), (FileAccess::Read, false, false));
}

#[test]
fn what_no_grant_covers_is_refused_with_the_line_that_would() {
    for (permissions, request, line) in [
        (
            r#""filesystem": {"read_paths": ["/srv/in"]}"#,
            "read `/srv/in`",
            r#"file = [{ path = "/srv/in", access = "read", why = "..." }]"#,
        ),
        (
            r#""filesystem": {"write_paths": ["/srv/out"], "create_files": true}"#,
            "read, write, create `/srv/out`",
            r#"file = [{ path = "/srv/out", access = "write", create = true, why = "...", risk = "..." }]"#,
        ),
        (
            r#""host_calls": ["prices.get"]"#,
            "host call `prices.get`",
            r#"host-call = [{ name = "prices.get", why = "..." }]"#,
        ),
        (r#""filesystem": {"max_file_size": "1 GiB"}"#, "files of 1 GiB", r#"file-size = "1 GiB""#),
    ] {
        let error = error_of(resolve(&command(permissions), &shipped("wasi-command")));
        assert!(matches!(error, PolicyError::Refused { .. }), "{error}");
        let text = error.to_string();
        for part in [request, line, "manifest.json:2", "wasi-command"] {
            assert!(text.contains(part), "no {part} in: {text}");
        }
    }
}

#[test]
fn the_line_that_would_grant_a_request_does() {
    let asking = command(r#""filesystem": {"write_paths": ["/srv/out"], "delete_files": true}"#);
    let PolicyError::Refused { advice, .. } = error_of(resolve(&asking, &shipped("wasi-command"))) else {
        panic!("is refused");
    };
    let line = advice.split_once(": ").expect("says the line").1;
    let text = format!("schema = 1\nsummary = \"More.\"\nextends = \"wasi-command\"\n{line}\n");
    let profile = Profile::parse("more.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    resolve(&asking, &profile).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_grant_covers_what_is_below_and_nothing_beside() {
    let profile = shipped("image-decoder");
    let reading = |path: &str| {
        let permissions = format!(r#""permissions": {{"filesystem": {{"read_paths": ["{path}"]}}}}"#);
        resolve(&manifest("dylib", &permissions), &profile)
    };
    for inside in ["${plugin}/icc", "${plugin}/icc/srgb.icc"] {
        reading(inside).unwrap_or_else(|error| panic!("{error}"));
    }
    for outside in ["${plugin}", "${plugin}/icc2", "${plugin}/ic", "${data}/icc", "/icc", "/"] {
        error_of(reading(outside));
    }
}

#[test]
fn more_than_the_granted_rights_is_refused() {
    let profile = |rights: &str| {
        let text = format!(
            "schema = 1\nsummary = \"Files.\"\nextends = \"native-strict\"\nsyscalls = [\"files-read\"]\n[[file]]\npath = \"${{data}}\"\n{rights}\nwhy = \"x\"\n"
        );
        Profile::parse("files.toml", &text)
    };
    let error = profile("access = \"read\"").expect_err("native-strict pins ABI 1");
    assert!(error.message().contains("landlock"), "{error}");
    let asking =
        |rights: &str| command(&format!(r#""filesystem": {{"write_paths": ["${{data}}"]{rights}}}"#));
    for rights in ["", r#", "create_files": true"#, r#", "delete_files": true"#] {
        resolve(&asking(rights), &shipped("wasi-command")).expect("control: all is granted");
    }
    let narrow = NARROW.replace("RIGHTS", "create = true");
    let narrow = Profile::parse("narrow.toml", &narrow).unwrap_or_else(|error| panic!("{error}"));
    resolve(&asking(r#", "create_files": true"#), &narrow).expect("control: creating is granted");
    error_of(resolve(&asking(r#", "delete_files": true"#), &narrow));
}

const NARROW: &str = r#"schema = 1
summary = "Writes."
runtime = "command"
landlock = 3
syscalls = ["worker-channel", "compute", "wasm-load", "seal", "files-read", "files-write", "files-create"]
[limits]
memory = "64 MiB"
cpu = "1 h"
cpu-share = "100 %"
start = "10 s"
call = "10 s"
message = "1 MiB"
outstanding = 1
instances = 4
state = "0 B"
open-files = 8
processes = 0
threads = 0
file-size = "1 MiB"
disk = "1 MiB"
log-rate = "1 KiB/s"
[[file]]
path = "${data}"
access = "write"
RIGHTS
why = "It keeps its results."
"#;

#[test]
fn a_path_that_is_asked_for_twice_gets_both() {
    let both =
        command(r#""filesystem": {"read_paths": ["${data}", "${plugin}"], "write_paths": ["${data}"]}"#);
    let policy = resolve(&both, &shipped("wasi-command")).expect("is covered");
    let written: Vec<_> = policy.files().iter().map(|file| (file.path.to_string(), file.access)).collect();
    assert_eq!(
        written,
        [("${plugin}".to_owned(), FileAccess::Read), ("${data}".to_owned(), FileAccess::Write)]
    );
}

#[test]
fn a_smaller_file_size_narrows_the_limit() {
    let small = command(r#""filesystem": {"max_file_size": 4096}"#);
    let policy = resolve(&small, &shipped("wasi-command")).expect("is covered");
    assert_eq!(policy.limits().file_size, 4096);
}

#[test]
fn as_many_instances_as_the_profile_grants_and_one_without_asking() {
    let granted = |members: &str| resolve(&manifest("dylib", members), &shipped("native-strict"));
    for (members, instances) in [("", 1), (r#""instances": 1"#, 1), (r#""instances": 4"#, 4)] {
        let policy = granted(members).unwrap_or_else(|error| panic!("{members}: {error}"));
        assert_eq!(policy.limits().instances, instances, "{members}");
        let plan = compile(&policy, &common::root_platform()).expect("compiles");
        let line = format!("instances {instances}");
        assert!(plan.facts.iter().any(|fact| fact.text == line), "the plan says `{line}`");
    }
    let error = error_of(granted(r#""instances": 5"#));
    assert!(matches!(error, PolicyError::Refused { .. }), "{error}");
    for text in ["5 instances", "manifest.json:2", "instances = 5"] {
        assert!(error.to_string().contains(text), "{text} in {error}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_its_key_and_what_asks_for_nothing_is_not() {
    for (members, key) in [
        (r#""permissions": {"storage": {"quota": "1 MiB"}}"#, "permissions.storage.quota"),
        (r#""permissions": {"ui": ["ui.show"]}"#, "permissions.ui"),
        (r#""permissions": {"voice": ["voice.say"]}"#, "permissions.voice"),
        (r#""permissions": {"terminal": ["terminal.write"]}"#, "permissions.terminal"),
        (r#""api_contract": {"wit": "a.wit"}"#, "api_contract.wit"),
    ] {
        match error_of(resolve(&manifest("dylib", members), &shipped("native-strict"))) {
            PolicyError::NotBuilt { key: named, place, .. } => {
                assert_eq!((named.as_str(), place.as_str()), (key, "manifest.json:2"));
            }
            other => panic!("{key}: {other}"),
        }
    }
    let nothing = r#""instances": 1, "permissions": {"process": {"max_processes": 0}, "storage": {"quota": 0},
        "network": {}, "filesystem": {"create_files": false}},
        "security_policy": {"restart": {"mode": "never"}, "reload": {"mode": "never"}}"#;
    resolve(&manifest("dylib", nothing), &shipped("native-strict")).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_plugin_for_another_hotcell_is_refused() {
    let needs = |version: &str| manifest("dylib", &format!(r#""api_contract": {{"host_api": "{version}"}}"#));
    resolve(&needs("^0.1"), &shipped("native-strict")).unwrap_or_else(|error| panic!("{error}"));
    let error = error_of(resolve(&needs("^99"), &shipped("native-strict")));
    assert!(matches!(&error, PolicyError::HostApi { wanted, .. } if wanted == "^99"), "{error}");
}

#[test]
fn some_paths_are_refused_although_they_are_granted() {
    let asked = |key: &str, path: &str| {
        let asks = format!(r#""permissions": {{"filesystem": {{"{key}": ["{path}"]}}}}"#);
        let access = if key == "write_paths" { "write" } else { "read" };
        let grant =
            format!("\n[[file]]\npath = \"{path}\"\naccess = \"{access}\"\nwhy = \"x\"\nrisk = \"x\"\n");
        let text = format!("{}{grant}", Profile::shipped_text("image-decoder").expect("it ships"));
        let text = text.replace("\"files-read\"", "\"files-read\", \"files-write\"");
        let profile = Profile::parse("granting.toml", &text).unwrap_or_else(|error| panic!("{error}"));
        resolve(&manifest("dylib", &asks), &profile)
    };
    for (key, path) in [
        ("read_paths", "/"),
        ("read_paths", "/root"),
        ("read_paths", "/home"),
        ("read_paths", "/home/ada"),
        ("read_paths", "/home/ada/.ssh"),
        ("read_paths", "/home/ada/.aws/credentials"),
        ("read_paths", "/etc"),
        ("read_paths", "/etc/shadow"),
        ("read_paths", "/proc/1"),
        ("read_paths", "/dev"),
        ("write_paths", "/usr/local"),
        ("write_paths", "/etc/hosts"),
    ] {
        let error = error_of(asked(key, path));
        assert!(error.to_string().contains("unreasonable"), "{path}: {error}");
    }
    for (key, path) in [
        ("read_paths", "/home/ada/pictures"),
        ("read_paths", "/etc/ssl/certs"),
        ("read_paths", "/etc/shadows"),
        ("read_paths", "/usr/share/fonts"),
        ("write_paths", "/srv/out"),
    ] {
        asked(key, path).unwrap_or_else(|error| panic!("control, {path}: {error}"));
    }
}

#[test]
fn the_folder_of_relative_paths_is_one_of_the_plugin_s_own() {
    let files =
        r#""filesystem": {"read_paths": ["${plugin}"], "write_paths": ["${data}"], "root": "${data}"}"#;
    let policy = resolve(&command(files), &shipped("wasi-command")).expect("is covered");
    let guests = policy.files().iter().map(|file| (file.path.to_string(), file.is_root));
    assert_eq!(guests.collect::<Vec<_>>(), [("${plugin}".to_owned(), false), ("${data}".to_owned(), true)]);
    let native = manifest("dylib", &format!("\"permissions\": {{{files}}}"));
    let text = include_str!("../../sandbox-profiles/wasi-command.toml");
    let text = text.replace("runtime = \"command\"", "runtime = [\"native\", \"command\"]");
    let profile = Profile::parse("both.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let policy = resolve(&native, &profile).expect("is covered");
    let plan = compile(&policy, &common::root_platform()).expect("compiles");
    assert_eq!(plan.orders.folder, Some((hotcell_protocol::Place::Data, String::new())));
    assert!(plan.facts.iter().any(|fact| fact.text == "relative paths are in ${data}"));
}

#[test]
fn files_for_a_wasm_library_are_not_built() {
    let asking =
        manifest("wasm", r#""runtime": "core", "permissions": {"filesystem": {"read_paths": ["${data}"]}}"#);
    let error = error_of(resolve(&asking, &shipped("pure-compute")));
    assert!(matches!(error, PolicyError::NotBuilt { .. }), "{error}");
}

#[test]
fn a_profile_of_another_runtime_is_refused() {
    let error = error_of(resolve(&manifest("dylib", ""), &shipped("pure-compute")));
    assert!(matches!(error, PolicyError::RuntimeMismatch { runtime: Runtime::Native, .. }), "{error}");
    assert!(error.to_string().contains("core and component"), "{error}");
    assert_eq!(
        error_of(resolve(&manifest("wasm", ""), &shipped("pure-compute"))),
        PolicyError::RuntimeUnknown
    );
}

#[test]
fn connections_are_covered_by_address_and_need_a_kind_that_has_them() {
    let grants = r#"connect = [
        { address = "api.example.org:443", why = "It asks for prices." },
        { address = "localhost:5432", private = true, why = "The database.", risk = "It may read all of it." }]"#;
    let text = Profile::shipped_text("native-strict").expect("ships");
    let with = |text: &str, set: &str, grants: &str| {
        let text = text.replacen("syscalls = [", &format!("{grants}\nsyscalls = [{set}, "), 1);
        Profile::parse("asks.toml", &text).unwrap_or_else(|error| panic!("{error}"))
    };
    let profile = with(text, "\"connections\"", grants);
    let asking = |connect: &str| {
        let permissions = format!(r#""permissions": {{"network": {{"connect": [{connect}]}}}}"#);
        resolve(&manifest("dylib", &permissions), &profile)
    };
    let plan = |connect: &str| {
        let policy = asking(connect).unwrap_or_else(|error| panic!("{error}"));
        compile(&policy, &common::root_platform()).unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(plan(r#""api.example.org:443""#).connects.len(), 1, "no more than was asked for");
    let both = plan(r#""localhost:5432", "api.example.org:443""#);
    let words: Vec<_> = both
        .connects
        .iter()
        .map(|grant| (grant.address.host(), grant.address.port(), grant.private))
        .collect();
    assert_eq!(words, [("localhost", 5432, true), ("api.example.org", 443, false)]);
    assert!(both.facts.iter().any(|fact| fact.text == "api.example.org:443, public addresses only"));
    for other in [r#""api.example.org:80""#, r#""example.org:443""#, r#""api.example.org.evil.example:443""#]
    {
        let error = error_of(asking(other));
        assert!(matches!(error, PolicyError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("connect = [{ address = "), "{error}");
    }
    let text = Profile::shipped_text("pure-compute").expect("ships");
    let profile = with(text, "\"wasi-connections\"", grants);
    let wasm = |runtime: &str| {
        let asking = r#""permissions": {"network": {"connect": ["api.example.org:443"]}}"#;
        manifest("wasm", &format!(r#""runtime": "{runtime}", {asking}"#))
    };
    assert!(resolve(&wasm("component"), &profile).is_ok(), "the profile is for both");
    assert!(matches!(error_of(resolve(&wasm("core"), &profile)), PolicyError::NotBuilt { .. }));
}

#[test]
fn listening_is_covered_by_the_exact_address() {
    let grants = r#"listen = [{ address = "127.0.0.1:8080", why = "It serves pages." },
        { address = "0.0.0.0:8080", why = "Others, too.", risk = "Everybody can reach it." }]"#;
    let text = Profile::shipped_text("native-strict").expect("ships");
    let sets = "syscalls = [\"connections\", \"listeners\", ";
    let text = text.replacen("syscalls = [", &format!("{grants}\n{sets}"), 1);
    let profile = Profile::parse("serves.toml", &text).unwrap_or_else(|error| panic!("{error}"));
    let asking = |listen: &str| {
        let permissions = format!(r#""permissions": {{"network": {{"listen": ["{listen}"]}}}}"#);
        resolve(&manifest("dylib", &permissions), &profile)
    };
    let compiled =
        |policy: &Policy| compile(policy, &common::root_platform()).unwrap_or_else(|error| panic!("{error}"));
    let plan = compiled(&asking("127.0.0.1:8080").unwrap_or_else(|error| panic!("{error}")));
    let listens: Vec<_> = plan.listens.iter().map(ToString::to_string).collect();
    assert_eq!(listens, ["127.0.0.1:8080"], "no more than was asked for");
    assert!(plan.has_network() && plan.connects.is_empty());
    for other in ["127.0.0.1:8081", "127.0.0.2:8080", "[::1]:8080", "[::]:8080"] {
        let error = error_of(asking(other));
        assert!(matches!(error, PolicyError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("listen = [{ address = "), "{error}");
    }
    // Whoever asks for nothing has neither the sets nor the handler.
    let silent = compiled(&resolve(&manifest("dylib", ""), &profile).expect("it asks for nothing"));
    assert!(!silent.has_network());
    assert!(!silent.facts.iter().any(|fact| fact.text.contains("accept4") || fact.text.contains("bind")));
}

/// `native-strict` with two programs, of which two run at a time.
fn with_programs(more: &str) -> Result<Profile, hotcell_policy::ParseError> {
    let text = Profile::shipped_text("native-strict").expect("ships");
    let text = text.replacen("processes   = 0", "processes   = 2", 1);
    let grants = r#"spawn = [
        { program = "/usr/bin/gzip", code = ["/usr/lib/x"], why = "It packs.", risk = "It reads." },
        { program = "${plugin}/tool", why = "Its own.", risk = "It computes." }]"#;
    let text = text.replacen("syscalls = [", &format!("{grants}\nsyscalls = [{more}"), 1);
    Profile::parse("runs.toml", &text)
}

#[test]
fn programs_are_covered_by_name_and_confined_by_what_the_plugin_has_and_their_own_sets() {
    let missing = with_programs("").expect_err("their sets are not named");
    assert!(missing.to_string().contains("add `program-load` to `syscalls`"), "{missing}");
    let profile = with_programs("\"program-load\", \"programs\", ").unwrap_or_else(|error| panic!("{error}"));
    let asking = |process: &str| {
        resolve(&manifest("dylib", &format!(r#""permissions": {{"process": {{{process}}}}}"#)), &profile)
    };
    let policy = asking(r#""spawn": ["/usr/bin/gzip"], "max_processes": 1"#);
    let policy = policy.unwrap_or_else(|error| panic!("{error}"));
    let plan = compile(&policy, &common::root_platform()).unwrap_or_else(|error| panic!("{error}"));
    let programs = plan.programs.as_ref().expect("it asks for one");
    let [only] = programs.granted.as_slice() else { panic!("{programs:?}") };
    assert_eq!((only.program.to_string().as_str(), plan.orders.limits.processes), ("/usr/bin/gzip", 1));
    // The plugin itself gains nothing: no path, no call.
    assert!(plan.orders.landlock.rules.is_empty());
    let silent = resolve(&manifest("dylib", ""), &profile).expect("it asks for nothing");
    let silent = compile(&silent, &common::root_platform()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((silent.orders.filters, silent.programs), (plan.orders.filters.clone(), None));
    let paths: Vec<_> =
        programs.orders.landlock.rules.iter().map(|rule| (rule.path.as_str(), rule.access)).collect();
    assert_eq!(paths, [("usr/lib/x", 0b1101)], "its libraries, to read and execute");
    assert_eq!(programs.orders.limits, plan.orders.limits);
    for other in [r#""spawn": ["/usr/bin/bash"]"#, r#""spawn": ["${plugin}/other"]"#] {
        let error = error_of(asking(other));
        assert!(error.to_string().contains("spawn = [{ program = "), "{error}");
    }
    let error = error_of(asking(r#""spawn": ["/usr/bin/gzip"], "max_processes": 3"#));
    assert!(error.to_string().contains("processes = 3"), "{error}");
}

#[test]
fn no_code_of_a_program_is_where_the_plugin_can_write() {
    let text = Profile::shipped_text("native-strict").expect("ships");
    let text =
        text.replacen("processes   = 0", "processes   = 1", 1).replacen("landlock = 1", "landlock = 3", 1);
    let sets = "syscalls = [\"program-load\", \"programs\", \"files-read\", \"files-write\", ";
    let text = text.replacen("syscalls = [", sets, 1);
    let written = |path: &str| {
        let grants = format!(
            "\n[[file]]\npath = \"{path}\"\naccess = \"write\"\nwhy = \"x\"\nrisk = \"y\"\n\n[[spawn]]\nprogram = \"/srv/bin/tool\"\n\
             code = [\"/srv/lib\"]\nwhy = \"x\"\nrisk = \"y\"\n"
        );
        Profile::parse("runs.toml", &format!("{text}{grants}"))
    };
    for inside in ["/srv/bin", "/srv/bin/tool", "/srv/lib/x", "/srv/lib", "/srv"] {
        let error = written(inside).expect_err(inside);
        assert!(error.to_string().contains("what a plugin can write"), "{error}");
    }
    for beside in ["/srv/data", "/srv/bin/tool2", "${data}"] {
        written(beside).unwrap_or_else(|error| panic!("{beside}: {error}"));
    }
}

#[test]
fn an_address_to_listen_at_is_an_ip_address_in_one_form() {
    for wrong in [
        "localhost:80",
        "127.0.0.1:0",
        "127.0.0.1",
        "127.0.0.1:080",
        "127.1:80",
        "::1:80",
        "[::0:1]:80",
        "[::ffff:127.0.0.1]:80",
        "[fe80::1%2]:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "127.0.0.1:65536",
        " 127.0.0.1:80",
    ] {
        assert!(wrong.parse::<hotcell_policy::ListenAddress>().is_err(), "{wrong}");
    }
    for right in ["127.0.0.1:1", "0.0.0.0:65535", "[::1]:80", "[2001:db8::1]:443"] {
        let address: hotcell_policy::ListenAddress = right.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(address.to_string(), right);
    }
}

#[test]
fn an_address_has_a_host_and_a_port() {
    let parts = |text: &str| {
        let address: hotcell_policy::HostPort = text.parse().expect("is an address");
        (address.host().to_owned(), address.port())
    };
    assert_eq!(parts("[::1]:80"), ("::1".to_owned(), 80));
    assert_eq!(parts("10.0.0.1:65535"), ("10.0.0.1".to_owned(), 65535));
}
