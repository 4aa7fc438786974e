//! Reads a manifest. Whatever is not built yet is read and checked like the rest, and noted.

use hotcell_protocol::Runtime;

use super::contract::Contract;
use super::keys::{KEYS, Kind, children};
use super::{Located, Manifest, ReloadPolicy, RestartMode, RestartPolicy, contract, permissions};
use crate::Arch;
use crate::error::runtime_name;
use crate::input::{Document, Field, Fields, ParseError, read_json};
use crate::names::PackagePath;
use crate::profile::INSTANCES_MAX;
use crate::units::Duration;

/// Longest version, in characters: it is shown to people.
const VERSION_MAX: usize = 128;

/// Of a plugin that does not say.
pub(super) const STATE_VERSION: u32 = 1;

/// A key that asks for something that is not built, and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unbuilt {
    pub(crate) key: String,
    pub(crate) line: usize,
}

/// What is noted while a manifest is read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) unbuilt: Vec<Unbuilt>,
}

impl Reading {
    pub(super) fn asks_for(&mut self, field: &Field<'_>) {
        self.unbuilt.push(Unbuilt { key: field.path.clone(), line: field.line() });
    }
}

/// A table whose keys are those of the key table.
pub(super) fn table<'d>(field: &Field<'d>) -> Result<Fields<'d>, ParseError> {
    field.table(&children(&field.path))
}

/// Text of at most as many characters as the key table says.
pub(super) fn text<'d>(field: &Field<'d>) -> Result<&'d str, ParseError> {
    let max = KEYS.iter().find(|key| key.path == field.path).map_or(0, |key| match key.kind {
        Kind::Text(max) => max,
        _ => 0,
    });
    field.text(usize::try_from(max).unwrap_or(usize::MAX))
}

pub(super) fn read(document: &Document<'_>) -> Result<Manifest, ParseError> {
    let root = read_json(*document)?;
    let fields = Fields::of_document(document, &root, &children(""))?;
    fields.required("schema")?.integer(1..=1)?;
    let mut reading = Reading::default();
    let name = text(&fields.required("name")?)?.to_owned();
    let artifact_runtime = read_runtime(&fields)?;
    let Security { profile, profile_line, require_signature, restart, reload } = read_security(&fields)?;
    let (artifact, artifacts) = read_artifact(&fields)?;
    let requests = match fields.optional("permissions") {
        Some(field) => permissions::read(&field, &mut reading)?,
        None => permissions::Requests::default(),
    };
    let Contract { host_api, state_version, exports } = contract::read_contract(&fields, &mut reading)?;
    Ok(Manifest {
        file: document.file.to_owned(),
        id: fields.required("id")?.parsed()?,
        name,
        version: read_version(&fields.required("version")?)?,
        description: optional_text(&fields, "description")?,
        author: optional_text(&fields, "author")?,
        artifact,
        artifacts,
        runtime: artifact_runtime,
        instances: read_instances(&fields)?,
        requests,
        host_api,
        state_version,
        exports,
        dependencies: contract::read_dependencies(&fields)?,
        config_schema: contract::read_schema(&fields)?,
        config: fields.optional("config").map(|field| read_config(&field)).transpose()?,
        profile,
        profile_line,
        require_signature,
        restart,
        reload,
        unbuilt: reading.unbuilt,
    })
}

fn read_instances(fields: &Fields<'_>) -> Result<Option<Located<u32>>, ParseError> {
    let Some(field) = fields.optional("instances") else { return Ok(None) };
    Ok(Some(Located { value: field.integer32(1..=INSTANCES_MAX)?, line: field.line() }))
}

fn optional_text(fields: &Fields<'_>, key: &str) -> Result<Option<String>, ParseError> {
    fields.optional(key).map(|field| text(&field).map(str::to_owned)).transpose()
}

/// Any JSON, within what one packet carries to the worker.
fn read_config(field: &Field<'_>) -> Result<serde_json::Value, ParseError> {
    let config = field.node.value.to_json();
    let length = config.to_string().len();
    if length > Manifest::CONFIG_MAX {
        let message = format!(
            "`config` has {length} bytes without white space; at most {} reach the plugin",
            Manifest::CONFIG_MAX
        );
        return Err(field.error(message).with_help("keep large data in a file of the package"));
    }
    Ok(config)
}

fn read_version(field: &Field<'_>) -> Result<semver::Version, ParseError> {
    field.text(VERSION_MAX)?;
    let version: semver::Version = field.parsed()?;
    if version.major == 0 && version.minor == 0 {
        return Err(field
            .error(format!("version {version} is compatible with no other"))
            .with_help("begin with 0.1.0"));
    }
    Ok(version)
}

#[derive(Clone, Copy, PartialEq)]
enum PluginType {
    Wasm,
    Dylib,
}

fn plugin_type(fields: &Fields<'_>) -> Result<PluginType, ParseError> {
    fields.required("plugin_type")?.choice(&[("wasm", PluginType::Wasm), ("dylib", PluginType::Dylib)])
}

fn read_runtime(fields: &Fields<'_>) -> Result<Option<Runtime>, ParseError> {
    const ALL: [Runtime; 4] = [Runtime::Native, Runtime::Core, Runtime::Component, Runtime::Command];
    let plugin_type = plugin_type(fields)?;
    let Some(field) = fields.optional("runtime") else {
        return Ok((plugin_type == PluginType::Dylib).then_some(Runtime::Native));
    };
    let runtime = field.choice(&ALL.map(|runtime| (runtime_name(runtime), runtime)))?;
    match (plugin_type, runtime) {
        (PluginType::Dylib, Runtime::Native) => Ok(Some(runtime)),
        (PluginType::Dylib, _) => {
            Err(field.error("a `dylib` runs as `native`").with_help("leave the key out, or write `native`"))
        }
        (PluginType::Wasm, Runtime::Native) => {
            let error = field.error("a `wasm` plugin does not run as `native`");
            Err(error.with_help("`core`, `component` or `command`; leave the key out to have it found"))
        }
        (PluginType::Wasm, _) => Ok(Some(runtime)),
    }
}

/// The artifact for the target of this build, and all of them.
fn read_artifact(fields: &Fields<'_>) -> Result<(PackagePath, Vec<PackagePath>), ParseError> {
    let (own, other) = match plugin_type(fields)? {
        PluginType::Wasm => ("wasm_path", "dylib_path"),
        PluginType::Dylib => ("dylib_path", "wasm_path"),
    };
    if let Some(wrong) = fields.optional(other) {
        return Err(
            wrong.error(format!("`{other}` belongs to the other `plugin_type`; this one has `{own}`"))
        );
    }
    let Some(artifacts) = fields.optional("artifacts") else {
        let path: PackagePath = fields.required(own)?.parsed()?;
        return Ok((path.clone(), vec![path]));
    };
    if own == "wasm_path" {
        return Err(artifacts.error("`artifacts` are for `dylib`: a wasm module runs on every target"));
    }
    let (for_this_target, mut all) = read_artifacts(&artifacts)?;
    let other: Option<PackagePath> = fields.optional(own).map(|path| path.parsed()).transpose()?;
    all.extend(other.clone());
    match for_this_target.or(other) {
        Some(path) => Ok((path, all)),
        None => Err(artifacts.error(format!("no artifact for {}", this_target()))),
    }
}

fn this_target() -> &'static str {
    Arch::of_this_build().map_or("this machine", Arch::target)
}

/// The artifact for the target of this build, and those for all.
fn read_artifacts(field: &Field<'_>) -> Result<(Option<PackagePath>, Vec<PackagePath>), ParseError> {
    let (mut found, mut all) = (None, Vec::new());
    let entries = field.open_table()?;
    for (target, _, path) in entries.entries() {
        let path: PackagePath = path.parsed()?;
        all.push(path.clone());
        if target == this_target() {
            found = Some(path);
        }
    }
    Ok((found, all))
}

/// What `security_policy` says.
#[derive(Default)]
struct Security {
    profile: Option<crate::ProfileName>,
    profile_line: usize,
    require_signature: bool,
    restart: RestartPolicy,
    reload: Option<ReloadPolicy>,
}

fn read_security(fields: &Fields<'_>) -> Result<Security, ParseError> {
    let mut read = Security { profile_line: 1, ..Security::default() };
    let Some(security) = fields.optional("security_policy") else { return Ok(read) };
    let security = table(&security)?;
    if let Some(required) = security.optional("require_signature") {
        read.require_signature = required.flag()?;
    }
    if let Some(reload) = security.optional("reload") {
        read.reload = read_reload(&reload)?;
    }
    if let Some(restart) = security.optional("restart") {
        read.restart = read_restart(&restart)?;
    }
    if let Some(profile) = security.optional("profile") {
        (read.profile, read.profile_line) = (Some(profile.parsed()?), profile.line());
    }
    Ok(read)
}

fn read_reload(field: &Field<'_>) -> Result<Option<ReloadPolicy>, ParseError> {
    let fields = table(field)?;
    let drain = fields.optional("drain").map(|field| field.parsed::<Duration>()).transpose()?;
    let on_change = fields.required("mode")?.choice(&[("never", false), ("on-change", true)])?;
    Ok(on_change.then(|| ReloadPolicy { drain_ms: drain.map(|Duration(time)| time) }))
}

fn read_restart(field: &Field<'_>) -> Result<RestartPolicy, ParseError> {
    let fields = table(field)?;
    let modes = [
        ("never", RestartMode::Never),
        ("on-demand", RestartMode::OnDemand),
        ("on-crash", RestartMode::OnCrash),
    ];
    let mode = fields.optional("mode").map(|field| field.choice(&modes)).transpose()?;
    let most = fields.optional("max_restarts").map(|field| field.integer32(1..=1000)).transpose()?;
    let backoff = fields.optional("backoff").map(|field| field.parsed::<Duration>()).transpose()?;
    Ok(RestartPolicy {
        mode: mode.unwrap_or_default(),
        max_restarts: most,
        backoff_ms: backoff.map(|Duration(time)| time),
    })
}
