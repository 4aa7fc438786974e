//! The archive: a tar file (POSIX ustar) in one gzip member, of which only one form is accepted.

mod names;
mod read;
mod write;

use hotcell_policy::{NameError, PackagePath};
use tar::Header;

use crate::error::PackageError;
pub use read::read;
pub use write::write;

/// Bytes of a header, and of what contents are filled up to.
const BLOCK: usize = 512;

/// The beginning of the gzip member (RFC 1952): deflate, no name, no time, best compression, system unknown.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];

/// What a package may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Files.
    pub entries: usize,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of all files.
    pub total: u64,
    /// Bytes that each compressed byte may become, beyond a free first MiB.
    pub ratio: u64,
    /// Components of a name.
    pub depth: usize,
}

impl Bounds {
    /// Of all packages: far above real ones, far below what would hurt a host.
    pub const STANDARD: Bounds =
        Bounds { entries: 4096, file: 256 << 20, total: 512 << 20, ratio: 200, depth: 16 };
}

/// The one header of a file of this name and size.
fn header(path: &PackagePath, size: u64) -> Result<Header, PackageError> {
    let mut header = Header::new_ustar();
    header.set_path(path.as_str()).map_err(|_| PackageError::BadPath {
        path: path.to_string(),
        why: NameError::new("too long for an archive: 100 bytes for the last part, 155 for its folders"),
    })?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// Bytes from the end of contents of this size to the next block.
fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or_default()
}
