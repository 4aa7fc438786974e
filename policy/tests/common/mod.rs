//! Golden texts, and the platforms and manifests that tests speak of.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::panic, reason = "a test fails that way")]

use std::path::{Path, PathBuf};

use hotcell_policy::{Arch, Controller, Manifest, Platform, Profile};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares with a committed text; `HOTCELL_BLESS=1` renews it instead.
pub(crate) fn golden(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os("HOTCELL_BLESS").is_some() {
        std::fs::write(&file, text).expect("writes the golden text");
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    if let Some((number, (old, new))) = committed
        .lines()
        .chain([""])
        .zip(text.lines().chain([""]))
        .enumerate()
        .find(|(_, (old, new))| old != new)
    {
        panic!(
            "{path}:{} differs; look at it, then `HOTCELL_BLESS=1 cargo test -p hotcell-policy` renews it\n  committed: {old}\n  now:       {new}",
            number + 1
        );
    }
    assert_eq!(committed, text, "{path} differs in length");
}

/// A machine with everything, and a host run by root.
pub(crate) fn root_platform() -> Platform {
    Platform {
        arch: Arch::X86_64,
        landlock_abi: 7,
        seccomp_filter: true,
        seccomp_listener: true,
        root: true,
        namespaces: true,
        user_namespaces: true,
        mounting: true,
        cgroups: Controller::ALL.to_vec(),
        kernel: (6, 18),
    }
}

/// The same machine, and a host run by an ordinary user.
pub(crate) fn user_platform() -> Platform {
    Platform { root: false, namespaces: false, cgroups: Vec::new(), ..root_platform() }
}

/// A shipped profile.
pub(crate) fn shipped(name: &str) -> Profile {
    Profile::shipped(name).expect("is shipped").unwrap_or_else(|error| panic!("{error}"))
}

/// A manifest with `extra` members beside the required ones, on line 2.
pub(crate) fn manifest(kind: &str, extra: &str) -> Manifest {
    let path = if kind == "dylib" { "dylib_path" } else { "wasm_path" };
    let comma = if extra.is_empty() { "" } else { "," };
    let text = format!(
        r#"{{"schema": 1, "id": "org.example.x", "name": "X", "version": "1.0.0", "plugin_type": "{kind}", "{path}": "a"{comma}
{extra}}}"#
    );
    Manifest::parse("manifest.json", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}
