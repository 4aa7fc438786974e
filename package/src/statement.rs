//! What is signed: a text that says which files, by which key, until when.

use std::fmt;

use crate::listing::Listing;
use crate::signatures::KeyId;

/// The text that a key signs.
///
/// ```text
/// hotcell package 1
/// key ed25519 PUBLIC-KEY
/// expires 2027-11-28T00:00:00Z
/// file SHA-256 SIZE PATH
/// ...
/// ```
///
/// Lines end with a line feed; files are in the order of their names' bytes; hexadecimal digits are lower-case. The first
/// line keeps the signature from being one of anything else. The key and the time are in it, so that neither can be
/// exchanged. The manifest is one of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(String);

impl Statement {
    /// `expires` is as it stands in the document, or nothing for a signature that does not expire.
    pub(crate) fn new(key: &KeyId, expires: Option<&str>, listing: &Listing) -> Statement {
        let expires = expires.unwrap_or("never");
        Statement(format!("hotcell package 1\nkey ed25519 {key}\nexpires {expires}\n{}", listing.lines()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
