//! What a folder holds, as a package: every file of it, none left out.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use hotcell_package::{Bounds, Contents, Digest, MANIFEST, PackageError, SIGNATURES, Signatures};
use hotcell_policy::{Manifest, NameError, PackagePath};
use sha2::Digest as _;

use super::beneath;
use crate::error::Error;

/// The files of a package: name, size, contents.
pub(super) type Files = Vec<(PackagePath, u64, Box<dyn Read>)>;

/// Bytes taken at once.
const PIECE: usize = 256 << 10;

/// Reads the names and digests of a folder's files. Links, devices and pipes are refused, and so is what an archive could not
/// hold. Blocks.
///
/// # Errors
/// The folder cannot be read, has no manifest, holds something that no package may, or is over a bound.
pub fn survey(folder: &Path) -> Result<Contents, Error> {
    let name = folder.display().to_string();
    let refused = |source| Error::Archive { subject: name.clone(), source };
    let opened = beneath::folder(folder)?;
    let mut paths = Vec::new();
    list(folder, "", &mut paths).map_err(refused)?;
    paths.sort();
    let (mut contents, mut total) = (Contents::default(), 0);
    for path in paths {
        let (digest, size, kept) = measure(opened.as_fd(), &path)?;
        total += size;
        if size > Bounds::STANDARD.file || total > Bounds::STANDARD.total {
            let what = format!("{path} with {size} bytes, or all files together");
            return Err(refused(PackageError::TooLarge { what, most: "bound of a package".to_owned() }));
        }
        match path.as_str() {
            SIGNATURES => contents.signatures = kept,
            _ => {
                if path.as_str() == MANIFEST {
                    contents.manifest = kept.unwrap_or_default();
                }
                contents.listing.insert(path, digest, size);
            }
        }
    }
    match contents.manifest.is_empty() {
        true => Err(Error::malformed(name, format!("there is no {MANIFEST} in it"))),
        false => Ok(contents),
    }
}

/// Every file below a folder, as a path of the package.
fn list(root: &Path, below: &str, paths: &mut Vec<PackagePath>) -> Result<(), PackageError> {
    let failed = |error| PackageError::Io("list a package", error);
    for entry in std::fs::read_dir(root.join(below)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let lossy = format!("{below}{}", name.to_string_lossy());
        let bad = |path: &str, why| PackageError::BadPath { path: path.to_owned(), why };
        let text = name.to_str().map(|name| format!("{below}{name}"));
        let text = text.ok_or_else(|| bad(&lossy, NameError::new("a name is UTF-8")))?;
        let path: PackagePath = text.parse().map_err(|why| bad(&text, why))?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            let depth = text.split('/').count();
            if depth >= Bounds::STANDARD.depth {
                return Err(bad(
                    &text,
                    NameError::new("folders within folders, more than a package may have"),
                ));
            }
            list(root, &format!("{text}/"), paths)?;
        } else if kind.is_file() {
            if paths.len() == Bounds::STANDARD.entries {
                return Err(PackageError::TooManyEntries(Bounds::STANDARD.entries));
            }
            paths.push(path);
        } else {
            let kind = if kind.is_symlink() { "symbolic link" } else { "device, pipe or socket" };
            return Err(PackageError::LinkNotAllowed { path: text, kind });
        }
    }
    Ok(())
}

/// The digest and the size of a file; of manifest and signatures also the bytes.
fn measure(folder: BorrowedFd<'_>, path: &PackagePath) -> Result<(Digest, u64, Option<Vec<u8>>), Error> {
    let name = path.as_str();
    let most = match name {
        MANIFEST => Some(Manifest::MAX_BYTES),
        SIGNATURES => Some(Signatures::MAX_BYTES),
        _ => None,
    };
    let (mut digest, mut size, mut kept) = (sha2::Sha256::new(), 0, most.map(|_| Vec::new()));
    pieces(beneath::file(folder, name)?, |piece| {
        size += piece.len() as u64;
        digest.update(piece);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(piece);
        }
        // A file may grow while it is read.
        match size > most.map_or(Bounds::STANDARD.file, |most| most as u64) {
            true => Err(std::io::Error::other("it is too large for a package")),
            false => Ok(()),
        }
    })
    .map_err(|source| Error::io(format!("read {name}"), source))?;
    Ok((digest.finalize().into(), size, kept))
}

/// The files of a folder that was surveyed, piece by piece, as [`hotcell_package::read`] gives those of an archive.
pub(super) fn feed(
    folder: &Path,
    contents: &Contents,
    take: &mut dyn FnMut(&PackagePath, &[u8]) -> std::io::Result<()>,
) -> Result<(), Error> {
    let opened = beneath::folder(folder)?;
    let signatures: Option<PackagePath> = contents.signatures.as_ref().and_then(|_| SIGNATURES.parse().ok());
    let files = contents.listing.iter().map(|(path, ..)| path).chain(&signatures);
    for path in files {
        let failed = |source| Error::io(format!("copy {path}"), source);
        take(path, &[]).map_err(failed)?;
        pieces(beneath::file(opened.as_fd(), path.as_str())?, |piece| take(path, piece)).map_err(failed)?;
    }
    Ok(())
}

/// Opens the files of a folder that was surveyed, with the sizes that they had.
pub(super) fn open(folder: &Path, contents: &Contents) -> Result<Files, Error> {
    let opened = beneath::folder(folder)?;
    let file = |(path, _, size): (&PackagePath, &Digest, u64)| {
        let file: Box<dyn Read> = Box::new(beneath::file(opened.as_fd(), path.as_str())?);
        Ok((path.clone(), size, file))
    };
    contents.listing.iter().map(file).collect()
}

fn pieces(mut file: File, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        match piece.get(..read).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => take(bytes)?,
            None => return Ok(()),
        }
    }
}
