//! `${scratch}`: a fresh folder per worker, gone with it; and what a host that died has left behind.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::sweep::remove_tree;
use super::{own, passage};
use crate::error::Error;
use crate::identity::Identity;

/// One host's folder of scratch folders, locked while the host lives.
#[derive(Debug)]
pub(super) struct ScratchHome {
    folder: PathBuf,
    lock: PathBuf,
    next: AtomicU64,
    _locked: File,
}

/// One worker's scratch folder. Removed when dropped; drop it after the worker has ended.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    home: Arc<ScratchHome>,
}

impl ScratchHome {
    /// Makes this host's folder, and removes those of hosts that are gone. Blocks.
    pub(super) fn open(state: &Path) -> Result<ScratchHome, Error> {
        passage(state)?;
        let all = state.join("scratch");
        passage(&all)?;
        sweep_stale(&all);
        let name = crate::random::name()?;
        let lock = all.join(format!("{name}.lock"));
        let locked = File::create_new(&lock).map_err(|source| Error::io("make a scratch lock", source))?;
        flock(locked.as_fd(), FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| Error::io("lock the scratch folder", errno.into()))?;
        let folder = all.join(name);
        passage(&folder)?;
        Ok(ScratchHome { folder, lock, next: AtomicU64::new(1), _locked: locked })
    }
}

impl Drop for ScratchHome {
    fn drop(&mut self) {
        discard(&self.folder);
        let _ = std::fs::remove_file(&self.lock);
    }
}

impl Scratch {
    /// Makes one worker's folder. Blocks.
    pub(super) fn make(home: Arc<ScratchHome>, identity: Option<Identity>) -> Result<Scratch, Error> {
        let path = home.folder.join(home.next.fetch_add(1, Ordering::Relaxed).to_string());
        own(&path, identity)?;
        Ok(Scratch { path, home })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let home = Arc::clone(&self.home);
        let remove = move || {
            discard(&path);
            drop(home);
        };
        // A hostile tree takes long to remove: not on a thread that drives plugins.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => _ = runtime.spawn_blocking(remove),
            Err(_) => remove(),
        }
    }
}

fn discard(path: &Path) {
    if let Err(error) = remove_tree(path) {
        // The next host that starts tries again.
        tracing::warn!(target: "hotcell::places", path = %path.display(), %error, "failed to remove a scratch folder");
    }
}

fn sweep_stale(all: &Path) {
    let Ok(entries) = std::fs::read_dir(all) else { return };
    let locks = entries.flatten().map(|entry| entry.path());
    for lock in locks.filter(|path| path.extension().is_some_and(|extension| extension == "lock")) {
        let Ok(file) = File::open(&lock) else { continue };
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            discard(&lock.with_extension(""));
            let _ = std::fs::remove_file(&lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Scratch, ScratchHome};
    use crate::places::tests_support::Folder;

    #[test]
    fn a_scratch_folder_goes_with_its_worker_and_the_home_with_its_host() {
        let state = Folder::new("scratch");
        let home = Arc::new(ScratchHome::open(state.path()).expect("opens"));
        let scratch = Scratch::make(Arc::clone(&home), None).expect("makes");
        std::fs::write(scratch.path().join("file"), "x").expect("writes");
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
        drop(home);
        assert_eq!(std::fs::read_dir(state.path().join("scratch")).expect("lists").count(), 0);
    }

    #[test]
    fn a_dead_hosts_folder_is_swept_and_a_living_ones_is_not() {
        let state = Folder::new("scratch-stale");
        let all = state.path().join("scratch");
        std::fs::create_dir_all(all.join("dead/1/deep")).expect("creates");
        std::fs::write(all.join("dead.lock"), "").expect("writes");
        let living = ScratchHome::open(state.path()).expect("opens");
        assert!(!all.join("dead").exists() && !all.join("dead.lock").exists());
        let second = ScratchHome::open(state.path()).expect("opens");
        assert!(living.folder.exists() && second.folder.exists());
    }
}
