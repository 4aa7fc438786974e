//! Names that are one on some system: those that differ only in case or in the form of Unicode, and files that are folders.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use hotcell_policy::{NameError, PackagePath};
use unicode_normalization::UnicodeNormalization;

use super::Bounds;
use crate::error::PackageError;

/// The names of an archive so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each path and each of its folders, folded: as it was written, and whether it is a file.
    known: HashMap<String, (String, bool)>,
    files: usize,
}

impl Names {
    /// Enters a file.
    pub(super) fn enter(&mut self, path: &PackagePath, bounds: &Bounds) -> Result<(), PackageError> {
        if self.files == bounds.entries {
            return Err(PackageError::TooManyEntries(bounds.entries));
        }
        self.files += 1;
        let text = path.as_str();
        let depth = text.split('/').count();
        if depth > bounds.depth {
            let why = NameError::new(format!("{depth} parts, over the {} allowed", bounds.depth));
            return Err(PackageError::BadPath { path: text.to_owned(), why });
        }
        let ends = text.match_indices('/').map(|(at, _)| at);
        for folder in ends.filter_map(|end| text.get(..end)) {
            self.name(folder, false)?;
        }
        self.name(text, true)
    }

    fn name(&mut self, text: &str, is_file: bool) -> Result<(), PackageError> {
        match self.known.entry(folded(text)) {
            Entry::Vacant(free) => {
                free.insert((text.to_owned(), is_file));
                Ok(())
            }
            Entry::Occupied(taken) => match taken.get() {
                // One more file of this folder.
                (other, false) if other == text && !is_file => Ok(()),
                (other, _) => Err(PackageError::Duplicate { path: text.to_owned(), other: other.clone() }),
            },
        }
    }
}

/// One text for all names that some file system takes for one. The lower-case form of a composed letter may be another one.
fn folded(text: &str) -> String {
    text.nfkd().flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::archive::Bounds;
    use crate::error::PackageError;

    fn enter(paths: &[&str]) -> Result<(), PackageError> {
        let mut names = Names::default();
        paths.iter().try_for_each(|path| names.enter(&path.parse().expect("a path"), &Bounds::STANDARD))
    }

    #[test]
    fn names_that_are_one_somewhere_are_refused() {
        enter(&["a/b", "a/c", "b", "A-b", "\u{e9}"]).expect("control: these are different everywhere");
        for pair in [
            ["a", "a"],
            ["a", "A"],
            ["a", "a/b"],
            ["a/b", "a"],
            ["a/b", "A/c"],
            ["\u{e9}", "e\u{301}"],
            ["\u{c9}", "e\u{301}"],
            ["\u{fb01}", "fi"],
            ["\u{212a}", "k"],
        ] {
            assert!(matches!(enter(&pair), Err(PackageError::Duplicate { .. })), "{pair:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        enter(&["a/".repeat(15).as_str().trim_end_matches('/')]).expect("control: fifteen parts");
        let deep = format!("{}b", "a/".repeat(16));
        assert!(matches!(enter(&[&deep]), Err(PackageError::BadPath { .. })));
    }
}
