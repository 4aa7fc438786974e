//! Opens files of a package, and nothing else: no path of a manifest leads out of its folder.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::error::Error;

/// Opens a folder that the application named.
pub(crate) fn folder(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| Error::malformed(path.display().to_string(), words(errno)))
}

/// Opens a regular file below a folder for reading: no symbolic link, no `..`, no device, no pipe.
pub(crate) fn file(folder: BorrowedFd<'_>, name: &str) -> Result<File, Error> {
    // Without O_NONBLOCK a pipe in a package would hold up its opener.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = loop {
        match openat2(folder, name, flags, Mode::empty(), resolve) {
            // A rename raced with the walk (openat2(2)).
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => break other,
        }
    };
    let file = File::from(opened.map_err(|errno| Error::malformed(name, words(errno)))?);
    let facts = file.metadata().map_err(|source| Error::io(format!("inspect {name}"), source))?;
    if facts.is_file() { Ok(file) } else { Err(Error::malformed(name, "it is not a regular file")) }
}

fn words(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "a symbolic link is on its path; a package holds its files itself".to_owned(),
        Errno::XDEV => "its path leads out of the package".to_owned(),
        Errno::NOENT => "there is no such file".to_owned(),
        Errno::NOTDIR => "a part of its path is not a folder".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{file, folder};
    use crate::places::tests_support::Folder;

    #[test]
    fn a_file_of_the_package_opens_and_nothing_beyond_it_does() {
        let home = Folder::new("beneath");
        let package = home.path().join("package");
        std::fs::create_dir_all(package.join("sub")).expect("creates");
        std::fs::write(home.path().join("secret"), "s").expect("writes");
        std::fs::write(package.join("sub/plugin.so"), "p").expect("writes");
        std::os::unix::fs::symlink("../secret", package.join("link")).expect("links");
        std::os::unix::fs::symlink("sub", package.join("folder-link")).expect("links");
        let package = folder(&package).expect("opens");
        file(package.as_fd(), "sub/plugin.so").expect("control: an ordinary file opens");
        let refusal = |name: &str| file(package.as_fd(), name).expect_err("is refused").to_string();
        assert!(refusal("link").contains("symbolic link"));
        assert!(refusal("folder-link/plugin.so").contains("symbolic link"));
        assert!(refusal("../secret").contains("out of the package"));
        assert!(refusal("/etc/passwd").contains("out of the package"));
        assert!(refusal("sub").contains("not a regular file"));
        assert!(refusal("missing").contains("no such file"));
    }
}
