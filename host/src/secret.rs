//! Keys of this host: 32 random bytes in a file that nobody else may read.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::random;

/// Bytes of a key.
pub(crate) type Key = [u8; 32];

/// A file that is new and private to this user.
pub(crate) fn create(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// The key of this name in a folder, made by whichever host comes first. Blocks.
///
/// # Errors
/// The folder cannot be written, or the file is no key, or others may read it.
pub(crate) fn key(folder: &Path, name: &str) -> std::io::Result<Key> {
    let path = folder.join(name);
    if !path.exists() {
        let other = |error: crate::Error| std::io::Error::other(error.to_string());
        let fresh = folder.join(format!("{}.{name}", random::name().map_err(other)?));
        let key = random::bytes::<32>().map_err(other)?;
        create(&fresh).and_then(|mut file| file.write_all(&key))?;
        // A link fails where another host was faster; its key counts.
        let _ = std::fs::hard_link(&fresh, &path);
        let _ = std::fs::remove_file(&fresh);
    }
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(&path)?;
    let facts = file.metadata()?;
    if facts.uid() != rustix::process::geteuid().as_raw() || facts.mode() & 0o077 != 0 {
        let what = "the key must belong to this user alone (mode 0600)";
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, what));
    }
    let mut bytes = Vec::new();
    file.take(Key::default().len() as u64 + 1).read_to_end(&mut bytes)?;
    Key::try_from(bytes).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "not a key"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::key;
    use crate::places::tests_support::Folder;

    #[test]
    fn a_key_is_made_once_and_kept_to_oneself() {
        let home = Folder::new("secret");
        let first = key(home.path(), "key").expect("made");
        assert_eq!(key(home.path(), "key").expect("read"), first);
        assert_ne!(key(home.path(), "other").expect("made"), first);
        let path = home.path().join("key");
        let mode =
            |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("own");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        mode(0o640);
        assert!(key(home.path(), "key").is_err(), "a group may read it");
        mode(0o600);
        std::fs::write(&path, [1; 33]).expect("writable");
        assert!(key(home.path(), "key").is_err(), "too long");
        std::os::unix::fs::symlink(home.path().join("other"), home.path().join("link")).expect("links");
        assert!(key(home.path(), "link").is_err(), "a link");
    }
}
