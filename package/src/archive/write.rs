//! Writes archives: the same bytes for the same files.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder};
use hotcell_policy::PackagePath;

use super::names::Names;
use super::{BLOCK, Bounds, GZIP, header, padding};
use crate::contents::{MANIFEST, SIGNATURES};
use crate::error::PackageError;

/// Writes files as an archive: the manifest first, the signatures second, all others in the order of their names' bytes.
///
/// Each file is its name, its size, and whatever opens it; one that has become longer or shorter is an error.
///
/// # Errors
/// There is no manifest, names collide or do not fit, something is over a bound, or reading or writing fails.
pub fn write<R: Read>(
    out: impl Write,
    files: impl IntoIterator<Item = (PackagePath, u64, R)>,
    bounds: &Bounds,
) -> Result<(), PackageError> {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by(|(one, ..), (other, ..)| rank(one).cmp(&rank(other)));
    if files.first().is_none_or(|(path, ..)| path.as_str() != MANIFEST) {
        return Err(PackageError::NotCanonical(format!("there is no {MANIFEST}")));
    }
    let failed = |error| PackageError::Io("write a package", error);
    let mut out = GzBuilder::new().operating_system(GZIP[9]).write(out, Compression::best());
    let (mut names, mut total) = (Names::default(), 0);
    for (path, size, contents) in files {
        names.enter(&path, bounds)?;
        total = size.saturating_add(total);
        check_size(&path, size, total, bounds)?;
        out.write_all(header(&path, size)?.as_bytes()).map_err(failed)?;
        let copied = std::io::copy(&mut contents.take(size + 1), &mut out).map_err(failed)?;
        if copied != size {
            let what = format!("{path} changed while it was read");
            return Err(PackageError::Io("read a file", std::io::Error::other(what)));
        }
        out.write_all([0; BLOCK].get(..padding(size)).unwrap_or_default()).map_err(failed)?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(failed)?;
    out.finish().and_then(|mut out| out.flush()).map_err(failed)
}

/// What orders the entries of an archive.
pub(super) fn rank(path: &PackagePath) -> (u8, &str) {
    match path.as_str() {
        MANIFEST => (0, ""),
        SIGNATURES => (1, ""),
        other => (2, other),
    }
}

pub(super) fn check_size(
    path: &PackagePath,
    size: u64,
    total: u64,
    bounds: &Bounds,
) -> Result<(), PackageError> {
    let over = |what: String, most: u64| PackageError::TooLarge { what, most: format!("{} MiB", most >> 20) };
    if size > bounds.file {
        return Err(over(format!("{path} with {size} bytes"), bounds.file));
    }
    if total > bounds.total {
        return Err(over("all files together".to_owned(), bounds.total));
    }
    Ok(())
}
