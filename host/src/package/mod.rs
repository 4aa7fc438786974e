//! A plugin as it lies on disk: a folder with a manifest, or a bare artifact.

pub(crate) mod artifact;
pub(crate) mod beneath;
mod gate;
mod pack;
mod packages;
mod record;
mod store;
mod survey;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use hotcell_policy::{Manifest, Profile};
use hotcell_protocol::Runtime;
use sha2::{Digest, Sha256};

use crate::error::Error;
use artifact::{Sealed, Sha};
pub(crate) use gate::{Gate, installed_path};
pub use pack::{pack, put_signatures, signatures};
pub use packages::{InstallOptions, InstalledPlugin, Packages, VerifiedPackage};
pub use record::InstalledVersion;
pub use survey::survey;

/// The manifest's file name.
const MANIFEST: &str = "manifest.json";

/// What a bare artifact is loaded as, by its extension and by how it is used.
const BARE: [(&str, BareUse, Runtime, &str); 5] = [
    ("so", BareUse::Library, Runtime::Native, "native-strict"),
    ("wasm", BareUse::Library, Runtime::Core, "pure-compute"),
    ("wat", BareUse::Library, Runtime::Core, "pure-compute"),
    ("wasm", BareUse::Command, Runtime::Command, "wasi-command"),
    ("wat", BareUse::Command, Runtime::Command, "wasi-command"),
];

/// What a bare artifact is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareUse {
    /// Its exports are called.
    #[default]
    Library,
    /// It is run with arguments and standard streams.
    Command,
}

/// What tells versions of a package apart: the digests of manifest and artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint {
    pub(crate) manifest: Sha,
    pub(crate) artifact: Sha,
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", hotcell_package::hex(&self.manifest), hotcell_package::hex(&self.artifact))
    }
}

/// A package that was found and whose manifest was read. Its artifact was not looked at.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    /// The folder, absolute; `None` for a bare artifact, which may read nothing beside itself.
    pub(crate) folder: Option<PathBuf>,
    opened: OwnedFd,
    artifact: String,
    /// Digest of the manifest's text; of nothing for a bare artifact.
    pub(crate) manifest_digest: Sha,
    /// A bare `.wasm` says by its content whether it is a core module or a component.
    pub(crate) bare: bool,
}

impl Package {
    /// Finds what a path names: a folder with a manifest, a manifest, or a bare artifact. Blocks on its file system.
    pub(crate) fn open(path: &Path, bare_use: BareUse) -> Result<Package, Error> {
        let named = path.display().to_string();
        if path.to_str().is_none() {
            return Err(Error::malformed(named, "its path is not UTF-8"));
        }
        let real = path.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::malformed(&named, "there is no such file or folder"),
            _ => Error::malformed(&named, source.to_string()),
        })?;
        if real.is_dir() {
            return Package::folder(real, MANIFEST);
        }
        let (Some(folder), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str()))
        else {
            return Err(Error::malformed(named, "its path is not UTF-8"));
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Package::folder(folder.to_owned(), name),
            extension => Package::bare(&named, folder, name, extension.unwrap_or_default(), bare_use),
        }
    }

    fn folder(folder: PathBuf, manifest: &str) -> Result<Package, Error> {
        let opened = beneath::folder(&folder)?;
        let name = folder.join(manifest).display().to_string();
        let text = read_bounded(&name, beneath::file(opened.as_fd(), manifest)?, Manifest::MAX_BYTES)?;
        let manifest = Manifest::parse(&name, &text)?;
        let artifact = manifest.artifact().as_str().to_owned();
        let manifest_digest = Sha256::digest(&text).into();
        Ok(Package { manifest, folder: Some(folder), opened, artifact, manifest_digest, bare: false })
    }

    fn bare(
        named: &str,
        folder: &Path,
        name: &str,
        extension: &str,
        wanted: BareUse,
    ) -> Result<Package, Error> {
        let kind = BARE.iter().find(|(known, bare_use, ..)| *known == extension && *bare_use == wanted);
        let Some((_, _, runtime, profile)) = kind else {
            let kinds = match wanted {
                BareUse::Library => "a .wasm, .wat or .so file",
                BareUse::Command => "a .wasm or .wat file",
            };
            let what = format!("it is neither a folder with {MANIFEST}, nor a manifest, nor {kinds}");
            return Err(Error::malformed(named, what));
        };
        let manifest = Manifest::bare(name, *runtime, profile)?;
        let opened = beneath::folder(folder)?;
        let (artifact, manifest_digest) = (name.to_owned(), Sha256::digest([]).into());
        Ok(Package { manifest, folder: None, opened, artifact, manifest_digest, bare: true })
    }

    /// Copies the artifact into sealed memory. Blocks on its file system.
    pub(crate) fn artifact(&self) -> Result<Sealed, Error> {
        Sealed::copy(&self.artifact, beneath::file(self.opened.as_fd(), &self.artifact)?)
    }

    /// Copies a program of the package, to be executed. Blocks on its file system.
    pub(crate) fn program(&self, path: &str) -> Result<Sealed, Error> {
        Sealed::copy_program(path, beneath::file(self.opened.as_fd(), path)?)
    }

    /// What it is now. Blocks on its file system.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let artifact = self.artifact()?.digest;
        Ok(Fingerprint { manifest: self.manifest_digest, artifact })
    }

    /// The profile that the manifest names: one that the application added, else one that hotcell ships.
    pub(crate) fn profile(&self, added: &[Profile]) -> Result<Profile, Error> {
        find_profile(self.manifest.profile().as_str(), added)
    }
}

/// A profile by its name.
pub(crate) fn find_profile(name: &str, added: &[Profile]) -> Result<Profile, Error> {
    if let Some(profile) = added.iter().find(|profile| profile.name() == name) {
        return Ok(profile.clone());
    }
    match Profile::shipped(name) {
        Some(profile) => Ok(profile?),
        None => {
            let known: Vec<_> = Profile::shipped_names().to_vec();
            Err(Error::malformed(
                format!("profile `{name}`"),
                format!("there is none; shipped are: {}", known.join(", ")),
            ))
        }
    }
}

fn read_bounded(name: &str, file: File, bound: usize) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut text).map_err(|source| Error::io(format!("read {name}"), source))?;
    match text.len() > bound {
        true => Err(Error::malformed(name, format!("it is longer than {bound} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::{BareUse, Package};
    use crate::class::Class;
    use crate::places::tests_support::Folder;

    fn refusal(path: &Path, bare_use: BareUse) -> String {
        let error = Package::open(path, bare_use).expect_err("is refused");
        assert_eq!(error.class(), Class::Invalid);
        error.to_string()
    }

    #[test]
    fn paths_that_name_no_plugin_are_clear_errors() {
        let home = Folder::new("package");
        let library = BareUse::Library;
        assert!(refusal(&home.path().join("missing"), library).contains("no such file"));
        assert!(refusal(home.path(), library).contains("no such file"), "a folder without a manifest");
        assert!(refusal(&home.path().join(OsStr::from_bytes(b"a\xff.so")), library).contains("not UTF-8"));
        std::fs::write(home.path().join("plugin.txt"), "x").expect("writes");
        assert!(refusal(&home.path().join("plugin.txt"), library).contains("nor a manifest"));
        std::fs::write(home.path().join("plugin.so"), "x").expect("writes");
        assert!(refusal(&home.path().join("plugin.so"), BareUse::Command).contains(".wat"));
    }

    #[test]
    fn a_manifest_that_is_a_link_is_refused() {
        let home = Folder::new("package-link");
        std::fs::write(home.path().join("elsewhere"), "{}").expect("writes");
        std::os::unix::fs::symlink("elsewhere", home.path().join("manifest.json")).expect("links");
        assert!(refusal(home.path(), BareUse::Library).contains("symbolic link"));
    }
}
