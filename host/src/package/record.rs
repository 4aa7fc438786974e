//! What is remembered of plugins by their ids: which versions are installed, and the newest that was seen signed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hotcell_package::Digest;
use hotcell_policy::PluginId;
use rustix::fs::{FlockOperation, flock};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::places::passage;

/// Its folder in the state folder.
const FOLDER: &str = "installed";

/// Largest file that is looked at.
const FILE_MAX: u64 = 1 << 20;

/// Installed versions that are kept of a plugin, the current one among them.
pub(super) const KEPT: usize = 3;

/// A version that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledVersion {
    /// Its version.
    pub version: Version,
    /// The digest of its files, in hexadecimal.
    pub digest: String,
    /// Whose trusted keys had signed it, by their names in the trust store; none for an unsigned one.
    pub signers: Vec<String>,
    /// When it was installed, in seconds since 1970.
    pub time: u64,
}

/// What is remembered of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The newest version that a trusted key had signed.
    pub(super) newest_signed: Option<Version>,
    /// Those installed, the current one last.
    pub(super) versions: Vec<InstalledVersion>,
}

impl Record {
    /// The one that is loaded.
    pub(super) fn current(&self) -> Option<&InstalledVersion> {
        self.versions.last()
    }
}

/// The records of a state folder.
#[derive(Debug)]
pub(super) struct Records {
    state: PathBuf,
    folder: PathBuf,
}

impl Records {
    pub(super) fn new(state: &Path) -> Records {
        Records { state: state.to_owned(), folder: state.join(FOLDER) }
    }

    /// The file of a plugin. An id is safe as a file name.
    pub(super) fn file(&self, id: &PluginId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// What is remembered of a plugin; nothing of one that was never seen. Blocks.
    ///
    /// # Errors
    /// The file cannot be read or is none: forgetting would be a way to go back.
    pub(super) fn read(&self, id: &PluginId) -> Result<Record, Error> {
        let path = self.file(id);
        let failed = |source| Error::io(format!("read {}", path.display()), source);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Record::default()),
            other => other.map_err(failed)?,
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
        serde_json::from_str(&text).map_err(|error| failed(error.into()))
    }

    /// Changes what is remembered. What `change` returns is returned. Blocks while another process does the same.
    pub(super) fn change<T>(
        &self,
        id: &PluginId,
        change: impl FnOnce(&mut Record) -> Result<T, Error>,
    ) -> Result<T, Error> {
        passage(&self.state)?;
        let failed = |source| Error::io(format!("use {}", self.folder.display()), source);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
        let lock = self.folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(lock).map_err(failed)?;
        flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let before = self.read(id)?;
        let mut record = before.clone();
        let changed = change(&mut record)?;
        if record != before {
            self.write(id, &record).map_err(failed)?;
        }
        Ok(changed)
    }

    fn write(&self, id: &PluginId, record: &Record) -> std::io::Result<()> {
        let path = self.file(id);
        let new = self.folder.join(format!(".new-{id}"));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string_pretty(record)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(new, path)
    }

    /// The plugins of which something is remembered.
    pub(super) fn ids(&self) -> Result<Vec<PluginId>, Error> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| Error::io(format!("list {}", self.folder.display()), source))?,
        };
        let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
        let mut ids: Vec<PluginId> = entries.flatten().filter_map(id).collect();
        ids.sort();
        Ok(ids)
    }
}

/// A version that is put in the place of the current one.
pub(super) fn installed(version: Version, digest: &Digest, signers: Vec<String>) -> InstalledVersion {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    InstalledVersion { version, digest: hotcell_package::hex(digest), signers, time: now.as_secs() }
}
