//! Names and paths.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use hotcell_policy::{
    GrantPath, HostCallName, HostPort, Manifest, NameError, PackagePath, PluginId, ProfileName,
};
use hotcell_protocol::Runtime;

use crate::written::{is_shown, refusal};

/// A text is a name of its kind as it stands, or none: nothing is cut, folded or expanded, and no path leaves its base.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    kept::<PluginId>(text);
    kept::<HostCallName>(text);
    kept::<HostPort>(text);
    kept::<ProfileName>(text);
    if let Some(path) = kept::<PackagePath>(text) {
        stays_below(path.as_str());
    }
    if let Some(path) = kept::<GrantPath>(text) {
        if !path.path().is_empty() {
            stays_below(path.path());
        }
        assert!(path.covers(&path));
        assert!(path.guest().starts_with('/'));
    }
    match Manifest::bare(text, Runtime::Core, "pure-compute") {
        Ok(bare) => {
            assert_eq!(bare.artifact().as_str(), text);
            assert_eq!(bare.host_calls().count() + bare.paths().count(), 0);
        }
        Err(error) => refusal(&error, text),
    }
}

fn kept<N: FromStr<Err = NameError> + Display + PartialEq + Debug>(text: &str) -> Option<N> {
    let name = match text.parse::<N>() {
        Ok(name) => name,
        Err(error) => {
            assert!(is_shown(&error.to_string()), "{error:?}");
            return None;
        }
    };
    assert_eq!(name.to_string(), text);
    assert!(is_shown(text), "{text:?}");
    Some(name)
}

/// Whether a path is made of normal components only.
fn stays_below(path: &str) {
    assert!(path.len() < 4096);
    for component in path.split('/') {
        assert!(!matches!(component, "" | "." | ".."), "{path:?}");
    }
}
