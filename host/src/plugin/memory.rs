//! What a host remembers of a plugin beyond its own end: that it is in quarantine, and which versions failed.
//!
//! One small file in the state folder, written as a whole. A host that is killed leaves the one before or the new one.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::restarts::Down;
use crate::error::Error;
use crate::package::Fingerprint;
use crate::places::passage;

/// Versions that failed which are remembered: the latest.
const VERSIONS: usize = 32;

/// Largest file that is looked at.
const FILE_MAX: u64 = 64 << 10;

/// Longest reason that is kept, in bytes.
const REASON_MAX: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    quarantine: Option<Quarantine>,
    /// Versions that failed on probation, the latest last.
    failed: Vec<String>,
}

/// Why a version is not to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Quarantine {
    version: String,
    reason: String,
    /// In milliseconds since 1970; `None` for not before it is asked for.
    until_ms: Option<u64>,
}

/// The memory of one plugin.
#[derive(Debug)]
pub(super) struct Memory {
    file: PathBuf,
    contents: Mutex<Contents>,
    /// Held while writing, so that what is written last is the newest.
    writing: Mutex<()>,
}

impl Memory {
    /// Reads what is remembered. A file that is none is nothing. Blocks.
    ///
    /// # Errors
    /// The state folder cannot be used.
    pub(super) fn open(state: &Path, plugin: &str) -> Result<Memory, Error> {
        passage(state)?;
        let file = state.join("quarantine").join(format!("{plugin}.json"));
        let contents = match std::fs::File::open(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Contents::default(),
            Err(error) => return Err(Error::io(format!("read {}", file.display()), error)),
            Ok(opened) => {
                let mut text = String::new();
                let read = opened.take(FILE_MAX).read_to_string(&mut text);
                read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
            }
        };
        Ok(Memory { file, contents: Mutex::new(contents), writing: Mutex::default() })
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why this version is not to be started now, and for how long, `None` for ever.
    pub(super) fn quarantine(&self, version: &Fingerprint) -> Option<(String, Option<Duration>)> {
        let contents = self.contents();
        let quarantine = contents.quarantine.as_ref().filter(|found| found.version == version.to_string())?;
        let left = quarantine.until_ms.map(|until| Duration::from_millis(until).checked_sub(now()));
        match left {
            None => Some((quarantine.reason.clone(), None)),
            Some(Some(left)) => Some((quarantine.reason.clone(), Some(left))),
            Some(None) => None,
        }
    }

    /// Whether this version failed on probation.
    pub(super) fn has_failed(&self, version: &Fingerprint) -> bool {
        self.contents().failed.contains(&version.to_string())
    }

    /// A version is in quarantine.
    pub(super) fn quarantined(self: &Arc<Memory>, version: &Fingerprint, down: &Down) -> JoinHandle<()> {
        let until = down.until.map(|until| now() + until.saturating_duration_since(Instant::now()));
        let reason = down.reason.get(..down.reason.floor_char_boundary(REASON_MAX)).unwrap_or_default();
        let quarantine = Quarantine {
            version: version.to_string(),
            reason: reason.to_owned(),
            until_ms: until.map(|until| u64::try_from(until.as_millis()).unwrap_or(u64::MAX)),
        };
        self.change(|contents| contents.quarantine = Some(quarantine))
    }

    /// The plugin is in no quarantine any more.
    pub(super) fn released(self: &Arc<Memory>) -> Option<JoinHandle<()>> {
        let quarantined = self.contents().quarantine.is_some();
        quarantined.then(|| self.change(|contents| contents.quarantine = None))
    }

    /// A version failed on probation.
    pub(super) fn failed(self: &Arc<Memory>, version: &Fingerprint) -> JoinHandle<()> {
        let version = version.to_string();
        self.change(|contents| {
            contents.failed.retain(|failed| *failed != version);
            contents.failed.push(version);
            let over = contents.failed.len().saturating_sub(VERSIONS);
            contents.failed.drain(..over);
        })
    }

    /// Nobody waits for it to be on the disk, but a test.
    fn change(self: &Arc<Memory>, change: impl FnOnce(&mut Contents)) -> JoinHandle<()> {
        change(&mut self.contents());
        let memory = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = memory.write() {
                let file = memory.file.display();
                tracing::warn!(target: "hotcell::plugin", %file, "failed to write down a quarantine: {error}");
            }
        })
    }

    fn write(&self) -> std::io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_string(&*self.contents())?;
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = self.file.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        std::fs::rename(new, &self.file)
    }
}

/// Time since 1970: what outlives this process has no other clock.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Memory;
    use crate::class::Class;
    use crate::package::Fingerprint;
    use crate::places::tests_support::Folder;
    use crate::plugin::restarts::Down;

    fn version(number: u8) -> Fingerprint {
        Fingerprint { manifest: [number; 32], artifact: [number; 32] }
    }

    fn down(until: Option<Duration>) -> Down {
        let until = until.map(|time| Instant::now() + time);
        Down { until, reason: "it crashed".to_owned(), class: Class::Crashed, quarantined: true }
    }

    /// What a host that comes later remembers.
    fn later(home: &Folder) -> Arc<Memory> {
        Arc::new(Memory::open(home.path(), "a.b").expect("opens"))
    }

    #[tokio::test]
    async fn a_quarantine_outlives_the_host_and_ends_in_time() {
        let home = Folder::new("memory");
        let memory = Arc::new(Memory::open(home.path(), "a.b").expect("opens"));
        assert_eq!(memory.quarantine(&version(1)), None);
        memory.quarantined(&version(1), &down(None)).await.expect("is written");
        let after = later(&home);
        assert_eq!(after.quarantine(&version(1)), Some(("it crashed".to_owned(), None)));
        assert_eq!(after.quarantine(&version(2)), None, "another version is not");
        let long = down(Some(Duration::from_secs(1000)));
        after.quarantined(&version(1), &long).await.expect("is written");
        let left = later(&home).quarantine(&version(1)).expect("is in quarantine").1;
        assert!(left.is_some_and(|left| left > Duration::from_secs(900)), "{left:?}");
        after.quarantined(&version(1), &down(Some(Duration::ZERO))).await.expect("is written");
        assert_eq!(later(&home).quarantine(&version(1)), None, "it is over");
        after.quarantined(&version(1), &down(None)).await.expect("is written");
        after.released().expect("was in quarantine").await.expect("is written");
        assert_eq!(later(&home).quarantine(&version(1)), None);
        assert!(after.released().is_none());
    }

    #[tokio::test]
    async fn the_latest_failed_versions_are_remembered_and_garbage_is_nothing() {
        let home = Folder::new("memory-failed");
        let memory = Arc::new(Memory::open(home.path(), "a.b").expect("opens"));
        for number in 0..40 {
            memory.failed(&version(number)).await.expect("is written");
        }
        let after = later(&home);
        assert!(
            after.has_failed(&version(39)) && after.has_failed(&version(8)) && !after.has_failed(&version(7))
        );
        std::fs::write(&memory.file, "{ no json").expect("writes");
        assert!(!Memory::open(home.path(), "a.b").expect("opens").has_failed(&version(39)));
    }
}
