//! Packages as their author makes them: packed and signed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use hotcell::packages::{KeyId, MANIFEST, Signatures, unhex};
use hotcell::policy::Manifest;
use hotcell::{Error, pack, put_signatures, signatures, survey};

use super::project::package_of;
use crate::key::KeyFile;
use crate::outcome::Outcome;

/// How to sign elsewhere.
pub(crate) const SIGN: &str = "\
To sign where this command does not run, with a key in an HSM or on another machine:
  hotcell plugin sign PLUGIN --statement --public-key KEY > statement
  openssl pkeyutl -sign -rawin -inkey key.pem -in statement -out signature
  hotcell plugin sign PLUGIN --attach signature --public-key KEY
The statement names every file with its digest. Give the same --expires both times.";

#[derive(Debug, Args)]
pub(crate) struct Package {
    /// A project, or a folder with manifest.json: every file of the package becomes part of it
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The file to write [default: ID-VERSION.lbplugin, here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    key: KeyFile,
    /// When the signature expires: a day such as 2027-12-31, or a number of days such as 365d [default: never]
    #[arg(long, value_parser = expiry)]
    expires: Option<SystemTime>,
    /// Do not sign it
    #[arg(long, conflicts_with_all = ["key", "passphrase_file", "expires"])]
    unsigned: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// An .lbplugin file, or a folder with manifest.json, which gets a file signatures.json
    plugin: PathBuf,
    #[command(flatten)]
    key: KeyFile,
    /// When the signature expires: a day such as 2027-12-31, or a number of days such as 365d [default: never]
    #[arg(long, value_parser = expiry)]
    expires: Option<SystemTime>,
    /// The public key of a signature that is made elsewhere
    #[arg(long, value_name = "KEY")]
    public_key: Option<KeyId>,
    /// Print the bytes that are to be signed
    #[arg(long, requires = "public_key")]
    statement: bool,
    /// A file of 64 bytes: the signature
    #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with = "statement")]
    attach: Option<PathBuf>,
}

pub(crate) fn package(arguments: &Package) -> Result<String, Outcome> {
    let folder = &package_of(folder_of(&arguments.folder))?;
    let contents = survey(folder)?;
    let manifest = contents.manifest(&folder.display().to_string()).map_err(Error::from)?;
    let signatures = match arguments.unsigned {
        true => None,
        false => {
            if !arguments.key.is_there() {
                let what = "there is no key to sign with: make one with `hotcell key new`, or say --unsigned";
                return Err(Outcome::invalid(what.to_owned()));
            }
            let mut signatures = Signatures::over(contents.listing.clone());
            signatures.sign(&arguments.key.open()?, arguments.expires);
            Some(signatures)
        }
    };
    let output = arguments.output.clone().unwrap_or_else(|| default_name(&manifest));
    pack(folder, &contents, signatures.as_ref(), &output)?;
    let size = std::fs::metadata(&output).map_or(0, |facts| facts.len());
    eprintln!("{}: {} files, {size} bytes", output.display(), contents.listing.iter().count());
    Ok(format!("{}\n", output.display()))
}

fn default_name(manifest: &Manifest) -> PathBuf {
    format!("{}-{}.lbplugin", manifest.id(), manifest.version()).into()
}

/// The folder, where its manifest was named.
fn folder_of(path: &Path) -> &Path {
    match path.file_name().is_some_and(|name| name == MANIFEST) {
        true => path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        false => path,
    }
}

pub(crate) fn sign(arguments: &Sign) -> Result<String, Outcome> {
    let plugin = folder_of(&arguments.plugin);
    let mut signatures = signatures(plugin)?;
    if let Some(key) = &arguments.public_key {
        if arguments.statement {
            return Ok(signatures.statement(key, arguments.expires).to_string());
        }
        let Some(file) = &arguments.attach else {
            return Err(Outcome::invalid("--public-key goes with --statement or --attach".to_owned()));
        };
        let bytes = read_signature(file)?;
        let attached = signatures.attach(key.clone(), arguments.expires, bytes);
        attached.map_err(|error| Outcome::invalid(format!("{}: {error}", file.display())))?;
    } else {
        signatures.sign(&arguments.key.open()?, arguments.expires);
    }
    put_signatures(plugin, &signatures)?;
    let signers: Vec<_> = signatures.signers().iter().map(|signer| signer.key.to_string()).collect();
    eprintln!("{}: signed by {}", plugin.display(), signers.join(", "));
    Ok(String::new())
}

/// 64 bytes, as they are or as hexadecimal digits.
fn read_signature(file: &Path) -> Result<[u8; 64], Outcome> {
    let bytes = std::fs::read(file)
        .map_err(|error| Outcome::invalid(format!("failed to read {}: {error}", file.display())))?;
    let digits = std::str::from_utf8(&bytes).ok().and_then(|text| unhex(text.trim()));
    let raw = || <[u8; 64]>::try_from(bytes.as_slice()).ok();
    digits.or_else(raw).ok_or_else(|| {
        Outcome::invalid(format!("{}: a signature is 64 bytes, or their hexadecimal digits", file.display()))
    })
}

/// Reads `2027-12-31` or `365d`.
fn expiry(text: &str) -> Result<SystemTime, String> {
    let wrong = || "a day such as 2027-12-31, or a number of days such as 365d".to_owned();
    let time = match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) if days <= 36_500 => {
            let time = SystemTime::now() + std::time::Duration::from_secs(days * 86_400);
            // Whole seconds, as they are written.
            humantime::parse_rfc3339(&humantime::format_rfc3339_seconds(time).to_string()).ok()
        }
        _ => humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok(),
    };
    time.filter(|time| *time > SystemTime::now()).ok_or_else(wrong)
}
