//! From `load` to a plugin that is confined, loaded and ready, or to its first reply. Unloading is not in the figure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hotcell::{LoadOptions, Package};

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
    /// Workers of the prepared package that wait when the clock starts.
    spares: usize,
    /// Export and input of the call that ends a sample, if any.
    call: Option<(&'static str, &'static [u8])>,
}

/// Loads a plugin whose code, where it is wasm, is in the cache.
pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject.path, Ok)
}

/// The same, to the reply of a first call.
pub(super) fn open_with_call(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject.path, |launch| Ok(launch.with_call(subject)))
}

/// The same of a package that was read, planned and compiled before: from there to the reply of a first call.
pub(super) fn open_prepared(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject.path, |launch| launch.with_call(subject).prepared(0))
}

/// The same with a worker that waits.
pub(super) fn open_spare(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject.path, |launch| launch.with_call(subject).prepared(1))
}

/// As [`open_prepared`], of a worker that is copied although its kind usually is executed.
pub(super) fn open_forked(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_as(hosts, subject, "bench-native-forked")
}

/// As [`open_prepared`], of a worker that is executed although its kind usually is copied.
pub(super) fn open_executed(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_as(hosts, subject, "bench-core-executed")
}

/// As [`open_prepared`], of a worker that is bounded by cgroups, too.
pub(super) fn open_grouped(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_as(hosts, subject, "bench-core-grouped")
}

/// As [`open_prepared`], of a worker with a file tree of its own.
pub(super) fn open_hidden(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    open_as(hosts, subject, "bench-core-hidden")
}

fn open_as(hosts: &Hosts, subject: &Subject<'_>, profile: &str) -> Opened {
    let package = under_profile(&hosts.folder()?, subject.path, profile)?;
    opened(hosts, &package, |launch| launch.with_call(subject).prepared(0))
}

/// A copy of a package that names another profile.
fn under_profile(folder: &Path, package: &Path, profile: &str) -> Result<PathBuf, Failure> {
    let io = |path: &Path| {
        let what = format!("copy {}", path.display());
        move |source| Failure::io(what, source)
    };
    let copy = folder.join(profile);
    fs::create_dir_all(&copy).map_err(io(&copy))?;
    for entry in fs::read_dir(package).map_err(io(package))? {
        let path = entry.map_err(io(package))?.path();
        if path.is_file() {
            let to = copy.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).map_err(io(&path))?;
        }
    }
    let manifest = copy.join("manifest.json");
    let text = fs::read_to_string(&manifest).map_err(io(&manifest))?;
    let other = |error: serde_json::Error| Failure::other(error.to_string());
    let mut value: serde_json::Map<_, _> = serde_json::from_str(&text).map_err(other)?;
    value.insert("id".to_owned(), format!("dev.hotcell.{profile}").into());
    value.insert("security_policy".to_owned(), serde_json::json!({ "profile": profile }));
    let text = serde_json::to_string(&value).map_err(other)?;
    fs::write(&manifest, text).map_err(io(&manifest))?;
    Ok(copy)
}

fn opened(hosts: &Hosts, package: &Path, how: impl FnOnce(Launch) -> Result<Launch, Failure>) -> Opened {
    let driven = hosts.one_thread()?;
    let layers = layers(hosts, &driven, package)?;
    let launch = Launch { driven, package: package.to_owned(), prepared: None, spares: 0, call: None };
    let mut launch = how(launch)?;
    launch.sample(1, &mut Samples::default())?;
    Ok(Box::new(Confined { case: Box::new(launch), layers }))
}

impl Launch {
    fn with_call(self, subject: &Subject<'_>) -> Launch {
        Launch { call: Some((subject.export, subject.input)), ..self }
    }

    fn prepared(self, spares: usize) -> Result<Launch, Failure> {
        let Driven { host, runtime } = &self.driven;
        let options = LoadOptions { spares, ..LoadOptions::default() };
        let package = runtime.block_on(host.prepare_with(&self.package, options))?;
        Ok(Launch { prepared: Some(package), spares, ..self })
    }
}

/// Waits until the workers that the last sample took were made anew.
pub(super) async fn spares_wait(package: &Package, spares: usize) {
    const POLL: Duration = Duration::from_millis(1);
    while package.spares() < spares {
        tokio::time::sleep(POLL).await;
    }
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
                if let Some(package) = &self.prepared {
                    spares_wait(package, self.spares).await;
                }
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
    let launch = Launch { driven, package: copy, prepared: None, spares: 0, call: None };
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
