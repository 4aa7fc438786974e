//! Where packages lie when they were verified: one read-only folder for each, named by the digest of its files.
//!
//! Nobody but this user can write there, workers least of all. What is found in it is measured again at every load.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hotcell_package::{Contents, Digest, SIGNATURES, hex, unhex};
use hotcell_policy::PackagePath;
use rustix::fs::{FlockOperation, flock};
use sha2::Digest as _;

use super::survey::survey;
use crate::error::Error;
use crate::places::{is_only_ours, passage};
use crate::random;

/// Its folder in the state folder.
const FOLDER: &str = "packages";

/// How the name of a package begins that is not whole yet.
const NEW: &str = ".new-";

/// Gets the files of a package in pieces; the first of each is empty.
pub(super) type Take<'t> = dyn FnMut(&PackagePath, &[u8]) -> std::io::Result<()> + 't;

/// The store of a state folder.
#[derive(Debug)]
pub(super) struct Store {
    state: PathBuf,
    folder: PathBuf,
}

impl Store {
    pub(super) fn new(state: &Path) -> Store {
        // What it gives is compared with paths that were resolved.
        let state = state.canonicalize().unwrap_or_else(|_| state.to_owned());
        Store { folder: state.join(FOLDER), state }
    }

    /// Where a package of this digest lies, or would.
    pub(super) fn place(&self, digest: &Digest) -> PathBuf {
        self.folder.join(hex(digest))
    }

    /// The digest of the package whose folder a path is.
    pub(super) fn digest_of(&self, real: &Path) -> Option<Digest> {
        let name = real.strip_prefix(&self.folder).ok()?.to_str()?;
        unhex(name)
    }

    /// Measures a package that lies here.
    ///
    /// # Errors
    /// It is not what its name says.
    pub(super) fn survey(&self, digest: &Digest) -> Result<Contents, Error> {
        self.check_owner()?;
        let place = self.place(digest);
        let contents = survey(&place)?;
        match contents.listing.digest() == *digest {
            true => Ok(contents),
            false => Err(Error::malformed(
                place.display().to_string(),
                "its files are not those that were verified; install the package again",
            )),
        }
    }

    /// Lays down a package that was verified, and returns its folder. `feed` gives its files again; what differs from what was
    /// verified is refused. A package that is there stays, if it is whole. Blocks while another host does the same.
    pub(super) fn fill(
        &self,
        contents: &Contents,
        feed: impl FnOnce(&mut Take<'_>) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let digest = contents.listing.digest();
        let place = self.place(&digest);
        let _locked = self.lock()?;
        if let Ok(there) = self.survey(&digest) {
            // The signatures are no part of the digest: the ones that came last stay.
            if there.signatures != contents.signatures {
                put_signatures(&place, contents.signatures.as_deref())
                    .map_err(|source| Error::io(format!("sign {}", place.display()), source))?;
            }
            return Ok(place);
        }
        let new = self.folder.join(format!("{NEW}{}", random::name()?));
        let filled = Filler::new(&new, contents).and_then(|mut filler| {
            feed(&mut |path, piece| filler.take(path, piece))?;
            filler.finish()
        });
        let failed = |source| Error::io(format!("lay down {}", place.display()), source);
        let moved = filled.and_then(|()| {
            remove(&place).map_err(failed)?;
            std::fs::rename(&new, &place).map_err(failed)
        });
        if moved.is_err() {
            // What remains is swept by the next one that fills.
            let _ = remove(&new);
        }
        moved.map(|()| place)
    }

    /// Removes a package, if it is there.
    pub(super) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let _locked = self.lock()?;
        let place = self.place(digest);
        remove(&place).map_err(|source| Error::io(format!("remove {}", place.display()), source))
    }

    /// The digests of what lies here.
    pub(super) fn list(&self) -> Result<BTreeSet<Digest>, Error> {
        let failed = |source| Error::io(format!("list {}", self.folder.display()), source);
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(failed)?,
        };
        let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name()));
        let names = names.collect::<Result<Vec<_>, Error>>()?;
        Ok(names.iter().filter_map(|name| unhex(name.to_str()?)).collect())
    }

    /// Held while packages come and go; sweeps what a host that was killed has left.
    fn lock(&self) -> Result<File, Error> {
        passage(&self.state)?;
        passage(&self.folder)?;
        self.check_owner()?;
        let failed = |source| Error::io(format!("lock {}", self.folder.display()), source);
        let lock = self.folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(lock).map_err(failed)?;
        flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        for entry in std::fs::read_dir(&self.folder).map_err(failed)?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(NEW)) {
                remove(&entry.path()).map_err(failed)?;
            }
        }
        Ok(lock)
    }

    /// Nothing is loaded from where anybody else can write.
    fn check_owner(&self) -> Result<(), Error> {
        for folder in [&self.state, &self.folder] {
            let facts = std::fs::symlink_metadata(folder)
                .map_err(|source| Error::io(format!("inspect {}", folder.display()), source))?;
            if !facts.is_dir() || !is_only_ours(&facts) {
                let what = "packages are kept only in a folder that nobody but root and this user can write";
                return Err(Error::malformed(folder.display().to_string(), what));
            }
        }
        Ok(())
    }
}

/// Writes the files of a package, and compares each with what was verified.
struct Filler<'c> {
    root: PathBuf,
    contents: &'c Contents,
    folders: BTreeSet<PathBuf>,
    written: usize,
    current: Option<Current>,
}

struct Current {
    path: PackagePath,
    file: File,
    digest: sha2::Sha256,
}

impl<'c> Filler<'c> {
    fn new(root: &Path, contents: &'c Contents) -> Result<Filler<'c>, Error> {
        DirBuilder::new()
            .mode(0o700)
            .create(root)
            .map_err(|source| Error::io(format!("make {}", root.display()), source))?;
        let folders = BTreeSet::from([root.to_owned()]);
        Ok(Filler { root: root.to_owned(), contents, folders, written: 0, current: None })
    }

    fn take(&mut self, path: &PackagePath, piece: &[u8]) -> std::io::Result<()> {
        match &mut self.current {
            Some(current) if current.path == *path => {
                current.digest.update(piece);
                current.file.write_all(piece)
            }
            _ => {
                self.close()?;
                self.current = Some(self.open(path)?);
                self.take(path, piece)
            }
        }
    }

    fn open(&mut self, path: &PackagePath) -> std::io::Result<Current> {
        let place = self.root.join(path.as_str());
        let folders: Vec<_> = place.ancestors().skip(1).take_while(|folder| **folder != self.root).collect();
        for folder in folders.into_iter().rev() {
            if self.folders.insert(folder.to_owned()) {
                DirBuilder::new().mode(0o700).create(folder)?;
            }
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(place)?;
        Ok(Current { path: path.clone(), file, digest: sha2::Sha256::new() })
    }

    /// Ends the file that is being written.
    fn close(&mut self) -> std::io::Result<()> {
        let Some(Current { path, file, digest }) = self.current.take() else { return Ok(()) };
        let digest: Digest = digest.finalize().into();
        let verified = match path.as_str() {
            SIGNATURES => self.contents.signatures.as_ref().map(|bytes| sha2::Sha256::digest(bytes).into()),
            _ => self.contents.listing.get(&path).map(|(digest, _)| *digest),
        };
        if verified != Some(digest) {
            return Err(std::io::Error::other(format!("{path} changed while it was copied")));
        }
        self.written += 1;
        // Whatever the umask of this process is.
        file.set_permissions(Permissions::from_mode(0o444))?;
        file.sync_all()
    }

    fn finish(mut self) -> Result<(), Error> {
        let root = self.root.display().to_string();
        let failed = |source| Error::io(format!("lay down {root}"), source);
        self.close().map_err(failed)?;
        let expected = self.contents.listing.iter().count() + usize::from(self.contents.signatures.is_some());
        if self.written != expected {
            return Err(failed(std::io::Error::other("files were lost while they were copied")));
        }
        for folder in self.folders.iter().rev() {
            std::fs::set_permissions(folder, Permissions::from_mode(0o555)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Replaces the signatures of a package in their place: workers may have its folder open.
fn put_signatures(place: &Path, signatures: Option<&[u8]>) -> std::io::Result<()> {
    let file = place.join(SIGNATURES);
    std::fs::set_permissions(place, Permissions::from_mode(0o755))?;
    let put = match signatures {
        Some(bytes) => {
            // Beside the package, not in it: whoever surveys it meanwhile finds one or the other.
            let new = place.with_extension("signatures");
            let mut written =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o444).open(&new)?;
            written.write_all(bytes)?;
            written.sync_all()?;
            std::fs::rename(new, file)
        }
        None => std::fs::remove_file(file),
    };
    std::fs::set_permissions(place, Permissions::from_mode(0o555)).and(put)
}

/// Removes a folder of packages, read-only as it is; nothing if it is not there.
fn remove(place: &Path) -> std::io::Result<()> {
    let entries = match std::fs::symlink_metadata(place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(facts) if !facts.is_dir() => return std::fs::remove_file(place),
        Ok(_) => {
            std::fs::set_permissions(place, Permissions::from_mode(0o700))?;
            std::fs::read_dir(place)?
        }
    };
    for entry in entries {
        remove(&entry?.path())?;
    }
    std::fs::remove_dir(place)
}
