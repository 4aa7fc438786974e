//! Known advisories about the runtime of wasm plugins, from a copy of the RustSec advisory database.
//!
//! Nothing is fetched: `cargo audit` and `git clone https://github.com/RustSec/advisory-db` make such a copy. What is not in it is not
//! known. An advisory about the runtime is no hole in the sandbox around it, and no fault of the plugin: it is what an attacker
//! who got into the worker may have used.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use semver::{Version, VersionReq};
use serde::Deserialize;

use super::{Finding, rules};
use crate::text::escape;
use crate::violation::Severity;

/// What compiles and runs wasm here, by crate and version. A test compares it with Cargo.lock.
const RUNTIME: [(&str, &str); 5] = [
    ("cranelift-codegen", "0.135.8"),
    ("wasmtime", "48.0.8"),
    ("wasmtime-wasi", "48.0.8"),
    ("wasmtime-wasi-http", "48.0.8"),
    ("wiggle", "48.0.8"),
];

/// Bytes of one advisory; and how many are read of one crate.
const LENGTH_MAX: u64 = 256 << 10;
const COUNT_MAX: usize = 10_000;

/// The part of an advisory that is for programs, between ```` ```toml ```` and ```` ``` ````
/// (the database's README).
#[derive(Debug, Deserialize)]
struct Document {
    advisory: Advisory,
    #[serde(default)]
    affected: Affected,
    versions: Versions,
}

#[derive(Debug, Deserialize)]
struct Advisory {
    id: String,
    package: String,
    #[serde(default)]
    withdrawn: Option<String>,
    /// What is not a vulnerability: `unsound`, `unmaintained`, `notice`.
    #[serde(default)]
    informational: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Affected {
    #[serde(default)]
    arch: Vec<String>,
    #[serde(default)]
    os: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<VersionReq>,
    #[serde(default)]
    unaffected: Vec<VersionReq>,
}

/// What is known of the runtime, and how many advisories were read.
///
/// # Errors
/// The folder is no such database.
pub(super) fn of_runtime(database: &Path) -> io::Result<(Vec<Finding>, usize)> {
    let crates = database.join("crates");
    if !crates.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no folder `crates`"));
    }
    let (mut findings, mut read) = (Vec::new(), 0);
    for (name, version) in RUNTIME {
        let entries = match std::fs::read_dir(crates.join(name)) {
            Ok(entries) => entries,
            // Nothing was ever said of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries.take(COUNT_MAX) {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "md") {
                continue;
            }
            read += 1;
            let mut text = String::new();
            File::open(&path)?.take(LENGTH_MAX).read_to_string(&mut text)?;
            let file = path.file_name().unwrap_or_default().as_encoded_bytes();
            findings.extend(match parse(&text) {
                Ok((document, title)) => finding(&document, &title, name, version),
                Err(why) => Some(rules::finding(
                    "advisory",
                    Severity::Medium,
                    format!(
                        "the advisory {} about {name} cannot be read: {}",
                        escape(file),
                        escape(why.as_bytes())
                    ),
                )),
            });
        }
    }
    Ok((findings, read))
}

fn parse(text: &str) -> Result<(Document, String), String> {
    let (_, rest) = text.split_once("```toml").ok_or("it does not begin with ```toml")?;
    let (head, prose) = rest.split_once("```").ok_or("its ```toml does not end")?;
    let document = toml::from_str(head).map_err(|error| error.to_string())?;
    let title = prose.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default();
    Ok((document, title.trim().to_owned()))
}

fn finding(document: &Document, title: &str, name: &str, version: &str) -> Option<Finding> {
    let Document { advisory, affected, versions } = document;
    let version = Version::parse(version).ok()?;
    let is_of = |list: &[String], here: &str| list.is_empty() || list.iter().any(|of| of == here);
    let concerns = advisory.package == name
        && advisory.withdrawn.is_none()
        && is_of(&affected.arch, std::env::consts::ARCH)
        && is_of(&affected.os, std::env::consts::OS)
        && !versions.patched.iter().chain(&versions.unaffected).any(|fine| fine.matches(&version));
    let severity = if advisory.informational.is_some() { Severity::Low } else { Severity::Medium };
    let text = format!("{} about {name} {version}, which runs it: {}", advisory.id, title);
    concerns.then(|| rules::finding("advisory", severity, escape(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).expect("it is committed");
        for (name, version) in RUNTIME {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "another version of {name} is in use than {version}");
        }
    }

    fn advisory(more: &str, versions: &str) -> Option<Finding> {
        let text = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2026-9999\"\npackage = \"wasmtime\"\ndate = \"2026-01-01\"\n{more}\n\
             [versions]\n{versions}\n```\n\n# A hole\n\nWords.\n"
        );
        let (document, title) = parse(&text).expect("is one");
        finding(&document, &title, "wasmtime", "48.0.8")
    }

    #[test]
    fn an_advisory_counts_where_it_is_about_this_version_and_this_machine() {
        let hole = advisory("", "patched = [\">= 48.0.9\"]").expect("48.0.8 is affected");
        assert_eq!(hole.severity, Severity::Medium);
        assert_eq!(hole.message, "RUSTSEC-2026-9999 about wasmtime 48.0.8, which runs it: A hole");
        let unsound = advisory("informational = \"unsound\"", "patched = []").expect("nothing is patched");
        assert_eq!(unsound.severity, Severity::Low);
        for (more, versions) in [
            ("", "patched = [\">= 24.0.7, < 25.0.0\", \">= 48.0.8\"]"),
            ("", "patched = []\nunaffected = [\"< 49.0.0\"]"),
            ("withdrawn = \"2026-02-01\"", "patched = []"),
            ("[affected]\nos = [\"windows\"]", "patched = []"),
            ("[affected]\narch = [\"s390x\"]", "patched = []"),
        ] {
            assert_eq!(advisory(more, versions), None, "{more} {versions}");
        }
    }

    #[test]
    fn what_is_no_advisory_is_told() {
        for text in
            ["", "```toml\n[advisory]\n", "```toml\nid = 1\n```", "```toml\n[advisory]\nid = \"x\"\n```"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
