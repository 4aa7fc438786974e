//! A folder of this run, removed with it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::Failure;
use crate::placement::own_pid;

/// Workers have other uids and pass through; nobody else lists it.
const PASSAGE: u32 = 0o711;

/// A folder of this run.
pub(super) enum Folder {
    /// Removed with the run.
    Own(PathBuf),
    /// Somebody else removes it.
    Lent(PathBuf),
}

impl Folder {
    /// Makes a folder that was not there before.
    pub(super) fn make() -> Result<Folder, Failure> {
        let path = std::env::temp_dir().join(format!("hotcell-bench-{}", own_pid()));
        create(&path)?;
        Ok(Folder::Own(path))
    }

    /// Makes one more folder below another, which is removed with that.
    pub(super) fn path_below(folder: &Path) -> Result<PathBuf, Failure> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let path = folder.join(format!("application-{}", MADE.fetch_add(1, Ordering::Relaxed)));
        create(&path)?;
        Ok(path)
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Folder::Own(path) | Folder::Lent(path) => path,
        }
    }
}

fn create(path: &Path) -> Result<(), Failure> {
    let subject = |source| Failure::io(format!("make the folder {}", path.display()), source);
    DirBuilder::new().mode(PASSAGE).create(path).map_err(subject)
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Folder::Own(path) = self else { return };
        if let Err(error) = fs::remove_dir_all(&path) {
            eprintln!("failed to remove {}: {error}", path.display());
        }
    }
}
