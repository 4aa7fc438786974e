//! The compiler as a worker: five exports, of which it serves one, once.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use hotcell_protocol::crash;
use hotcell_protocol::{CompileFailure, CompileRequest, Failure, FailureKind, ReplyStatus, codec, compile};
use hotcell_worker::{Confined, Input, Link, Reply, Runtime, Started, load_failure};
use serde::{Serialize, de::DeserializeOwned};

use crate::failure::{bounded, failure};

/// Each process reads what it was started for once.
const USED_UP: &str = "this process has read its file already";

/// A confined compiler, with the module, or the files of a crash, that it was started for.
#[derive(Debug)]
pub struct Compiler {
    source: Option<Vec<u8>>,
    output: Option<File>,
}

impl Compiler {
    fn compile(&mut self, input: &[u8]) -> Result<Vec<u8>, CompileFailure> {
        let internal = |message: &str| failure(FailureKind::Unsupported, message);
        let request: CompileRequest =
            codec::decode(input).map_err(|error| internal(&format!("the request is malformed: {error}")))?;
        let source =
            self.source.take().ok_or_else(|| internal("this compiler has compiled its module already"))?;
        let mut output = self.output.take().ok_or_else(|| internal("the host sent no output"))?;
        let compiled = crate::compile(source, &request)?;
        output.write_all(&compiled.code).map_err(|error| {
            let len = compiled.code.len();
            failure(FailureKind::TooLarge, format!("failed to write {len} bytes of native code: {error}"))
        })?;
        codec::encode(&compiled.description)
            .map_err(|error| internal(&format!("failed to describe it: {error}")))
    }

    fn validate(&mut self, config: &[u8]) -> Result<Vec<u8>, String> {
        let schema = self.source.take().ok_or(USED_UP)?;
        crate::schema::validate(&schema, config).map_err(|why| bounded(&why))?;
        codec::encode(&()).map_err(|error| error.to_string())
    }

    fn examine(&mut self) -> Result<Vec<u8>, String> {
        let library = self.source.take().ok_or(USED_UP)?;
        let facts = crate::library::examine(&library).map_err(|why| bounded(&why))?;
        codec::encode(&facts).map_err(|error| error.to_string())
    }

    fn analyze<R: DeserializeOwned, T: Serialize>(
        &mut self,
        input: &[u8],
        analyze: impl FnOnce(&[u8], &R) -> Result<T, String>,
    ) -> Result<Vec<u8>, String> {
        let request: R =
            codec::decode(input).map_err(|error| format!("the request is malformed: {error}"))?;
        let files = self.source.take().ok_or(USED_UP)?;
        let analysis = analyze(&files, &request)?;
        codec::encode(&analysis).map_err(|error| format!("failed to describe it: {error}"))
    }
}

impl Runtime for Compiler {
    /// No plugin code at all, but the module is read: the host has seen the evidence by then.
    const LOAD_RUNS_CODE: bool = true;

    fn assemble(threads: u32) -> Result<(), Failure> {
        crate::start_threads(usize::try_from(threads).unwrap_or(usize::MAX)).map_err(load_failure)
    }

    fn load(_: &Confined, started: &mut Started) -> Result<Compiler, Failure> {
        let artifact = started.artifact.take().ok_or_else(|| load_failure("the host sent no module"))?;
        let source =
            read(&artifact).map_err(|error| load_failure(format!("failed to read the module: {error}")))?;
        Ok(Compiler { source: Some(source), output: started.output.take() })
    }

    fn ready(&mut self, _: &Started, _: &mut Link) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&mut self, export: &str, input: &Input, _: &mut Link) -> Reply {
        match export {
            compile::COMPILE => reply(self.compile(input)),
            crash::ANALYZE => reply(self.analyze(input, crate::crash::analyze)),
            crash::PROFILE => reply(self.analyze(input, crate::crash::profile)),
            compile::VALIDATE => reply(self.validate(input)),
            compile::EXAMINE => reply(self.examine()),
            _ => Reply::text(ReplyStatus::NoSuchExport, "the compiler has no such export"),
        }
    }
}

/// An answer, or why there is none.
fn reply<E: Serialize>(answer: Result<Vec<u8>, E>) -> Reply {
    match answer {
        Ok(payload) => Reply::bytes(ReplyStatus::Ok, payload),
        Err(why) => Reply::bytes(ReplyStatus::PluginError, codec::encode(&why).unwrap_or_default()),
    }
}

/// Reads from the start, wherever the shared offset of the descriptor is.
fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let len = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
