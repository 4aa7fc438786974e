//! Where the repository and the built programs are, and folders that leave nothing behind.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use hotcell::{Host, HostBuilder};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The folder of the built programs: test binaries lie in its `deps`.
pub fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().expect("a file lies in a folder");
    if folder.ends_with("deps") {
        folder.parent().expect("deps lies in a folder").to_owned()
    } else {
        folder.to_owned()
    }
}

/// A sample package: the path below `plugins/`.
pub fn package(name: &str) -> PathBuf {
    root().join("plugins").join(name)
}

/// The built `hotcell` command.
pub fn hotcell() -> PathBuf {
    programs().join("hotcell")
}

/// Private folders for one host, removed with it.
#[derive(Debug)]
pub struct Folders(PathBuf);

impl Folders {
    /// Makes them where `HOTCELL_TEST_FOLDER` says, else in the folder of the built programs.
    ///
    /// An ordinary user may not write into the latter, so `scripts/test` names a folder of that user's own.
    pub fn new() -> Folders {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = test_base().join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the test folder is writable");
        Folders(folder)
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for Folders {
    fn default() -> Folders {
        Folders::new()
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        // A test that failed may leave what it cannot remove; the next `cargo clean` does.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A host's builder with these folders, so that nothing is written elsewhere.
pub fn host(folders: &Folders) -> HostBuilder {
    Host::builder()
        .worker(programs())
        .state_dir(folders.join("state"))
        .cache_dir(shared_cache())
        .uid_registry(folders.join("uids"))
}

/// The compile cache that all tests of one user share: compiling a component takes seconds.
pub fn shared_cache() -> PathBuf {
    test_base().join("cache")
}

/// The folder below which tests write.
fn test_base() -> PathBuf {
    std::env::var_os("HOTCELL_TEST_FOLDER").map_or_else(|| programs().join("test-folders"), PathBuf::from)
}
