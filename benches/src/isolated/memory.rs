//! The memory that one more plugin takes: the private pages of the processes that its load starts, after one call.

use std::path::{Path, PathBuf};

use super::hosts::{Driven, Hosts};
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

pub(super) fn open(hosts: &Hosts, package: &Path, export: &'static str, input: &'static [u8]) -> Opened {
    let driven = hosts.one_thread()?;
    let mut memory = Memory { driven, package: package.to_owned(), export, input };
    // The first load of a wasm plugin starts a compiler, which is no part of the worker.
    memory.sample(1, &mut Samples::default())?;
    Ok(Box::new(memory))
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
pub(super) fn private_bytes_since(before: &[i32]) -> Result<u64, Failure> {
    let after = descendants(own_pid())?;
    after.into_iter().filter(|process| !before.contains(process)).map(private_bytes).sum()
}
