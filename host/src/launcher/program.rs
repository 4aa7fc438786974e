//! Finds and checks hotcell's own programs.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::Error;
use crate::places::is_only_ours;

/// The launcher's file name.
const LAUNCHER: &str = "hotcell-launcher";

/// The programs that it executes, in the same folder.
const WORKERS: [&str; 2] = ["hotcell-worker", "hotcell-compiler"];

/// A folder with hotcell's programs, checked.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The folder, absolute.
    pub(crate) folder: PathBuf,
    /// The launcher, opened as a path; what was checked is what is executed.
    pub(crate) launcher: File,
}

impl Programs {
    /// Takes the folder that the application names, else the one beside this executable, else its libexec folder.
    /// Neither the environment nor PATH is asked.
    pub(crate) fn find(named: Option<&Path>) -> Result<Programs, Error> {
        if let Some(folder) = named {
            return Programs::open(folder);
        }
        let executable =
            std::env::current_exe().map_err(|source| Error::io("find the current executable", source))?;
        let beside = executable.parent().unwrap_or(Path::new("/")).to_owned();
        let candidates = [beside.clone(), beside.join("../libexec/hotcell")];
        match candidates.iter().find(|folder| folder.join(LAUNCHER).exists()) {
            Some(folder) => Programs::open(folder),
            None => Err(Error::launch(format!(
                "{LAUNCHER} is neither in {} nor in ../libexec/hotcell beside it; name its folder with Host::builder().worker(folder)",
                beside.display()
            ))),
        }
    }

    fn open(folder: &Path) -> Result<Programs, Error> {
        let subject = |source| Error::io(format!("find the worker folder {}", folder.display()), source);
        let folder = folder.canonicalize().map_err(subject)?;
        for name in WORKERS {
            open_checked(&folder.join(name))?;
        }
        let launcher = open_checked(&folder.join(LAUNCHER))?;
        Ok(Programs { folder, launcher })
    }
}

/// Opens a program that only root or this user can have written.
fn open_checked(path: &Path) -> Result<File, Error> {
    let subject = |source: std::io::Error| Error::io(format!("open the program {}", path.display()), source);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(|errno| subject(errno.into()))?);
    let facts = file.metadata().map_err(subject)?;
    if !facts.is_file() || !is_only_ours(&facts) {
        return Err(Error::launch(format!(
            "{} is not a file that only root or this user can write (owner {}, mode {:o})",
            path.display(),
            facts.uid(),
            facts.mode() & 0o7777
        )));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::open_checked;
    use crate::places::tests_support::Folder;

    #[test]
    fn a_program_that_others_can_write_is_refused() {
        let folder = Folder::new("program");
        let path = folder.path().join("hotcell-launcher");
        std::fs::write(&path, "x").expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        open_checked(&path).expect("control: an ordinary program is accepted");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o775)).expect("chmod");
        assert!(open_checked(&path).is_err());
    }

    #[test]
    fn a_program_behind_a_symbolic_link_is_refused() {
        let folder = Folder::new("program-link");
        std::os::unix::fs::symlink("/bin/true", folder.path().join("link")).expect("links");
        assert!(open_checked(&folder.path().join("link")).is_err());
    }
}
