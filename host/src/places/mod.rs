//! The folders behind `${plugin}`, `${data}` and `${scratch}`: made only for plans that use them.
//!
//! A worker runs under another uid and must reach its folders, so the folders above them may be passed through but not
//! listed; its own are private to it.

mod scratch;
mod sweep;
#[cfg(test)]
pub(crate) mod tests_support;
mod usage;

use std::fs::{DirBuilder, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hotcell_protocol::{Orders, Place};
use tokio::sync::OnceCell;

use crate::compile::blocking;
use crate::error::Error;
use crate::identity::Identity;
pub(crate) use scratch::Scratch;
use scratch::ScratchHome;
pub(crate) use usage::{Excess, measure};

/// Passed through by workers, listed by nobody but the host's user.
const PASSAGE: u32 = 0o711;

/// Nobody else's business.
const PRIVATE: u32 = 0o700;

/// Makes the folders of plugins below the host's state folder.
#[derive(Debug)]
pub(crate) struct Places {
    state: PathBuf,
    scratch: OnceCell<Arc<ScratchHome>>,
}

/// The folders of one worker.
#[derive(Debug, Default)]
pub(crate) struct WorkerPlaces {
    /// As the worker is told.
    pub(crate) paths: Vec<(Place, String)>,
    /// Removed when the worker has ended.
    pub(crate) scratch: Option<Scratch>,
}

impl Places {
    pub(crate) fn new(state: PathBuf) -> Places {
        Places { state, scratch: OnceCell::new() }
    }

    /// The host's own folder.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// Makes what the orders use.
    pub(crate) async fn prepare(
        &self,
        orders: &Orders,
        package: Option<&Path>,
        plugin: &str,
        identity: Option<Identity>,
    ) -> Result<WorkerPlaces, Error> {
        let mut places = WorkerPlaces::default();
        if let Some(folder) = package.filter(|_| uses(orders, Place::Plugin)) {
            places.paths.push((Place::Plugin, text(folder)?));
        }
        if uses(orders, Place::Data) {
            let (state, plugin) = (self.state.clone(), plugin.to_owned());
            let folder = blocking(move || data(&state, &plugin, identity)).await?;
            places.paths.push((Place::Data, text(&folder)?));
        }
        if uses(orders, Place::Scratch) {
            let home = Arc::clone(self.scratch.get_or_try_init(|| open(self.state.clone())).await?);
            let scratch = blocking(move || Scratch::make(home, identity)).await?;
            places.paths.push((Place::Scratch, text(scratch.path())?));
            places.scratch = Some(scratch);
        }
        if uses(orders, Place::Root) {
            places.paths.push((Place::Root, "/".to_owned()));
        }
        Ok(places)
    }
}

/// Makes a host's scratch home. A dead host's tree may take long to remove: not on a thread that drives plugins.
async fn open(state: PathBuf) -> Result<Arc<ScratchHome>, Error> {
    blocking(move || ScratchHome::open(&state).map(Arc::new)).await
}

/// Makes a plugin's data folder. Blocks.
fn data(state: &Path, plugin: &str, identity: Option<Identity>) -> Result<PathBuf, Error> {
    passage(state)?;
    passage(&state.join("data"))?;
    let folder = state.join("data").join(plugin);
    own(&folder, identity)?;
    Ok(folder)
}

fn uses(orders: &Orders, place: Place) -> bool {
    orders.landlock.rules.iter().any(|rule| rule.place == place)
        || orders.files.iter().any(|file| file.place == place)
}

fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::malformed(path.display().to_string(), "its path is not UTF-8"))
}

/// Whether only root or this user can write what these are the facts of.
pub(crate) fn is_only_ours(facts: &Metadata) -> bool {
    /// Write permission for group and others.
    const FOREIGN_WRITE: u32 = 0o022;
    let me = rustix::process::geteuid().as_raw();
    (facts.uid() == 0 || facts.uid() == me) && facts.mode() & FOREIGN_WRITE == 0
}

/// A folder that workers pass through.
pub(crate) fn passage(path: &Path) -> Result<(), Error> {
    make(path, PASSAGE)
}

/// A folder that belongs to one worker's identity, or to the host's user where there is none.
fn own(path: &Path, identity: Option<Identity>) -> Result<(), Error> {
    make(path, PRIVATE)?;
    let Some(Identity { uid, gid }) = identity else { return Ok(()) };
    chown(path, Some(uid), Some(gid))
        .map_err(|source| Error::io(format!("give {} to a plugin", path.display()), source))
}

/// Makes a folder with a mode, or checks that the one there is a folder, and sets its mode.
pub(crate) fn make(path: &Path, mode: u32) -> Result<(), Error> {
    let subject = |source| Error::io(format!("make the folder {}", path.display()), source);
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new()
                .mode(PASSAGE)
                .recursive(true)
                .create(path.parent().unwrap_or(path))
                .map_err(subject)?;
            DirBuilder::new().mode(mode).create(path).map_err(subject)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.map_err(subject)?,
    }
    let facts = std::fs::symlink_metadata(path).map_err(subject)?;
    if !facts.is_dir() {
        return Err(Error::io(format!("use {}", path.display()), std::io::ErrorKind::NotADirectory.into()));
    }
    // Only where needed: an unprivileged host may use folders that somebody prepared for it.
    if facts.mode() & 0o7777 != mode && facts.uid() == rustix::process::geteuid().as_raw() {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(subject)?;
    }
    Ok(())
}
