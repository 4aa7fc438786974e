//! Reads a profile.

use hotcell_protocol::{FileAccess, Launch, Namespace, Place, Runtime};

use super::{
    AuditLimit, ConnectRule, FileRule, HostCallRule, ListenRule, PROGRAM_SETS, Profile, Reasons, SpawnRule,
    connection_set, limits, listening_set, shipped,
};
use crate::Controller;
use crate::error::runtime_name;
use crate::input::{Document, Field, Fields, ParseError, read_toml};
use crate::names::{GrantPath, HostCallName, HostPort, ListenAddress, ProfileName};
use crate::policy::no_connections;
use crate::seccomp::{Granted, SyscallSet};

/// The keys of a profile.
pub(crate) const KEYS: [&str; 21] = [
    "schema",
    "summary",
    "runtime",
    "extends",
    "signature",
    "audit",
    "observe",
    "debug",
    "reports",
    "wasm",
    "launch",
    "landlock",
    "namespaces",
    "cgroups",
    "syscalls",
    "limits",
    "file",
    "host-call",
    "connect",
    "listen",
    "spawn",
];

/// Grants of the design that no worker can be given yet.
pub(super) const UNBUILT: [&str; 2] = ["storage", "enforcement"];

/// The first Landlock ABI that governs truncation: before it, a granted read empties a file.
pub(crate) const LANDLOCK_FOR_FILES: u32 = 3;

/// The newest Landlock ABI that this crate knows.
const LANDLOCK_MAX: u32 = crate::compile::LANDLOCK_ABI_MAX;

const NAMESPACES: [(&str, Namespace); 4] = [
    ("ipc", Namespace::Ipc),
    ("mount", Namespace::Mount),
    ("network", Namespace::Network),
    ("uts", Namespace::Uts),
];

const WHY_MAX: usize = 1000;

/// Who may write a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Author {
    /// Reviewers: profiles for plugins.
    Reviewer,
    /// This crate: profiles for its own compiler.
    Internal,
}

pub(super) fn read(document: &Document<'_>, author: Author) -> Result<Profile, ParseError> {
    let root = read_toml(*document)?;
    let known: Vec<&str> = KEYS.into_iter().chain(UNBUILT).collect();
    let fields = Fields::of_document(document, &root, &known)?;
    fields.required("schema")?.integer(1..=1)?;
    for key in UNBUILT {
        if let Some(field) = fields.optional(key) {
            let message = format!("`{key}` is not built yet, and hotcell ignores nothing");
            return Err(field.error(message).with_help("remove it; the plugin then runs without"));
        }
    }
    let name = name_of(document)?;
    let summary = fields.required("summary")?.text(WHY_MAX)?.to_owned();
    let mut profile = match fields.optional("extends") {
        Some(base) => extend(&fields, &base, name, summary)?,
        None => fresh(&fields, author, name, summary)?,
    };
    document.text.clone_into(&mut profile.text);
    add_grants(&fields, &mut profile)?;
    check(&fields, &profile)?;
    Ok(profile)
}

/// The name of the file, without folder and `.toml`.
fn name_of(document: &Document<'_>) -> Result<ProfileName, ParseError> {
    let file = document.file.rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".toml").unwrap_or(file);
    stem.parse().map_err(|error| {
        let message = format!("the file's name is the profile's: {error}");
        document.error(&(0..0), message).with_help("rename the file, such as `my-profile.toml`")
    })
}

fn fresh(
    fields: &Fields<'_>,
    author: Author,
    name: ProfileName,
    summary: String,
) -> Result<Profile, ParseError> {
    let landlock = fields.required("landlock")?.integer32(1..=LANDLOCK_MAX)?;
    Ok(Profile {
        limits_source: name.to_string(),
        name,
        text: String::new(),
        summary,
        runtimes: runtimes(&fields.required("runtime")?, author)?,
        requires_signature: false,
        audit: None,
        observes: None,
        debuggable: None,
        reports_inputs: false,
        exceptions: None,
        launch: None,
        landlock,
        namespaces: Vec::new(),
        cgroups: Vec::new(),
        limits: limits::read(&fields.required("limits")?)?,
        sets: Vec::new(),
        files: Vec::new(),
        host_calls: Vec::new(),
        connects: Vec::new(),
        listens: Vec::new(),
        spawns: Vec::new(),
    })
}

/// A profile that begins with the grants of a shipped one. It may add, not take away; its limits are the shipped ones
/// or are all written out again.
fn extend(
    fields: &Fields<'_>,
    base: &Field<'_>,
    name: ProfileName,
    summary: String,
) -> Result<Profile, ParseError> {
    for key in ["runtime", "landlock"] {
        if let Some(field) = fields.optional(key) {
            return Err(field.error(format!("`{key}` comes from the profile that this one extends")));
        }
    }
    let base_name = base.choice(&shipped::NAMES.map(|name| (name, name)))?;
    let profile = match Profile::shipped(base_name) {
        Some(profile) => profile?,
        None => return Err(base.error("not a shipped profile")),
    };
    let (limits, limits_source) = match fields.optional("limits") {
        Some(limits) => (limits::read(&limits)?, name.to_string()),
        None => (profile.limits.clone(), profile.limits_source.clone()),
    };
    Ok(Profile { name, summary, limits, limits_source, ..profile })
}

fn runtimes(field: &Field<'_>, author: Author) -> Result<Vec<Runtime>, ParseError> {
    const PLUGINS: [Runtime; 4] = [Runtime::Native, Runtime::Core, Runtime::Component, Runtime::Command];
    let choices: Vec<_> = match author {
        Author::Reviewer => PLUGINS.map(|runtime| (runtime_name(runtime), runtime)).to_vec(),
        Author::Internal => vec![(runtime_name(Runtime::Compiler), Runtime::Compiler)],
    };
    if matches!(field.node.value, crate::input::Value::Text(_)) {
        return Ok(vec![field.choice(&choices)?]);
    }
    distinct(field, |item| item.choice(&choices))
}

fn distinct<T: PartialEq>(
    field: &Field<'_>,
    read: impl Fn(&Field<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut values = Vec::new();
    for item in field.items()? {
        let value = read(&item)?;
        if values.contains(&value) {
            return Err(item.error(format!("`{}` names this twice", field.path)));
        }
        values.push(value);
    }
    Ok(values)
}

fn add_grants(fields: &Fields<'_>, profile: &mut Profile) -> Result<(), ParseError> {
    let source = profile.name.to_string();
    if let Some(field) = fields.optional("signature") {
        profile.requires_signature = field.choice(&[("required", true)])?;
    }
    if let Some(field) = fields.optional("audit") {
        profile.audit = Some(field.choice(&AuditLimit::ALL)?);
    }
    if let Some(field) = fields.optional("observe") {
        field.choice(&[("paths", ())])?;
        profile.observes = Some(format!("{source} observe"));
    }
    if let Some(field) = fields.optional("debug") {
        field.choice(&[("attach", ())])?;
        profile.debuggable = Some(format!("{source} debug"));
    }
    if let Some(field) = fields.optional("reports") {
        profile.reports_inputs |= field.choice(&[("inputs", true)])?;
    }
    if let Some(field) = fields.optional("wasm")
        && !distinct(&field, |item| item.choice(&[("exceptions", ())]))?.is_empty()
    {
        profile.exceptions = Some(format!("{source} wasm"));
    }
    if let Some(field) = fields.optional("launch") {
        let launch = field.choice(&[("fork", Launch::Fork), ("exec", Launch::Exec)])?;
        profile.launch = Some((launch, format!("{source} launch")));
    }
    if let Some(field) = fields.optional("namespaces") {
        for namespace in distinct(&field, |item| item.choice(&NAMESPACES))? {
            add(&mut profile.namespaces, (namespace, source.clone()), |(known, _)| *known == namespace);
        }
    }
    if let Some(field) = fields.optional("cgroups") {
        let choices = Controller::ALL.map(|controller| (controller.name(), controller));
        for controller in distinct(&field, |item| item.choice(&choices))? {
            add(&mut profile.cgroups, (controller, source.clone()), |(known, _)| *known == controller);
        }
    }
    if let Some(field) = fields.optional("syscalls") {
        for set in distinct(&field, |item| syscall_set(item, &profile.runtimes))? {
            let name = set.name;
            add(&mut profile.sets, set, |known| known.name == name);
        }
    }
    for file in grants(fields, "file")? {
        profile.files.push(file_rule(&file, &source)?);
    }
    for call in grants(fields, "host-call")? {
        let rule = host_call_rule(&call, &source)?;
        if profile.host_calls.iter().any(|known| known.name == rule.name) {
            return Err(call.error(format!("the host call `{}` is granted twice", rule.name)));
        }
        profile.host_calls.push(rule);
    }
    for connect in grants(fields, "connect")? {
        let rule = connect_rule(&connect, &source)?;
        if profile.connects.iter().any(|known| known.address == rule.address) {
            return Err(connect.error(format!("`{}` is granted twice", rule.address)));
        }
        profile.connects.push(rule);
    }
    for listen in grants(fields, "listen")? {
        let rule = listen_rule(&listen, &source)?;
        if profile.listens.iter().any(|known| known.address == rule.address) {
            return Err(listen.error(format!("`{}` is granted twice", rule.address)));
        }
        profile.listens.push(rule);
    }
    for spawn in grants(fields, "spawn")? {
        let rule = spawn_rule(&spawn, &source)?;
        if profile.spawns.iter().any(|known| known.program == rule.program) {
            return Err(spawn.error(format!("`{}` is granted twice", rule.program)));
        }
        profile.spawns.push(rule);
    }
    Ok(())
}

fn syscall_set(field: &Field<'_>, runtimes: &[Runtime]) -> Result<SyscallSet, ParseError> {
    let set = SyscallSet::shipped(field.choice(&SyscallSet::names().map(|name| (name, name)))?)?;
    let for_programs = set.runtimes == [Runtime::Program];
    if for_programs || runtimes.iter().any(|runtime| set.runtimes.contains(runtime)) {
        return Ok(set);
    }
    let of_plugins = set.runtimes.iter().filter(|runtime| **runtime != Runtime::Program);
    let words: Vec<_> = of_plugins.map(|runtime| runtime_name(*runtime)).collect();
    let message =
        format!("the set `{}` is for {}, and the profile is for none of these", set.name, words.join(", "));
    Err(field.error(message).with_help("remove it"))
}

fn add<T>(list: &mut Vec<T>, value: T, same: impl Fn(&T) -> bool) {
    if !list.iter().any(same) {
        list.push(value);
    }
}

fn grants<'d>(fields: &Fields<'d>, key: &str) -> Result<Vec<Field<'d>>, ParseError> {
    match fields.optional(key) {
        Some(field) if matches!(field.node.value, crate::input::Value::Table(_)) => {
            Err(field.error(format!("write each grant as `[[{key}]]`")))
        }
        Some(field) => field.items(),
        None => Ok(Vec::new()),
    }
}

fn file_rule(field: &Field<'_>, source: &str) -> Result<FileRule, ParseError> {
    let fields = field.table(&["path", "access", "create", "delete", "why", "risk"])?;
    let flag = |key| fields.optional(key).map_or(Ok(false), |field| field.flag());
    let path: GrantPath = fields.required("path")?.parsed()?;
    let access =
        fields.required("access")?.choice(&[("read", FileAccess::Read), ("write", FileAccess::Write)])?;
    let (create, delete) = (flag("create")?, flag("delete")?);
    let reasons = reasons(field, &fields)?;
    if access == FileAccess::Read && (create || delete) {
        return Err(field.error("`create` and `delete` need `access = \"write\"`"));
    }
    if path.is_in_package() && access == FileAccess::Write {
        return Err(fields.required("path")?.error("the package is read-only"));
    }
    if path.is_dangerous(access) && reasons.risk.is_none() {
        return Err(fields
            .required("path")?
            .error(format!("`{path}` is a dangerous grant, and has no `risk`"))
            .with_help("add `risk = \"...\"`: what a hostile plugin could do with it"));
    }
    Ok(FileRule { path, access, create, delete, source: source.to_owned(), reasons })
}

fn host_call_rule(field: &Field<'_>, source: &str) -> Result<HostCallRule, ParseError> {
    let fields = field.table(&["name", "why", "risk"])?;
    let name: HostCallName = fields.required("name")?.parsed()?;
    Ok(HostCallRule { name, source: source.to_owned(), reasons: reasons(field, &fields)? })
}

fn connect_rule(field: &Field<'_>, source: &str) -> Result<ConnectRule, ParseError> {
    let fields = field.table(&["address", "private", "why", "risk"])?;
    let address: HostPort = fields.required("address")?.parsed()?;
    let private = fields.optional("private").map_or(Ok(false), |field| field.flag())?;
    let reasons = reasons(field, &fields)?;
    if private && reasons.risk.is_none() {
        return Err(fields
            .required("private")?
            .error("to reach addresses that are not public is a dangerous grant, and has no `risk`")
            .with_help("add `risk = \"...\"`: what a hostile plugin could do with it"));
    }
    Ok(ConnectRule { address, private, source: source.to_owned(), reasons })
}

fn listen_rule(field: &Field<'_>, source: &str) -> Result<ListenRule, ParseError> {
    let fields = field.table(&["address", "why", "risk"])?;
    let at = fields.required("address")?;
    let address: ListenAddress = at.parsed()?;
    let reasons = reasons(field, &fields)?;
    if address.is_dangerous() && reasons.risk.is_none() {
        let message = "to listen where other machines may connect, or at a port below 1024, is a dangerous grant, and has no `risk`";
        return Err(at
            .error(message)
            .with_help("add `risk = \"...\"`: what a hostile plugin could do with it"));
    }
    Ok(ListenRule { address, source: source.to_owned(), reasons })
}

fn spawn_rule(field: &Field<'_>, source: &str) -> Result<SpawnRule, ParseError> {
    let fields = field.table(&["program", "code", "why", "risk"])?;
    let file = fields.required("program")?;
    let program: GrantPath = file.parsed()?;
    let code = match fields.optional("code") {
        Some(code) => distinct(&code, |item| item.parsed::<GrantPath>())?,
        None => Vec::new(),
    };
    let reasons = reasons(field, &fields)?;
    if !matches!(program.place(), Place::Plugin | Place::Root) || program.path().is_empty() {
        let message = "a program is a file of the package (`${plugin}/...`) or of the system (`/...`)";
        return Err(file.error(message).with_help("what a plugin can write, it cannot have run"));
    }
    if let Some(wrong) = code.iter().find(|path| path.is_unreasonable_code()) {
        let message = format!("`{wrong}` is no place of code");
        return Err(fields
            .required("code")?
            .error(message)
            .with_help("name the program's loader and the folders of its libraries"));
    }
    if reasons.risk.is_none() {
        return Err(file
            .error("to run a program is a dangerous grant, and has no `risk`")
            .with_help("add `risk = \"...\"`: what a hostile plugin could do with it"));
    }
    Ok(SpawnRule { program, code, source: source.to_owned(), reasons })
}

fn reasons(grant: &Field<'_>, fields: &Fields<'_>) -> Result<Reasons, ParseError> {
    let why = fields.required("why")?.text(WHY_MAX)?.to_owned();
    let risk = fields.optional("risk").map(|risk| risk.text(WHY_MAX)).transpose()?;
    Ok(Reasons { why, risk: risk.map(str::to_owned), line: grant.line() })
}

/// What can only be said of the whole profile.
fn check(fields: &Fields<'_>, profile: &Profile) -> Result<(), ParseError> {
    check_network(fields, profile)?;
    check_programs(fields, profile)?;
    let Some(first) = grants(fields, "file")?.into_iter().next() else { return Ok(()) };
    if let Some(runtime) =
        profile.runtimes.iter().find(|runtime| !matches!(runtime, Runtime::Native | Runtime::Command))
    {
        let runtime = runtime_name(*runtime);
        return Err(
            first.error(format!("runtime `{runtime}` has no files; only `native` and `command` have"))
        );
    }
    if profile.landlock < LANDLOCK_FOR_FILES {
        let message = format!("files need `landlock = {LANDLOCK_FOR_FILES}` or more");
        return Err(first.error(message).with_help(
            "below ABI 3 the kernel does not govern truncation, and who may read a file may empty it",
        ));
    }
    for granted in Granted::FILES {
        if profile.grants(granted) && !profile.sets.iter().any(|set| set.when == Some(granted)) {
            let message =
                format!("the profile grants files for `{granted}`, and names no syscall set for that");
            return Err(first.error(message).with_help(format!("add `files-{granted}` to `syscalls`")));
        }
    }
    Ok(())
}

fn check_network(fields: &Fields<'_>, profile: &Profile) -> Result<(), ParseError> {
    let needs: [(_, _, &[SetFor]); 2] = [
        ("connect", "grants connections to", &[connection_set]),
        ("listen", "grants listening to", &[connection_set, listening_set]),
    ];
    for (key, grants_to, sets) in needs {
        let Some(first) = grants(fields, key)?.into_iter().next() else { continue };
        let mut needed = Vec::new();
        for runtime in &profile.runtimes {
            needed.extend(sets.iter().filter_map(|set| Some((*runtime, set(*runtime)?))));
        }
        if let (true, Some(runtime)) = (needed.is_empty(), profile.runtimes.first()) {
            return Err(first.error(no_connections(*runtime)));
        }
        let missing = needed.iter().find(|(_, set)| !profile.sets.iter().any(|known| known.name == *set));
        if let Some((runtime, set)) = missing {
            let runtime = runtime_name(*runtime);
            let message =
                format!("the profile {grants_to} {runtime} plugins, and names no syscall set for that");
            return Err(first.error(message).with_help(format!("add `{set}` to `syscalls`")));
        }
    }
    Ok(())
}

fn check_programs(fields: &Fields<'_>, profile: &Profile) -> Result<(), ParseError> {
    let Some(first) = grants(fields, "spawn")?.into_iter().next() else { return Ok(()) };
    if profile.limits.processes == 0 {
        let message = "the profile grants programs, and its limit `processes` lets none run";
        return Err(first.error(message).with_help("`processes` is how many run at a time"));
    }
    let written = profile.files.iter().filter(|file| file.access == FileAccess::Write);
    for (rule, file) in profile.spawns.iter().flat_map(|rule| written.clone().map(move |file| (rule, file))) {
        let mut parts = std::iter::once(&rule.program).chain(&rule.code);
        let Some(part) = parts.find(|part| file.path.covers(part) || part.covers(&file.path)) else {
            continue;
        };
        let message = format!("`{part}` is code of a program, and `{}` can be written", file.path);
        return Err(first.error(message).with_help("what a plugin can write, it cannot have run"));
    }
    let missing = PROGRAM_SETS.iter().find(|set| !profile.sets.iter().any(|known| known.name == **set));
    let Some(set) = missing else { return Ok(()) };
    let message = "the profile grants programs, and names no syscall set for them";
    Err(first.error(message).with_help(format!("add `{set}` to `syscalls`")))
}

/// The syscall set that a kind of plugin needs for something; `None` for kinds that cannot do it.
type SetFor = fn(Runtime) -> Option<&'static str>;

#[cfg(test)]
mod tests {
    use super::{KEYS, UNBUILT};
    use crate::profile::limits::LIMITS;
    use crate::seccomp::SyscallSet;

    #[test]
    fn the_documentation_names_every_key_limit_and_set() {
        let document = include_str!("../../../docs/profile.md");
        let names = KEYS.iter().chain(&UNBUILT).chain(&LIMITS).copied().chain(SyscallSet::names());
        for name in names.chain([
            "path", "access", "create", "delete", "name", "address", "private", "program", "code", "why",
            "risk",
        ]) {
            assert!(document.contains(&format!("`{name}`")), "docs/profile.md does not mention `{name}`");
        }
    }
}
