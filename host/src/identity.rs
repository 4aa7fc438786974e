//! One uid per plugin id, from a range that all hosts of a machine share.
//!
//! Same-uid processes can reach each other through everything that Landlock does not govern, so a host that is root gives
//! every plugin a uid of its own. It is stable, so that `${data}` survives. The registry is one text file, a line
//! `uid id` each, changed only under a lock. An ordinary user cannot change uids: there, no identity is given.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;
use crate::places::make;

/// First uid of the default range: above what adduser, systemd and subordinate ranges usually hand out.
pub(crate) const UID_BASE: u32 = 700_000;

/// Uids in the default range.
pub(crate) const UID_COUNT: u32 = 10_000;

/// Where the registry lies by default.
pub(crate) const REGISTRY: &str = "/var/lib/hotcell/uids";

/// Who compiles. No manifest can have this id.
pub(crate) const COMPILER: &str = "(compiler)";

/// A uid and the gid of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The registry of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) folder: PathBuf,
    pub(crate) base: u32,
    pub(crate) count: u32,
}

impl Registry {
    /// The identity of a plugin id, entered now if it is new. Blocks while another host changes the registry.
    pub(crate) fn identity(&self, plugin: &str) -> Result<Identity, Error> {
        let _locked = self.lock()?;
        let path = self.folder.join("registry");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|source| self.failed("read", source))?,
        };
        let known = self.parse(&text)?;
        if let Some(uid) = known.iter().find_map(|(uid, id)| (*id == plugin).then_some(*uid)) {
            return Ok(Identity { uid, gid: uid });
        }
        let uid = self.free(&known)?;
        self.write(&format!("{text}{uid} {plugin}\n"))?;
        Ok(Identity { uid, gid: uid })
    }

    fn lock(&self) -> Result<File, Error> {
        make(&self.folder, 0o700)?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(self.folder.join("lock"));
        let file = file.map_err(|source| self.failed("open", source))?;
        flock(file.as_fd(), FlockOperation::LockExclusive)
            .map_err(|errno| self.failed("lock", errno.into()))?;
        Ok(file)
    }

    fn parse<'t>(&self, text: &'t str) -> Result<BTreeMap<u32, &'t str>, Error> {
        let mut known = BTreeMap::new();
        for line in text.lines() {
            let entry = line.split_once(' ').and_then(|(uid, id)| Some((uid.parse::<u32>().ok()?, id)));
            let unique = entry.is_some_and(|(uid, id)| known.insert(uid, id).is_none());
            if !unique {
                let kind = std::io::ErrorKind::InvalidData;
                return Err(self.failed("read", std::io::Error::new(kind, format!("bad line {line:?}"))));
            }
        }
        Ok(known)
    }

    fn free(&self, known: &BTreeMap<u32, &str>) -> Result<u32, Error> {
        let range = self.base..self.base.saturating_add(self.count);
        range.into_iter().find(|uid| *uid != 0 && !known.contains_key(uid)).ok_or_else(|| {
            let taken = format!("all {} uids from {} are taken", self.count, self.base);
            self.failed("extend", std::io::Error::other(taken))
        })
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        let fresh = self.folder.join("registry.new");
        let written = File::create(&fresh).and_then(|mut file| {
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.sync_all()
        });
        written
            .and_then(|()| std::fs::rename(&fresh, self.folder.join("registry")))
            .map_err(|source| self.failed("write", source))
    }

    fn failed(&self, verb: &str, source: std::io::Error) -> Error {
        Error::io(format!("{verb} the uid registry in {}", self.folder.display()), source)
    }
}

#[cfg(test)]
mod tests {
    use super::Registry;
    use crate::places::tests_support::Folder;

    fn registry(home: &Folder, count: u32) -> Registry {
        Registry { folder: home.path().join("uids"), base: 700_000, count }
    }

    #[test]
    fn an_id_keeps_its_uid_and_no_two_ids_share_one() {
        let home = Folder::new("uids");
        let first = registry(&home, 10).identity("org.example.a").expect("enters");
        let second = registry(&home, 10).identity("org.example.b").expect("enters");
        assert_ne!(first, second);
        assert_eq!(registry(&home, 10).identity("org.example.a").expect("reads"), first);
    }

    #[test]
    fn concurrent_hosts_agree() {
        let home = Folder::new("uids-concurrent");
        let ids: Vec<String> = (0..8).map(|number| format!("org.example.p{number}")).collect();
        let registry = registry(&home, 100);
        let all: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let ask = || ids.iter().map(|id| registry.identity(id).expect("enters").uid).collect();
            let hosts: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            hosts.into_iter().map(|host| host.join().expect("joins")).collect()
        });
        assert!(all.iter().all(|uids| uids == all.first().expect("four")));
        let mut uids = all.first().expect("four").clone();
        uids.sort_unstable();
        uids.dedup();
        assert_eq!(uids.len(), ids.len());
    }

    #[test]
    fn a_full_range_and_a_broken_registry_are_errors() {
        let home = Folder::new("uids-full");
        registry(&home, 1).identity("a").expect("enters");
        assert!(registry(&home, 1).identity("b").is_err());
        std::fs::write(home.path().join("uids/registry"), "0x7 a\n").expect("writes");
        assert!(registry(&home, 10).identity("a").is_err());
    }
}
