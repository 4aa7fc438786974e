//! `signatures.json`: which files were signed, and by whom.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hotcell_policy::{NameError, PackagePath};
use serde::{Deserialize, Serialize};

use crate::error::SignatureError;
use crate::hex::{hex, unhex};
use crate::listing::Listing;
use crate::statement::Statement;

/// Most signers of a package.
const SIGNERS_MAX: usize = 16;

/// The one algorithm (RFC 8032).
const ALGORITHM: &str = "ed25519";

/// A public key, which is its own id: nothing can be confused with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 32]);

impl KeyId {
    /// The id of a key.
    pub fn of(key: &SigningKey) -> KeyId {
        KeyId(key.verifying_key().to_bytes())
    }

    /// The key; none where the bytes are not one, or one of small order, for which anybody can sign.
    fn key(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.0).ok().filter(|key| !key.is_weak())
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<KeyId, String> {
        let wrong =
            || "a key is 64 lower-case hexadecimal digits, as `hotcell key show` prints them".to_owned();
        let key = unhex(text).map(KeyId).ok_or_else(wrong)?;
        match key.key() {
            Some(_) => Ok(key),
            None => Err("these digits are no ed25519 key, or one for which anybody can sign".to_owned()),
        }
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<KeyId, String> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(key: KeyId) -> String {
        key.to_string()
    }
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Who signed.
    pub key: KeyId,
    /// When it expires; `None` for never.
    pub expires: Option<SystemTime>,
    expires_text: Option<String>,
    bytes: [u8; 64],
}

/// The files that were signed, and the signatures over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatures {
    listing: Listing,
    signers: Vec<Signature>,
}

/// The document as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    files: Vec<File>,
    signatures: Vec<Written>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    size: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    algorithm: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    signature: String,
}

impl Signatures {
    /// Largest document, in bytes: enough for as many files as an archive holds.
    pub const MAX_BYTES: usize = 2 << 20;

    /// No signature yet, over these files.
    pub fn over(listing: Listing) -> Signatures {
        Signatures { listing, signers: Vec::new() }
    }

    /// Reads the document. Nothing is checked against files or keys.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(document: &[u8]) -> Result<Signatures, SignatureError> {
        let malformed = |what: String| SignatureError::Malformed(what);
        if document.len() > Signatures::MAX_BYTES {
            return Err(malformed(format!("more than {} bytes", Signatures::MAX_BYTES)));
        }
        let read: Document =
            serde_json::from_slice(document).map_err(|error| malformed(error.to_string()))?;
        if read.schema != 1 {
            return Err(malformed(format!("schema {} is not known", read.schema)));
        }
        if read.signatures.is_empty() || read.signatures.len() > SIGNERS_MAX {
            return Err(malformed(format!(
                "from 1 to {SIGNERS_MAX} signatures, not {}",
                read.signatures.len()
            )));
        }
        let mut listing = Listing::default();
        for File { path, size, sha256 } in read.files {
            let wrong = |error: NameError| malformed(format!("{path:?}: {error}"));
            let name: PackagePath = path.parse().map_err(wrong)?;
            let digest =
                unhex(&sha256).ok_or_else(|| malformed(format!("the digest of {path:?} is none")))?;
            if !listing.insert(name, digest, size) {
                return Err(malformed(format!("{path:?} is listed twice")));
            }
        }
        let signers = read.signatures.into_iter().map(Signature::parse).collect::<Result<Vec<_>, _>>()?;
        let mut keys: Vec<_> = signers.iter().map(|signer| &signer.key).collect();
        keys.sort();
        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(malformed("a key signed twice".to_owned()));
        }
        Ok(Signatures { listing, signers })
    }

    /// Checks that exactly these files were signed, and that every signature is right.
    pub(crate) fn check(&self, files: &Listing) -> Result<(), SignatureError> {
        for (path, digest, size) in files.iter() {
            match self.listing.get(path) {
                None => return Err(SignatureError::UnlistedFile(path.to_string())),
                Some(listed) if *listed != (*digest, size) => {
                    return Err(SignatureError::DigestMismatch(path.to_string()));
                }
                Some(_) => {}
            }
        }
        if let Some((missing, ..)) = self.listing.iter().find(|(path, ..)| files.get(path).is_none()) {
            return Err(SignatureError::MissingFile(missing.to_string()));
        }
        self.signers.iter().try_for_each(|signer| signer.check(files))
    }

    /// Who signed.
    pub fn signers(&self) -> &[Signature] {
        &self.signers
    }

    /// What a key is to sign outside, where this program does not hold it: sign the bytes as they are (RFC 8032,
    /// PureEdDSA), and give the signature to [`Signatures::attach`].
    pub fn statement(&self, key: &KeyId, expires: Option<SystemTime>) -> Statement {
        Statement::new(key, expires.map(written).as_deref(), &self.listing)
    }

    /// Adds a signature, in place of one that the key made before.
    pub fn sign(&mut self, key: &SigningKey, expires: Option<SystemTime>) {
        let id = KeyId::of(key);
        let bytes = key.sign(self.statement(&id, expires).as_bytes()).to_bytes();
        self.put(Signature::new(id, expires, bytes));
    }

    /// Adds a signature that was made outside.
    ///
    /// # Errors
    /// It is not one of this key over [`Signatures::statement`].
    pub fn attach(
        &mut self,
        key: KeyId,
        expires: Option<SystemTime>,
        bytes: [u8; 64],
    ) -> Result<(), SignatureError> {
        let signature = Signature::new(key, expires, bytes);
        signature.check(&self.listing)?;
        self.put(signature);
        Ok(())
    }

    fn put(&mut self, signature: Signature) {
        self.signers.retain(|other| other.key != signature.key);
        self.signers.push(signature);
        self.signers.sort_by(|one, other| one.key.cmp(&other.key));
    }
}

/// The document: the same bytes for the same signatures.
impl fmt::Display for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = |(path, digest, size): (&PackagePath, &[u8; 32], u64)| File {
            path: path.to_string(),
            size,
            sha256: hex(digest),
        };
        let document = Document {
            schema: 1,
            files: self.listing.iter().map(file).collect(),
            signatures: self.signers.iter().map(Signature::write).collect(),
        };
        let text = serde_json::to_string_pretty(&document).map_err(|_| fmt::Error)?;
        writeln!(f, "{text}")
    }
}

impl Signature {
    fn new(key: KeyId, expires: Option<SystemTime>, bytes: [u8; 64]) -> Signature {
        let expires_text = expires.map(written);
        Signature { key, expires, expires_text, bytes }
    }

    fn parse(read: Written) -> Result<Signature, SignatureError> {
        let malformed = |what: &str| SignatureError::Malformed(what.to_owned());
        if read.algorithm != ALGORITHM {
            return Err(SignatureError::Algorithm(read.algorithm.chars().take(64).collect()));
        }
        let key = read.key.parse().map_err(SignatureError::Malformed)?;
        let bytes =
            unhex(&read.signature).ok_or_else(|| malformed("a signature is 128 hexadecimal digits"))?;
        let expires = match &read.expires {
            None => None,
            Some(text) => {
                let time = humantime::parse_rfc3339(text).ok().filter(|time| written(*time) == *text);
                Some(time.ok_or_else(|| malformed("a time of expiry is as `2027-01-31T00:00:00Z`"))?)
            }
        };
        Ok(Signature { key, expires, expires_text: read.expires, bytes })
    }

    fn write(&self) -> Written {
        Written {
            algorithm: ALGORITHM.to_owned(),
            key: self.key.to_string(),
            expires: self.expires_text.clone(),
            signature: hex(&self.bytes),
        }
    }

    /// The time of expiry, as it was signed.
    pub fn expires_text(&self) -> Option<&str> {
        self.expires_text.as_deref()
    }

    /// `verify_strict`: no second signature can be made of one, and no key of small order signs everything.
    fn check(&self, files: &Listing) -> Result<(), SignatureError> {
        let invalid = || SignatureError::Invalid(self.key.to_string());
        let statement = Statement::new(&self.key, self.expires_text.as_deref(), files);
        let signature = ed25519_dalek::Signature::from_bytes(&self.bytes);
        let key = self.key.key().ok_or_else(invalid)?;
        key.verify_strict(statement.as_bytes(), &signature).map_err(|_| invalid())
    }
}

/// Whole seconds, RFC 3339.
fn written(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
