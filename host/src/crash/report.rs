//! What a report says.

use hotcell_package::hex;
use hotcell_protocol::{Evidence, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::exit::{Exit, ExitCause};
use crate::violation::Violation;

/// The version of this format.
pub(super) const FORMAT: u32 = 1;

/// Frames of the plugin by which crashes are told apart.
const TELLING: usize = 3;

/// What is known of a worker that ended abnormally. What the worker or its plugin said is escaped, and a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CrashReport {
    /// The version of this format.
    pub format: u32,
    /// How the report is called: the plugin's id, a slash, and when.
    pub id: String,
    /// Crashes with the same signature most likely have the same fault.
    pub signature: String,
    /// What happened, in a line.
    pub title: String,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The plugin's id.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The incarnation of the plugin, from 1.
    pub generation: u32,
    /// The build of hotcell that its worker had.
    pub build: String,
    /// SHA-256 of what the worker had mapped, as hexadecimal digits.
    pub artifact: String,
    /// How it ended, and what it had used.
    pub exit: Exit,
    /// The bounds that it had.
    pub limits: Limits,
    /// The last calls, the newest last.
    pub calls: Vec<LastCall>,
    /// The last lines that it wrote or logged, the newest last.
    pub log: Vec<String>,
    /// Acts that the sandbox stopped; the first ones, if there were many.
    pub violations: Vec<Violation>,
    /// What its confinement was, as the host had checked it.
    pub confinement: Option<Evidence>,
    /// Where it crashed: of a native plugin that a signal ended.
    pub backtrace: Option<CrashBacktrace>,
    /// Why there is no backtrace though there should be one.
    pub no_backtrace: Option<String>,
    /// Reports of this plugin that were not written before this one, since there were too many.
    pub unreported: u64,
}

/// A call that a worker had got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCall {
    /// The export; cut after 48 bytes.
    pub export: String,
    /// Size of the input.
    pub input_bytes: u64,
    /// Its beginning, escaped, where the plugin's profile has inputs reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Whether the worker had replied: the first without a reply was running.
    pub replied: bool,
}

/// Where a native plugin crashed, as its worker noted it: the plugin can have forged all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashBacktrace {
    /// The signal's number.
    pub signal: i32,
    /// `si_code` of sigaction(2).
    pub code: i32,
    /// `si_addr`, in hexadecimal digits: the address that could not be used, where the signal has one.
    pub address: String,
    /// Names and values, in hexadecimal digits.
    pub registers: Vec<(String, String)>,
    /// From where it crashed outwards.
    pub frames: Vec<CrashFrame>,
    /// What was mapped.
    pub modules: Vec<CrashModule>,
}

/// One frame of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashFrame {
    /// The instruction, or where the call returns to, in hexadecimal digits.
    pub address: String,
    /// `plugin`, `worker` or a library; `None` if the address is in none.
    pub module: Option<String>,
    /// The address within the module's file, in hexadecimal digits.
    pub offset: String,
    /// The function, demangled.
    pub function: Option<String>,
    /// Source file and line.
    pub source: Option<String>,
}

/// Something that the worker had mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashModule {
    /// `plugin`, `worker`, or the path of a library.
    pub name: String,
    /// Where it began, in hexadecimal digits.
    pub base: String,
    /// Its size in memory, in bytes.
    pub size: u64,
    /// Its GNU build id, as hexadecimal digits; empty if it has none.
    pub build_id: String,
}

/// Reports of one plugin that most likely have the same fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrashGroup {
    /// What they have in common.
    pub signature: String,
    /// What happened, in a line.
    pub title: String,
    /// The plugin's id.
    pub plugin: String,
    /// The versions in which it happened.
    pub versions: Vec<String>,
    /// How many reports there are.
    pub reports: usize,
    /// The newest report.
    pub newest: String,
    /// When the newest was written, in milliseconds since 1970.
    pub newest_ms: u64,
}

impl CrashReport {
    /// Finds title and signature in what is already known.
    pub(super) fn identify(&mut self) {
        let place = self.telling_frames();
        let what = match &self.exit.cause {
            ExitCause::Trap { kind, .. } => format!("trap {kind:?}"),
            ExitCause::Signal { name, .. } => name.clone(),
            ExitCause::ProtocolViolation(_) => "protocol violation".to_owned(),
            other => other.to_string(),
        };
        let running = self.calls.iter().find(|call| !call.replied).map(|call| call.export.as_str());
        let mut parts = vec![self.plugin.clone(), what.clone()];
        parts.extend(self.exit.limit.map(|limit| limit.to_string()));
        let title = match (place.first(), running) {
            (Some(first), _) => format!("{what} in {first}"),
            (None, Some(export)) => format!("{what} in call {export}"),
            (None, None) => what,
        };
        match place.is_empty() {
            true => parts.extend(running.map(str::to_owned)),
            false => parts.extend(place),
        }
        self.title = title;
        let mut digest = hex(&Sha256::digest(parts.join("\0")));
        digest.truncate(12);
        self.signature = digest;
    }

    /// What tells this crash from others: functions of the plugin, from the innermost.
    fn telling_frames(&self) -> Vec<String> {
        if let Some(backtrace) = &self.backtrace {
            let own = |frame: &&CrashFrame| frame.module.as_deref() == Some(hotcell_protocol::crash::PLUGIN);
            let frames = backtrace.frames.iter().filter(own).map(CrashFrame::name);
            return frames.filter(|name| !is_of_the_language(name)).take(TELLING).collect();
        }
        match &self.exit.cause {
            ExitCause::Trap { text, .. } => super::backtrace::wasm_functions(text).take(TELLING).collect(),
            _ => Vec::new(),
        }
    }
}

/// Whether a function belongs to Rust itself: where a panic ends says nothing of its cause.
fn is_of_the_language(function: &str) -> bool {
    const RUST: [&str; 6] = ["std::", "core::", "alloc::", "__rustc::", "rust_", "<std::"];
    RUST.iter().any(|prefix| function.starts_with(prefix))
}

impl CrashFrame {
    /// The function, else where it is.
    pub(super) fn name(&self) -> String {
        match (&self.function, &self.module) {
            (Some(function), _) => function.clone(),
            (None, Some(module)) => format!("{module}+{}", self.offset),
            (None, None) => self.address.clone(),
        }
    }
}
