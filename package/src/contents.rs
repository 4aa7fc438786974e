//! What was read of a package.

use hotcell_policy::{Manifest, ParseError};

use crate::error::SignatureError;
use crate::listing::Listing;
use crate::signatures::Signatures;

/// The manifest's name: the first entry.
pub const MANIFEST: &str = "manifest.json";

/// The name of the signatures: the second entry, if there are any.
pub const SIGNATURES: &str = "signatures.json";

/// What a package is, without the bytes of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The bytes of the manifest.
    pub manifest: Vec<u8>,
    /// The bytes of the signatures.
    pub signatures: Option<Vec<u8>>,
    /// Every file but the signatures.
    pub listing: Listing,
}

impl Contents {
    /// Reads the manifest; `package` names the package in messages.
    ///
    /// # Errors
    /// It is not what a manifest must be.
    pub fn manifest(&self, package: &str) -> Result<Manifest, ParseError> {
        Manifest::parse(&format!("{package}:{MANIFEST}"), &self.manifest)
    }

    /// Reads the signatures and checks each of them against the files that are there: whatever comes out is signed as it
    /// says, by keys of which nothing is known yet.
    ///
    /// # Errors
    /// There are signatures, and one of them is not right. One wrong signature among right ones is an error, too.
    pub fn signatures(&self) -> Result<Option<Signatures>, SignatureError> {
        let Some(document) = &self.signatures else { return Ok(None) };
        let signatures = Signatures::parse(document)?;
        signatures.check(&self.listing)?;
        Ok(Some(signatures))
    }
}
