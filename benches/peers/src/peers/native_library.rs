//! A native library in this process: the fastest that there is, and no isolation at all.

use std::path::Path;

use crate::failure::Failure;
use crate::measure::Echo;
use crate::sys::LoadedExport;

/// Loads the library.
pub(super) fn open(library: &Path) -> Result<NativeLibrary, Failure> {
    LoadedExport::open(library).map(NativeLibrary)
}

pub(super) struct NativeLibrary(LoadedExport);

impl Echo for NativeLibrary {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.call(input)
    }
}
