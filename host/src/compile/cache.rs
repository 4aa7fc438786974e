//! Native code of modules that were compiled before, in a folder that no plugin can write.
//!
//! An entry is authenticated with a key of this folder, so that a file that somebody else put or changed there is not
//! code. It says nothing about what the code does: that is as hostile as the module.

use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use hotcell_package::hex;
use hotcell_protocol::{Description, codec};
use sha2::Sha256;

use crate::error::Error;
use crate::package::artifact::Sha;
use crate::places::make;
use crate::{random, secret};

/// First bytes of an entry: format and revision.
const MAGIC: &[u8; 8] = b"hotcell1";

/// Bytes of the authentication code.
const MAC: usize = 32;

/// Largest native code of one module.
pub(crate) const CODE_MAX: u64 = 1 << 30;

/// Age at which an unfinished file is a dead host's: far longer than any host takes to write one.
const STALE: Duration = Duration::from_hours(1);

/// Native code and what the compiler said of it.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) description: Description,
    pub(crate) code: Vec<u8>,
}

/// The cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: Sha,
    /// Bytes of all entries together.
    bound: u64,
}

impl Cache {
    /// Opens the folder, which nobody else may write, and its key. Blocks.
    pub(crate) fn open(folder: &Path, bound: u64) -> Result<Cache, Error> {
        make(folder, 0o700)?;
        let facts = std::fs::symlink_metadata(folder).map_err(|source| failed(folder, source))?;
        if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o077 != 0 {
            let what = "the cache folder must belong to this user alone (mode 0700)";
            return Err(failed(folder, std::io::Error::new(std::io::ErrorKind::PermissionDenied, what)));
        }
        Ok(Cache {
            folder: folder.to_owned(),
            key: secret::key(folder, "key").map_err(|source| failed(&folder.join("key"), source))?,
            bound,
        })
    }

    /// An entry, if there is one and it is authentic. Blocks.
    pub(crate) fn get(&self, name: &Sha) -> Option<Compiled> {
        let path = self.path(name);
        let mut file = File::open(&path).ok()?;
        let entry = self.read(&mut file, name);
        match &entry {
            // The time of last use decides what is removed first.
            Some(_) => _ = file.set_modified(SystemTime::now()),
            None => {
                tracing::warn!(target: "hotcell::cache", entry = %path.display(), "a cache entry is not authentic; compiling again");
                let _ = std::fs::remove_file(&path);
            }
        }
        entry
    }

    /// Keeps an entry. Failure costs a compilation later, and is told in the log. Blocks.
    pub(crate) fn put(&self, name: &Sha, compiled: &Compiled) {
        let kept = self.write(name, compiled);
        if let Err(error) = kept.and_then(|()| self.shrink()) {
            tracing::warn!(target: "hotcell::cache", %error, "failed to keep compiled code");
        }
    }

    fn read(&self, file: &mut File, name: &Sha) -> Option<Compiled> {
        let mut head = [0; MAGIC.len() + MAC + 4];
        file.read_exact(&mut head).ok()?;
        let (magic, rest) = head.split_at(MAGIC.len());
        let (mac, described) = rest.split_at(MAC);
        if magic != MAGIC || file.metadata().ok()?.len() > CODE_MAX.saturating_mul(2) {
            return None;
        }
        let mut body = Vec::new();
        file.read_to_end(&mut body).ok()?;
        self.mac(name, described, &[&body]).verify_slice(mac).ok()?;
        let described = usize::try_from(u32::from_le_bytes(described.try_into().ok()?)).ok()?;
        let description = codec::decode::<Description>(body.get(..described)?).ok()?;
        body.drain(..described);
        Some(Compiled { description, code: body })
    }

    fn write(&self, name: &Sha, compiled: &Compiled) -> Result<(), Error> {
        let description = codec::encode(&compiled.description)
            .map_err(|error| self.failed(std::io::Error::other(error)))?;
        let described = u32::try_from(description.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mac = self.mac(name, &described, &[&description, &compiled.code]).finalize().into_bytes();
        let fresh = self.folder.join(format!("{}.new", random::name()?));
        let parts: [&[u8]; 5] = [MAGIC, &mac, &described, &description, &compiled.code];
        let written = secret::create(&fresh)
            .and_then(|mut file| parts.iter().try_for_each(|part| file.write_all(part)));
        let placed = written.and_then(|()| std::fs::rename(&fresh, self.path(name)));
        placed.map_err(|source| {
            let _ = std::fs::remove_file(&fresh);
            self.failed(source)
        })
    }

    /// Removes the entries that were not used for longest until the rest is within the bound, and what hosts that died
    /// did not finish.
    fn shrink(&self) -> Result<(), Error> {
        self.remove_stale().map_err(|source| self.failed(source))?;
        let mut entries = self.entries().map_err(|source| self.failed(source))?;
        entries.sort_by_key(|(_, facts)| facts.mtime());
        let mut total: u64 = entries.iter().map(|(_, facts)| facts.len()).sum();
        for (path, facts) in entries {
            if total <= self.bound {
                break;
            }
            // Another host may have removed it already.
            let _ = std::fs::remove_file(path);
            total = total.saturating_sub(facts.len());
        }
        Ok(())
    }

    fn remove_stale(&self) -> std::io::Result<()> {
        let unfinished = self.files("new")?.into_iter().chain(self.files("key")?);
        for (path, facts) in unfinished {
            let age = facts.modified().ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                // Another host may have removed it already.
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    fn entries(&self) -> std::io::Result<Vec<(PathBuf, Metadata)>> {
        self.files("code")
    }

    fn files(&self, kind: &str) -> std::io::Result<Vec<(PathBuf, Metadata)>> {
        let all = std::fs::read_dir(&self.folder)?.flatten();
        let wanted = all.filter(|entry| entry.path().extension().is_some_and(|found| found == kind));
        Ok(wanted.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect())
    }

    fn path(&self, name: &Sha) -> PathBuf {
        self.folder.join(format!("{}.code", hex(name)))
    }

    fn mac(&self, name: &Sha, described: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.key.into_block());
        mac.update(name);
        mac.update(described);
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    fn failed(&self, source: std::io::Error) -> Error {
        failed(&self.folder, source)
    }
}

/// A key padded to the block of SHA-256, as HMAC does with every shorter key (RFC 2104).
trait IntoBlock {
    fn into_block(self) -> hmac::digest::Key<Hmac<Sha256>>;
}

impl IntoBlock for Sha {
    fn into_block(self) -> hmac::digest::Key<Hmac<Sha256>> {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(self).for_each(|(to, from)| *to = from);
        block
    }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::io(format!("use the cache {}", path.display()), source)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use hotcell_protocol::{Description, Runtime};

    use super::{Cache, Compiled};
    use crate::places::tests_support::Folder;

    fn compiled(code: &[u8]) -> Compiled {
        let description = Description {
            runtime: Runtime::Core,
            exports: vec!["greet".to_owned()],
            imports: Vec::new(),
            code_len: code.len() as u64,
        };
        Compiled { description, code: code.to_vec() }
    }

    #[test]
    fn an_entry_comes_back_and_a_changed_one_does_not() {
        let home = Folder::new("cache");
        let cache = Cache::open(&home.path().join("c"), 1 << 20).expect("opens");
        cache.put(&[1; 32], &compiled(b"code"));
        let found = cache.get(&[1; 32]).expect("is there");
        assert_eq!((found.code.as_slice(), found.description.code_len), (&b"code"[..], 4));
        assert!(cache.get(&[2; 32]).is_none());
        let path = cache.path(&[1; 32]);
        let good = std::fs::read(&path).expect("reads");
        for place in 0..good.len() {
            let mut bad = good.clone();
            *bad.get_mut(place).expect("in range") ^= 1;
            std::fs::write(&path, &bad).expect("writes");
            assert!(cache.get(&[1; 32]).is_none(), "byte {place}");
        }
        std::fs::write(cache.path(&[2; 32]), &good).expect("writes");
        assert!(cache.get(&[2; 32]).is_none(), "an authentic entry under another name");
        std::fs::write(&path, &good).expect("writes");
        assert!(cache.get(&[1; 32]).is_some(), "control");
    }

    #[test]
    fn a_second_host_shares_the_key_and_another_folder_does_not() {
        let home = Folder::new("cache-key");
        let open = |name: &str| Cache::open(&home.path().join(name), 1 << 20).expect("opens");
        open("a").put(&[1; 32], &compiled(b"code"));
        assert!(open("a").get(&[1; 32]).is_some());
        let other = open("b");
        std::fs::copy(open("a").path(&[1; 32]), other.path(&[1; 32])).expect("copies");
        assert!(other.get(&[1; 32]).is_none());
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let home = Folder::new("cache-bound");
        let cache = Cache::open(&home.path().join("c"), 5000).expect("opens");
        for name in 0..8 {
            cache.put(&[name; 32], &compiled(&[0; 1000]));
        }
        let total: u64 = cache.entries().expect("lists").iter().map(|(_, facts)| facts.len()).sum();
        assert!(total <= 5000 && total > 2000, "{total}");
        assert!(cache.get(&[7; 32]).is_some() || total > 0);
    }

    #[test]
    fn unfinished_files_of_dead_hosts_go_and_fresh_ones_stay() {
        let home = Folder::new("cache-stale");
        let cache = Cache::open(&home.path().join("c"), 1 << 20).expect("opens");
        let make = |name: &str, age| {
            let file = crate::secret::create(&cache.folder.join(name)).expect("creates");
            file.set_modified(SystemTime::now() - age).expect("sets its time");
        };
        for name in ["a.new", "a.key"] {
            make(name, 2 * super::STALE);
        }
        make("b.new", super::STALE / 2);
        cache.put(&[1; 32], &compiled(b"code"));
        let left = |name: &str| cache.folder.join(name).exists();
        assert!(!left("a.new") && !left("a.key"), "nobody finishes them");
        assert!(left("b.new") && left("key"), "control: another host may be writing it");
        assert!(cache.get(&[1; 32]).is_some());
    }
}
