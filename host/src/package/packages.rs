//! What an application or the command does with packages: verify, install, remove, and say whom it trusts.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use hotcell_package::{Contents, Digest, Standing, TrustStore, hex, unhex};
use hotcell_policy::{Manifest, PluginId, Profile, needed_besides, start_order};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::find_profile;
use super::gate::{Gate, Measured, TRUST, installed_path};
use super::pack::check_holds;
use super::record::{InstalledVersion, KEPT, Record, installed};
use crate::class::Class;
use crate::error::Error;
use crate::places::passage;

/// The plugins that are installed in a state folder, and the keys that are trusted there. Every call blocks on the disk.
///
/// Hosts of the same state folder see each change at their next load.
#[derive(Clone, Debug)]
pub struct Packages {
    gate: Arc<Gate>,
}

/// A package that was read whole: its digests are right, and so is each of its signatures.
#[derive(Clone, Debug)]
pub struct VerifiedPackage {
    /// What the plugin is and asks for.
    pub manifest: Manifest,
    /// Its files, and the signatures over them.
    pub contents: Contents,
    /// What the signatures are worth here.
    pub standing: Standing,
}

impl VerifiedPackage {
    /// What names its files: the same for the folder and the archive.
    pub fn digest(&self) -> Digest {
        self.contents.listing.digest()
    }
}

/// How a package is installed.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstallOptions {
    /// Whether the version may be the one that is installed, with other files, or an older one than was seen.
    pub may_go_back: bool,
    /// Whether the plugin has to be installed already.
    pub only_update: bool,
}

/// A plugin that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstalledPlugin {
    /// Its id.
    pub id: String,
    /// The version that is loaded.
    pub current: InstalledVersion,
    /// Those that `rollback` goes back to, the latest last.
    pub before: Vec<InstalledVersion>,
}

impl Packages {
    pub(crate) fn new(gate: Arc<Gate>) -> Packages {
        Packages { gate }
    }

    /// Reads a package whole: an `.lbplugin` file, a folder with `manifest.json`, or `@ID` for an installed one.
    ///
    /// # Errors
    /// It is no package, a signature is not right, or one that is right does not count (see [`TrustStore::judge`]).
    pub fn verify(&self, path: impl AsRef<Path>) -> Result<VerifiedPackage, Error> {
        let measured = self.gate.measure(path.as_ref())?;
        let standing = self.gate.judge(&measured)?;
        let Measured { contents, manifest, .. } = measured;
        Ok(VerifiedPackage { manifest, contents, standing })
    }

    /// The profile that a manifest names: one that the application added, else a shipped one.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn profile(&self, manifest: &Manifest) -> Result<Profile, Error> {
        find_profile(manifest.profile().as_str(), &self.gate.profiles)
    }

    /// Installs a package: verifies it, lays it down in the store, and makes it the one that `@ID` names. Nothing of it runs.
    ///
    /// # Errors
    /// As [`Packages::verify`]; no trusted key has signed it and one has to; its version is not newer than the one that is
    /// installed.
    pub fn install(&self, path: impl AsRef<Path>, options: InstallOptions) -> Result<InstalledPlugin, Error> {
        let measured = self.gate.measure(path.as_ref())?;
        let standing = self.gate.judge(&measured)?;
        let Measured { contents, manifest, .. } = &measured;
        let digest = contents.listing.digest();
        check_holds(contents, manifest)?;
        self.gate.admit(&standing, manifest, Some(&digest), options.may_go_back)?;
        let record = self.gate.records().read(manifest.id())?;
        check_newer(&record, manifest, &digest, options)?;
        measured.lay_down(&self.gate.store())?;
        let signers = match standing {
            Standing::Trusted(keys) => keys.into_iter().map(|(_, name)| name).collect(),
            Standing::Unsigned | Standing::Unknown(_) => Vec::new(),
        };
        let (record, dropped) = self.gate.records().change(manifest.id(), |record| {
            check_newer(record, manifest, &digest, options)?;
            record.versions.retain(|known| known.digest != hex(&digest));
            record.versions.push(installed(manifest.version().clone(), &digest, signers));
            let over = record.versions.len().saturating_sub(KEPT);
            let dropped: Vec<_> = record.versions.drain(..over).collect();
            Ok((record.clone(), dropped))
        })?;
        self.forget(&dropped)?;
        plugin(manifest.id(), &record)
            .ok_or_else(|| Error::malformed(manifest.id().as_str(), "it is gone again"))
    }

    /// The plugins that are installed, in the order of their ids.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn list(&self) -> Result<Vec<InstalledPlugin>, Error> {
        let records = self.gate.records();
        let found = records.ids()?.into_iter().map(|id| Ok(plugin(&id, &records.read(&id)?)));
        Ok(found.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
    }

    /// What an installed plugin is and asks for; nothing where none of the id is installed.
    ///
    /// # Errors
    /// Its record cannot be read, or its package is not what was installed.
    pub fn installed(&self, id: &PluginId) -> Result<Option<Manifest>, Error> {
        match self.gate.records().read(id)?.current() {
            Some(_) => Ok(Some(self.gate.measure(&installed_path(id))?.manifest)),
            None => Ok(None),
        }
    }

    /// What the installed plugins need that is not installed or does not fit, in words: they could not be loaded with
    /// [`Host::load_with_installed`](crate::Host::load_with_installed) as they are.
    ///
    /// # Errors
    /// As [`Packages::installed`].
    pub fn unmet(&self) -> Result<Vec<String>, Error> {
        let mut installed = Vec::new();
        for id in self.gate.records().ids()? {
            installed.extend(self.installed(&id)?);
        }
        let lacks = |manifest: &Manifest| {
            let find =
                |id: &PluginId| Ok::<_, Infallible>(installed.iter().find(|other| other.id() == id).cloned());
            let Ok(more) = needed_besides(&[manifest], &[], find);
            let all: Vec<_> = more.iter().chain([manifest]).collect();
            start_order(&all, &[]).err().map(|error| error.to_string())
        };
        let mut unmet: Vec<_> = installed.iter().filter_map(lacks).collect();
        unmet.dedup();
        Ok(unmet)
    }

    /// Goes back to the version that was installed before the current one. It stays allowed, although it is older.
    ///
    /// # Errors
    /// There is none.
    pub fn rollback(&self, id: &PluginId) -> Result<InstalledPlugin, Error> {
        let (record, dropped) = self.gate.records().change(id, |record| {
            let [.., before, _] = record.versions.as_slice() else {
                return Err(Error::malformed(id.as_str(), "there is no version to go back to"));
            };
            let place = self.gate.store().place(&digest_of(before)?);
            self.gate.measure(&place)?;
            let dropped: Vec<_> = record.versions.pop().into_iter().collect();
            Ok((record.clone(), dropped))
        })?;
        self.forget(&dropped)?;
        plugin(id, &record).ok_or_else(|| Error::malformed(id.as_str(), "it is gone again"))
    }

    /// Removes a plugin's packages. What it keeps in `${data}` stays, and so does the newest version that was seen, unless
    /// `forget` says that a later install may be of any version and unsigned. A host that has the plugin loaded goes on with it,
    /// without the files of its package.
    ///
    /// # Errors
    /// It is not installed, and nothing is known of it.
    pub fn remove(&self, id: &PluginId, forget: bool) -> Result<(), Error> {
        let dropped = self.gate.records().change(id, |record| {
            let nothing = if forget { *record == Record::default() } else { record.versions.is_empty() };
            if nothing {
                return Err(Error::malformed(id.as_str(), "it is not installed"));
            }
            if forget {
                record.newest_signed = None;
            }
            Ok(std::mem::take(&mut record.versions))
        })?;
        self.forget(&dropped)
    }

    /// Removes packages from the store that no plugin is installed from: those that were loaded from files. Not while a host runs
    /// with one of them. Returns how many.
    ///
    /// # Errors
    /// A record cannot be read, or a package not be removed.
    pub fn prune(&self) -> Result<usize, Error> {
        let mut lying = self.gate.store().list()?;
        for plugin in self.list()? {
            for version in plugin.before.iter().chain([&plugin.current]) {
                lying.remove(&digest_of(version)?);
            }
        }
        lying.iter().try_for_each(|digest| self.gate.store().remove(digest))?;
        Ok(lying.len())
    }

    /// Removes what no plugin is installed from any more.
    fn forget(&self, dropped: &[InstalledVersion]) -> Result<(), Error> {
        let installed = self.list()?;
        let is_used = |digest: &str| {
            let mut all = installed.iter().flat_map(|plugin| plugin.before.iter().chain([&plugin.current]));
            all.any(|version| version.digest == digest)
        };
        for version in dropped.iter().filter(|version| !is_used(&version.digest)) {
            self.gate.store().remove(&digest_of(version)?)?;
        }
        Ok(())
    }

    /// The keys that are trusted, and what was revoked.
    ///
    /// # Errors
    /// The trust store cannot be read, is none, or others can write it.
    pub fn trust(&self) -> Result<TrustStore, Error> {
        self.gate.trust()
    }

    /// Changes the trust store, and writes it as a whole. What `change` returns is returned.
    ///
    /// # Errors
    /// As [`Packages::trust`]; or it cannot be written; or `change` fails.
    pub fn change_trust<T>(
        &self,
        change: impl FnOnce(&mut TrustStore) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let state = &self.gate.state;
        passage(state)?;
        let path = state.join(TRUST);
        let failed = |source| Error::io(format!("write {}", path.display()), source);
        let mut options = OpenOptions::new();
        let lock =
            options.create(true).append(true).mode(0o600).open(state.join("trust.lock")).map_err(failed)?;
        flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        let mut store = self.gate.trust()?;
        let changed = change(&mut store)?;
        let new = state.join("trust.json.new");
        let written = OpenOptions::new().create(true).write(true).truncate(true).mode(0o644).open(&new);
        written
            .and_then(|mut file| {
                file.write_all(store.to_string().as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&new, &path))
            .map_err(failed)?;
        Ok(changed)
    }
}

fn check_newer(
    record: &Record,
    manifest: &Manifest,
    digest: &Digest,
    options: InstallOptions,
) -> Result<(), Error> {
    let refused = |detail: String| Error::Package {
        subject: format!("{} {}", manifest.id(), manifest.version()),
        detail,
        class: Class::Refused,
    };
    match record.current() {
        None if options.only_update => {
            Err(refused("it is not installed; install it first (`hotcell plugin install`)".to_owned()))
        }
        Some(current) if !options.may_go_back => {
            let same = current.digest == hex(digest);
            match current.version < *manifest.version() || same {
                true => Ok(()),
                false => Err(refused(format!(
                    "version {} is installed; raise `version` in its manifest, or allow it (`--allow-downgrade`)",
                    current.version
                ))),
            }
        }
        _ => Ok(()),
    }
}

fn plugin(id: &PluginId, record: &Record) -> Option<InstalledPlugin> {
    let (current, before) = record.versions.split_last()?;
    Some(InstalledPlugin { id: id.to_string(), current: current.clone(), before: before.to_vec() })
}

fn digest_of(version: &InstalledVersion) -> Result<Digest, Error> {
    let damaged =
        || Error::malformed(version.digest.clone(), "the record is damaged; install the plugin again");
    unhex(&version.digest).ok_or_else(damaged)
}
