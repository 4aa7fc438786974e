//! Runs a copy of WebAssembly/wasi-testsuite (branch `prod/testsuite-base`, preview 1) in confined workers.
//!
//! Each test is a command plugin under the shipped profile `wasi-command`; the folder that it asks for is its `${data}`. What
//! cannot pass here stands in [`NOT_HERE`] with its reason; anything else that fails, and anything of that list that
//! passes, makes the run fail.

#![allow(clippy::panic, reason = "a broken suite or machine ends the run")]

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hotcell::{CommandIo, Host};
use hotcell_tests::{Folders, fixture};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, DuplexStream};

/// Tests that fail, by the end of their path, and why.
const NOT_HERE: &[(&str, &str)] = &[
    ("rust/fd_filestat_set", NO_TIMES),
    ("rust/nofollow_errors", NO_LINKS),
    ("rust/path_exists", NO_LINKS),
    ("rust/path_filestat", NO_TIMES),
    ("rust/path_link", NO_LINKS),
    ("rust/path_symlink_trailing_slashes", NO_LINKS),
    ("rust/readlink", NO_LINKS),
    ("rust/symlink_create", NO_LINKS),
    ("rust/symlink_filestat", NO_LINKS),
];

const NO_TIMES: &str = "a plugin may not set the times of files";
const NO_LINKS: &str = "a plugin may not make links";

/// Bytes of output that a test may write before it is read.
const OUTPUT: usize = 1 << 20;

/// The plugin of each test.
const ID: &str = "dev.hotcell.wasi-suite";

/// A command that does nothing.
const NOTHING: &[u8] = b"(module (memory (export \"memory\") 1) (func (export \"_start\")))";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a test is run with and what must come of it: the suite's `doc/specification.md`.
#[derive(Debug, Default)]
struct Specification {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    root: Option<PathBuf>,
    exit_code: i32,
    output: BTreeMap<&'static str, String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: wasi_suite PATH");
        return ExitCode::from(2);
    };
    match run(Path::new(&path)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wasi-suite: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(path: &Path) -> Result<bool> {
    let tests = tests(path)?;
    if tests.is_empty() {
        let place = "tests/*/testsuite/wasm32-wasip1";
        return Err(
            format!("no tests in {}/{place}; is it a copy of prod/testsuite-base?", path.display()).into()
        );
    }
    let (mut passed, mut failed, mut unexpected) = (0, 0, 0);
    for test in tests {
        let name = name(path, &test);
        let reason = NOT_HERE.iter().find(|(known, _)| *known == name).map(|(_, reason)| reason);
        match (run_one(&test).await, reason) {
            (Ok(()), None) => {
                println!("{name}: ok");
                passed += 1;
            }
            (Err(why), Some(reason)) => {
                println!("{name}: fails, as it must here ({reason}): {why}");
                failed += 1;
            }
            (Ok(()), Some(reason)) => {
                println!("{name}: PASSES, though {reason}");
                unexpected += 1;
            }
            (Err(why), None) => {
                println!("{name}: FAILED: {why}");
                unexpected += 1;
            }
        }
    }
    println!("wasi-suite: {passed} passed, {failed} cannot pass here, {unexpected} not as they must be");
    Ok(unexpected == 0)
}

/// All modules of preview 1, sorted.
fn tests(path: &Path) -> Result<Vec<PathBuf>> {
    let mut tests = Vec::new();
    for language in std::fs::read_dir(path.join("tests"))? {
        let Ok(modules) = std::fs::read_dir(language?.path().join("testsuite/wasm32-wasip1")) else {
            continue;
        };
        for module in modules {
            let module = module?.path();
            tests.extend((module.extension() == Some("wasm".as_ref())).then_some(module));
        }
    }
    tests.sort();
    Ok(tests)
}

/// `rust/fd_advise`: the language and the test.
fn name(path: &Path, test: &Path) -> String {
    let relative = test.strip_prefix(path.join("tests")).unwrap_or(test).with_extension("");
    relative.display().to_string().replace("/testsuite/wasm32-wasip1", "")
}

async fn run_one(test: &Path) -> Result<()> {
    let wanted = specification(test)?;
    let folders = Folders::new();
    let host = fixture::host(&folders).build().await?;
    let result = drive(&host, &folders, test, &wanted).await;
    host.shutdown().await;
    result
}

async fn drive(host: &Host, folders: &Folders, test: &Path, wanted: &Specification) -> Result<()> {
    if let Some(root) = &wanted.root {
        // The folder is made when the plugin first runs, for a uid that is known then.
        let first = host.load(write_package(folders, "first", NOTHING, true)?).await?;
        first.command().run().await?;
        let data = folders.join("state").join("data").join(ID);
        let owner = std::fs::metadata(&data)?;
        copy(root, &data, (owner.uid(), owner.gid()))?;
        first.unload().await;
    }
    let module = std::fs::read(test)?;
    let plugin = host.load(write_package(folders, "test", &module, wanted.root.is_some())?).await?;
    let (mut stdout, far_stdout) = tokio::io::duplex(OUTPUT);
    let (mut stderr, far_stderr) = tokio::io::duplex(OUTPUT);
    let io =
        CommandIo { stdin: None, stdout: Some(Box::new(far_stdout)), stderr: Some(Box::new(far_stderr)) };
    let command = plugin.command().arguments(wanted.arguments.clone()).io(io);
    let ended = wanted
        .environment
        .iter()
        .fold(command, |command, (name, value)| command.env(name, value))
        .run()
        .await;
    let said = BTreeMap::from([("stdout", text(&mut stdout).await?), ("stderr", text(&mut stderr).await?)]);
    match ended {
        Ok(code) if code == wanted.exit_code => {}
        Ok(code) => return Err(format!("exit code {code}, not {}: {said:?}", wanted.exit_code).into()),
        Err(error) => {
            let error = error.to_string();
            return Err(format!("{}: {said:?}", error.split("\\n").next().unwrap_or_default()).into());
        }
    }
    for (stream, wanted) in &wanted.output {
        if said.get(stream) != Some(wanted) {
            return Err(format!("its {stream} is not {wanted:?}: {said:?}").into());
        }
    }
    Ok(())
}

async fn text(stream: &mut DuplexStream) -> Result<String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn specification(test: &Path) -> Result<Specification> {
    let path = test.with_extension("json");
    if !path.exists() {
        return Ok(Specification::default());
    }
    let value: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let mut wanted = Specification::default();
    for (key, value) in value.as_object().ok_or("the specification is no table")? {
        match key.as_str() {
            "args" => wanted.arguments = serde_json::from_value(value.clone())?,
            "env" => wanted.environment = serde_json::from_value(value.clone())?,
            "root" => wanted.root = value.as_str().map(|root| path.with_file_name(root)),
            "exit_code" => wanted.exit_code = serde_json::from_value(value.clone())?,
            "stdout" => _ = wanted.output.insert("stdout", serde_json::from_value(value.clone())?),
            "stderr" => _ = wanted.output.insert("stderr", serde_json::from_value(value.clone())?),
            other => return Err(format!("{}: `{other}` is not understood", path.display()).into()),
        }
    }
    Ok(wanted)
}

fn write_package(folders: &Folders, name: &str, module: &[u8], with_root: bool) -> Result<PathBuf> {
    let package = folders.join(name);
    std::fs::create_dir(&package)?;
    let filesystem = match with_root {
        true => {
            json!({ "write_paths": ["${data}"], "root": "${data}", "create_files": true, "delete_files": true })
        }
        false => json!({}),
    };
    let manifest = json!({
        "schema": 1, "id": ID, "name": "WASI test", "version": "0.1.0",
        "plugin_type": "wasm", "wasm_path": "test.wasm", "runtime": "command",
        "permissions": { "filesystem": filesystem }, "security_policy": { "profile": "wasi-command" },
    });
    std::fs::write(package.join("manifest.json"), manifest.to_string())?;
    std::fs::write(package.join("test.wasm"), module)?;
    Ok(package)
}

/// Copies what lies in a folder, for the plugin to own.
fn copy(from: &Path, to: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&entry.path(), &target, (uid, gid))?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
        std::os::unix::fs::chown(&target, Some(uid), Some(gid))?;
    }
    Ok(())
}
