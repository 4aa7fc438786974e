//! A folder of this run, removed with it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::placement::own_pid;

/// Workers have other uids and pass through; nobody else lists it.
const PASSAGE: u32 = 0o711;

/// A folder of this run.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes a folder that was not there before.
    pub(super) fn make() -> Result<Folder, Failure> {
        let path = std::env::temp_dir().join(format!("hotcell-bench-{}", own_pid()));
        DirBuilder::new()
            .mode(PASSAGE)
            .create(&path)
            .map_err(|source| Failure::io(format!("make the folder {}", path.display()), source))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("failed to remove {}: {error}", self.0.display());
        }
    }
}
