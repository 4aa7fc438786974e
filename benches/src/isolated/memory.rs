//! The memory that one more plugin takes: the private pages of the processes that its load starts, after one call.

use std::path::PathBuf;

use super::hosts::{Driven, Hosts};
use super::launch;
use super::layers::Confined;
use super::packages::Subject;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::memory::private_bytes;
use crate::placement::{descendants, own_pid};

struct Memory {
    driven: Driven,
    package: PathBuf,
    export: &'static str,
    input: &'static [u8],
}

/// Measures the worker of a package, called once.
pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    let Subject { path, export, input } = *subject;
    let driven = hosts.one_thread()?;
    // The first load of a wasm plugin starts a compiler, which is no part of the worker.
    let layers = launch::layers(hosts, &driven, path)?;
    let mut memory = Memory { driven, package: path.to_owned(), export, input };
    memory.sample(1, &mut Samples::default())?;
    Ok(Box::new(Confined { case: Box::new(memory), layers }))
}

impl Case for Memory {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Memory { driven: Driven { host, runtime }, package, export, input } = self;
        runtime.block_on(async {
            for _ in 0..count {
                let before = descendants(own_pid())?;
                let plugin = host.load(&*package).await?;
                plugin.call_raw(export, input.to_vec()).await?;
                samples.add_number(private_bytes_since(&before)?);
                plugin.unload().await;
            }
            Ok(())
        })
    }
}

/// The private memory of every descendant that is not among the earlier ones.
pub(crate) fn private_bytes_since(before: &[i32]) -> Result<u64, Failure> {
    let after = descendants(own_pid())?;
    after.into_iter().filter(|process| !before.contains(process)).map(private_bytes).sum()
}
