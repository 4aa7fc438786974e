//! What files a package holds: names, sizes, digests.

use std::collections::BTreeMap;

use hotcell_policy::PackagePath;
use sha2::Digest as _;

use crate::hex::hex;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// The files of a package, without the signatures, in the order of their names' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<PackagePath, (Digest, u64)>);

impl Listing {
    /// Enters a file. Says whether the name was free.
    pub fn insert(&mut self, path: PackagePath, digest: Digest, size: u64) -> bool {
        self.0.insert(path, (digest, size)).is_none()
    }

    /// Each file with its SHA-256 and its size in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&PackagePath, &Digest, u64)> {
        self.0.iter().map(|(path, (digest, size))| (path, digest, *size))
    }

    /// The digest and the size of a file.
    pub fn get(&self, path: &PackagePath) -> Option<&(Digest, u64)> {
        self.0.get(path)
    }

    /// One line for each file: `file SHA-256 SIZE PATH`. No path holds a line end.
    pub(crate) fn lines(&self) -> String {
        self.iter().map(|(path, digest, size)| format!("file {} {size} {path}\n", hex(digest))).collect()
    }

    /// What names these files, and no others: the SHA-256 of their lines. Neither the signatures nor the archive count.
    pub fn digest(&self) -> Digest {
        sha2::Sha256::digest(format!("hotcell files 1\n{}", self.lines())).into()
    }
}
