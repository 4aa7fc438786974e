//! Reloads a plugin by itself when its package changes on disk.
//!
//! inotify(7) only says that there is something to look at, and may say too much or lose events in a storm. What is there
//! decides: a version is tried when the digests of manifest and artifact are others than before, once nobody has written for
//! a moment. The package is read as at every load; what is loaded is a sealed copy.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout};

use super::reload::{ReloadError, ReloadOptions};
use super::{Inner, Plugin};
use crate::compile::blocking;
use crate::error::Error;
use crate::event::EventKind;
use crate::package::{Fingerprint, Gate};
use crate::prepare::LoadOptions;
use crate::sys::watch::{Watch, watch};
use crate::worker::StopTask;

/// Nobody has written for so long: the new version is complete, or never will be.
const QUIET: Duration = Duration::from_millis(150);

/// A storm of changes is looked into after so long all the same.
const STORM: Duration = Duration::from_secs(2);

/// After a version that was not taken: doubled each time, up to the second.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What may make another version of what is in a folder.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// Reloads a plugin whenever its package changes, until it is dropped or the plugin is unloaded.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct Watching {
    _task: StopTask,
}

impl Plugin {
    /// Watches the path that the plugin was loaded from, and reloads the plugin as `options` say when another version is
    /// there; `options.path` has no meaning. What comes of it is told as events: `Reloaded`, `ReloadFailed`, `RolledBack`. A
    /// version that was rolled back is not tried again unless `options.retry` says so.
    ///
    /// A path that becomes a symbolic link is refused; one that was a link when the watch began may lead elsewhere later.
    ///
    /// # Errors
    /// The path cannot be watched: inotify(7) has a limit for each user.
    pub fn watch(&self, options: ReloadOptions) -> Result<Watching, Error> {
        let prepared = self.prepared();
        let gate = Arc::clone(&self.inner.gate);
        let path = std::path::absolute(gate.watched(&prepared.path))
            .map_err(|source| Error::io(format!("find {}", prepared.path.display()), source))?;
        let failed = |source: std::io::Error| Error::io(format!("watch {}", path.display()), source);
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let queue = inotify::init(flags).map_err(|errno| failed(errno.into()))?;
        let artifact = path.join(prepared.manifest.artifact().as_str());
        let place = Place {
            artifacts: artifact.parent().unwrap_or(&path).to_owned(),
            is_link: path.is_symlink(),
            named: prepared.path.clone(),
            options: prepared.options.clone(),
            gate,
            queue: watch(queue, Interest::READABLE).map_err(failed)?,
            path,
        };
        place.arm().map_err(|errno| Error::io(format!("watch {}", place.path.display()), errno.into()))?;
        let closing = self.inner.closed.clone();
        let watcher = Watcher {
            plugin: Arc::downgrade(&self.inner),
            options: ReloadOptions { path: None, ..options },
            seen: Some(prepared.fingerprint()),
            refused: String::new(),
            place,
        };
        let task = async move {
            let mut closing = closing;
            tokio::select! {
                () = closing.said() => {}
                () = watcher.run() => {}
            }
        };
        Ok(Watching { _task: StopTask(tokio::spawn(task).abort_handle()) })
    }
}

impl Plugin {
    /// Watches where the manifest says so, for as long as the plugin lives.
    pub(super) fn watch_if_asked(&self) -> Result<(), Error> {
        let prepared = self.prepared();
        let Some(policy) = prepared.manifest.reload() else { return Ok(()) };
        let drain = policy.drain_ms.map_or(ReloadOptions::default().drain, Duration::from_millis);
        let watching = self.watch(ReloadOptions { drain, ..ReloadOptions::default() })?;
        // It is new: nobody else has set it.
        let _ = self.inner.watching.set(watching);
        Ok(())
    }
}

/// What is watched.
struct Place {
    path: PathBuf,
    /// Where the artifact lies, if deeper.
    artifacts: PathBuf,
    /// It was one when the watch began.
    is_link: bool,
    /// As the plugin was loaded.
    named: PathBuf,
    options: LoadOptions,
    gate: Arc<Gate>,
    queue: Watch<OwnedFd>,
}

impl Place {
    /// Watches the folders that are there now: the package's, and that in which it lies. A folder that was replaced has to be
    /// watched anew; one that is watched already stays so.
    fn arm(&self) -> Result<(), Errno> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(self.queue.get_ref().0.as_fd(), parent, CHANGES)?;
        for folder in [&self.path, &self.artifacts] {
            // It may be a bare artifact, or gone for a moment.
            match inotify::add_watch(self.queue.get_ref().0.as_fd(), folder, CHANGES) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Waits until something here may have changed. Safe to cancel.
    async fn changed(&self) -> Result<(), Errno> {
        loop {
            let mut guard = self.queue.readable().await.map_err(|_| Errno::IO)?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.queue.get_ref().0.as_fd(), &mut buffer);
            let mut concerns = false;
            loop {
                match events.next() {
                    Ok(event) => {
                        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                        concerns |= event.events().contains(ReadFlags::QUEUE_OVERFLOW) || self.concerns(name);
                    }
                    Err(Errno::WOULDBLOCK) => break,
                    Err(errno) => return Err(errno),
                }
            }
            guard.clear_ready();
            if concerns {
                return Ok(());
            }
        }
    }

    /// Whether a change of this name may be one of the package: other files of the folder in which it lies are not.
    fn concerns(&self, name: Option<&OsStr>) -> bool {
        let Some(name) = name else { return true };
        let within = [&self.path, &self.artifacts].map(|folder| folder.join(name));
        self.path.file_name() == Some(name) || within.iter().any(|path| path.symlink_metadata().is_ok())
    }

    /// What is there now.
    async fn look(&self) -> Result<Fingerprint, Error> {
        let (path, is_link) = (self.path.clone(), self.is_link);
        let (named, options, gate) = (self.named.clone(), self.options.clone(), Arc::clone(&self.gate));
        blocking(move || {
            if !is_link && path.is_symlink() {
                let what = "it has become a symbolic link, and was none when it was loaded";
                return Err(Error::malformed(path.display().to_string(), what));
            }
            let LoadOptions { bare_use, may_go_back, .. } = options;
            gate.open(&named, bare_use, may_go_back)?.fingerprint()
        })
        .await
    }
}

struct Watcher {
    plugin: Weak<Inner>,
    options: ReloadOptions,
    place: Place,
    /// What was tried last, or is loaded.
    seen: Option<Fingerprint>,
    /// Why what is there could not be read, as it was told last.
    refused: String,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = PAUSE;
        // What changed before the watch began.
        let mut look_now = true;
        loop {
            if !std::mem::take(&mut look_now) && self.settled().await.is_err() {
                return;
            }
            match self.try_what_is_there().await {
                Ok(()) => pause = PAUSE,
                Err(ReloadError::Shutdown) => return,
                Err(error) => {
                    // One that had no time may have it soon; any other is tried when it has changed.
                    if matches!(error, ReloadError::Busy | ReloadError::NotSaved(_)) {
                        self.seen = None;
                        look_now = true;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Waits for a change, and then until nobody has written for a moment.
    async fn settled(&self) -> Result<(), Errno> {
        self.place.arm()?;
        self.place.changed().await?;
        let storm = Instant::now() + STORM;
        while Instant::now() < storm {
            self.place.arm()?;
            match timeout(QUIET, self.place.changed()).await {
                Ok(changed) => changed?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn try_what_is_there(&mut self) -> Result<(), ReloadError> {
        let Some(inner) = self.plugin.upgrade() else { return Err(ReloadError::Shutdown) };
        let plugin = Plugin { inner };
        match self.place.look().await {
            Ok(found) if self.seen == Some(found) => return Ok(()),
            Ok(found) => self.seen = Some(found),
            Err(error) => {
                let text = error.to_string();
                if self.refused != text {
                    self.refused.clone_from(&text);
                    plugin.tell(EventKind::ReloadFailed { reason: text });
                }
                return Err(ReloadError::Start(error));
            }
        }
        self.refused.clear();
        plugin.reload_with(self.options.clone()).await.map(drop)
    }
}
