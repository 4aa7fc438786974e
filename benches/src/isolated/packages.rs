//! The sample plugins that are measured.

use std::path::{Path, PathBuf};

use crate::group::Group;

/// What a plugin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Native,
    Wasm,
}

impl Image {
    pub(crate) const ALL: [Image; 2] = [Image::Native, Image::Wasm];

    /// What the names of rows say.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Image::Native => "native",
            Image::Wasm => "wasm",
        }
    }
}

/// Where packages lie.
#[derive(Clone, Debug)]
pub(crate) struct Packages {
    /// The sample plugins.
    pub(crate) samples: PathBuf,
    /// Those that only the benchmarks use.
    pub(crate) own: PathBuf,
}

/// A package, and a call that it replies to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) path: &'a Path,
    pub(crate) export: &'static str,
    pub(crate) input: &'static [u8],
}

impl Packages {
    /// What replies with its input; in two groups under a profile that grants more, in the others under a shipped one.
    pub(crate) fn echo(&self, group: Group, image: Image) -> PathBuf {
        match (image, group) {
            (Image::Native, Group::Pipelined | Group::HostCall) => self.own.join("native"),
            (Image::Wasm, Group::Pipelined | Group::HostCall) => self.own.join("core"),
            (Image::Native, _) => self.samples.join("crash-lab/native"),
            (Image::Wasm, Group::Mebibyte | Group::SixteenMebibytes) => self.own.join("echo"),
            (Image::Wasm, _) => self.samples.join("crash-lab/wasm"),
        }
    }

    /// An ordinary plugin.
    pub(crate) fn ordinary(&self, image: Image) -> PathBuf {
        match image {
            Image::Native => self.samples.join("counter"),
            Image::Wasm => self.samples.join("greet/core"),
        }
    }
}

impl<'a> Subject<'a> {
    /// An ordinary plugin with a call of its own.
    pub(crate) fn ordinary(image: Image, path: &'a Path) -> Subject<'a> {
        match image {
            Image::Native => Subject { path, export: "value", input: b"" },
            Image::Wasm => Subject { path, export: "greet", input: br#"{"name":"Ada"}"# },
        }
    }
}
