//! Which packages are let in: whose signatures count, what has to be signed, and no way back to an older version.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hotcell_package::{Bounds, Contents, SIGNATURES, SignatureError, Standing, TrustStore};
use hotcell_policy::{Manifest, PackagePath, PluginId, Profile};

use super::artifact::Sealed;
use super::record::{Record, Records};
use super::store::{Store, Take};
use super::survey::{feed, survey};
use super::{BareUse, MANIFEST, Package, find_profile};
use crate::class::Class;
use crate::error::Error;
use crate::places::is_only_ours;

/// How packages end.
pub(super) const EXTENSION: &str = "lbplugin";

/// How an installed plugin is named: `@com.example.greet`.
const INSTALLED: &str = "@";

/// The file of the trust store, in the state folder.
pub(super) const TRUST: &str = "trust.json";

/// What decides.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) state: PathBuf,
    /// Whether the application loads nothing that no trusted key signed.
    pub(crate) required: bool,
    /// Those that the application added.
    pub(crate) profiles: Vec<Profile>,
}

/// What a path names, if it is more than a bare artifact.
#[derive(Debug)]
pub(crate) enum Source {
    /// An archive, as it was.
    Archive(Sealed),
    /// A folder: absolute, without a link.
    Folder(PathBuf),
}

/// A package that was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(super) source: Source,
    pub(crate) contents: Contents,
    pub(crate) manifest: Manifest,
}

impl Gate {
    /// Finds what a path names and lets it in or not. A signed package is loaded from the store of this state folder, where it
    /// is laid down first. Blocks.
    pub(crate) fn open(&self, path: &Path, bare_use: BareUse, may_go_back: bool) -> Result<Package, Error> {
        let real = self.real(path)?;
        let Some(measured) = self.measure_if_signed(&real)? else {
            let package = Package::open(&real, bare_use)?;
            self.admit(&Standing::Unsigned, &package.manifest, None, may_go_back)?;
            return Ok(package);
        };
        let standing = self.judge(&measured)?;
        let digest = measured.contents.listing.digest();
        self.admit(&standing, &measured.manifest, Some(&digest), may_go_back)?;
        let folder = match (&measured.source, &standing) {
            // An unsigned or unknown folder is what its owner works on.
            (Source::Folder(folder), Standing::Unsigned | Standing::Unknown(_)) => folder.clone(),
            _ => measured.lay_down(&self.store())?,
        };
        Package::open(&folder, bare_use)
    }

    pub(super) fn store(&self) -> Store {
        Store::new(&self.state)
    }

    pub(super) fn records(&self) -> Records {
        Records::new(&self.state)
    }

    /// Where a path leads: that of an installed plugin (`@ID`) to its package in the store.
    pub(super) fn real(&self, path: &Path) -> Result<PathBuf, Error> {
        let Some(id) = installed_id(path) else { return Ok(path.to_owned()) };
        let id: PluginId =
            id.parse().map_err(|error| Error::malformed(path.display().to_string(), format!("{error}")))?;
        match self.records().read(&id)?.current() {
            Some(current) => match hotcell_package::unhex(&current.digest) {
                Some(digest) => Ok(self.store().place(&digest)),
                None => Err(Error::malformed(id.as_str(), "its record is damaged; install it again")),
            },
            None => Err(Error::malformed(
                id.as_str(),
                "no plugin of this id is installed; see `hotcell plugin list`, or write ./@ID for a file",
            )),
        }
    }

    /// What is watched for changes of what a path names.
    pub(crate) fn watched(&self, path: &Path) -> PathBuf {
        match installed_id(path).map(str::parse) {
            Some(Ok(id)) => self.records().file(&id),
            _ => path.to_owned(),
        }
    }

    /// Measures a package: an archive, or a folder with a manifest.
    pub(crate) fn measure(&self, path: &Path) -> Result<Measured, Error> {
        let real = self.real(path)?;
        match self.measure_where(&real, |_| true)? {
            Some(measured) => Ok(measured),
            None => {
                let what = format!("it is neither an .{EXTENSION} file nor a folder with {MANIFEST}");
                Err(Error::malformed(path.display().to_string(), what))
            }
        }
    }

    /// Measures it where somebody has signed it, or where packages were revoked, of which it may be one.
    fn measure_if_signed(&self, real: &Path) -> Result<Option<Measured>, Error> {
        let may_be_revoked = !self.trust()?.revoked_packages().is_empty();
        self.measure_where(real, |folder| {
            may_be_revoked || folder.join(SIGNATURES).symlink_metadata().is_ok()
        })
    }

    fn measure_where(
        &self,
        path: &Path,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Option<Measured>, Error> {
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && !path.is_dir() {
            let archive = Sealed::copy(&name, open(path)?)?;
            let contents = read_archive(&name, &archive, &mut |_, _| Ok(()))?;
            let manifest = contents.manifest(&name)?;
            return Ok(Some(Measured { source: Source::Archive(archive), contents, manifest }));
        }
        // Whatever else is wrong with the path is said by who opens it.
        let Ok(real) = path.canonicalize() else { return Ok(None) };
        let folder = match real.file_name().is_some_and(|name| name == MANIFEST) && real.is_file() {
            true => real.parent().map(Path::to_owned).unwrap_or(real),
            false => real,
        };
        let store = self.store();
        let contents = match store.digest_of(&folder) {
            Some(digest) => store.survey(&digest)?,
            None if folder.join(MANIFEST).symlink_metadata().is_ok() && is_wanted(&folder) => {
                survey(&folder)?
            }
            None => return Ok(None),
        };
        let manifest = contents.manifest(&name)?;
        Ok(Some(Measured { source: Source::Folder(folder), contents, manifest }))
    }

    /// The keys that are trusted here, as they are now.
    ///
    /// # Errors
    /// The file is none, or others can write it: nothing is trusted then, and nothing is loaded.
    pub(super) fn trust(&self) -> Result<TrustStore, Error> {
        let path = self.state.join(TRUST);
        let failed = |source| Error::io(format!("read {}", path.display()), source);
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(TrustStore::default()),
            other => other.map_err(failed)?,
        };
        let facts = file.metadata().map_err(failed)?;
        if !is_only_ours(&facts) {
            let what = "the trust store must be a file that only root or this user can write";
            return Err(failed(std::io::Error::new(std::io::ErrorKind::PermissionDenied, what)));
        }
        let mut document = Vec::new();
        let most = TrustStore::MAX_BYTES as u64 + 1;
        file.take(most).read_to_end(&mut document).map_err(failed)?;
        TrustStore::parse(&document).map_err(|what| Error::malformed(path.display().to_string(), what))
    }

    /// What the package's signatures are worth here and now.
    pub(crate) fn judge(&self, measured: &Measured) -> Result<Standing, Error> {
        let Measured { contents, manifest, .. } = measured;
        let judged = self.trust()?.judge(contents, manifest, SystemTime::now());
        judged.map_err(|source| refused(manifest, source))
    }

    /// Lets a package in or not.
    pub(super) fn admit(
        &self,
        standing: &Standing,
        manifest: &Manifest,
        digest: Option<&hotcell_package::Digest>,
        may_go_back: bool,
    ) -> Result<(), Error> {
        let record = self.records().read(manifest.id())?;
        if let Some(why) = self.requirement(manifest, &record)? {
            match standing {
                Standing::Trusted(_) => {}
                Standing::Unsigned => return Err(refused(manifest, SignatureError::Missing(why))),
                Standing::Unknown(error) => return Err(refused(manifest, error.clone().into())),
            }
        }
        if !matches!(standing, Standing::Trusted(_)) {
            return Ok(());
        }
        // What was rolled back to is what somebody here asked for.
        let is_current = digest.is_some_and(|digest| {
            record.current().is_some_and(|now| now.digest == hotcell_package::hex(digest))
        });
        match &record.newest_signed {
            Some(newest) if newest > manifest.version() && !may_go_back && !is_current => {
                Err(older(manifest, newest))
            }
            Some(newest) if newest >= manifest.version() => Ok(()),
            _ => self.records().change(manifest.id(), |record| {
                record.newest_signed = record.newest_signed.take().max(Some(manifest.version().clone()));
                Ok(())
            }),
        }
    }

    /// Why the plugin has to be signed, if it has to.
    fn requirement(&self, manifest: &Manifest, record: &Record) -> Result<Option<&'static str>, Error> {
        if self.required {
            return Ok(Some("this host loads signed plugins only"));
        }
        if manifest.requires_signature() {
            return Ok(Some("its manifest requires that"));
        }
        if record.newest_signed.is_some() {
            return Ok(Some(
                "a version of it was: sign this one (`hotcell plugin sign`), or forget the plugin (`hotcell plugin remove --forget`)",
            ));
        }
        let profile = find_profile(manifest.profile().as_str(), &self.profiles)?;
        Ok(profile.requires_signature().then_some("its profile requires that"))
    }
}

impl Measured {
    /// Lays the package down in the store.
    pub(super) fn lay_down(&self, store: &Store) -> Result<PathBuf, Error> {
        store.fill(&self.contents, |take| self.feed(take))
    }

    /// The artifact for this machine; none where the package lacks it. Blocks.
    pub(crate) fn artifact(&self) -> Result<Option<Sealed>, Error> {
        let mut artifact = None;
        self.each_file(&mut |path, bytes| {
            if path == self.manifest.artifact() {
                artifact = Some(Sealed::from_bytes(bytes));
            }
        })?;
        artifact.transpose()
    }

    /// Every file, whole: no more than one in memory. Blocks.
    pub(crate) fn each_file(&self, look: &mut dyn FnMut(&PackagePath, &[u8])) -> Result<(), Error> {
        let mut current: Option<(PackagePath, Vec<u8>)> = None;
        self.feed(&mut |path, piece| {
            match &mut current {
                Some((known, bytes)) if known == path => bytes.extend_from_slice(piece),
                _ => {
                    let before = current.replace((path.clone(), piece.to_vec()));
                    before.iter().for_each(|(path, bytes)| look(path, bytes));
                }
            }
            Ok(())
        })?;
        current.iter().for_each(|(path, bytes)| look(path, bytes));
        Ok(())
    }

    fn feed(&self, take: &mut Take<'_>) -> Result<(), Error> {
        match &self.source {
            Source::Archive(archive) => read_archive("the package", archive, take).map(drop),
            Source::Folder(folder) => feed(folder, &self.contents, take),
        }
    }
}

/// The name of an installed plugin.
pub(crate) fn installed_path(id: &PluginId) -> PathBuf {
    format!("{INSTALLED}{id}").into()
}

fn installed_id(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(INSTALLED)
}

/// Opens an archive that the application named: never a pipe or a device.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let subject = || path.display().to_string();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::malformed(subject(), "there is no such file"),
        _ => Error::malformed(subject(), source.to_string()),
    })?;
    match file.metadata().is_ok_and(|facts| facts.is_file()) {
        true => Ok(file),
        false => Err(Error::malformed(subject(), "it is not a regular file")),
    }
}

pub(super) fn read_archive(name: &str, archive: &Sealed, take: &mut Take<'_>) -> Result<Contents, Error> {
    let file = File::from(archive.descriptor()?);
    hotcell_package::read(file, &Bounds::STANDARD, take)
        .map_err(|source| Error::Archive { subject: name.to_owned(), source })
}

pub(super) fn refused(manifest: &Manifest, source: SignatureError) -> Error {
    Error::Signature { subject: format!("{} {}", manifest.id(), manifest.version()), source }
}

/// A way back, which nobody asked for.
fn older(manifest: &Manifest, newest: &semver::Version) -> Error {
    Error::Package {
        subject: format!("{} {}", manifest.id(), manifest.version()),
        detail: format!(
            "version {newest} of it was seen here, and a signed plugin does not go back by itself; \
             allow it (`--allow-downgrade`), or `hotcell plugin rollback`"
        ),
        class: Class::Refused,
    }
}
