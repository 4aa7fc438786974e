//! The WASI context of a worker: what its orders grant, and nothing of the launcher's.
//!
//! Opened here, under the Load stage and after the Landlock layer: what Landlock denies, no guest gets by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotcell_protocol::{Failure, FileAccess, FileOrder, Place, Start};
use hotcell_worker::load_failure;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::stdio::{Output, Stdin};

/// A context with the granted folders, stdout and stderr. Its own network makes no socket: connections are the host's.
pub(crate) fn context(start: &Start) -> Result<WasiCtxBuilder, Failure> {
    let mut builder = WasiCtxBuilder::new();
    // Before any folder: each remembers how it may block.
    builder.allow_blocking_current_thread(true).stdout(Output::Stdout).stderr(Output::Stderr);
    builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    for ((guest, folder), writable) in folders(start)? {
        let perms = if writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        builder.preopened_dir(&folder, &guest, perms).map_err(|error| {
            load_failure(format!("failed to open the granted path {}: {error:#}", folder.display()))
        })?;
    }
    Ok(builder)
}

/// The same for a command: with arguments, environment and stdin.
pub(crate) fn command_context(start: &Start) -> Result<WasiCtxBuilder, Failure> {
    let mut builder = context(start)?;
    builder.args(&start.command.arguments).envs(&start.command.environment).stdin(Stdin);
    Ok(builder)
}

/// Guest name and folder of each grant, and whether anything in it may be changed.
///
/// WASI opens folders. A granted file is reached through the folder that holds it, in which Landlock allows that one
/// file.
fn folders(start: &Start) -> Result<BTreeMap<(String, PathBuf), bool>, Failure> {
    let mut folders = BTreeMap::new();
    for order in &start.orders.files {
        let path = absolute(start, order)?;
        let found = std::fs::metadata(&path).map_err(|error| {
            load_failure(format!("failed to find the granted path {}: {error}", path.display()))
        })?;
        let writable = order.access == FileAccess::Write || order.create || order.delete;
        let key = if found.is_dir() { (order.guest.clone(), path) } else { holder(&order.guest, &path) };
        *folders.entry(key).or_insert(false) |= writable;
    }
    Ok(folders)
}

fn absolute(start: &Start, order: &FileOrder) -> Result<PathBuf, Failure> {
    let base = start.places.iter().find(|(place, _)| *place == order.place).map(|(_, base)| Path::new(base));
    let base = match (base, order.place) {
        (Some(base), _) => base,
        (None, Place::Root) => Path::new("/"),
        (None, place) => return Err(load_failure(format!("the host named no folder for {}", name(place)))),
    };
    Ok(if order.path.is_empty() { base.to_owned() } else { base.join(&order.path) })
}

fn name(place: Place) -> &'static str {
    match place {
        Place::Plugin => "${plugin}",
        Place::Data => "${data}",
        Place::Scratch => "${scratch}",
        Place::Root => "/",
    }
}

/// The folder of a file, under both its names.
fn holder(guest: &str, path: &Path) -> (String, PathBuf) {
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    let guest = match guest.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((holder, _)) => holder,
        None => ".",
    };
    (guest.to_owned(), folder)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::holder;

    #[test]
    fn a_file_is_reached_through_its_folder() {
        let path = Path::new("/srv/icc/srgb.icc");
        for (guest, folder) in [("/icc/srgb.icc", "/icc"), ("/srgb.icc", "/"), ("srgb.icc", ".")] {
            assert_eq!(holder(guest, path), (folder.to_owned(), PathBuf::from("/srv/icc")));
        }
    }
}
