//! The kinds of plugin end to end: components with typed values, commands with streams, files and exit codes, the
//! compile cache, host calls of the application, the blocking API.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use hotcell::{CallError, Class, ExitCause};
use hotcell_tests::command::{self, Said};
use hotcell_tests::footprint::descendants;
use hotcell_tests::{Folders, fixture, package};
use serde_json::{Value, json};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Less than a hard module takes to compile.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_component_is_called_with_typed_values() {
    let setup = common::Setup::new().await;
    let greet = setup.load("greet/component").await;
    let reply: Value = greet.call("greet", &json!([{ "name": "Ada" }])).await.expect("a reply");
    assert_eq!(reply, "Hello, Ada!");
    let quotient: Value = greet.call("hotcell:greet/kitchen#divide", &json!([7, 2])).await.expect("a reply");
    assert_eq!(quotient, 3);
    let nothing: Value = greet.call("hotcell:greet/kitchen#nothing", &json!([])).await.expect("a reply");
    assert_eq!(nothing, Value::Null);
    let error = greet.call::<_, Value>("hotcell:greet/kitchen#divide", &json!([1, 0])).await;
    assert!(matches!(error, Err(CallError::Plugin(_))), "{error:?}");
}

#[tokio::test]
async fn a_component_checks_its_input_against_its_own_types() {
    let setup = common::Setup::new().await;
    let greet = setup.load("greet/component").await;
    for (input, place) in [
        (json!([{ "name": 1 }]), "name"),
        (json!([{ "name": "Ada", "age": 36 }]), "age"),
        (json!([{}]), "name"),
        (json!([{ "name": "Ada" }, 1]), "argument"),
    ] {
        let result = greet.call::<_, Value>("greet", &input).await;
        assert!(
            matches!(&result, Err(CallError::BadInput(text)) if text.contains(place)),
            "{input}: {result:?}"
        );
    }
    let wide = greet.call::<_, Value>("hotcell:greet/kitchen#divide", &json!([1_u64 << 40, 1])).await;
    assert!(matches!(wide, Err(CallError::BadInput(_))), "{wide:?}");
    let resource = greet.call::<_, Value>("hotcell:greet/kitchen#wash", &json!([1])).await;
    assert!(matches!(&resource, Err(CallError::BadInput(text)) if text.contains("resource")), "{resource:?}");
    let unknown = greet.call::<_, Value>("hotcell:greet/kitchen#burn", &json!([])).await;
    assert!(matches!(unknown, Err(CallError::NoSuchExport(_))), "{unknown:?}");
}

/// A copy of the word counter with permissions of its own.
struct Command {
    folders: Folders,
    path: PathBuf,
}

impl Command {
    fn new(permissions: Value) -> Command {
        let folders = Folders::new();
        let path = folders.join("package");
        fs::create_dir(&path).expect("the folder is new");
        let text = fs::read_to_string(package("wordcount/manifest.json")).expect("the sample is there");
        let mut manifest: Value = serde_json::from_str(&text).expect("it is JSON");
        manifest["permissions"] = permissions;
        fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
        fs::copy(package("wordcount/wordcount.wasm"), path.join("wordcount.wasm")).expect("it is built");
        fs::create_dir(path.join("texts")).expect("writable");
        fs::write(path.join("texts/poem.txt"), "three small words\n").expect("writable");
        Command { folders, path }
    }

    fn run(&self, arguments: &[&str]) -> Said {
        command::run(command::command(&self.folders).arg("run").arg(&self.path).arg("--").args(arguments))
    }
}

#[test]
fn a_command_gets_stdin_and_arguments_and_its_exit_code_is_passed_through() {
    let counter = Command::new(json!({}));
    let mut command = command::command(&counter.folders);
    let mut child = command
        .arg("run")
        .arg(&counter.path)
        .args(["--", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"one two\nthree\n").expect("it is read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let counts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(counts.to_string().contains('3'), "{counts}");
    assert_eq!(output.status.code(), Some(0));
    let said = counter.run(&["/no/such/file"]);
    assert_eq!(said.code, Some(1), "the command's own code: {said:?}");
    assert!(!said.err.is_empty(), "{said:?}");
}

/// Exits with the number of its variables, and ten times the bytes that they take.
const VARIABLES: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (call $exit (i32.add
            (i32.load (i32.const 0))
            (i32.mul (i32.const 10) (i32.load (i32.const 4)))))))"#;

#[test]
fn a_command_has_the_variables_that_it_is_given_and_no_other() {
    let folders = Folders::new();
    let path = folders.join("variables.wat");
    fs::write(&path, VARIABLES).expect("writable");
    let run = |variables: &[&str]| {
        let mut command = command::command(&folders);
        command.env("HOTCELL_CANARY", "sings").arg("run").arg(&path);
        variables.iter().for_each(|variable| _ = command.args(["--env", variable]));
        command::run(&mut command)
    };
    assert_eq!(run(&[]).code, Some(0), "nothing of the host's own");
    // Each with its end: `A=1` and `B=` with a zero byte.
    assert_eq!(run(&["A=1", "B="]).code, Some(2 + 10 * 7));
    for wrong in ["A", "=1"] {
        assert_eq!(run(&[wrong]).code, Some(2), "{wrong}");
    }
}

#[test]
fn a_failure_of_the_run_itself_is_120_and_its_code() {
    let library = command::hotcell(&[Path::new("run"), &package("counter")]);
    assert_eq!(library.code, Some(122), "not a command: {library:?}");
    let missing = command::hotcell(&["run", "/no/such/plugin"]);
    assert_eq!(missing.code, Some(122), "{missing:?}");
}

#[test]
fn a_command_reads_the_files_that_are_granted_and_no_other() {
    let granted = Command::new(json!({ "filesystem": { "read_paths": ["${plugin}/texts"] } }));
    let said = granted.run(&["/plugin/texts/poem.txt"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains('3'), "{said:?}");
    for path in ["/etc/passwd", "texts/../manifest.json", "/plugin/manifest.json", "../../etc/passwd"] {
        assert_eq!(granted.run(&[path]).code, Some(1), "{path}");
    }
    let control = Command::new(json!({}));
    assert_eq!(control.run(&["/plugin/texts/poem.txt"]).code, Some(1), "control: without the grant");
}

#[test]
fn a_command_sees_one_granted_folder_as_its_root() {
    let files = json!({ "filesystem": { "read_paths": ["${plugin}/texts"], "root": "${plugin}/texts" } });
    let rooted = Command::new(files);
    for path in ["poem.txt", "/poem.txt", "./poem.txt"] {
        let said = rooted.run(&[path]);
        assert_eq!(said.code, Some(0), "{path}: {said:?}");
    }
    for path in ["../manifest.json", "/../manifest.json", "/etc/passwd", "/plugin/texts/poem.txt"] {
        assert_eq!(rooted.run(&[path]).code, Some(1), "{path}");
    }
    let control = Command::new(json!({ "filesystem": { "read_paths": ["${plugin}/texts"] } }));
    assert_eq!(control.run(&["poem.txt"]).code, Some(1), "control: without a root");
}

#[test]
fn a_symlink_in_a_package_does_not_widen_its_grant() {
    let command = Command::new(json!({ "filesystem": { "read_paths": ["${plugin}/texts"] } }));
    let outside = command.folders.join("outside");
    fs::create_dir(&outside).expect("writable");
    fs::write(outside.join("secret.txt"), "secret\n").expect("writable");
    fs::rename(command.path.join("texts"), command.path.join("real")).expect("same folder");
    symlink(&outside, command.path.join("texts")).expect("links are supported");
    let said = command.run(&["/plugin/texts/secret.txt"]);
    assert!(said.code.is_some_and(|code| code > 120), "the start is refused: {said:?}");
    assert!(said.err.contains("symbolic link"), "{said:?}");
}

/// A worker that cannot confine itself says why and ends at once, so that its host may learn of both in either order.
#[tokio::test(flavor = "multi_thread")]
async fn why_a_worker_did_not_start_is_told_however_soon_it_has_ended() {
    let command = Command::new(json!({ "filesystem": { "read_paths": ["${plugin}/texts"] } }));
    fs::rename(command.path.join("texts"), command.path.join("real")).expect("same folder");
    symlink("real", command.path.join("texts")).expect("links are supported");
    let host = fixture::host(&command.folders).build().await.expect("a host starts");
    let mut plugins = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let plugin = host.load(&command.path).await.expect("a command starts when it is run");
        plugins.spawn(async move {
            for _ in 0..16 {
                let error = plugin.command().run().await.expect_err("a link is refused").to_string();
                assert!(error.contains("symbolic link"), "{error}");
            }
        });
    }
    plugins.join_all().await;
    host.shutdown().await;
}

#[test]
fn a_request_that_the_profile_does_not_cover_is_refused() {
    let command = Command::new(json!({ "filesystem": { "read_paths": ["/etc"] } }));
    let said = command.run(&["/etc/passwd"]);
    assert_eq!(said.code, Some(123), "{said:?}");
}

/// Starts a host on a cache of its own; returns how many entries the cache has after one call.
async fn entries_after_a_call(folders: &Folders) -> Vec<(PathBuf, std::time::SystemTime)> {
    let host = fixture::host(folders).cache_dir(folders.join("cache")).build().await.expect("a host starts");
    let plugin = host.load(package("greet/core")).await.expect("it loads");
    let reply: Value = plugin.call("greet", &json!({ "name": "Ada" })).await.expect("a reply");
    assert_eq!(reply["greeting"], "Hello, Ada!");
    host.shutdown().await;
    let mut entries: Vec<_> = fs::read_dir(folders.join("cache"))
        .expect("the cache is there")
        .map(|entry| entry.expect("readable"))
        .filter(|entry| entry.metadata().is_ok_and(|about| about.len() > 4096))
        .map(|entry| {
            (entry.path(), entry.metadata().and_then(|about| about.created()).expect("has a birth time"))
        })
        .collect();
    entries.sort();
    entries
}

#[tokio::test]
async fn a_second_start_does_not_compile_and_a_spoiled_entry_is_not_believed() {
    let folders = Folders::new();
    let first = entries_after_a_call(&folders).await;
    assert_eq!(first.len(), 1, "one module, one entry: {first:?}");
    assert_eq!(entries_after_a_call(&folders).await, first, "the same entry, not written again");
    let path = &first[0].0;
    let mut bytes = fs::read(path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("writable");
    let third = entries_after_a_call(&folders).await;
    assert_ne!(third, first, "control: a spoiled entry is made anew");
}

/// A counter's library under a profile that grants the application's own host call.
const PROFILE_GRANT: &str = "\n[[host-call]]\nname = \"test.shout\"\nwhy = \"The application offers it.\"\n";

#[tokio::test]
async fn a_host_call_of_the_application_needs_both_a_request_and_a_grant() {
    let folders = Folders::new();
    let strict =
        fs::read_to_string(fixture::root().join("sandbox-profiles/native-strict.toml")).expect("it ships");
    let profile =
        hotcell::policy::Profile::parse("native-shouting.toml", &format!("{strict}{PROFILE_GRANT}"))
            .unwrap_or_else(|error| panic!("{error}"));
    let host = fixture::host(&folders)
        .profile(profile)
        .host_call("test.shout", async |_, input: Vec<u8>| match input.is_empty() {
            true => Err("nothing to shout".to_owned()),
            false => Ok(input.to_ascii_uppercase()),
        })
        .build()
        .await
        .expect("a host starts");
    let lab = |name: &str, profile: &str, calls: Value| {
        let path = folders.join(name);
        fs::create_dir(&path).expect("new");
        let manifest = json!({
            "schema": 1, "id": format!("dev.hotcell.{name}"), "name": name, "version": "0.1.0",
            "plugin_type": "dylib", "dylib_path": "lab.so",
            "permissions": { "host_calls": calls }, "security_policy": { "profile": profile },
        });
        fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
        fs::copy(package("crash-lab/native/crash_lab.so"), path.join("lab.so")).expect("it is built");
        path
    };
    let allowed = host.load(lab("allowed", "native-shouting", json!(["test.shout"]))).await.expect("granted");
    let answer = allowed.call_raw("host_call", b"test.shout\nhello".to_vec()).await.expect("an answer");
    assert_eq!(answer, b"HELLO");
    let failed = allowed.call_raw("host_call", b"test.shout\n".to_vec()).await;
    assert!(
        matches!(&failed, Err(CallError::Plugin(text)) if text.contains("nothing to shout")),
        "{failed:?}"
    );
    let silent = host.load(lab("silent", "native-shouting", json!(["log"]))).await.expect("granted");
    let refused = silent.call_raw("host_call", b"test.shout\nhello".to_vec()).await;
    assert!(
        matches!(&refused, Err(CallError::Plugin(text)) if text.contains("refused")),
        "not requested: {refused:?}"
    );
    let ungranted = host.load(lab("ungranted", "native-strict", json!(["test.shout"]))).await;
    assert_eq!(ungranted.map(|_| ()).map_err(|error| error.class()), Err(Class::Refused), "not granted");
    host.shutdown().await;
}

#[tokio::test]
async fn calls_beyond_the_plans_bound_are_refused_and_the_others_served() {
    let setup = common::Setup::new().await;
    let plugin = setup.load("crash-lab/native").await;
    let bound = usize::try_from(plugin.plan().orders.limits.outstanding).expect("small");
    let calls: Vec<_> = (0..bound * 2)
        .map(|_| {
            let plugin = plugin.clone();
            tokio::spawn(async move { plugin.call_raw("busy", b"5".to_vec()).await })
        })
        .collect();
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        match call.await.expect("no task panics") {
            Ok(_) => served += 1,
            Err(CallError::Refused(_)) => refused += 1,
            Err(error) => panic!("neither served nor refused: {error}"),
        }
    }
    assert!(served >= bound && refused > 0, "{served} served, {refused} refused");
}

#[tokio::test]
async fn a_constructor_that_dies_is_a_failed_start_with_its_cause() {
    let setup = common::Setup::new().await;
    for (name, cause) in [
        ("null_write", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("exit_zero", "code 0"),
        ("missing_needed", "cannot open shared object file"),
        ("no_entry", "hotcell_plugin_v1"),
        ("refuse_entry", "refused"),
    ] {
        let result = setup.host.load(package(&format!("crash-lab/constructors/{name}"))).await;
        let text = result.err().unwrap_or_else(|| panic!("{name} must not load")).to_string();
        assert!(text.contains(cause), "{name}: {text}");
    }
    setup.load("counter").await.call_raw("value", Vec::new()).await.expect("control: others load and answer");
}

#[tokio::test]
async fn hostile_modules_fail_to_load_or_to_answer_and_harm_nobody() {
    let setup = common::Setup::new().await;
    for name in [
        "alloc_out_of_bounds",
        "huge_memory",
        "no_alloc",
        "no_entry",
        "no_memory",
        "refuse_entry",
        "shared_memory",
        "start_trap",
        "undeclared_import",
        "wrong_signature",
    ] {
        let failed = match setup.host.load(package(&format!("crash-lab/modules/{name}"))).await {
            Ok(plugin) => plugin.call_raw("ok", b"x".to_vec()).await.is_err(),
            Err(_) => true,
        };
        assert!(failed, "{name}");
    }
    let core = setup.load("crash-lab/wasm").await;
    assert_eq!(core.call_raw("ok", b"x".to_vec()).await.expect("control: a decent one answers"), b"x");
}

#[test]
fn the_blocking_api_does_the_same() {
    let folders = Folders::new();
    let host = fixture::host(&folders).build_blocking().expect("a host starts");
    let counter = host.load(package("counter")).expect("it loads");
    let value: Value = counter.call("add", &json!({ "by": 2 })).expect("a reply");
    assert_eq!(value["value"], 2);
}

#[tokio::test]
async fn a_plugin_saves_and_takes_its_state_and_says_how_it_is() {
    let setup = common::Setup::new().await;
    let counter = setup.load("counter").await;
    counter.health().await.expect("it is well");
    let _: Value = counter.call("add", &json!({ "by": 41 })).await.expect("a reply");
    let state = counter.save_state().await.expect("it has a state");
    let other = setup.load("counter").await;
    other.load_state(1, &state).await.expect("it takes its own state");
    let value: Value = other.call("add", &json!({ "by": 1 })).await.expect("a reply");
    assert_eq!(value["value"], 42);
    let foreign = other.load_state(99, b"what is this").await;
    assert!(matches!(foreign, Err(CallError::Plugin(_))), "{foreign:?}");
    let stateless = setup.load("crash-lab/wasm").await;
    assert!(matches!(stateless.save_state().await, Err(CallError::NoSuchExport(_))));
}

/// Throws as often as it is told, and keeps what was thrown.
const THROWER: &str = r#"(component
    (core module $thrower
        (tag $t (param i64 i64 i64 i64))
        (table $kept 10000000 exnref)
        (func (export "keep") (param $count i32) (result i32)
            (local $done i32)
            (block $enough
                (loop $next
                    (br_if $enough (i32.ge_u (local.get $done) (local.get $count)))
                    (table.set $kept (local.get $done)
                        (block $caught (result exnref)
                            (try_table (catch_all_ref $caught)
                                (throw $t (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4)))
                            unreachable))
                    (local.set $done (i32.add (local.get $done) (i32.const 1)))
                    (br $next)))
            (local.get $done)))
    (core instance $thrower (instantiate $thrower))
    (func (export "keep") (param "count" u32) (result u32) (canon lift (core func $thrower "keep"))))"#;

#[tokio::test]
async fn what_a_module_throws_is_bounded_and_only_where_its_profile_lets_it_throw() {
    let folders = Folders::new();
    let granted = [("syscalls =", "wasm = [\"exceptions\"]\nsyscalls =")];
    let profile = common::profile("pure-compute", "throwing", &granted, "");
    let host = fixture::host(&folders).profile(profile).build().await.expect("a host starts");
    let package = |name: &str, profile: &str| {
        let path = folders.join(name);
        fs::create_dir(&path).expect("the folder is new");
        let manifest = json!({
            "schema": 1, "id": format!("dev.hotcell.test.{name}"), "name": name, "version": "0.1.0",
            "plugin_type": "wasm", "wasm_path": "plugin.wasm", "runtime": "component",
            "security_policy": { "profile": profile },
        });
        fs::write(path.join("manifest.json"), manifest.to_string()).expect("writable");
        fs::write(path.join("plugin.wasm"), THROWER).expect("writable");
        path
    };
    let error = host.load(package("may-not", "pure-compute")).await.expect_err("exceptions are off");
    assert!(error.to_string().contains("wasm = [\"exceptions\"]"), "{error}");
    let plugin = host.load(package("may", "throwing")).await.unwrap_or_else(|error| panic!("{error}"));
    let keep = async |count: u32| plugin.call::<_, u32>("keep", &json!([count])).await;
    assert_eq!(keep(10_000).await.expect("a reply"), 10_000, "control");
    let ended = keep(10_000_000).await;
    assert!(
        matches!(&ended, Err(CallError::Crashed(exit)) if matches!(exit.cause, ExitCause::Trap { .. })),
        "{ended:?}"
    );
    assert_eq!(keep(10_000).await.expect("the next worker answers"), 10_000);
    host.shutdown().await;
}

/// One function of nested loops, each of which can be left to any other: some hundred kilobytes that take a compiler minutes.
fn hard_to_compile() -> Vec<u8> {
    const DEPTH: usize = 20_000;
    const LOCALS: usize = 500;
    let opened: String = (0..DEPTH)
        .map(|at| {
            let (here, there, out) = (at % LOCALS, (at * 7 + 1) % LOCALS, (at * 31) % (at + 1));
            format!("loop local.get {there} local.get {here} i32.add local.tee {here} br_if {out} ")
        })
        .collect();
    let locals = "i32 ".repeat(LOCALS);
    format!("(module (func (export \"run\") (local {locals}) {opened} {}))", "end ".repeat(DEPTH))
        .into_bytes()
}

/// What the kernel says of each thread of a compiler of this process, once it is confined.
fn threads_of_a_compiler() -> Vec<String> {
    let status = |path: PathBuf| fs::read_to_string(path.join("status")).unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for pid in descendants(std::process::id()) {
            let process = PathBuf::from(format!("/proc/{pid}"));
            let whole = status(process.clone());
            if whole.contains("Name:\thotcell-compile\n") && whole.contains("Seccomp:\t2\n") {
                let tasks = fs::read_dir(process.join("task")).expect("it lives");
                return tasks.map(|task| status(task.expect("it lives").path())).collect();
            }
        }
    }
    panic!("no compiler was seen")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_is_hard_to_compile_is_given_up_and_disturbs_nobody() {
    let folders = Folders::new();
    let host = fixture::host(&folders).compile_time(SOON).build().await.expect("a host starts");
    let echo = host.load(package("crash-lab/native")).await.unwrap_or_else(|error| panic!("{error}"));
    let bystander = common::Bystander::start(echo, "ok", b"x");
    let module = folders.join("hard.wat");
    fs::write(&module, hard_to_compile()).expect("writable");
    let watched = tokio::task::spawn_blocking(threads_of_a_compiler);
    let error = host.load(&module).await.expect_err("it takes longer");
    assert_eq!(error.class(), Class::Deadline, "{error}");
    let threads = watched.await.expect("it was seen");
    assert!(threads.len() > 1, "it compiles with more than one: {threads:?}");
    for thread in threads {
        for line in
            ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"]
        {
            assert!(thread.lines().any(|told| told == line), "{line}: {thread}");
        }
    }
    bystander.must_answer().await;
    bystander.finish().await;
    host.shutdown().await;
    let gone = || descendants(std::process::id()).is_empty();
    assert!(gone(), "no compiler is left: {:?}", descendants(std::process::id()));
}

/// The niceness of a process: the nineteenth field of proc_pid_stat(5), whose second may hold anything.
fn niceness(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    after_name.split_whitespace().nth(16).expect("a field").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_call_takes_long_weighs_less_than_its_host() {
    let setup = common::Setup::new().await;
    for name in ["crash-lab/native", "crash-lab/wasm"] {
        let plugin = setup.load(name).await;
        let pid = plugin.evidence().expect("it runs").pid;
        let before = niceness(pid);
        let spin = plugin.request("spin").deadline(PATIENCE).raw(Vec::new());
        let lowered = async {
            while niceness(pid) <= before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = lowered => {}
            ended = spin => panic!("{name}: it weighs what it weighed: {ended:?}"),
        }
    }
}
