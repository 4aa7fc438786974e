//! What `scripts/demo` shows: real work in real workers, then ten ways to die while other plugins answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hotcell::{CallError, CommandIo, Host, LoadOptions, Plugin};
use hotcell_tests::{Folders, Footprint, fixture, package};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// The ways to die: package, export, what it does.
const DEATHS: [(&str, &str, &str); 10] = [
    ("crash-lab/native", "null_write", "writes through a null pointer"),
    ("crash-lab/native", "stack_overflow", "recurses without end"),
    ("crash-lab/native", "double_free", "frees memory twice"),
    ("crash-lab/native", "exit_zero", "calls _exit(0) in mid-call"),
    ("crash-lab/native", "spin", "loops without end"),
    ("crash-lab/native", "memory_malloc", "takes all the memory it can"),
    ("crash-lab/native", "fork_bomb", "forks without end"),
    ("crash-lab/native", "wrong_reply", "writes garbage to its channel"),
    ("crash-lab/rust", "double_panic", "panics while it panics"),
    ("crash-lab/wasm", "stack_overflow", "recurses without end, in wasm"),
];

/// Deadline of the calls that would never end by themselves.
const PATIENCE: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await?;
    work(&host).await?;
    let lost_nothing = die(&host).await?;
    host.shutdown().await;
    if lost_nothing { Ok(()) } else { Err("the host holds more than before".into()) }
}

/// The main job on real input.
async fn work(host: &Host) -> Result<(), Failure> {
    let photo = std::fs::read(package("thumbnail/photo.jpg"))?;
    let thumbnail = host.load(package("thumbnail")).await?;
    let (png, took) = timed(thumbnail.call_raw("thumbnail", photo.clone())).await;
    let png = png?;
    let path = fixture::programs().join("thumbnail.png");
    std::fs::write(&path, &png)?;
    let sizes = format!("{} bytes of JPEG -> {} bytes of PNG", photo.len(), png.len());
    say("thumbnail", "native", &format!("{sizes}, {}", path.display()), took);

    for (kind, name) in [("native", "greet/native"), ("core", "greet/core")] {
        let greet = host.load(package(name)).await?;
        let (reply, took) = timed(greet.call::<_, Value>("greet", &json!({ "name": "Ada" }))).await;
        say("greet", kind, &reply?.to_string(), took);
    }
    let greet = host.load(package("greet/component")).await?;
    let (reply, took) = timed(greet.call::<_, Value>("greet", &json!([{ "name": "Ada" }]))).await;
    say("greet", "component", &reply?.to_string(), took);
    count_words(host).await
}

/// Pipes the README through the command.
async fn count_words(host: &Host) -> Result<(), Failure> {
    let readme = tokio::fs::File::open(fixture::root().join("README.md")).await?;
    let wordcount = host.load_with(package("wordcount"), LoadOptions::command()).await?;
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let io = CommandIo { stdin: Some(Box::new(readme)), stdout: Some(Box::new(near)), stderr: None };
    let (code, took) = timed(wordcount.command().io(io).run()).await;
    let mut counted = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut far, &mut counted).await?;
    say("wordcount", "command", &format!("exit {}, README.md: {}", code?, counted.trim()), took);
    Ok(())
}

/// Kills workers in ten ways while two other plugins keep answering; says whether the host lost anything.
async fn die(host: &Host) -> Result<bool, Failure> {
    let bystanders = [
        Bystander::start(host.load(package("counter")).await?),
        Bystander::start(host.load(package("thumbnail")).await?),
    ];
    let mut plugins = Vec::new();
    for name in ["crash-lab/native", "crash-lab/rust", "crash-lab/wasm"] {
        let plugin = host.load(package(name)).await?;
        plugin.call_raw("ok", b"ready".to_vec()).await?;
        plugins.push((name, plugin));
    }
    let before = Footprint::now();
    println!("\n{:<17} {:<31} {:<58} next call after", "plugin", "what it did", "outcome");
    for (name, export, what) in DEATHS {
        let (_, plugin) =
            plugins.iter().find(|(known, _)| *known == name).ok_or("every package is loaded")?;
        let result = plugin.request(export).deadline(PATIENCE).raw(Vec::new()).await;
        let (next, took) = timed(plugin.call_raw("ok", b"again".to_vec())).await;
        next?;
        println!("{name:<17} {what:<31} {:<58} {:>8.1} ms", outcome(&result), took.as_secs_f64() * 1000.0);
    }
    let mut answers = 0;
    for bystander in bystanders {
        answers += bystander.finish().await?;
    }
    println!("\nmeanwhile two other plugins answered {answers} calls; none failed");
    // Reports of the last crashes are still being written.
    let after = tokio::task::spawn_blocking(move || before.settled()).await?;
    println!("host before: {before:?}\nhost after:  {after:?}");
    let lost = !before.covers(after);
    println!("{}", if lost { "the host LOST something" } else { "the host lost nothing" });
    Ok(!lost)
}

fn outcome(result: &Result<Vec<u8>, CallError>) -> String {
    let text = match result {
        Ok(reply) => format!("replied with {} bytes", reply.len()),
        Err(CallError::Crashed(exit)) => format!("crashed: {exit}"),
        Err(CallError::Timeout) => "deadline passed, worker killed".to_owned(),
        Err(error) => error.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 58 { line.to_owned() } else { line.chars().take(57).chain(['…']).collect() }
}

/// A plugin that is called all the while.
struct Bystander {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Result<(), CallError>>,
}

impl Bystander {
    fn start(plugin: Plugin) -> Bystander {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(answer(plugin, Arc::clone(&stop), Arc::clone(&answers)));
        Bystander { stop, answers, task }
    }

    async fn finish(self) -> Result<u64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.answers.load(Ordering::Relaxed))
    }
}

async fn answer(plugin: Plugin, stop: Arc<AtomicBool>, answers: Arc<AtomicU64>) -> Result<(), CallError> {
    let (export, input) = match plugin.id() {
        "dev.hotcell.counter" => ("value", b"null".to_vec()),
        _ => ("info", std::fs::read(package("thumbnail/photo.jpg")).unwrap_or_default()),
    };
    while !stop.load(Ordering::Relaxed) {
        plugin.call_raw(export, input.clone()).await?;
        answers.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    let result = work.await;
    (result, began.elapsed())
}

fn say(plugin: &str, kind: &str, what: &str, took: Duration) {
    println!("{plugin:<10} {kind:<10} {:>7.1} ms  {what}", took.as_secs_f64() * 1000.0);
}
