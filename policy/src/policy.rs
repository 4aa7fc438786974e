//! The requests of a manifest, each covered by a grant of a profile.

use hotcell_protocol::{FileAccess, Launch, Limits, Namespace, Runtime};

use crate::error::runtime_name;
use crate::manifest::{Located, Manifest};
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress};
use crate::profile::{ConnectRule, FileRule, ListenRule, Profile, SpawnRule, connection_set};
use crate::seccomp::SyscallSet;
use crate::units::Size;
use crate::{Controller, PolicyError};

/// The source of what no profile says.
pub(crate) const BUILT_IN: &str = "built-in";

/// What a plugin may do: its requests, no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The plugin's id, or words for the widest policy of a profile.
    pub(crate) plugin: String,
    pub(crate) profile: String,
    pub(crate) runtime: Runtime,
    /// With where it comes from.
    pub(crate) launch: (Launch, String),
    pub(crate) landlock: u32,
    /// Who grants the exceptions of WebAssembly.
    pub(crate) exceptions: Option<String>,
    /// Who wants paths observed.
    pub(crate) observes: Option<String>,
    /// Who lets debuggers attach.
    pub(crate) debuggable: Option<String>,
    pub(crate) namespaces: Vec<(Namespace, String)>,
    pub(crate) cgroups: Vec<(Controller, String)>,
    pub(crate) limits: Limits,
    pub(crate) limits_source: String,
    /// The limits for which the manifest asks for less than the profile grants, and where.
    pub(crate) narrowed: Vec<(&'static str, String)>,
    pub(crate) sets: Vec<SyscallSet>,
    /// In the order of their paths, each path once.
    pub(crate) files: Vec<FileGrant>,
    pub(crate) host_calls: Vec<(HostCallName, String)>,
    /// With where each comes from.
    pub(crate) connects: Vec<(ConnectGrant, String)>,
    pub(crate) listens: Vec<(ListenAddress, String)>,
    pub(crate) programs: Vec<ProgramGrant>,
}

/// A path with what may be done there and below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// The path.
    pub path: GrantPath,
    /// Reading, or reading and writing.
    pub access: FileAccess,
    /// Creating files and folders.
    pub create: bool,
    /// Deleting files and folders.
    pub delete: bool,
    /// A command sees it as `/`; it is a native plugin's working directory.
    pub is_root: bool,
    pub(crate) source: String,
}

/// Where a plugin may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectGrant {
    /// Host and port.
    pub address: HostPort,
    /// Whether addresses that are not public are allowed, too.
    pub private: bool,
}

/// A program that the host runs for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramGrant {
    /// Its file.
    pub program: GrantPath,
    /// What it is made of beside its own file.
    pub code: Vec<GrantPath>,
    pub(crate) source: String,
}

impl ProgramGrant {
    pub(crate) fn of_rule(rule: &SpawnRule) -> ProgramGrant {
        ProgramGrant {
            program: rule.program.clone(),
            code: rule.code.clone(),
            source: format!("{} [[spawn]] {}", rule.source, rule.program),
        }
    }

    /// The grant in words.
    pub(crate) fn words(&self) -> String {
        let code: Vec<_> = self.code.iter().map(ToString::to_string).collect();
        match code.is_empty() {
            true => format!("{}, linked statically", self.program),
            false => format!("{}, with code of {}", self.program, code.join(" ")),
        }
    }
}

impl ConnectGrant {
    pub(crate) fn of_rule(rule: &ConnectRule) -> (ConnectGrant, String) {
        let source = format!("{} [[connect]] {}", rule.source, rule.address);
        (ConnectGrant { address: rule.address.clone(), private: rule.private }, source)
    }

    /// The grant in words.
    pub(crate) fn words(&self) -> String {
        let which = if self.private { "any address of it" } else { "public addresses only" };
        format!("{}, {which}", self.address)
    }
}

impl FileGrant {
    /// All that a profile's grant gives.
    pub(crate) fn of_rule(rule: &FileRule) -> FileGrant {
        FileGrant {
            path: rule.path.clone(),
            access: rule.access,
            create: rule.create,
            delete: rule.delete,
            is_root: false,
            source: file_source(rule),
        }
    }

    /// Whether a profile's grant is enough for this request.
    pub(crate) fn is_covered_by(&self, rule: &FileRule) -> bool {
        rule.path.covers(&self.path)
            && (rule.access == FileAccess::Write || self.access == FileAccess::Read)
            && rule.create >= self.create
            && rule.delete >= self.delete
    }
}

impl Policy {
    /// How the artifact is run.
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The paths, in order.
    pub fn files(&self) -> &[FileGrant] {
        &self.files
    }

    /// The host calls, in the order of the manifest.
    pub fn host_calls(&self) -> impl Iterator<Item = &HostCallName> {
        self.host_calls.iter().map(|(name, _)| name)
    }

    /// What a program of this plugin may do: what the plugin may with files and limits, and nothing that needs the host.
    pub(crate) fn of_programs(&self) -> Policy {
        Policy {
            runtime: Runtime::Program,
            launch: (Launch::Exec, BUILT_IN.to_owned()),
            host_calls: Vec::new(),
            connects: Vec::new(),
            listens: Vec::new(),
            exceptions: None,
            observes: None,
            debuggable: None,
            ..self.clone()
        }
    }

    /// All that a profile can grant to a plugin of one runtime: what a reviewer of the profile looks at.
    ///
    /// # Errors
    /// The profile is not for this runtime.
    pub fn widest(profile: &Profile, runtime: Runtime) -> Result<Policy, PolicyError> {
        let files = profile.files.iter().map(FileGrant::of_rule);
        let host_calls = profile.host_calls.iter().map(|rule| (rule.name.clone(), rule.source.clone()));
        Ok(Policy {
            files: merged(files.collect()),
            host_calls: host_calls.map(|(name, profile)| host_call(name, &profile)).collect(),
            connects: profile.connects.iter().map(ConnectGrant::of_rule).collect(),
            listens: profile.listens.iter().map(listen_grant).collect(),
            programs: profile.spawns.iter().map(ProgramGrant::of_rule).collect(),
            ..base(profile, runtime, "every plugin that asks for all of the profile".to_owned())?
        })
    }
}

/// Covers each request of a manifest by a grant of a profile.
///
/// # Errors
/// The first request that no grant covers, that is not built yet, or that does not fit the profile.
pub fn resolve(manifest: &Manifest, profile: &Profile) -> Result<Policy, PolicyError> {
    if let Some(unbuilt) = manifest.unbuilt.first() {
        return Err(PolicyError::NotBuilt {
            key: unbuilt.key.clone(),
            place: place(manifest, unbuilt.line),
            advice: "remove it from the manifest, if the plugin can do without".to_owned(),
        });
    }
    if let Some(Located { value: wanted, line }) = &manifest.host_api
        && !semver::Version::parse(env!("CARGO_PKG_VERSION")).is_ok_and(|own| wanted.matches(&own))
    {
        let place = place(manifest, *line);
        return Err(PolicyError::HostApi { wanted: wanted.to_string(), place });
    }
    let runtime = manifest.runtime().ok_or(PolicyError::RuntimeUnknown)?;
    let mut policy = base(profile, runtime, manifest.id().to_string())?;
    policy.files = files(manifest, profile, runtime)?;
    refuse_unreasonable(manifest, profile, &policy.files)?;
    policy.host_calls = host_calls(manifest, profile)?;
    policy.connects = connects(manifest, profile, runtime)?;
    policy.listens = listens(manifest, profile, runtime)?;
    policy.programs = programs(manifest, profile, runtime)?;
    narrow_file_size(&mut policy, manifest, profile)?;
    narrow_instances(&mut policy, manifest, profile)?;
    narrow_processes(&mut policy, manifest, profile)?;
    Ok(policy)
}

/// What nobody should be granted is refused although the profile grants it.
fn refuse_unreasonable(
    manifest: &Manifest,
    profile: &Profile,
    files: &[FileGrant],
) -> Result<(), PolicyError> {
    let Some(found) = files.iter().find(|file| file.path.is_unreasonable(file.access)) else { return Ok(()) };
    let asked = manifest.requests.read_paths.iter().chain(&manifest.requests.write_paths);
    let line = asked.into_iter().find(|path| path.value == found.path).map_or(1, |path| path.line);
    Err(PolicyError::Refused {
        request: format!(
            "{} to {}",
            if found.access == FileAccess::Write { "writing" } else { "reading" },
            found.path
        ),
        place: place(manifest, line),
        reason: "unreasonable for any plugin, although it is granted".to_owned(),
        profile: profile.name().to_owned(),
        advice: "name the one folder that the plugin needs, or use `${data}`".to_owned(),
    })
}

/// A policy without any request.
fn is_wasm(runtime: Runtime) -> bool {
    matches!(runtime, Runtime::Core | Runtime::Component | Runtime::Command)
}

fn base(profile: &Profile, runtime: Runtime, plugin: String) -> Result<Policy, PolicyError> {
    let for_its_programs = runtime == Runtime::Program && !profile.spawns.is_empty();
    if !profile.runtimes.contains(&runtime) && !for_its_programs {
        let allowed: Vec<_> = profile.runtimes.iter().map(|runtime| runtime_name(*runtime)).collect();
        let profile = profile.name().to_owned();
        return Err(PolicyError::RuntimeMismatch { profile, allowed: allowed.join(" and "), runtime });
    }
    let usual = match runtime {
        Runtime::Native | Runtime::Compiler | Runtime::Program => Launch::Exec,
        Runtime::Core | Runtime::Component | Runtime::Command => Launch::Fork,
    };
    Ok(Policy {
        plugin,
        profile: profile.name().to_owned(),
        runtime,
        launch: profile.launch.clone().unwrap_or_else(|| (usual, BUILT_IN.to_owned())),
        landlock: profile.landlock,
        exceptions: profile.exceptions.clone().filter(|_| is_wasm(runtime)),
        observes: profile.observes.clone().filter(|_| runtime == Runtime::Native),
        debuggable: profile.debuggable.clone().filter(|_| runtime == Runtime::Native),
        namespaces: profile.namespaces.clone(),
        cgroups: profile.cgroups.clone(),
        limits: profile.limits.clone(),
        limits_source: profile.limits_source.clone(),
        narrowed: Vec::new(),
        sets: profile.sets.clone(),
        files: Vec::new(),
        host_calls: Vec::new(),
        connects: Vec::new(),
        listens: Vec::new(),
        programs: Vec::new(),
    })
}

fn place(manifest: &Manifest, line: usize) -> String {
    format!("{}:{line}", manifest.file)
}

fn files(manifest: &Manifest, profile: &Profile, runtime: Runtime) -> Result<Vec<FileGrant>, PolicyError> {
    let requests = &manifest.requests;
    let first = requests.read_paths.iter().chain(&requests.write_paths).next();
    if let Some(first) = first
        && !matches!(runtime, Runtime::Native | Runtime::Command)
    {
        let advice = format!("a {} plugin has no files; `native` and `command` have", runtime_name(runtime));
        let key = "permissions.filesystem".to_owned();
        return Err(PolicyError::NotBuilt { key, place: place(manifest, first.line), advice });
    }
    let reads = requests.read_paths.iter().map(|path| (path, FileAccess::Read));
    let writes = requests.write_paths.iter().map(|path| (path, FileAccess::Write));
    let mut grants = Vec::new();
    for (path, access) in reads.chain(writes) {
        let writing = access == FileAccess::Write;
        let wanted = FileGrant {
            path: path.value.clone(),
            access,
            create: writing && requests.create_files,
            delete: writing && requests.delete_files,
            is_root: false,
            source: String::new(),
        };
        grants.push(cover(manifest, profile, wanted, path.line)?);
    }
    let mut grants = merged(grants);
    if let Some(root) = &requests.root {
        grants.iter_mut().filter(|grant| grant.path == root.value).for_each(|grant| grant.is_root = true);
    }
    Ok(grants)
}

/// The request with the grant that covers it.
fn cover(
    manifest: &Manifest,
    profile: &Profile,
    wanted: FileGrant,
    line: usize,
) -> Result<FileGrant, PolicyError> {
    if let Some(rule) = profile.files.iter().find(|rule| wanted.is_covered_by(rule)) {
        return Ok(FileGrant { source: file_source(rule), ..wanted });
    }
    let rights = rights(&wanted);
    Err(PolicyError::Refused {
        request: format!("{rights} `{}`", wanted.path),
        place: place(manifest, line),
        reason: "no grant covers it".to_owned(),
        profile: profile.name().to_owned(),
        advice: format!("this line of the profile would: {}", grant_line(&wanted)),
    })
}

pub(crate) fn rights(grant: &FileGrant) -> String {
    let mut rights = vec!["read"];
    rights.extend((grant.access == FileAccess::Write).then_some("write"));
    rights.extend(grant.create.then_some("create"));
    rights.extend(grant.delete.then_some("delete"));
    rights.join(", ")
}

pub(crate) fn grant_line(wanted: &FileGrant) -> String {
    let access = if wanted.access == FileAccess::Write { "write" } else { "read" };
    let create = if wanted.create { ", create = true" } else { "" };
    let delete = if wanted.delete { ", delete = true" } else { "" };
    let risk = if wanted.path.is_dangerous(wanted.access) { ", risk = \"...\"" } else { "" };
    format!(
        "file = [{{ path = \"{}\", access = \"{access}\"{create}{delete}, why = \"...\"{risk} }}]",
        wanted.path
    )
}

fn file_source(rule: &FileRule) -> String {
    format!("{} [[file]] {}", rule.source, rule.path)
}

/// Sorted by path; a path that is asked for twice gets both.
fn merged(mut grants: Vec<FileGrant>) -> Vec<FileGrant> {
    grants.sort_by(|a, b| a.path.cmp(&b.path));
    let mut merged: Vec<FileGrant> = Vec::new();
    for grant in grants {
        match merged.last_mut() {
            Some(last) if last.path == grant.path => {
                if grant.access == FileAccess::Write {
                    (last.access, last.source) = (grant.access, grant.source);
                }
                last.create |= grant.create;
                last.delete |= grant.delete;
            }
            _ => merged.push(grant),
        }
    }
    merged
}

fn host_call(name: HostCallName, profile: &str) -> (HostCallName, String) {
    let source = format!("{profile} [[host-call]] {name}");
    (name, source)
}

fn host_calls(manifest: &Manifest, profile: &Profile) -> Result<Vec<(HostCallName, String)>, PolicyError> {
    let cover =
        |call: &Located<HostCallName>| match profile.host_calls.iter().find(|rule| rule.name == call.value) {
            Some(rule) => Ok(host_call(call.value.clone(), &rule.source)),
            None => Err(PolicyError::Refused {
                request: format!("host call `{}`", call.value),
                place: place(manifest, call.line),
                reason: "no grant covers it".to_owned(),
                profile: profile.name().to_owned(),
                advice: format!(
                    "this line of the profile would: host-call = [{{ name = \"{}\", why = \"...\" }}]",
                    call.value
                ),
            }),
        };
    manifest.requests.host_calls.iter().map(cover).collect()
}

fn connects(
    manifest: &Manifest,
    profile: &Profile,
    runtime: Runtime,
) -> Result<Vec<(ConnectGrant, String)>, PolicyError> {
    let requests = &manifest.requests.connects;
    needs_connections(manifest, runtime, "connect", requests.first().map(|first| first.line))?;
    let cover = |wanted: &Located<HostPort>| {
        let rule = profile.connects.iter().find(|rule| rule.address == wanted.value);
        rule.map(ConnectGrant::of_rule).ok_or_else(|| PolicyError::Refused {
            request: format!("connections to `{}`", wanted.value),
            place: place(manifest, wanted.line),
            reason: "no grant covers it".to_owned(),
            profile: profile.name().to_owned(),
            advice: format!("this line of the profile would: {}", connect_line(&wanted.value)),
        })
    };
    requests.iter().map(cover).collect()
}

fn listens(
    manifest: &Manifest,
    profile: &Profile,
    runtime: Runtime,
) -> Result<Vec<(ListenAddress, String)>, PolicyError> {
    let requests = &manifest.requests.listens;
    needs_connections(manifest, runtime, "listen", requests.first().map(|first| first.line))?;
    let cover = |wanted: &Located<ListenAddress>| {
        let rule = profile.listens.iter().find(|rule| rule.address == wanted.value);
        rule.map(listen_grant).ok_or_else(|| PolicyError::Refused {
            request: format!("listening at `{}`", wanted.value),
            place: place(manifest, wanted.line),
            reason: "no grant covers it".to_owned(),
            profile: profile.name().to_owned(),
            advice: format!("this line of the profile would: {}", listen_line(wanted.value)),
        })
    };
    requests.iter().map(cover).collect()
}

fn programs(
    manifest: &Manifest,
    profile: &Profile,
    runtime: Runtime,
) -> Result<Vec<ProgramGrant>, PolicyError> {
    let requests = &manifest.requests.programs;
    if let Some(first) = requests.first().filter(|_| runtime == Runtime::Command) {
        return Err(PolicyError::NotBuilt {
            key: "permissions.process.spawn".to_owned(),
            place: place(manifest, first.line),
            advice: "a command has no host calls, by which programs are asked for".to_owned(),
        });
    }
    let cover = |wanted: &Located<GrantPath>| {
        let rule = profile.spawns.iter().find(|rule| rule.program == wanted.value);
        rule.map(ProgramGrant::of_rule).ok_or_else(|| PolicyError::Refused {
            request: format!("running `{}`", wanted.value),
            place: place(manifest, wanted.line),
            reason: "no grant covers it".to_owned(),
            profile: profile.name().to_owned(),
            advice: format!("this line of the profile would: {}", spawn_line(&wanted.value)),
        })
    };
    requests.iter().map(cover).collect()
}

/// The line that would grant a program.
pub(crate) fn spawn_line(program: &GrantPath) -> String {
    format!("spawn = [{{ program = \"{program}\", code = [...], why = \"...\", risk = \"...\" }}]")
}

/// An address with where it comes from.
pub(crate) fn listen_grant(rule: &ListenRule) -> (ListenAddress, String) {
    (rule.address, format!("{} [[listen]] {}", rule.source, rule.address))
}

fn needs_connections(
    manifest: &Manifest,
    runtime: Runtime,
    key: &str,
    line: Option<usize>,
) -> Result<(), PolicyError> {
    match line.filter(|_| connection_set(runtime).is_none()) {
        None => Ok(()),
        Some(line) => Err(PolicyError::NotBuilt {
            key: format!("permissions.network.{key}"),
            place: place(manifest, line),
            advice: no_connections(runtime),
        }),
    }
}

/// Why a plugin of this kind has no connections.
pub(crate) fn no_connections(runtime: Runtime) -> String {
    let runtime = runtime_name(runtime);
    format!("a {runtime} plugin has no connections; `native`, `component` and `command` have")
}

/// The line that would grant an address.
pub(crate) fn connect_line(address: &HostPort) -> String {
    format!("connect = [{{ address = \"{address}\", why = \"...\" }}]")
}

/// The same for listening.
pub(crate) fn listen_line(address: ListenAddress) -> String {
    let risk = if address.is_dangerous() { ", risk = \"...\"" } else { "" };
    format!("listen = [{{ address = \"{address}\", why = \"...\"{risk} }}]")
}

fn narrow_file_size(policy: &mut Policy, manifest: &Manifest, profile: &Profile) -> Result<(), PolicyError> {
    let Some(Located { value, line }) = manifest.requests.max_file_size else { return Ok(()) };
    let place = place(manifest, line);
    if value > policy.limits.file_size {
        let granted = Size(policy.limits.file_size);
        return Err(PolicyError::Refused {
            request: format!("files of {}", Size(value)),
            place,
            reason: format!("`file-size` is {granted}"),
            profile: profile.name().to_owned(),
            advice: format!("this line of the profile would: file-size = \"{}\"", Size(value)),
        });
    }
    policy.limits.file_size = value;
    policy.narrowed.push(("file-size", place));
    Ok(())
}

fn narrow_processes(policy: &mut Policy, manifest: &Manifest, profile: &Profile) -> Result<(), PolicyError> {
    let Some(wanted) = &manifest.requests.max_processes else { return Ok(()) };
    policy.limits.processes = at_most(policy.limits.processes, wanted, "processes", manifest, profile)?;
    policy.narrowed.push(("processes", place(manifest, wanted.line)));
    Ok(())
}

/// What a manifest asks for, if the profile's limit of this name is as much.
fn at_most(
    granted: u32,
    wanted: &Located<u32>,
    key: &str,
    manifest: &Manifest,
    profile: &Profile,
) -> Result<u32, PolicyError> {
    let value = wanted.value;
    if value <= granted {
        return Ok(value);
    }
    Err(PolicyError::Refused {
        request: format!("{value} {key}"),
        place: place(manifest, wanted.line),
        reason: format!("`{key}` is {granted}"),
        profile: profile.name().to_owned(),
        advice: format!("this line of the profile would: {key} = {value}"),
    })
}

/// One, unless the manifest asks for more and the profile grants as many.
fn narrow_instances(policy: &mut Policy, manifest: &Manifest, profile: &Profile) -> Result<(), PolicyError> {
    let Some(wanted) = &manifest.instances else {
        policy.limits.instances = 1;
        policy.narrowed.push(("instances", BUILT_IN.to_owned()));
        return Ok(());
    };
    policy.limits.instances = at_most(policy.limits.instances, wanted, "instances", manifest, profile)?;
    policy.narrowed.push(("instances", place(manifest, wanted.line)));
    Ok(())
}
