//! What an audit looks for.

use hotcell_package::{Contents, SignatureError, Standing};
use hotcell_policy::{Manifest, Profile, resolve};
use hotcell_protocol::compile::{LibraryFacts, NAMES_MAX};
use hotcell_protocol::{Description, Place};

use super::{Finding, Judged};
use crate::error::Error;
use crate::text::escape;
use crate::violation::Severity;

/// A rule, for reports that list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRule {
    /// Its name in findings.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
}

const fn rule(name: &'static str, about: &'static str) -> AuditRule {
    AuditRule { name, about }
}

/// Every rule, in the order of their names.
pub const AUDIT_RULES: [AuditRule; 20] = [
    rule("advisory", "the runtime has a known fault"),
    rule("artifact", "the artifact cannot be used: it is malformed, or imports what no plugin is offered"),
    rule("constructors", "a library runs code while it is loaded, before any call"),
    rule("executable-stack", "a library asks for a stack that can be executed"),
    rule("export-missing", "an export that the manifest promises is not there"),
    rule("file-permission", "the plugin asks for files outside its own folders"),
    rule("host-call", "the plugin calls the application"),
    rule("lazy-binding", "the tables of a library stay writable: link it with -z now"),
    rule("native-code", "the plugin is machine code"),
    rule("needed-library", "a library needs another one that neither the worker nor the package has"),
    rule("network", "the plugin connects, or others connect to it"),
    rule("permission-refused", "the plugin asks for what its profile does not grant"),
    rule("program", "the plugin has programs of the system or of its package run"),
    rule("relro", "a library has no read-only relocations: link it with -z relro"),
    rule("run-path", "a library says where others are looked for"),
    rule("secret", "the package seems to hold a secret"),
    rule("signature", "the signatures are wrong, or do not count here"),
    rule("size", "the package is large"),
    rule("text-relocations", "the code of a library is changed while it is loaded"),
    rule("unused-import", "a module can reach for what it asks no permission for"),
];

/// Libraries that a native worker has loaded before it is confined.
const PROVIDED: [&str; 9] = [
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
];

/// A package above this is worth a word.
const LARGE: u64 = 64 << 20;

pub(super) fn finding(rule: &'static str, severity: Severity, message: impl Into<String>) -> Finding {
    Finding { rule, severity, file: None, message: message.into() }
}

/// What the signatures are worth.
pub(super) fn standing(judged: &Judged) -> Option<Finding> {
    let unsigned = "it is not signed; sign it with `hotcell plugin sign`";
    match judged {
        Ok(Standing::Trusted(_)) => None,
        Ok(Standing::Unsigned) => Some(finding("signature", Severity::Medium, unsigned)),
        Ok(Standing::Unknown(error)) => Some(finding("signature", Severity::Medium, error.to_string())),
        Err(Error::Signature { source: source @ SignatureError::Untrusted(_), .. }) => {
            Some(finding("signature", Severity::High, source.to_string()))
        }
        Err(error) => Some(finding("signature", Severity::High, error.to_string())),
    }
}

/// There is no such profile.
pub(super) fn refused(error: &Error) -> Finding {
    finding("permission-refused", Severity::High, error.to_string())
}

/// An artifact of which nothing more can be said.
pub(super) fn unusable(name: &str, why: &str) -> Finding {
    Finding { file: Some(name.to_owned()), ..finding("artifact", Severity::High, why) }
}

/// What lies in the package.
pub(super) fn files(manifest: &Manifest, contents: &Contents) -> Vec<Finding> {
    let mut found = Vec::new();
    let size: u64 = contents.listing.iter().map(|(.., size)| size).sum();
    if size > LARGE {
        let message = format!("{} MiB in all; look for what is not needed", size >> 20);
        found.push(finding("size", Severity::Low, message));
    }
    for artifact in manifest.artifacts() {
        if contents.listing.get(artifact).is_none() {
            found.push(unusable(artifact.as_str(), "the manifest names it, and it is not there"));
        }
    }
    found
}

/// What the plugin asks for, against what its profile grants.
pub(super) fn permissions(manifest: &Manifest, profile: &Profile) -> Vec<Finding> {
    let mut found = Vec::new();
    if manifest.runtime().is_some()
        && let Err(error) = resolve(manifest, profile)
    {
        found.push(finding("permission-refused", Severity::High, error.to_string()));
    }
    if manifest.runtime() == Some(hotcell_protocol::Runtime::Native) {
        found.push(finding(
            "native-code",
            Severity::Low,
            "its library runs as machine code in a confined process",
        ));
    }
    for path in manifest.paths().filter(|path| path.place() == Place::Root) {
        let writes = manifest.write_paths().any(|written| written == path);
        let (verb, severity) = match writes {
            true => ("writes to", Severity::Medium),
            false => ("reads", Severity::Low),
        };
        found.push(finding(
            "file-permission",
            severity,
            format!("it {verb} {path}, outside its own folders"),
        ));
    }
    let calls: Vec<_> =
        manifest.host_calls().filter(|call| call.as_str() != "log").map(|call| call.as_str()).collect();
    if !calls.is_empty() {
        found.push(finding(
            "host-call",
            Severity::Low,
            format!("it calls the application: {}", calls.join(", ")),
        ));
    }
    for address in manifest.connects() {
        found.push(finding("network", Severity::Low, format!("it connects to {address}")));
    }
    for program in manifest.programs() {
        found.push(finding(
            "program",
            Severity::Medium,
            format!("it has {program} run, with arguments of its own"),
        ));
    }
    for address in manifest.listens() {
        let (severity, who) = match address.socket().ip().is_loopback() {
            true => (Severity::Low, "this machine"),
            false => (Severity::Medium, "other machines"),
        };
        found.push(finding("network", severity, format!("{who} may connect to it, at {address}")));
    }
    found
}

/// What a native library says of itself.
pub(super) fn library(manifest: &Manifest, contents: &Contents, facts: &LibraryFacts) -> Vec<Finding> {
    use Severity::{High, Low, Medium};
    let flags = [
        (
            facts.executable_stack,
            "executable-stack",
            High,
            "it asks for an executable stack, which no worker gives it: link it with -z noexecstack",
        ),
        (
            facts.writable_code,
            "executable-stack",
            High,
            "it has memory that is writable and executable, which no worker gives it",
        ),
        (
            facts.text_relocations,
            "text-relocations",
            High,
            "its code is changed while it is loaded, which no worker allows: compile it with -fPIC",
        ),
        (!facts.relro, "relro", Medium, "its relocations stay writable: link it with -z relro"),
        (!facts.bind_now, "lazy-binding", Low, "its tables of functions stay writable: link it with -z now"),
    ];
    let flagged = flags.into_iter().filter(|(is_so, ..)| *is_so);
    let mut found: Vec<_> = flagged.map(|(_, rule, severity, text)| finding(rule, severity, text)).collect();
    // What every linked library has: `_init` and `frame_dummy` of the C runtime.
    let own = facts.constructors.saturating_sub(2);
    if own > 0 {
        let text = format!("{own} functions run while it is loaded, in the sandbox and before any call");
        found.push(finding("constructors", Low, text));
    }
    if !facts.run_paths.is_empty() {
        let paths = escape(facts.run_paths.join(", ").as_bytes());
        found.push(finding(
            "run-path",
            Medium,
            format!("it looks for libraries in {paths}; no worker looks there"),
        ));
    }
    let has = |name: &String| {
        PROVIDED.contains(&name.as_str())
            || contents.listing.iter().any(|(path, ..)| path.as_str().rsplit('/').next() == Some(name))
    };
    for name in facts.needed.iter().filter(|name| !has(name)) {
        let name = escape(name.as_bytes());
        found.push(finding(
            "needed-library",
            High,
            format!("it needs {name}, which neither a worker nor the package has"),
        ));
    }
    found.extend(missing(manifest, &facts.exports));
    found
        .into_iter()
        .map(|finding| Finding { file: Some(manifest.artifact().to_string()), ..finding })
        .collect()
}

/// What a module says of itself.
pub(super) fn module(manifest: &Manifest, description: &Description) -> Vec<Finding> {
    let imports = |prefix: &str| description.imports.iter().any(|import| import.starts_with(prefix));
    let mut found: Vec<_> = missing(manifest, &description.exports).into_iter().collect();
    let reaches_files = imports("wasi:filesystem/") || imports("wasi_snapshot_preview1.path_");
    if reaches_files && manifest.paths().next().is_none() {
        let text = "it can open files, and asks for none: it finds none, or the library that it was built with does this by itself";
        found.push(finding("unused-import", Severity::Low, text));
    }
    // A look at UDP alone, or at types, is what libraries are built with.
    if (imports("wasi:sockets/tcp@") || imports("wasi:http/outgoing-handler@"))
        && manifest.connects().next().is_none()
        && manifest.listens().next().is_none()
    {
        let text = "it can reach the network, and asks for no address: each connection is refused";
        found.push(finding("unused-import", Severity::Low, text));
    }
    let calls_host = imports("hotcell.host_call") || imports("hotcell:plugin/host");
    if calls_host && manifest.host_calls().next().is_none() {
        let text = "it can call the application, and asks for no host call: each is refused";
        found.push(finding("unused-import", Severity::Low, text));
    }
    found
        .into_iter()
        .map(|finding| Finding { file: Some(manifest.artifact().to_string()), ..finding })
        .collect()
}

/// Exports that were promised. A list as long as it can be may have lost some.
fn missing(manifest: &Manifest, exports: &[String]) -> Option<Finding> {
    let promised = manifest.exports().iter().map(|export| &export.name);
    let missing: Vec<_> = promised.filter(|name| !exports.contains(name)).cloned().collect();
    let text =
        format!("the manifest promises exports that it lacks: {}", escape(missing.join(", ").as_bytes()));
    (!missing.is_empty() && exports.len() < NAMES_MAX)
        .then(|| finding("export-missing", Severity::High, text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rules_are_in_order_and_each_once() {
        assert!(super::AUDIT_RULES.is_sorted_by(|one, other| one.name < other.name));
    }
}
