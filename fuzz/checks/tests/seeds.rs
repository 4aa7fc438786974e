//! Replays every committed seed, and keeps those that are messages real.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hotcell_checks::CHECKS;
use hotcell_protocol::crash::{Analysis, AnalyzeRequest, Frame, Module, PLUGIN};
use hotcell_protocol::{
    AnswerStatus, CallId, CommandLine, CompileFailure, CompileRequest, Description, Envelope, Failure,
    FailureKind, FileAccess, FileOrder, Filter, Filters, FromLauncher, FromWorker, Generation, Image,
    Instruction, Landlock, Launch, Limits, Namespace, Orders, PathRule, Place, Refusal, ReplyStatus,
    Resource, Rlimit, Runtime, Start, Statement, Step, ToLauncher, ToWorker, TrapKind, Usage, WaitStatus,
    WorkerId, codec,
};
use serde::Serialize;

/// The folder of the fuzz targets.
fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder, without hidden ones, in order.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")))
        .collect()
}

#[test]
fn every_check_has_a_target_and_seeds() {
    let names: BTreeSet<PathBuf> = CHECKS.iter().map(|(name, _)| name.into()).collect();
    let stems = |folder: &str| {
        let files = files(&fuzz().join(folder)).into_iter();
        files.map(|path| path.file_stem().expect("a name").into()).collect::<BTreeSet<PathBuf>>()
    };
    assert_eq!(stems("targets"), names);
    assert_eq!(stems("seeds"), names);
}

#[test]
fn every_check_holds_on_its_seeds() {
    for (name, check) in CHECKS {
        let seeds = files(&fuzz().join("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            println!("{}", seed.display());
            check(&std::fs::read(&seed).expect("reads"));
        }
    }
}

#[test]
fn the_messages_among_the_seeds_are_those_of_the_protocol() {
    let mut seeds = Seeds::default();
    from_worker(&mut seeds);
    to_worker(&mut seeds);
    launcher(&mut seeds);
    compile(&mut seeds);
    for (target, name, bytes) in seeds.0 {
        let file = fuzz().join("seeds").join(target).join(&name);
        if std::env::var_os("HOTCELL_BLESS").is_some() {
            std::fs::write(&file, &bytes).expect("writes the seed");
        }
        let committed = std::fs::read(&file).unwrap_or_default();
        assert!(
            committed == bytes,
            "{target}/{name} is no such message any more: `HOTCELL_BLESS=1 cargo test -p hotcell-checks` renews it"
        );
    }
}

/// Target, name and bytes of each.
#[derive(Default)]
struct Seeds(Vec<(&'static str, String, Vec<u8>)>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: &str, message: &impl Serialize) {
        self.0.push((target, name.to_owned(), codec::encode(message).expect("encodes")));
    }
}

fn from_worker(seeds: &mut Seeds) {
    let reply = |status, len| FromWorker::Reply { call: CallId(300), status, len };
    let refused = vec![
        Refusal { act: "socket(AF_INET)".to_owned(), errno: 13 },
        Refusal { act: "open(\"/\")".to_owned(), errno: 13 },
    ];
    let descriptors = vec![0, 1, 2, 3, 300];
    let build = hotcell_protocol::launch::build_id();
    let statement = Statement { build, landlock_abi: 7, dumpable: false, descriptors, refused };
    let detail = "failed to apply the ruleset".to_owned();
    let messages = [
        ("listener", FromWorker::Listener),
        ("confined", FromWorker::Confined(statement)),
        ("failed", FromWorker::Failed(Failure { step: Step::Landlock, errno: 95, detail })),
        ("loaded", FromWorker::Loaded),
        ("ready", FromWorker::Ready),
        ("reply-ok", reply(ReplyStatus::Ok, 1 << 20)),
        ("reply-over-limit", reply(ReplyStatus::OverLimit, 0)),
        ("reply-trap", reply(ReplyStatus::Trap(TrapKind::MemoryOutOfBounds), 70)),
        ("reply-exited", reply(ReplyStatus::Exited(-1), 0)),
        ("host-call", FromWorker::HostCall { call: CallId(7), name: "storage.get".to_owned(), len: 70_000 }),
    ];
    for (name, message) in messages {
        seeds.add("from_worker", name, &message);
        let envelope = Envelope { generation: Generation(3), message };
        seeds.add("from_worker", &format!("{name}-in-envelope"), &envelope);
        // Behind the two bytes that say how many more follow.
        seeds.add("packet", name, &([0_u8, 0], envelope));
    }
}

fn to_worker(seeds: &mut Seeds) {
    let call = CallId(1 << 40);
    let messages = [
        ("start-native", ToWorker::Start(Box::new(start(Runtime::Native, supervised())))),
        ("start-command", ToWorker::Start(Box::new(start(Runtime::Command, staged())))),
        ("load", ToWorker::Load),
        ("seal", ToWorker::Seal),
        ("call", ToWorker::Call { call, export: "greet".to_owned(), len: 70_000 }),
        ("data", ToWorker::Data { call }),
        ("answer", ToWorker::Answer { call, outcome: AnswerStatus::Failed, len: 5 }),
    ];
    for (name, message) in messages {
        seeds.add("to_worker", name, &message);
        let envelope = Envelope { generation: Generation(70_000), message };
        seeds.add("to_worker", &format!("{name}-in-envelope"), &envelope);
    }
}

fn start(runtime: Runtime, filters: Filters) -> Start {
    Start {
        orders: orders(runtime, filters),
        places: vec![(Place::Plugin, "/srv/plugin".to_owned()), (Place::Scratch, "/srv/scratch".to_owned())],
        identity: Some((64_000, 64_000)),
        command: CommandLine {
            arguments: vec!["wordcount".to_owned(), "--json".to_owned()],
            environment: vec![("LANG".to_owned(), "C".to_owned())],
        },
        config: Some("{\"size\":64}".to_owned()),
        spin_us: 50,
    }
}

fn orders(runtime: Runtime, filters: Filters) -> Orders {
    let rule = |place, path: &str| PathRule { place, path: path.to_owned(), access: 12 };
    let file = FileOrder {
        place: Place::Data,
        path: "cache".to_owned(),
        guest: "/data/cache".to_owned(),
        access: FileAccess::Write,
        create: true,
        delete: false,
    };
    Orders {
        runtime,
        limits: limits(),
        launch: if runtime == Runtime::Native { Launch::Exec } else { Launch::Fork },
        rlimits: vec![
            Rlimit { resource: Resource::NoFile, value: 64 },
            Rlimit { resource: Resource::RtTime, value: u64::MAX },
        ],
        namespaces: vec![Namespace::User, Namespace::Ipc, Namespace::Network, Namespace::Uts],
        distinct_uid: true,
        dumpable: false,
        debuggable: false,
        landlock: Landlock { abi: 7, rules: vec![rule(Place::Plugin, ""), rule(Place::Root, "usr/share")] },
        filters,
        files: vec![file],
        folder: Some((Place::Data, "results".to_owned())),
        host_calls: vec!["log".to_owned()],
    }
}

fn limits() -> Limits {
    Limits {
        memory: 1 << 30,
        cpu_ms: 60_000,
        cpu_share: 1000,
        start_ms: 5000,
        call_ms: 1000,
        message: 1 << 24,
        outstanding: 256,
        instances: 4,
        state: 0,
        open_files: 64,
        processes: 0,
        threads: 0,
        file_size: 1 << 28,
        disk: 1 << 30,
        log_rate: 1 << 16,
    }
}

fn supervised() -> Filters {
    Filters::Supervised { filter: filter(), judge: filter() }
}

fn staged() -> Filters {
    Filters::Staged { load: filter(), listener: false, run: Some(filter()) }
}

/// Kills what is of another architecture, and answers one call with an error.
fn filter() -> Filter {
    let instruction = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let program = vec![
        instruction(0x20, 0, 0, 4),
        instruction(0x15, 1, 0, 0xc000_003e),
        instruction(0x06, 0, 0, 0x8000_0000),
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, 39),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    Filter { program, self_pid: vec![4] }
}

fn launcher(seeds: &mut Seeds) {
    let worker = WorkerId(300);
    let exited =
        |status| FromLauncher::Exited { worker, status, usage: Usage { max_rss: 1 << 22, cpu_us: 900 } };
    let namespaces = vec![Namespace::Ipc, Namespace::Network];
    let build = hotcell_protocol::launch::build_id();
    let said = [
        ("ready", FromLauncher::Ready { build, namespaces }),
        ("spawned", FromLauncher::Spawned { worker, pid: 70_000 }),
        ("spawn-failed", FromLauncher::SpawnFailed { worker, errno: 11, what: "fork".to_owned() }),
        ("exited", exited(WaitStatus::Exited { code: 1 })),
        ("signaled", exited(WaitStatus::Signaled { signal: 9 })),
    ];
    for (name, message) in said {
        seeds.add("launcher", name, &message);
    }
    for (name, image, launch) in [
        ("wasm", Image::Wasm, Launch::Fork),
        ("native", Image::Native, Launch::Exec),
        ("compiler", Image::Compiler, Launch::Exec),
    ] {
        seeds.add("launcher", &format!("spawn-{name}"), &ToLauncher::Spawn { worker, image, launch });
    }
    seeds.add("launcher", "guard", &ToLauncher::Guard { worker });
}

fn compile(seeds: &mut Seeds) {
    seeds.add("compile", "find-out", &CompileRequest { runtime: None, exceptions: false });
    seeds.add(
        "compile",
        "component",
        &CompileRequest { runtime: Some(Runtime::Component), exceptions: true },
    );
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let description = Description {
        runtime: Runtime::Core,
        exports: names(&["greet", "count"]),
        imports: names(&["hotcell.host_call", "wasi_snapshot_preview1.fd_write"]),
        code_len: 70_000,
    };
    seeds.add("compile", "description", &description);
    let message = "imports `env.system`, which no runtime offers".to_owned();
    let frame = Frame { address: 0x1234, module: PLUGIN.to_owned(), line: 7, ..Frame::default() };
    let module = Module { name: PLUGIN.to_owned(), base: 0x1000, size: 0x1000, build_id: vec![1, 2, 3] };
    let analysis = Analysis {
        signal: 11,
        registers: vec![("rip".to_owned(), 0x1234)],
        frames: vec![frame],
        modules: vec![module],
        ..Analysis::default()
    };
    seeds.add("compile", "analysis", &analysis);
    let request = AnalyzeRequest { notes: vec![1, 0, 0, 0, 0, 0, 0, 0], files: vec![(PLUGIN.to_owned(), 9)] };
    seeds.add("compile", "crash", &request);
    seeds.add("compile", "undeclared", &CompileFailure { kind: FailureKind::UndeclaredImport, message });
}
