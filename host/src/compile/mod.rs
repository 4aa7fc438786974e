//! From a wasm module to native code: a fresh confined compiler per module, and a cache behind it.
//!
//! The compiler reads hostile bytes and its description is a claim; the worker that runs the code is confined as if
//! the code were native.

mod cache;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell_policy::{Platform, compiler_plan};
use hotcell_protocol::compile::COMPILE;
use hotcell_protocol::launch::build_id;
use hotcell_protocol::{
    CodecError, CompileFailure, CompileRequest, Description, FailureKind, Image, ReplyStatus, codec,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::broker::{Broker, Handlers};
use crate::class::Class;
use crate::error::Error;
use crate::exit::ExitCause;
use crate::identity::Identity;
use crate::package::artifact::{Sealed, Sha, memory};
use crate::reentry::Chain;
use crate::start::{Failed, start};
use crate::stdio::CommandIo;
use crate::text::escape;
use crate::worker::{Blueprint, Errand, Particulars, Surroundings, Worker};
pub(crate) use cache::Cache;
use cache::{CODE_MAX, Compiled};

/// The wasmtime that the worker programs are built with; native code of another one is of no use.
const WASMTIME: &str = "48.0.8";

/// Compiles modules, each once at a time.
#[derive(Debug)]
pub(crate) struct Compilers {
    cache: Cache,
    platform: Platform,
    identity: Option<Identity>,
    running: Mutex<HashMap<Sha, Arc<tokio::sync::Mutex<()>>>>,
    settings: Sha,
    /// The folder of hotcell's programs.
    pub(crate) programs: PathBuf,
    /// How long a module may take, where its compiler's plan allows more.
    time: Duration,
}

/// Native code, sealed.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) description: Description,
    pub(crate) sealed: Sealed,
}

impl Compilers {
    pub(crate) fn new(
        cache: Cache,
        platform: Platform,
        identity: Option<Identity>,
        programs: PathBuf,
        time: Duration,
    ) -> Compilers {
        let settings = settings(&platform);
        Compilers { cache, platform, identity, running: Mutex::new(HashMap::new()), settings, programs, time }
    }

    /// Native code for a module: from the cache, or from a compiler that is started for it.
    pub(crate) async fn code(
        &self,
        surroundings: &Surroundings,
        subject: &str,
        module: &Arc<Sealed>,
        request: &CompileRequest,
    ) -> Result<Code, Error> {
        let key = self.key(&module.digest, request);
        let turn = self.turn(key);
        let _mine = turn.lock().await;
        let compiled = match self.look_up(key).await? {
            Some(compiled) => compiled,
            None => self.compile(surroundings, subject, module, request, key).await?,
        };
        let sealed =
            blocking(move || Ok((Sealed::from_bytes(&compiled.code)?, compiled.description))).await?;
        let (sealed, description) = sealed;
        Ok(Code { description, sealed })
    }

    /// Whoever asks for the same module at the same time waits for the first.
    fn turn(&self, key: Sha) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(running.entry(key).or_default())
    }

    fn key(&self, module: &Sha, request: &CompileRequest) -> Sha {
        let mut key = Sha256::new();
        key.update(self.settings);
        key.update(module);
        key.update(codec::encode(request).unwrap_or_default());
        key.finalize().into()
    }

    async fn look_up(&self, key: Sha) -> Result<Option<Compiled>, Error> {
        let cache = self.cache.clone();
        blocking(move || Ok(cache.get(&key))).await
    }

    async fn compile(
        &self,
        surroundings: &Surroundings,
        subject: &str,
        module: &Arc<Sealed>,
        request: &CompileRequest,
        key: Sha,
    ) -> Result<Compiled, Error> {
        let failed = |error: CodecError| Error::io("ask a compiler", std::io::Error::other(error));
        let input = codec::encode(request).map_err(failed)?;
        let question = Question { export: COMPILE, input, time: self.compile_time()? };
        let (answer, output) = self.ask_confined(surroundings, subject, module, question).await?;
        let description: Description =
            answer.map_err(|failure: CompileFailure| refused(subject, &failure))?;
        let cache = self.cache.clone();
        let subject = subject.to_owned();
        blocking(move || {
            let compiled = Compiled { code: read_code(&subject, output, description.code_len)?, description };
            cache.put(&key, &compiled);
            Ok(compiled)
        })
        .await
    }

    fn compile_time(&self) -> Result<Duration, Error> {
        Ok(Duration::from_millis(compiler_plan(&self.platform)?.orders.limits.call_ms).min(self.time))
    }

    /// Starts a process that reads a hostile file, asks it, and waits for its end: nobody writes to its output any more.
    pub(crate) async fn ask_confined<T: DeserializeOwned, F: DeserializeOwned>(
        &self,
        surroundings: &Surroundings,
        subject: &str,
        file: &Arc<Sealed>,
        question: Question,
    ) -> Result<(Result<T, F>, OwnedFd), Error> {
        let blueprint = Arc::new(Blueprint {
            plugin: crate::identity::COMPILER.to_owned(),
            subject: subject.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: None,
            image: Image::Compiler,
            orders: compiler_plan(&self.platform)?.orders,
            cgroups: Vec::new(),
            artifact: Arc::clone(file),
            package: None,
            config: None,
            identity: self.identity,
            has_network: false,
            observed: None,
            keeps_inputs: false,
            spin: Duration::ZERO,
            adviser: None,
        });
        let output = memory("hotcell-output")?;
        let theirs = output.try_clone().map_err(|source| Error::io("share a memory file", source))?;
        let particulars = Particulars { generation: 1, output: Some(theirs), ..Particulars::default() };
        let broker = Handlers::default().broker(&[], None);
        let (mut worker, _) =
            start(surroundings, &blueprint, particulars, CommandIo::default(), &broker, &Chain::default())
                .await
                .map_err(|failed| broken_compiler(subject, failed))?;
        let asked = ask(&mut worker, question, &broker).await;
        worker.kill(ExitCause::KilledByHost("its work is done".to_owned()));
        let exit = worker.finish().await;
        match asked {
            Some(answer) => Ok((answer, output)),
            None => Err(Error::Package {
                subject: subject.to_owned(),
                detail: format!("its compiler {exit}"),
                class: exit.class(),
            }),
        }
    }
}

/// What a process is asked that was started for one file.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) export: &'static str,
    pub(crate) input: Vec<u8>,
    /// How long the answer may take.
    pub(crate) time: Duration,
}

/// The same, as it is sent.
#[derive(Debug)]
struct Request {
    export: &'static str,
    input: Mutex<Vec<u8>>,
}

impl Errand for Request {
    fn export(&self) -> &str {
        self.export
    }

    fn input(&self) -> MutexGuard<'_, Vec<u8>> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a compiler. `None` where it did not answer as a compiler does; the cause is recorded with the worker.
async fn ask<T: DeserializeOwned, F: DeserializeOwned>(
    worker: &mut Worker,
    Question { export, input, time }: Question,
    broker: &Broker,
) -> Option<Result<T, F>> {
    let request = Request { export, input: Mutex::new(input) };
    let reply = match tokio::time::timeout(time, worker.call(Arc::new(request), broker)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(broken)) => {
            worker.condemn(broken).await;
            return None;
        }
        Err(_) => {
            worker.kill(ExitCause::Deadline);
            return None;
        }
    };
    let answer = match reply.status {
        ReplyStatus::Ok => codec::decode(&reply.payload).ok().map(Ok),
        ReplyStatus::PluginError => codec::decode(&reply.payload).ok().map(Err),
        _ => None,
    };
    if answer.is_none() {
        worker.kill(ExitCause::ProtocolViolation("a reply that is not a compiler's".to_owned()));
    }
    answer
}

/// A compiler that cannot start is no fault of the module.
fn broken_compiler(subject: &str, failed: Failed) -> Error {
    failed.into_error(&format!("the compiler of {subject}"), subject)
}

fn refused(subject: &str, failure: &CompileFailure) -> Error {
    let class = match failure.kind {
        FailureKind::UndeclaredImport | FailureKind::Unsupported => Class::Refused,
        FailureKind::Malformed => Class::Invalid,
        FailureKind::TooLarge => Class::Resource,
    };
    Error::Package { subject: subject.to_owned(), detail: escape(failure.message.as_bytes()), class }
}

fn read_code(subject: &str, output: OwnedFd, announced: u64) -> Result<Vec<u8>, Error> {
    let mut output =
        File::open(proc_path(&output)).map_err(|source| Error::io("read compiled code", source))?;
    let size = output.metadata().map_err(|source| Error::io("read compiled code", source))?.len();
    if size == 0 || size != announced || size > CODE_MAX {
        let detail = format!("its compiler left {size} bytes of code and announced {announced}");
        return Err(Error::Package { subject: subject.to_owned(), detail, class: Class::Protocol });
    }
    let mut code = Vec::new();
    output.read_to_end(&mut code).map_err(|source| Error::io("read compiled code", source))?;
    Ok(code)
}

fn proc_path(memory: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", memory.as_raw_fd())
}

/// What native code depends on beside its module: compiler, build, and the processor's features.
fn settings(platform: &Platform) -> Sha {
    let mut settings = Sha256::new();
    settings.update(WASMTIME);
    settings.update(build_id());
    settings.update(platform.arch.to_string());
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let features = processor.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    settings.update(features.unwrap_or_default());
    settings.finalize().into()
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Shutdown),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cached_code_is_that_of_the_wasmtime_of_the_workspace() {
        let workspace = include_str!("../../../Cargo.toml");
        let line = workspace.lines().find(|line| line.starts_with("wasmtime =")).expect("names wasmtime");
        assert!(line.contains(&format!("\"={}\"", super::WASMTIME)), "{line}");
    }
}
