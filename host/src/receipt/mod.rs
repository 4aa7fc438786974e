//! Receipts: what is in force on a worker, as the kernel says at that moment, signed by the host.
//!
//! A receipt says that a host with this key saw this of a worker. It does not say that the host was honest, nor that the
//! plugin did no harm within what it was granted.

mod kernel;

use std::fmt;
use std::path::Path;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hotcell_package::{hex, unhex};
use hotcell_policy::{Plan, Profile, render};
use hotcell_protocol::Evidence;
use hotcell_protocol::launch::build_id;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::package::artifact::Sha;
use crate::secret;
use crate::worker::{Blueprint, Sight};
use kernel::InForce;

/// What is signed begins with this, so that no other signature of the key is one of a receipt.
const DOMAIN: &[u8] = b"hotcell receipt 1\0";

/// The file of the host's key, in its state folder.
const KEY: &str = "receipt.key";

/// Longest document that is looked at, in bytes: a real one has about five thousand.
const DOCUMENT_MAX: usize = 1 << 20;

/// What was in force on a worker, signed.
#[derive(Clone, Debug)]
pub struct Receipt {
    body: Box<RawValue>,
    key: VerifyingKey,
    signature: Signature,
}

/// Why a text is no receipt of a host.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It is no receipt at all.
    #[error("not a receipt: {0}")]
    Malformed(String),
    /// Another key than the expected one signed it.
    #[error("signed by the key {0}, which is not the expected one")]
    OtherKey(String),
    /// It was changed after it was signed.
    #[error("the signature is not one of this receipt")]
    Signature,
}

/// The document as it is written: signature and key as hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    receipt: Box<RawValue>,
    key: String,
    signature: String,
}

/// What is signed.
#[derive(Serialize)]
struct Body<'r> {
    /// The version of this format.
    receipt: u32,
    /// When, in seconds since 1970.
    time: u64,
    build: String,
    kernel: String,
    plugin: &'r str,
    version: &'r str,
    profile: &'r str,
    generation: u32,
    digests: Digests,
    /// What the host verified before anything of the plugin was loaded.
    evidence: &'r Evidence,
    /// What the kernel says now; nothing of a worker that has ended.
    in_force: Option<InForce>,
}

/// What the workers of a plugin are started from.
#[derive(Debug)]
pub(crate) struct Origin {
    profile: String,
    plan: Sha,
    profile_text: Sha,
    artifact: Sha,
}

impl Origin {
    /// Of a version of a plugin; the digest is that of its package's artifact.
    pub(crate) fn new(plan: &Plan, profile: &Profile, artifact: Sha) -> Origin {
        let sha = |text: &str| Sha256::digest(text).into();
        let profile_text = sha(profile.text());
        Origin { profile: profile.name().to_owned(), plan: sha(&render(plan)), profile_text, artifact }
    }
}

/// SHA-256, as hexadecimal digits.
#[derive(Serialize)]
struct Digests {
    /// Of the plan's text.
    plan: String,
    /// Of the profile's text.
    profile: String,
    /// Of the package's artifact.
    artifact: String,
    /// Of what the worker mapped: for wasm the native code that was made of the artifact.
    loaded: String,
}

impl Receipt {
    /// Reads a worker back from the kernel and signs what it says. Blocks.
    pub(crate) fn of_living(
        blueprint: &Blueprint,
        sight: &Sight,
        key: &SigningKey,
    ) -> Result<Receipt, Error> {
        let in_force = kernel::read(sight.evidence.pid, sight.pidfd.get_ref()).map_err(failed)?;
        Receipt::make(blueprint, (sight.generation, &sight.evidence), Some(in_force), key)
    }

    /// Signs what was seen of a worker before it ended. Blocks.
    pub(crate) fn of_ended(
        blueprint: &Blueprint,
        worker: (u32, &Evidence),
        key: &SigningKey,
    ) -> Result<Receipt, Error> {
        Receipt::make(blueprint, worker, None, key)
    }

    fn make(
        blueprint: &Blueprint,
        (generation, evidence): (u32, &Evidence),
        in_force: Option<InForce>,
        key: &SigningKey,
    ) -> Result<Receipt, Error> {
        let origin =
            blueprint.origin.as_ref().ok_or_else(|| failed(std::io::ErrorKind::Unsupported.into()))?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let body = Body {
            receipt: 1,
            time: now.as_secs(),
            build: build_id(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(failed)?.trim().to_owned(),
            plugin: &blueprint.plugin,
            version: &blueprint.version,
            profile: &origin.profile,
            generation,
            digests: Digests {
                plan: hex(&origin.plan),
                profile: hex(&origin.profile_text),
                artifact: hex(&origin.artifact),
                loaded: hex(&blueprint.artifact.digest),
            },
            evidence,
            in_force,
        };
        let unwritten = |error: serde_json::Error| failed(error.into());
        let body = serde_json::value::to_raw_value(&body).map_err(unwritten)?;
        let signature = key.sign(&signed(&body));
        Ok(Receipt { body, key: key.verifying_key(), signature })
    }

    /// Reads a receipt and checks that the expected key signed it. `key` is 64 hexadecimal digits.
    ///
    /// # Errors
    /// It is malformed, was signed by another key, or was changed.
    pub fn verify(document: &str, key: &str) -> Result<Receipt, ReceiptError> {
        let malformed = |what: &str| ReceiptError::Malformed(what.to_owned());
        if document.len() > DOCUMENT_MAX {
            return Err(malformed("too long"));
        }
        let read = serde_json::from_str::<Document>(document);
        let read = read.map_err(|error| ReceiptError::Malformed(error.to_string()))?;
        let bytes =
            unhex::<32>(&read.key).ok_or_else(|| malformed("its key is not 64 hexadecimal digits"))?;
        let signer = VerifyingKey::from_bytes(&bytes).map_err(|_| malformed("its key is none"))?;
        if unhex::<32>(key) != Some(bytes) {
            return Err(ReceiptError::OtherKey(hex(&bytes)));
        }
        let signature = unhex::<64>(&read.signature)
            .ok_or_else(|| malformed("its signature is not 128 hexadecimal digits"))?;
        let receipt =
            Receipt { body: read.receipt, key: signer, signature: Signature::from_bytes(&signature) };
        match signer.verify_strict(&signed(&receipt.body), &receipt.signature) {
            Ok(()) => Ok(receipt),
            Err(_) => Err(ReceiptError::Signature),
        }
    }

    /// What was signed, as JSON.
    pub fn body(&self) -> &str {
        self.body.get()
    }

    /// The public key that signed it, as 64 hexadecimal digits.
    pub fn key(&self) -> String {
        hex(self.key.as_bytes())
    }
}

/// The document, on one line of JSON.
impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (body, key, signature) = (self.body(), self.key(), hex(&self.signature.to_bytes()));
        write!(f, "{{\"receipt\":{body},\"key\":\"{key}\",\"signature\":\"{signature}\"}}")
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::io("read a worker back", source)
}

fn signed(body: &RawValue) -> Vec<u8> {
    [DOMAIN, body.get().as_bytes()].concat()
}

/// The host's key, made when it is first wanted. Blocks.
pub(crate) fn key(state: &Path) -> Result<SigningKey, Error> {
    crate::places::passage(state)?;
    let failed = |source| Error::io(format!("use the key {}", state.join(KEY).display()), source);
    secret::key(state, KEY).map(|bytes| SigningKey::from_bytes(&bytes)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use serde_json::value::to_raw_value;

    use super::{Receipt, ReceiptError, hex, signed};

    fn receipt(text: &str) -> Receipt {
        let key = SigningKey::from_bytes(&[7; 32]);
        let body = to_raw_value(&serde_json::json!({ "plugin": text })).expect("JSON");
        let signature = key.sign(&signed(&body));
        Receipt { body, key: key.verifying_key(), signature }
    }

    #[test]
    fn what_the_expected_key_signed_is_believed_and_nothing_else() {
        let honest = receipt("a").to_string();
        let key = receipt("a").key();
        assert_eq!(Receipt::verify(&honest, &key).expect("as it was signed").body(), "{\"plugin\":\"a\"}");
        let changed = honest.replace("\"a\"", "\"b\"");
        assert!(matches!(Receipt::verify(&changed, &key), Err(ReceiptError::Signature)));
        let spaced = honest.replace("{\"plugin\"", "{ \"plugin\"");
        assert!(matches!(Receipt::verify(&spaced, &key), Err(ReceiptError::Signature)), "byte for byte");
        let other = hex(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
        assert!(matches!(Receipt::verify(&honest, &other), Err(ReceiptError::OtherKey(_))));
        let swapped = honest.replace(&key, &other);
        assert!(matches!(Receipt::verify(&swapped, &other), Err(ReceiptError::Signature)));
        let undomained = {
            let key = SigningKey::from_bytes(&[7; 32]);
            let receipt = receipt("a");
            Receipt { signature: key.sign(receipt.body().as_bytes()), ..receipt }.to_string()
        };
        assert!(matches!(Receipt::verify(&undomained, &key), Err(ReceiptError::Signature)));
    }

    #[test]
    fn what_is_no_receipt_is_refused_in_words() {
        let honest = receipt("a").to_string();
        let key = receipt("a").key();
        let more = honest.replace("{\"receipt\"", "{\"also\":1,\"receipt\"");
        let twice = honest.replace("{\"receipt\"", "{\"receipt\":{},\"receipt\"");
        let short = honest.replace(&key, &key[1..]);
        let huge = format!("{honest}{}", " ".repeat(2 << 20));
        for text in ["", "{}", "[]", &honest[1..], &more, &twice, &short, &huge] {
            assert!(matches!(Receipt::verify(text, &key), Err(ReceiptError::Malformed(_))), "{text:.80}");
        }
    }
}
