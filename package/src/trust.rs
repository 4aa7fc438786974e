//! Whose signatures count: keys that somebody here trusts, for which plugins, and what was revoked.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use hotcell_policy::{Manifest, PluginId};
use hotcell_protocol::Runtime;
use serde::{Deserialize, Serialize};

use crate::contents::Contents;
use crate::error::{SignatureError, TrustError};
use crate::hex::{hex, unhex};
use crate::listing::Digest;
use crate::signatures::{KeyId, Signature};

/// What a manifest asks for, in the kinds that a key can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// To run machine code.
    Native,
    /// To read files outside its package.
    ReadFiles,
    /// To write files.
    WriteFiles,
    /// To connect.
    Network,
    /// To have others connect to it.
    Listen,
    /// To have programs run.
    Programs,
    /// To call what the application registered, other than `log`.
    HostCalls,
}

impl Ask {
    /// Every kind.
    pub const ALL: [Ask; 7] = [
        Ask::Native,
        Ask::ReadFiles,
        Ask::WriteFiles,
        Ask::Network,
        Ask::Listen,
        Ask::Programs,
        Ask::HostCalls,
    ];

    /// Its name: `native`, `read-files`, `write-files`, `network`, `listen`, `programs`, `host-calls`.
    pub fn name(self) -> &'static str {
        match self {
            Ask::Native => "native",
            Ask::ReadFiles => "read-files",
            Ask::WriteFiles => "write-files",
            Ask::Network => "network",
            Ask::Listen => "listen",
            Ask::Programs => "programs",
            Ask::HostCalls => "host-calls",
        }
    }
}

impl FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Ask, String> {
        let names = Ask::ALL.map(Ask::name).join(", ");
        let found = Ask::ALL.into_iter().find(|ask| ask.name() == text);
        found.ok_or_else(|| format!("`{text}` is none of {names}"))
    }
}

/// What a manifest asks for.
pub fn asks(manifest: &Manifest) -> BTreeSet<Ask> {
    /// The host call that every shipped profile grants.
    const LOG: &str = "log";
    let outside = |path: &&hotcell_policy::GrantPath| path.place() != hotcell_protocol::Place::Plugin;
    let asked = [
        (Ask::Native, manifest.runtime() == Some(Runtime::Native)),
        (Ask::ReadFiles, manifest.paths().any(|path| outside(&path))),
        (Ask::WriteFiles, manifest.write_paths().next().is_some()),
        (Ask::Network, manifest.connects().next().is_some()),
        (Ask::Listen, manifest.listens().next().is_some()),
        (Ask::Programs, manifest.programs().next().is_some()),
        (Ask::HostCalls, manifest.host_calls().any(|call| call.as_str() != LOG)),
    ];
    asked.into_iter().filter_map(|(ask, is_asked)| is_asked.then_some(ask)).collect()
}

/// Which plugins: an id, `com.example.*` for all ids below `com.example`, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPattern(String);

impl IdPattern {
    /// Whether the plugin is one of them.
    pub fn covers(&self, id: &PluginId) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => id.as_str().starts_with(prefix),
            None => id.as_str() == self.0,
        }
    }
}

impl FromStr for IdPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<IdPattern, String> {
        // A prefix has at least one label; with another one below it, it is an id.
        let id = text.strip_suffix(".*").map_or_else(|| text.to_owned(), |prefix| format!("{prefix}.x"));
        match text == "*" || id.parse::<PluginId>().is_ok() {
            true => Ok(IdPattern(text.to_owned())),
            false => Err("plugins are named by an id, by `com.example.*`, or by `*`".to_owned()),
        }
    }
}

impl TryFrom<String> for IdPattern {
    type Error = String;

    fn try_from(text: String) -> Result<IdPattern, String> {
        text.parse()
    }
}

impl From<IdPattern> for String {
    fn from(pattern: IdPattern) -> String {
        pattern.0
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key, and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The key.
    pub key: KeyId,
    /// Whose it is, in the words of whoever trusts it.
    pub name: String,
    /// The plugins that it may sign.
    pub plugins: Vec<IdPattern>,
    /// What these may ask for; `None` for whatever their profile grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<BTreeSet<Ask>>,
    /// Why it does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
}

/// A package that does not count, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedPackage {
    /// The digest of its files, as [`Listing::digest`](crate::Listing::digest) has it, in hexadecimal.
    pub digest: String,
    /// Why.
    pub why: String,
}

/// Keys and revocations, as they are written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustStore {
    schema: Schema,
    keys: Vec<TrustedKey>,
    packages: Vec<RevokedPackage>,
}

/// The version of the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Schema;

impl TryFrom<u32> for Schema {
    type Error = String;

    fn try_from(schema: u32) -> Result<Schema, String> {
        if schema == 1 { Ok(Schema) } else { Err(format!("schema {schema} is not known")) }
    }
}

impl From<Schema> for u32 {
    fn from(Schema: Schema) -> u32 {
        1
    }
}

/// What a package's signatures are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There are none.
    Unsigned,
    /// They are right, and no key here may sign the plugin: they are worth nothing.
    Unknown(TrustError),
    /// These keys, by their names, may sign it and did.
    Trusted(Vec<(KeyId, String)>),
}

impl TrustStore {
    /// Largest document, in bytes.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Reads the document.
    ///
    /// # Errors
    /// It is none. Nothing is trusted then.
    pub fn parse(document: &[u8]) -> Result<TrustStore, String> {
        if document.len() > TrustStore::MAX_BYTES {
            return Err(format!("more than {} bytes", TrustStore::MAX_BYTES));
        }
        let store: TrustStore = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        let mut keys: Vec<_> = store.keys.iter().map(|key| &key.key).collect();
        keys.sort();
        match keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            Some(twice) => Err(format!("the key {twice} stands there twice")),
            None => Ok(store),
        }
    }

    /// The keys, the revoked ones among them.
    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// The packages that were revoked.
    pub fn revoked_packages(&self) -> &[RevokedPackage] {
        &self.packages
    }

    /// Trusts a key, in place of what was said of it before.
    ///
    /// # Errors
    /// It was revoked: that is taken back by removing it.
    pub fn add(&mut self, key: TrustedKey) -> Result<(), TrustError> {
        if let Some(why) = self.find(&key.key).and_then(|known| known.revoked.clone()) {
            return Err(TrustError::RevokedKey(key.key.to_string(), why));
        }
        self.remove(&key.key);
        self.keys.push(key);
        Ok(())
    }

    /// Forgets a key, and that it was revoked. Says whether it was there.
    pub fn remove(&mut self, key: &KeyId) -> bool {
        let before = self.keys.len();
        self.keys.retain(|known| known.key != *key);
        self.keys.len() < before
    }

    /// Revokes a key, whether it is known or not: what it signed does not count; another key's signature
    /// of the same package may.
    pub fn revoke_key(&mut self, key: KeyId, why: &str) {
        match self.keys.iter_mut().find(|known| known.key == key) {
            Some(known) => known.revoked = Some(why.to_owned()),
            None => self.keys.push(TrustedKey {
                key,
                name: String::new(),
                plugins: Vec::new(),
                asks: None,
                revoked: Some(why.to_owned()),
            }),
        }
    }

    /// Revokes one package.
    pub fn revoke_package(&mut self, digest: &Digest, why: &str) {
        let digest = hex(digest);
        self.packages.retain(|package| package.digest != digest);
        self.packages.push(RevokedPackage { digest, why: why.to_owned() });
    }

    fn find(&self, key: &KeyId) -> Option<&TrustedKey> {
        self.keys.iter().find(|known| known.key == *key)
    }

    /// What the signatures of a package are worth, at a time.
    ///
    /// # Errors
    /// A signature is not right; the package or every key that signed is revoked; or a trusted key signed what it may not
    /// sign, or too long ago, and no other one may.
    pub fn judge(
        &self,
        contents: &Contents,
        manifest: &Manifest,
        now: SystemTime,
    ) -> Result<Standing, SignatureError> {
        let digest = contents.listing.digest();
        let revoked = |package: &&RevokedPackage| unhex(&package.digest) == Some(digest);
        if let Some(package) = self.packages.iter().find(revoked) {
            return Err(TrustError::RevokedPackage(package.why.clone()).into());
        }
        let Some(signatures) = contents.signatures()? else { return Ok(Standing::Unsigned) };
        let (mut trusted, mut unknown, mut refused) = (Vec::new(), None, None);
        for signature in signatures.signers() {
            match self.worth(signature, manifest, now) {
                Ok(name) => trusted.push((signature.key.clone(), name)),
                Err(error @ TrustError::Unknown(..)) => unknown = unknown.or(Some(error)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match (trusted.is_empty(), refused, unknown) {
            (false, ..) => Ok(Standing::Trusted(trusted)),
            (true, Some(error), _) => Err(error.into()),
            (true, None, Some(error)) => Ok(Standing::Unknown(error)),
            // Signatures has at least one.
            (true, None, None) => Ok(Standing::Unsigned),
        }
    }

    /// Whose signature it is, if it counts.
    fn worth(
        &self,
        signature: &Signature,
        manifest: &Manifest,
        now: SystemTime,
    ) -> Result<String, TrustError> {
        let key = signature.key.to_string();
        let Some(known) = self.find(&signature.key) else {
            return Err(TrustError::Unknown(key, manifest.id().to_string()));
        };
        if let Some(why) = &known.revoked {
            return Err(TrustError::RevokedKey(key, why.clone()));
        }
        let name = known.name.clone();
        if !known.plugins.iter().any(|pattern| pattern.covers(manifest.id())) {
            return Err(TrustError::WrongKeyForId { key, name, id: manifest.id().to_string() });
        }
        let may = |ask: &Ask| known.asks.as_ref().is_none_or(|asks| asks.contains(ask));
        if let Some(ask) = asks(manifest).into_iter().find(|ask| !may(ask)) {
            return Err(TrustError::Asks { key, name, ask: ask.name() });
        }
        match signature.expires {
            Some(expires) if expires <= now => {
                let text = signature.expires_text().unwrap_or_default().to_owned();
                Err(TrustError::Expired(key, text))
            }
            _ => Ok(name),
        }
    }
}

/// The document.
impl fmt::Display for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        writeln!(f, "{text}")
    }
}
