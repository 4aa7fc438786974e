//! Programs that the host runs for a plugin: the granted ones, confined as the plugin is and by their own system calls, ended with who
//! asked for them.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hotcell::{CallError, Class, Host, HostBuilder, Plugin, Refuser};
use hotcell_tests::{Folders, Footprint, fixture, package};
use serde_json::{Value, json};

mod common;

const TOOL: &str = "${plugin}/tool";

/// Profiles that grant the lab's program and `more` programs, each as TOML.
fn builder(folders: &Folders, more: &str) -> HostBuilder {
    let tool = "\n[[spawn]]\nprogram = \"${plugin}/tool\"\nwhy = \"A test runs it.\"\nrisk = \"It tries to escape.\"\n";
    let grants = format!("{tool}{more}");
    let native = [
        (
            "\"native-load\"]",
            "\"native-load\", \"program-load\", \"programs\", \"program-pipes\", \"files-read\", \"files-write\", \"files-create\"]",
        ),
        ("processes   = 0", "processes   = 2"),
        ("landlock = 1", "landlock = 3"),
        ("file-size   = \"0 B\"", "file-size   = \"1 MiB\""),
        ("disk        = \"0 B\"", "disk        = \"1 MiB\""),
    ];
    let wasm =
        [("\"seal\"]", "\"seal\", \"program-load\", \"programs\"]"), ("processes   = 0", "processes   = 1")];
    let data = "\n[[file]]\npath = \"${data}\"\naccess = \"write\"\ncreate = true\nwhy = \"The test's.\"\n";
    let mut hiding = native.to_vec();
    hiding.push(("\"uts\"]", "\"uts\", \"mount\"]"));
    let grants_and_data = format!("{data}{grants}");
    fixture::host(folders)
        .profile(common::profile("native-strict", "runs", &native, &grants_and_data))
        .profile(common::profile("native-strict", "hidden", &hiding, &grants_and_data))
        .profile(common::profile("pure-compute", "wasm-runs", &wasm, &grants))
}

/// Ships the lab's program with a package.
fn with_tool(path: &Path) {
    let tool = path.join("tool");
    std::fs::copy(package("crash-lab/program/tool"), &tool).expect("it is built");
    // Whether its file may be executed means nothing to the host.
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o644)).expect("it is ours");
}

fn native_package(folders: &Folders, name: &str, permissions: &Value) -> PathBuf {
    let more = json!({ "permissions": permissions, "security_policy": { "profile": "runs" } });
    let path = common::native(folders, name, "crash-lab/native/crash_lab.so", more);
    with_tool(&path);
    path
}

async fn runner(folders: &Folders, name: &str, more: &str, programs: &[&str]) -> (Host, Plugin) {
    let host = builder(folders, more).build().await.expect("a host starts");
    let permissions = json!({ "process": { "spawn": programs },
        "filesystem": { "write_paths": ["${data}"], "create_files": true } });
    let plugin = host.load(native_package(folders, name, &permissions)).await;
    (host, plugin.unwrap_or_else(|error| panic!("{error}")))
}

/// The answer of a host call, or what it failed with.
async fn host_call(plugin: &Plugin, name: &str, input: &[u8]) -> Result<String, String> {
    let input = [name.as_bytes(), b"\n", input].concat();
    match plugin.call_raw("host_call", input).await {
        Ok(answer) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        Err(CallError::Plugin(text)) => Err(text),
        Err(error) => panic!("{error}"),
    }
}

fn request(program: &str, arguments: &[&str]) -> Value {
    json!({ "program": program, "arguments": arguments })
}

/// How a program ended, and what it wrote.
async fn run(plugin: &Plugin, request: Value, input: &str) -> Result<(Value, String), String> {
    let answer = host_call(plugin, "process.run", format!("{request}\n{input}").as_bytes()).await?;
    let (head, output) = answer.split_once('\n').expect("two parts");
    Ok((serde_json::from_str(head).expect("JSON"), output.to_owned()))
}

#[tokio::test]
async fn a_program_gets_what_the_plugin_gives_it_and_nothing_of_the_host_s() {
    let folders = Folders::new();
    let (host, plugin) = runner(&folders, "gives", "", &[TOOL]).await;
    let done = json!({ "exit": 0 });
    let said = run(&plugin, request(TOOL, &["upper"]), "two\nlines").await;
    assert_eq!(said, Ok((done.clone(), "TWO\nLINES".to_owned())));
    let large = "x".repeat(300_000);
    let said = run(&plugin, request(TOOL, &["upper"]), &large).await;
    assert_eq!(said, Ok((done.clone(), large.to_uppercase())), "more than a pipe holds");
    let telling =
        json!({ "program": TOOL, "arguments": ["tell", "a b", ""], "environment": { "LANG": "C" } });
    let said = run(&plugin, telling, "").await;
    let expected = "argument tool\nargument tell\nargument a b\nargument \nvariable LANG=C\n";
    assert_eq!(said, Ok((done.clone(), expected.to_owned())));
    assert_eq!(
        run(&plugin, request(TOOL, &["exit", "7"]), "").await,
        Ok((json!({ "exit": 7 }), String::new()))
    );
    let aborted = json!({ "signal": 6, "name": "SIGABRT" });
    assert_eq!(run(&plugin, request(TOOL, &["abort"]), "").await, Ok((aborted, String::new())));
    assert_eq!(run(&plugin, request(TOOL, &["errors"]), "").await, Ok((done, String::new())), "into the log");
    assert_eq!(plugin.call_raw("ok", b"still".to_vec()).await.expect("a reply"), b"still");
    host.shutdown().await;
}

#[tokio::test]
async fn a_program_has_the_plugin_s_files_and_can_do_nothing_else() {
    let folders = Folders::new();
    let (host, plugin) = runner(&folders, "confined", "", &[TOOL]).await;
    let data = folders.join("state/data/dev.hotcell.test.confined/note").display().to_string();
    let (_, said) = run(&plugin, request(TOOL, &["write", &data, "kept"]), "").await.expect("it runs");
    assert_eq!(said, "written\n");
    let (_, said) = run(&plugin, request(TOOL, &["read", &data]), "").await.expect("it runs");
    assert_eq!(said, "kept");
    let mut events = host.events();
    let (end, said) = run(&plugin, request(TOOL, &["escape"]), "").await.expect("it runs");
    let expected = [
        "fork EPERM",
        "thread EPERM",
        "execve EPERM",
        "execve itself EPERM",
        "execveat EPERM",
        "ptrace EPERM",
        "setuid EPERM",
        "seccomp EPERM",
        "socket EPERM",
        "socketpair EPERM",
        "open /etc/passwd EACCES",
        "create EPERM",
        "kill EPERM",
        "executable memory EPERM",
        "memory made executable EPERM",
        "memfd EPERM",
        "unshare EPERM",
        "descriptors 0",
    ];
    assert_eq!((end, said.lines().collect::<Vec<_>>()), (json!({ "exit": 0 }), expected.to_vec()));
    let told = common::violations(&mut events);
    assert!(
        told.iter().any(|violation| violation.act == "socket" && violation.layer == Refuser::Seccomp),
        "{told:?}"
    );
    assert!(told.iter().all(|violation| !violation.remedy.is_empty()), "{told:?}");
    // Control: the same program, as the kernel runs it for anybody.
    let free = std::process::Command::new(package("crash-lab/program/tool"))
        .args(["escape", "gently"])
        .output()
        .expect("starts");
    let free = String::from_utf8_lossy(&free.stdout).into_owned();
    for act in ["fork", "socket", "open /etc/passwd", "create", "kill", "memfd", "memory made executable"] {
        assert!(free.contains(&format!("{act} done")), "{free}");
    }
    host.shutdown().await;
}

#[tokio::test]
async fn what_is_not_granted_does_not_run_and_the_refusal_says_which_lines_would_do() {
    let folders = Folders::new();
    let host = builder(&folders, "").build().await.expect("a host starts");
    let asking = |programs: Value| json!({ "process": { "spawn": programs } });
    let wanting = native_package(&folders, "wants", &asking(json!(["/usr/bin/env"])));
    let error = host.load(wanting).await.expect_err("not granted");
    assert_eq!(error.class(), Class::Refused, "{error}");
    let silent =
        host.load(native_package(&folders, "silent", &json!({}))).await.expect("it asks for nothing");
    let mut events = host.events();
    for program in [TOOL, "/usr/bin/env", "tool", ""] {
        let refused =
            host_call(&silent, "process.run", request(program, &["tell"]).to_string().as_bytes()).await;
        assert_eq!(refused, Err("refused".to_owned()), "{program:?}");
    }
    let told = common::violations(&mut events);
    assert_eq!((told.len(), told[0].act.as_str()), (4, "program ${plugin}/tool"));
    assert_eq!(
        told[0].remedy,
        ["manifest: \"permissions\": { \"process\": { \"spawn\": [\"${plugin}/tool\"] } }"]
    );
    assert!(told[1].remedy[0].contains("profile: spawn = [{ program = \"/usr/bin/env\""), "{}", told[1]);
    for wrong in ["", "{}", "{\"program\": 7}", "{\"program\": \"a\", \"more\": 1}"] {
        let failed = host_call(&silent, "process.run", wrong.as_bytes()).await.expect_err("no request");
        assert!(failed.starts_with("failed: the request is not as it must be: "), "{failed}");
    }
    let missing = native_package(&folders, "missing", &asking(json!([TOOL])));
    std::fs::remove_file(missing.join("tool")).expect("it is there");
    let error = host.load(missing).await.expect_err("the program is not in the package");
    assert_eq!((error.class(), error.to_string().contains("tool")), (Class::Invalid, true), "{error}");
    host.shutdown().await;
}

#[tokio::test]
async fn a_program_that_takes_too_much_ends_alone() {
    let folders = Folders::new();
    let (host, plugin) = runner(&folders, "bounded", "", &[TOOL]).await;
    let flooded = run(&plugin, request(TOOL, &["flood"]), "").await;
    assert_eq!(flooded, Err("failed: the program's output is over the plugin's message limit".to_owned()));
    let (end, said) = run(&plugin, request(TOOL, &["memory"]), "").await.expect("it runs");
    assert_eq!(end, json!({ "exit": 0 }));
    assert!(said.starts_with("refused after "), "{said}");
    let request = plugin.request("host_call").deadline(Duration::from_millis(300));
    let input = format!("process.run\n{}", self::request(TOOL, &["sleep"]));
    let ended = request.raw(input.into_bytes()).await;
    assert!(matches!(ended, Err(CallError::Timeout)), "{ended:?}");
    assert_eq!(plugin.call_raw("ok", b"next".to_vec()).await.expect("a reply"), b"next");
    host.shutdown().await;
}

#[test]
fn programs_leave_the_host_nothing_when_they_end_and_when_they_are_cut_off() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let folders = Folders::new();
        let (host, plugin) = runner(&folders, "leaves", "", &[TOOL]).await;
        run(&plugin, request(TOOL, &["exit", "0"]), "").await.expect("it runs");
        plugin.unload().await;
        let before = Footprint::now();
        let plugin = host.load(folders.join("leaves")).await.expect("as before");
        for _ in 0..20 {
            run(&plugin, request(TOOL, &["upper"]), "x").await.expect("it runs");
        }
        let input = format!("process.run\n{}", request(TOOL, &["sleep"]));
        let cut =
            plugin.request("host_call").deadline(Duration::from_millis(200)).raw(input.into_bytes()).await;
        assert!(matches!(cut, Err(CallError::Timeout)), "{cut:?}");
        plugin.unload().await;
        before.must_return();
        host.shutdown().await;
    });
}

/// Takes what the host has made for the plugin: the two streams of a program.
async fn piped(plugin: &Plugin, input: &str) -> Result<String, String> {
    match plugin.call_raw("program_talk", input.as_bytes().to_vec()).await {
        Ok(reply) => Ok(String::from_utf8_lossy(&reply).into_owned()),
        Err(CallError::Plugin(text)) => Err(text),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_program_that_was_started_is_talked_to_waited_for_and_killed() {
    let folders = Folders::new();
    let (host, plugin) = runner(&folders, "talks", "", &[TOOL]).await;
    for text in ["first", "second"] {
        let said = piped(&plugin, &format!("{text}\n{}", request(TOOL, &["upper"]))).await;
        assert_eq!(said, Ok(format!("{}\n{{\"exit\":0}}", text.to_uppercase())));
    }
    // They stay between calls, are as many as the profile says, and can be ended.
    let spawn = request(TOOL, &["sleep"]).to_string();
    let number = |said: Result<String, String>| said.and_then(|id| id.parse::<u32>().map_err(|_| id));
    let first = number(host_call(&plugin, "process.spawn", spawn.as_bytes()).await).expect("it starts");
    let second = number(host_call(&plugin, "process.spawn", spawn.as_bytes()).await).expect("it starts");
    assert_ne!(first, second);
    for task in ["process.spawn", "process.run"] {
        let third = host_call(&plugin, task, spawn.as_bytes()).await;
        assert_eq!(third, Err("failed: 2 programs run, and the limit `processes` is 2".to_owned()), "{task}");
    }
    assert_eq!(host_call(&plugin, "process.kill", first.to_string().as_bytes()).await, Ok(String::new()));
    for gone in [first.to_string(), "99".to_owned()] {
        let said = host_call(&plugin, "process.wait", gone.as_bytes()).await;
        assert_eq!(said, Err("failed: there is no such program".to_owned()), "{gone}");
    }
    assert_eq!(
        host_call(&plugin, "process.wait", b"first").await,
        Err("failed: the input is no number of a program".to_owned())
    );
    host_call(&plugin, "process.spawn", spawn.as_bytes()).await.expect("there is room again");
    let refused =
        host_call(&plugin, "process.spawn", request("/usr/bin/env", &[]).to_string().as_bytes()).await;
    assert_eq!(refused, Err("refused".to_owned()));
    host.shutdown().await;
}

#[tokio::test]
async fn a_plugin_in_rust_runs_and_starts_programs_by_the_sdk() {
    let folders = Folders::new();
    let host = builder(&folders, "").build().await.expect("a host starts");
    let more = json!({
        "permissions": { "process": { "spawn": [TOOL] } }, "security_policy": { "profile": "runs" },
    });
    let path = common::native(&folders, "rust", "crash-lab/rust/crash_lab_rust.so", more);
    with_tool(&path);
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    let said = plugin.call_raw("upper", b"twice ".to_vec()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(String::from_utf8_lossy(&said), "TWICE TWICE ");
    host.shutdown().await;
}

#[test]
fn programs_that_were_started_end_with_their_worker() {
    let _alone = common::alone();
    common::runtime().block_on(async {
        let folders = Folders::new();
        let (host, plugin) = runner(&folders, "ends", "", &[TOOL]).await;
        plugin.call_raw("ok", Vec::new()).await.expect("a reply");
        let before = Footprint::now();
        for export in ["abort", "exit_zero"] {
            for _ in 0..2 {
                let spawn = request(TOOL, &["sleep"]).to_string();
                host_call(&plugin, "process.spawn", spawn.as_bytes()).await.expect("it starts");
            }
            let crashed = plugin.call_raw(export, b"0".to_vec()).await;
            assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
            plugin.call_raw("ok", Vec::new()).await.expect("another worker, without programs");
            before.must_return();
        }
        host.shutdown().await;
    });
}

/// Where the loader of this machine's programs really is.
fn loader() -> PathBuf {
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    loaders.iter().find_map(|loader| std::fs::canonicalize(loader).ok()).expect("a loader")
}

/// One more program that is granted; `code` is empty or a line.
fn grant(program: &str, code: &str) -> String {
    let reasons = "why = \"A test runs it.\"\nrisk = \"It writes what it reads.\"\n";
    format!("\n[[spawn]]\nprogram = \"{program}\"\n{code}{reasons}")
}

/// A program of the system, with its loader and libraries.
#[tokio::test]
async fn a_program_of_the_system_runs_with_the_code_that_its_grant_names_and_not_without() {
    let code = loader().parent().expect("a folder").display().to_string();
    let folders = Folders::new();
    let grants = grant("/usr/bin/tr", &format!("code = [\"{code}\"]\n")) + &grant("/usr/bin/env", "");
    let (host, plugin) = runner(&folders, "system", &grants, &["/usr/bin/tr"]).await;
    let said = run(&plugin, request("/usr/bin/tr", &["a-z", "A-Z"]), "text").await;
    assert_eq!(said, Ok((json!({ "exit": 0 }), "TEXT".to_owned())));
    let permissions = json!({ "process": { "spawn": ["/usr/bin/env"] } });
    let bare = host.load(native_package(&folders, "bare", &permissions)).await.expect("it is granted");
    let failed = run(&bare, request("/usr/bin/env", &[]), "").await.expect_err("it has no loader");
    assert!(failed.contains("its loader is not in the `code` of the grant"), "{failed}");
    host.shutdown().await;
}

/// Nothing is there but what was granted, and so no link to a loader.
#[tokio::test]
async fn in_a_file_tree_of_its_own_a_static_program_runs_and_a_dynamic_one_does_not() {
    let folders = Folders::new();
    let code = format!("code = [\"{}\"]\n", loader().parent().expect("a folder").display());
    let host = builder(&folders, &grant("/usr/bin/env", &code)).build().await.expect("a host starts");
    let more = json!({
        "permissions": { "process": { "spawn": [TOOL, "/usr/bin/env"] } }, "security_policy": { "profile": "hidden" },
    });
    let path = common::native(&folders, "hidden", "crash-lab/native/crash_lab.so", more);
    with_tool(&path);
    let plugin = host.load(path).await.unwrap_or_else(|error| panic!("{error}"));
    let said = run(&plugin, request(TOOL, &["read", "/etc/passwd"]), "").await;
    assert_eq!(said, Ok((json!({ "exit": 1 }), "read: ENOENT\n".to_owned())));
    let failed = run(&plugin, request("/usr/bin/env", &[]), "").await.expect_err("its loader is not found");
    assert!(failed.contains("its loader is not there"), "{failed}");
    host.shutdown().await;
}

/// A module whose one export hands its input to `process.run`.
const MODULE: &str = r#"(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))
  (import "hotcell" "host_call" (func $host_call (param i32 i32 i32 i32) (result i64)))
  (import "hotcell" "host_take" (func $host_take (param i32 i32) (result i32)))
  (memory (export "memory") 3)
  (data (i32.const 16) "process.run")
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 0x10000))
  (func (export "hotcell_export_run") (param $input i32) (param $length i32) (result i32)
    (local $status i64)
    (local.set $status (call $host_call (i32.const 16) (i32.const 11) (local.get $input) (local.get $length)))
    (call $reply (i32.const 0x20000) (call $host_take (i32.const 0x20000) (i32.const 0x10000)))
    (i32.lt_s (i32.wrap_i64 (local.get $status)) (i32.const 0))))"#;

#[tokio::test]
async fn a_core_module_runs_programs_too() {
    let folders = Folders::new();
    let host = builder(&folders, "").build().await.expect("a host starts");
    let path = folders.join("core");
    std::fs::create_dir(&path).expect("the folder is new");
    let manifest = json!({
        "schema": 1, "id": "dev.hotcell.test.core", "name": "core", "version": "0.1.0", "plugin_type": "wasm",
        "wasm_path": "plugin.wat", "runtime": "core", "security_policy": { "profile": "wasm-runs" },
        "permissions": { "process": { "spawn": [TOOL], "max_processes": 1 } },
    });
    std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
    std::fs::write(path.join("plugin.wat"), MODULE).expect("writable");
    with_tool(&path);
    let plugin = host.load(&path).await.unwrap_or_else(|error| panic!("{error}"));
    let input = format!("{}\nfrom wasm", request(TOOL, &["upper"]));
    let answer = plugin.call_raw("run", input.into_bytes()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(String::from_utf8_lossy(&answer), "{\"exit\":0}\nFROM WASM");
    host.shutdown().await;
}
