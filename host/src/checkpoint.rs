//! States of plugins that their hosts keep: checksummed, whole or not there, the newest and the one before.
//!
//! What a plugin saved is as hostile as the plugin, and goes back to it alone. No worker can reach the folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::places::passage;

/// How a file begins.
const MAGIC: &[u8; 8] = b"hcstate1";

/// Magic, state version, digest.
const HEAD: usize = 8 + 4 + 32;

/// When a plugin's state is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// Never: a worker that replaces one that crashed starts without state.
    #[default]
    Never,
    /// When [`Plugin::checkpoint`](crate::Plugin::checkpoint) asks for it.
    OnRequest,
    /// Then, and after so many calls.
    Calls(u32),
    /// Then, and after so long, if there were calls meanwhile.
    Every(Duration),
}

/// The states of one plugin. Locked: two plugins of one id would overwrite each other's.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    /// A state that is larger is none.
    limit: u64,
    _locked: File,
}

/// A state that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) version: u32,
    pub(crate) state: Vec<u8>,
    file: PathBuf,
}

impl Checkpoints {
    /// States that are kept of one worker: the newest, and the one before.
    pub(crate) const KEPT: usize = 2;

    /// Opens the folder of a plugin. Blocks.
    ///
    /// # Errors
    /// It cannot be made, or another plugin of this id keeps states there.
    pub(crate) fn open(state: &Path, plugin: &str, limit: u64) -> Result<Checkpoints, Error> {
        passage(state)?;
        let folder = state.join("checkpoints").join(plugin);
        let failed = |source| Error::io(format!("use {}", folder.display()), source);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        let lock = folder.join("lock");
        let locked = OpenOptions::new().create(true).append(true).mode(0o600).open(lock).map_err(failed)?;
        match flock(locked.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Checkpoints { folder, limit, _locked: locked }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Package {
                subject: plugin.to_owned(),
                detail: "it is loaded already, and keeps checkpoints in the same state folder".to_owned(),
                class: crate::Class::Refused,
            }),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Keeps the state of one seat. Blocks until it is on the disk. A host that is killed meanwhile leaves the one before.
    pub(crate) fn save(&self, seat: usize, version: u32, state: &[u8]) -> std::io::Result<()> {
        let [newest, before, new] = self.files(seat);
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(MAGIC)?;
        file.write_all(&version.to_le_bytes())?;
        file.write_all(&digest(version, state))?;
        file.write_all(state)?;
        file.sync_data()?;
        match std::fs::rename(&newest, &before) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(&new, &newest)?;
        File::open(&self.folder)?.sync_data()
    }

    /// What was kept for one seat and is whole, the newest first. Blocks.
    pub(crate) fn kept(&self, seat: usize) -> Vec<Kept> {
        let [newest, before, _] = self.files(seat);
        [newest, before].into_iter().filter_map(|file| self.read(file)).collect()
    }

    /// Forgets a state that its plugin does not take.
    pub(crate) fn forget(&self, kept: &Kept) {
        // What cannot be removed is tried again with the next start.
        let _ = std::fs::remove_file(&kept.file);
    }

    fn files(&self, seat: usize) -> [PathBuf; 3] {
        ["", ".before", ".new"].map(|ending| self.folder.join(format!("{seat}{ending}")))
    }

    fn read(&self, file: PathBuf) -> Option<Kept> {
        let mut bytes = Vec::new();
        File::open(&file).ok()?.take(self.limit + HEAD as u64 + 1).read_to_end(&mut bytes).ok()?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (sum, state) = rest.split_first_chunk::<32>()?;
        let version = u32::from_le_bytes(*version);
        let whole = magic == MAGIC && state.len() as u64 <= self.limit && *sum == digest(version, state);
        whole.then(|| Kept { version, state: state.to_vec(), file })
    }
}

fn digest(version: u32, state: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(version.to_le_bytes()).chain_update(state).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::{Checkpoints, HEAD};
    use crate::places::tests_support::Folder;

    #[test]
    fn the_newest_comes_first_and_what_is_not_whole_is_not_there() {
        let state = Folder::new("checkpoints");
        let kept = Checkpoints::open(state.path(), "a.b", 8).expect("opens");
        assert!(kept.kept(0).is_empty());
        for (version, text) in [(1, "one"), (2, "two"), (3, "three")] {
            kept.save(0, version, text.as_bytes()).expect("saves");
        }
        kept.save(1, 9, b"other").expect("saves");
        let texts = |seat: usize| -> Vec<(u32, String)> {
            let text = |state: &[u8]| String::from_utf8_lossy(state).into_owned();
            kept.kept(seat).iter().map(|kept| (kept.version, text(&kept.state))).collect()
        };
        assert_eq!(texts(0), [(3, "three".to_owned()), (2, "two".to_owned())]);
        assert_eq!(texts(1), [(9, "other".to_owned())]);
        // Every byte counts.
        let file = state.path().join("checkpoints/a.b/0");
        let sound = std::fs::read(&file).expect("reads");
        for place in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1);
            std::fs::write(&file, bytes).expect("writes");
            assert_eq!(texts(0), [(2, "two".to_owned())], "byte {place}");
        }
        for length in 0..sound.len() {
            std::fs::write(&file, sound.iter().copied().take(length).collect::<Vec<_>>()).expect("writes");
            assert_eq!(texts(0), [(2, "two".to_owned())], "{length} bytes");
        }
        kept.save(1, 9, b"too long for it").expect("saves");
        assert_eq!(texts(1), [(9, "other".to_owned())], "over the limit");
        assert_eq!(sound.len(), HEAD + "three".len());
        kept.kept(1).iter().for_each(|bad| kept.forget(bad));
        assert!(texts(1).is_empty());
    }

    #[test]
    fn one_plugin_of_an_id_keeps_states() {
        let state = Folder::new("checkpoints-lock");
        let first = Checkpoints::open(state.path(), "a.b", 8).expect("opens");
        let error = Checkpoints::open(state.path(), "a.b", 8).expect_err("it is locked");
        assert!(error.to_string().contains("loaded already"), "{error}");
        Checkpoints::open(state.path(), "a.c", 8).expect("another id");
        drop(first);
        Checkpoints::open(state.path(), "a.b", 8).expect("free again");
    }
}
