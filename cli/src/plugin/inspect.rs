//! What a package is, who signed it, and what it may do: in words.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use hotcell::packages::{Standing, asks, hex};
use hotcell::policy::{Manifest, compile, render, resolve};
use hotcell::{Class, Error, VerifiedPackage, platform};
use serde_json::json;

use super::as_json;
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

/// Names a package.
const PACKAGE: &str = "An .lbplugin file, a folder with manifest.json, or @ID of an installed plugin";

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[arg(help = PACKAGE)]
    plugin: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[arg(help = PACKAGE)]
    plugin: PathBuf,
    /// Print the whole plan, too: each fact that its workers would run under here
    #[arg(long)]
    plan: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn verify(global: &Global, arguments: &Verify) -> Result<String, Outcome> {
    let verified = host::builder(global)?.packages()?.verify(&arguments.plugin)?;
    if arguments.json {
        return as_json(&facts(&verified)?);
    }
    let VerifiedPackage { manifest, contents, .. } = &verified;
    let mut text = format!("{} {}: {}\n", manifest.id(), manifest.version(), standing(&verified.standing));
    // Writing into a string cannot fail.
    let _ = writeln!(text, "digest {}", hex(&verified.digest()));
    for (path, digest, size) in contents.listing.iter() {
        let _ = writeln!(text, "{}  {size:>10}  {path}", hex(digest));
    }
    match (&verified.standing, global.require_signatures) {
        (Standing::Trusted(_), _) | (_, false) => Ok(text),
        (other, true) => Err(Outcome { class: Class::Refused, message: standing(other) }),
    }
}

pub(crate) fn inspect(global: &Global, arguments: &Inspect) -> Result<String, Outcome> {
    let packages = host::builder(global)?.packages()?;
    let verified = packages.verify(&arguments.plugin)?;
    let profile = packages.profile(&verified.manifest)?;
    let policy = resolve(&verified.manifest, &profile);
    if arguments.json {
        let mut facts = facts(&verified)?;
        let refused = policy.as_ref().err().map(ToString::to_string);
        if let Some(facts) = facts.as_object_mut() {
            facts.insert("refused".to_owned(), json!(refused));
        }
        return as_json(&facts);
    }
    let mut text = words(&verified.manifest);
    let _ = writeln!(text, "Signatures: {}.", standing(&verified.standing));
    match policy {
        Err(error) => {
            let _ = writeln!(text, "It would not start: {error}");
        }
        Ok(policy) if arguments.plan => {
            let plan = compile(&policy, &platform()?).map_err(Error::from)?;
            let _ = write!(text, "\n{}", render(&plan));
        }
        Ok(_) => {
            let profile = profile.name();
            let _ = writeln!(
                text,
                "All that it asks for is granted by the profile `{profile}`; --plan prints every fact."
            );
        }
    }
    Ok(text)
}

/// What a manifest says, in sentences.
fn words(manifest: &Manifest) -> String {
    let clean = |text: &str| hotcell::escape(text.as_bytes());
    let mut text = format!("{} ({}) {}\n", clean(manifest.name()), manifest.id(), manifest.version());
    let mut say = |line: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    if let Some(description) = manifest.description() {
        say(format!("  \"{}\"", clean(description)));
    }
    if let Some(author) = manifest.author() {
        say(format!("By {}, as the manifest says.", clean(author)));
    }
    let kind = match manifest.runtime() {
        Some(hotcell::Runtime::Native) => "machine code, in a shared library",
        Some(hotcell::Runtime::Command) => "a WebAssembly command",
        Some(hotcell::Runtime::Component) => "a WebAssembly component",
        _ => "a WebAssembly module",
    };
    let artifacts: Vec<_> = manifest.artifacts().iter().map(ToString::to_string).collect();
    say(format!("It is {kind} ({}), in a confined process of its own.", artifacts.join(", ")));
    let list = |items: Vec<String>| items.join(", ");
    let writes: Vec<_> = manifest.write_paths().map(ToString::to_string).collect();
    let reads = manifest.paths().map(ToString::to_string).filter(|path| !writes.contains(path)).collect();
    let asked = [
        ("read files", reads),
        ("read and write files", writes),
        ("connect to", manifest.connects().map(ToString::to_string).collect()),
        ("let others connect to it at", manifest.listens().map(|address| address.to_string()).collect()),
        ("have programs run", manifest.programs().map(ToString::to_string).collect()),
        ("call the application", manifest.host_calls().map(ToString::to_string).collect()),
        ("call other plugins", manifest.dependencies().iter().map(|needed| needed.id.to_string()).collect()),
    ];
    let asked: Vec<_> = asked.into_iter().filter(|(_, items): &(_, Vec<String>)| !items.is_empty()).collect();
    match asked.is_empty() {
        true => say("It asks for nothing: no file, no connection, no call to the application.".to_owned()),
        false => {
            say("It asks to:".to_owned());
            asked.into_iter().for_each(|(what, items)| say(format!("  - {what}: {}", list(items))));
        }
    }
    text
}

fn standing(standing: &Standing) -> String {
    match standing {
        Standing::Unsigned => "not signed".to_owned(),
        Standing::Unknown(error) => error.to_string(),
        Standing::Trusted(keys) => {
            let names: Vec<_> = keys.iter().map(|(key, name)| format!("{name} ({key})")).collect();
            format!("signed by {}", names.join(", "))
        }
    }
}

fn facts(verified: &VerifiedPackage) -> Result<serde_json::Value, Outcome> {
    let VerifiedPackage { manifest, contents, standing } = verified;
    let signatures = contents.signatures().map_err(|error| Outcome::internal(error.to_string()))?;
    let signers = signatures.iter().flat_map(|signatures| signatures.signers());
    let trusted = |key: &hotcell::packages::KeyId| match standing {
        Standing::Trusted(keys) => keys.iter().find(|(known, _)| known == key).map(|(_, name)| name.clone()),
        Standing::Unsigned | Standing::Unknown(_) => None,
    };
    let signers: Vec<_> = signers
        .map(|signer| {
            json!({
                "key": signer.key.to_string(),
                "expires": signer.expires_text(),
                "trusted_as": trusted(&signer.key),
            })
        })
        .collect();
    let files: Vec<_> = contents
        .listing
        .iter()
        .map(|(path, digest, size)| json!({ "path": path.as_str(), "size": size, "sha256": hex(digest) }))
        .collect();
    Ok(json!({
        "id": manifest.id().as_str(),
        "version": manifest.version().to_string(),
        "digest": hex(&verified.digest()),
        "trusted": matches!(standing, Standing::Trusted(_)),
        "signatures": signers,
        "asks": asks(manifest),
        "profile": manifest.profile().as_str(),
        "host_calls": manifest.host_calls().map(ToString::to_string).collect::<Vec<_>>(),
        "connects": manifest.connects().map(ToString::to_string).collect::<Vec<_>>(),
        "programs": manifest.programs().map(ToString::to_string).collect::<Vec<_>>(),
        "listens": manifest.listens().map(|address| address.to_string()).collect::<Vec<_>>(),
        "paths": manifest.paths().map(ToString::to_string).collect::<Vec<_>>(),
        "files": files,
    }))
}
