//! The bytes of a plugin, copied once into memory that nobody can change any more.
//!
//! What was measured is what is loaded. The host never looks into the bytes: what they are is for a confined process to
//! find out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// Largest artifact: larger than any real plugin seen (a 69 MB tool), far below what would hurt a host.
pub(crate) const ARTIFACT_MAX: u64 = 256 << 20;

/// Bytes of one MiB.
const MIB: u64 = 1 << 20;

/// Bytes copied at once.
const PIECE: usize = 256 << 10;

/// A SHA-256 digest.
pub(crate) type Sha = [u8; 32];

/// A sealed, anonymous copy of a file.
#[derive(Debug)]
pub(crate) struct Sealed {
    memory: OwnedFd,
    /// Digest of exactly these bytes.
    pub(crate) digest: Sha,
}

impl Sealed {
    /// Copies an artifact. Blocks on its file system.
    pub(crate) fn copy(name: &str, file: File) -> Result<Sealed, Error> {
        Sealed::copy_into(memory("hotcell-artifact")?, name, file)
    }

    /// Copies a program, for execveat(2).
    pub(crate) fn copy_program(name: &str, file: File) -> Result<Sealed, Error> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = match memfd_create("hotcell-program", flags | MemfdFlags::EXEC) {
            // Before 6.3 every memory file can be executed.
            Err(Errno::INVAL) => memfd_create("hotcell-program", flags),
            other => other,
        };
        let memory = memory.map_err(|errno| Error::io("make a memory file", errno.into()))?;
        Sealed::copy_into(memory, name, file)
    }

    fn copy_into(memory: OwnedFd, name: &str, mut file: File) -> Result<Sealed, Error> {
        let size = file.metadata().map_err(|source| Error::io(format!("read {name}"), source))?.len();
        check_size(name, size)?;
        let mut memory = File::from(memory);
        let digest = copy_measured(&mut file, &mut memory, name)?;
        Sealed::seal(memory.into(), digest)
    }

    /// Keeps bytes that the host already holds.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Sealed, Error> {
        let mut memory = File::from(memory("hotcell-code")?);
        memory.write_all(bytes).map_err(|source| Error::io("fill a memory file", source))?;
        Sealed::seal(memory.into(), Sha256::digest(bytes).into())
    }

    /// Copies files one after the other, each up to `most` bytes; returns how long each has become. Those that cannot be read
    /// are left out. Blocks.
    pub(crate) fn gather(
        files: impl IntoIterator<Item = (String, std::io::Result<File>)>,
        most: u64,
    ) -> Result<(Sealed, Vec<(String, u64)>), Error> {
        let mut memory = File::from(memory("hotcell-files")?);
        let (mut digest, mut piece) = (Sha256::new(), vec![0; PIECE]);
        let mut lengths = Vec::new();
        for (name, file) in files {
            let Ok(file) = file else { continue };
            let (mut file, mut length) = (file.take(most), 0);
            while let Ok(read @ 1..) = file.read(&mut piece) {
                let bytes = piece.get(..read).unwrap_or_default();
                digest.update(bytes);
                memory.write_all(bytes).map_err(|source| Error::io("fill a memory file", source))?;
                length += bytes.len() as u64;
            }
            lengths.push((name, length));
        }
        Ok((Sealed::seal(memory.into(), digest.finalize().into())?, lengths))
    }

    fn seal(memory: OwnedFd, digest: Sha) -> Result<Sealed, Error> {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals).map_err(|errno| Error::io("seal a memory file", errno.into()))?;
        Ok(Sealed { memory, digest })
    }

    /// A fresh read-only descriptor: workers that share the bytes share no file offset and no flags.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, Error> {
        let path = format!("/proc/self/fd/{}", self.memory.as_fd().as_raw_fd());
        openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io("open a memory file again", errno.into()))
    }
}

/// An anonymous file in memory that can be sealed, never executed by path where the kernel knows that (6.3).
pub(crate) fn memory(name: &str) -> Result<OwnedFd, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        other => other,
    }
    .map_err(|errno| Error::io("make a memory file", errno.into()))
}

fn check_size(name: &str, size: u64) -> Result<(), Error> {
    match size {
        0 => Err(Error::malformed(name, "it is empty")),
        size if size > ARTIFACT_MAX => {
            let (found, allowed) = (size.div_ceil(MIB), ARTIFACT_MAX / MIB);
            Err(Error::malformed(name, format!("it has {found} MiB, more than the {allowed} MiB allowed")))
        }
        _ => Ok(()),
    }
}

fn copy_measured(from: &mut File, to: &mut File, name: &str) -> Result<Sha, Error> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut total = 0;
    loop {
        let read = from.read(&mut piece).map_err(|source| Error::io(format!("read {name}"), source))?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        total += bytes.len() as u64;
        // The file may grow while it is read.
        check_size(name, total)?;
        digest.update(bytes);
        to.write_all(bytes).map_err(|source| Error::io("fill a memory file", source))?;
    }
    check_size(name, total)?;
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use hotcell_package::hex;

    use super::Sealed;
    use crate::places::tests_support::Folder;

    #[test]
    fn what_was_measured_is_what_is_held_and_cannot_change() {
        let home = Folder::new("artifact");
        let path = home.path().join("a");
        std::fs::write(&path, "abc").expect("writes");
        let sealed = Sealed::copy("a", File::open(&path).expect("opens")).expect("copies");
        std::fs::write(&path, "swapped").expect("writes");
        let mut held = String::new();
        File::from(sealed.descriptor().expect("opens")).read_to_string(&mut held).expect("reads");
        assert_eq!(held, "abc");
        assert_eq!(hex(&sealed.digest), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(File::from(sealed.memory).write_all(b"x").is_err());
    }

    #[test]
    fn empty_and_huge_files_are_refused_unread() {
        let home = Folder::new("artifact-size");
        let path = home.path().join("a");
        let file = File::create(&path).expect("creates");
        let open = || File::open(&path).expect("opens");
        assert!(Sealed::copy("a", open()).expect_err("empty").to_string().contains("empty"));
        file.set_len(1 << 30).expect("sparse");
        assert!(Sealed::copy("a", open()).expect_err("huge").to_string().contains("more than"));
    }
}
