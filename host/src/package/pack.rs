//! Packages as their author makes them: archives of folders, and signatures.

use std::fs::File;
use std::io::{BufWriter, Cursor, ErrorKind, Read};
use std::path::Path;

use hotcell_package::{Bounds, Contents, SIGNATURES, Signatures};
use hotcell_policy::{Manifest, PackagePath};

use super::artifact::Sealed;
use super::gate::{open, read_archive, refused};
use super::survey::{self, Files, survey};
use crate::error::Error;

/// Makes an archive of a folder's files, as they were [surveyed](survey), with these signatures in place of what the folder has;
/// the same bytes for the same files. What was written is read again before it gets its name. Blocks.
///
/// # Errors
/// The manifest is not right or names artifacts that are not there, a file changed meanwhile, or writing fails.
pub fn pack(
    folder: &Path,
    contents: &Contents,
    signatures: Option<&Signatures>,
    to: &Path,
) -> Result<(), Error> {
    let files = survey::open(folder, contents)?;
    write(&folder.display().to_string(), contents, files, signatures, to)
}

/// The signatures of a package, an archive or a folder: those that it has, if they are right; for a folder whose files changed
/// since, none over those that it has now. Blocks.
///
/// # Errors
/// It is no package, or its signatures are not right.
pub fn signatures(path: &Path) -> Result<Signatures, Error> {
    let name = path.display().to_string();
    let is_folder = path.is_dir();
    let contents = match is_folder {
        true => survey(path)?,
        false => read_archive(&name, &Sealed::copy(&name, open(path)?)?, &mut |_, _| Ok(()))?,
    };
    let manifest = contents.manifest(&name)?;
    match contents.signatures() {
        Ok(Some(signatures)) => Ok(signatures),
        Err(error) if !is_folder => Err(refused(&manifest, error)),
        Ok(None) | Err(_) => Ok(Signatures::over(contents.listing)),
    }
}

/// Gives a package these signatures in place of those that it has. Blocks.
///
/// # Errors
/// They are not over its files, or writing fails.
pub fn put_signatures(path: &Path, signatures: &Signatures) -> Result<(), Error> {
    let name = path.display().to_string();
    if path.is_dir() {
        let (file, new) = (path.join(SIGNATURES), path.join(format!(".{SIGNATURES}.new")));
        let written = std::fs::write(&new, signatures.to_string()).and_then(|()| std::fs::rename(&new, file));
        return written.map_err(|source| Error::io(format!("sign {name}"), source));
    }
    let mut files: Vec<(PackagePath, Vec<u8>)> = Vec::new();
    let contents = read_archive(&name, &Sealed::copy(&name, open(path)?)?, &mut |path, piece| {
        match files.last_mut().filter(|(last, _)| last == path) {
            Some((_, bytes)) => bytes.extend_from_slice(piece),
            None => files.push((path.clone(), piece.to_vec())),
        }
        Ok(())
    })?;
    let files = files.into_iter().filter(|(path, _)| path.as_str() != SIGNATURES);
    let files: Files = files.map(|(path, bytes)| in_memory(path, bytes)).collect();
    write(&name, &contents, files, Some(signatures), path)
}

fn in_memory(path: PackagePath, bytes: Vec<u8>) -> (PackagePath, u64, Box<dyn Read>) {
    (path, bytes.len() as u64, Box::new(Cursor::new(bytes)))
}

/// Writes an archive beside `to`, reads it again, and puts it there.
fn write(
    name: &str,
    contents: &Contents,
    mut files: Files,
    signatures: Option<&Signatures>,
    to: &Path,
) -> Result<(), Error> {
    let archive = |source| Error::Archive { subject: name.to_owned(), source };
    let manifest = contents.manifest(name)?;
    check_holds(contents, &manifest)?;
    let signatures = signatures.map(|signatures| signatures.to_string().into_bytes());
    let expected = Contents { signatures: signatures.clone(), ..contents.clone() };
    expected.signatures().map_err(|source| refused(&manifest, source))?;
    if let (Some(bytes), Ok(path)) = (signatures, SIGNATURES.parse()) {
        files.push(in_memory(path, bytes));
    }
    let mut file_name = to.file_name().unwrap_or_default().to_owned();
    file_name.push(".new");
    let new = to.with_file_name(file_name);
    let failed = |source| Error::io(format!("write {}", to.display()), source);
    let written = (|| {
        let file = File::create(&new).map_err(failed)?;
        hotcell_package::write(BufWriter::new(&file), files, &Bounds::STANDARD).map_err(archive)?;
        file.sync_all().map_err(failed)?;
        let read = File::open(&new).map_err(failed)?;
        let read = hotcell_package::read(read, &Bounds::STANDARD, &mut |_, _| Ok(())).map_err(archive)?;
        match read == expected {
            true => std::fs::rename(&new, to).map_err(failed),
            false => Err(Error::malformed(name, "its files changed while they were packed; try again")),
        }
    })();
    if written.is_err() {
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    written
}

/// Checks that the artifacts are there, for every machine that the manifest names.
pub(super) fn check_holds(contents: &Contents, manifest: &Manifest) -> Result<(), Error> {
    match manifest.artifacts().iter().find(|artifact| contents.listing.get(artifact).is_none()) {
        None => Ok(()),
        Some(missing) => Err(Error::malformed(
            manifest.id().as_str(),
            format!("its manifest names the artifact {missing}, which is not there; build it first"),
        )),
    }
}
