//! `hotcell trust`: whose signatures count.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::ExitCode;

use clap::Subcommand;
use hotcell::packages::{Ask, IdPattern, KeyId, TrustError, TrustStore, TrustedKey, unhex};
use hotcell::{Class, Error, Packages};

use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

/// What `trust` is about.
pub(crate) const TRUST: &str = "\
The trust store is the file trust.json of the state folder (--state-dir). A key counts for the plugins that it is trusted for, as
long as they ask for no more than --may allows. Hosts look into the store at each load. A plugin that is not signed is loaded
all the same, unless its host, its profile or its manifest requires signatures, or a version of it was signed before.";

/// What `trust` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustAction {
    /// Trust a key for some plugins; said again, it replaces what was said before
    Add {
        /// The public key, as `hotcell key show` prints it
        key: KeyId,
        /// Whose it is
        #[arg(long)]
        name: String,
        /// The plugins: an id, com.example.* for all below it, or *
        #[arg(long = "for", value_name = "PLUGINS", required = true)]
        plugins: Vec<IdPattern>,
        /// What they may ask for, of native, read-files, write-files, network, listen, programs, host-calls
        /// [default: whatever their profile grants]
        #[arg(long, value_name = "KIND", value_delimiter = ',')]
        may: Option<Vec<Ask>>,
    },
    /// List keys and revocations
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget a key, and that it was revoked
    Remove {
        /// The public key
        key: KeyId,
    },
    /// What a key has signed, or one package, does not count any more
    Revoke {
        /// A public key, or the digest of a package as `hotcell plugin verify` prints it
        digits: String,
        /// It is the digest of a package
        #[arg(long)]
        package: bool,
        /// Why, for those who meet it
        #[arg(long)]
        why: String,
    },
}

pub(crate) fn trust(global: &Global, action: TrustAction) -> ExitCode {
    match text(global, action) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

fn text(global: &Global, action: TrustAction) -> Result<String, Outcome> {
    let packages = host::builder(global)?.packages()?;
    match action {
        TrustAction::Add { key, name, plugins, may } => {
            let asks: Option<BTreeSet<Ask>> = may.map(|may| may.into_iter().collect());
            let name = hotcell::escape(name.as_bytes());
            let known = TrustedKey { key, name, plugins, asks, revoked: None };
            let added = packages.change_trust(|store| Ok(store.add(known)))?;
            added.map_err(|error| refused(&error, "take that back with `hotcell trust remove`"))?;
            Ok(String::new())
        }
        TrustAction::List { json: true } => Ok(packages.trust()?.to_string()),
        TrustAction::List { json: false } => Ok(list(&packages.trust()?)),
        TrustAction::Remove { key } => match packages.change_trust(|store| Ok(store.remove(&key)))? {
            true => Ok(String::new()),
            false => Err(Outcome::invalid(format!("the key {key} is not known here"))),
        },
        TrustAction::Revoke { digits, package, why } => revoke(&packages, &digits, package, &why),
    }
}

fn revoke(packages: &Packages, digits: &str, package: bool, why: &str) -> Result<String, Outcome> {
    let why = &hotcell::escape(why.as_bytes());
    if package {
        let wrong = || Outcome::invalid("a digest is 64 lower-case hexadecimal digits".to_owned());
        let digest = unhex(digits).ok_or_else(wrong)?;
        packages.change_trust(|store| {
            store.revoke_package(&digest, why);
            Ok::<_, Error>(())
        })?;
    } else {
        let key: KeyId = digits.parse().map_err(Outcome::invalid)?;
        packages.change_trust(|store| {
            store.revoke_key(key, why);
            Ok::<_, Error>(())
        })?;
    }
    Ok(String::new())
}

fn list(store: &TrustStore) -> String {
    let mut text = String::new();
    for known in store.keys() {
        // Writing into a string cannot fail.
        let _ = match &known.revoked {
            Some(why) => writeln!(text, "{}  revoked: {why}", known.key),
            None => {
                let plugins: Vec<_> = known.plugins.iter().map(ToString::to_string).collect();
                let may = known.asks.as_ref().map_or("all that their profiles grant".to_owned(), |asks| {
                    asks.iter().map(|ask| ask.name()).collect::<Vec<_>>().join(", ")
                });
                writeln!(
                    text,
                    "{}  {}  for {}  may ask for: {may}",
                    known.key,
                    known.name,
                    plugins.join(", ")
                )
            }
        };
    }
    for package in store.revoked_packages() {
        let _ = writeln!(text, "{}  package revoked: {}", package.digest, package.why);
    }
    text
}

fn refused(error: &TrustError, help: &str) -> Outcome {
    Outcome { class: Class::Refused, message: format!("{error}; {help}") }
}
