//! From `load` to a plugin that is confined, loaded and ready, or to its first reply. Unloading is not in the figure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hotcell::Package;

use super::hosts::{Driven, Hosts};
use super::layers::Confined;
use super::packages::Subject;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};

struct Launch {
    driven: Driven,
    package: PathBuf,
    /// The package, read before the clock starts.
    prepared: Option<Package>,
    /// Export and input of the call that ends a sample, if any.
    call: Option<(&'static str, &'static [u8])>,
}

/// Loads a plugin whose code, where it is wasm, is in the cache.
pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_launch(hosts, subject.path, None, false)
}

/// The same of a package that was read, planned and compiled before: from there to the reply of a first call.
pub(super) fn open_prepared(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_launch(hosts, subject.path, Some((subject.export, subject.input)), true)
}

/// The same, to the reply of a first call.
pub(super) fn open_with_call(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_launch(hosts, subject.path, Some((subject.export, subject.input)), false)
}

fn open_launch(
    hosts: &Hosts,
    package: &Path,
    call: Option<(&'static str, &'static [u8])>,
    prepared: bool,
) -> Opened {
    let driven = hosts.one_thread()?;
    let layers = layers(hosts, &driven, package)?;
    let prepare = || driven.runtime.block_on(driven.host.prepare(package));
    let prepared = prepared.then(prepare).transpose()?;
    let mut launch = Launch { driven, package: package.to_owned(), prepared, call };
    launch.sample(1, &mut Samples::default())?;
    Ok(Box::new(Confined { case: Box::new(launch), layers }))
}

/// Loads a plugin once, for what confines it and for the cache.
pub(super) fn layers(hosts: &Hosts, driven: &Driven, package: &Path) -> Result<String, Failure> {
    let Driven { host, runtime } = driven;
    runtime.block_on(async {
        let plugin = host.load(package).await?;
        let layers = hosts.note_layers(&plugin);
        plugin.unload().await;
        Ok(layers)
    })
}

impl Case for Launch {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Driven { host, runtime } = &self.driven;
        runtime.block_on(async {
            for _ in 0..count {
                let start = Instant::now();
                let plugin = match &self.prepared {
                    Some(package) => package.start().await?,
                    None => host.load(&self.package).await?,
                };
                if let Some((export, input)) = self.call {
                    plugin.call_raw(export, input.to_vec()).await?;
                }
                samples.add(start.elapsed());
                plugin.unload().await;
            }
            Ok(())
        })
    }
}

/// A package whose module differs from every earlier one, so that the cache never has it.
struct Uncached {
    launch: Launch,
    artifact: PathBuf,
    module: Vec<u8>,
}

/// Modules that were made so far, by all cases: two that make the same one would find it in the cache.
static MODULES: AtomicU64 = AtomicU64::new(0);

/// Loads a wasm plugin that was never compiled before.
pub(super) fn open_uncached(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    let package = subject.path;
    let copy = hosts.folder()?.join("uncached");
    let artifact = copy.join("greet.wasm");
    let io = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |source| Failure::io(what, source)
    };
    fs::create_dir_all(&copy).map_err(io("make", &copy))?;
    let manifest = package.join("manifest.json");
    fs::copy(&manifest, copy.join("manifest.json")).map_err(io("copy", &manifest))?;
    let module = package.join("greet.wasm");
    let module = fs::read(&module).map_err(io("read", &module))?;
    let driven = hosts.one_thread()?;
    let layers = layers(hosts, &driven, package)?;
    let launch = Launch { driven, package: copy, prepared: None, call: None };
    let mut uncached = Uncached { launch, artifact, module };
    uncached.sample(1, &mut Samples::default())?;
    Ok(Box::new(Confined { case: Box::new(uncached), layers }))
}

impl Case for Uncached {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let number = MODULES.fetch_add(1, Ordering::Relaxed);
            let module = [&self.module, custom_section(number).as_slice()].concat();
            fs::write(&self.artifact, module).map_err(|source| Failure::io("write a module", source))?;
            self.launch.sample(1, samples)?;
        }
        Ok(())
    }
}

/// Letters in the name of a custom section.
const NAME: u8 = 8;

/// A custom section with a number as its name and nothing in it, which changes the module's digest and nothing else.
fn custom_section(number: u64) -> Vec<u8> {
    let name = format!("{number:0width$x}", width = usize::from(NAME));
    let mut section = vec![0, NAME + 1, NAME];
    section.extend(name.bytes().take(usize::from(NAME)));
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_says_its_length() {
        assert_eq!(custom_section(0x2a), b"\x00\x09\x080000002a");
    }
}
