//! The memory that one more worker takes: its private pages, after one call, beside another worker of the same package. What
//! lies in the package's memory file is the package's: the host holds it once, however many workers map it.

use hotcell::{Package, Plugin};

use super::hosts::{Driven, Hosts};
use super::layers::Confined;
use super::packages::Subject;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::memory::private_bytes;
use crate::placement::{descendants, own_pid};

struct Memory {
    driven: Driven,
    package: Package,
    _another: Plugin,
    export: &'static str,
    input: &'static [u8],
}

/// Measures the worker of a package, called once.
pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    let Subject { path, export, input } = *subject;
    let driven = hosts.one_thread()?;
    let (package, another) = driven.runtime.block_on(async {
        let package = driven.host.prepare(path).await?;
        let another = package.start().await?;
        another.call_raw(export, input.to_vec()).await?;
        Ok::<_, Failure>((package, another))
    })?;
    let layers = hosts.note_layers(&another);
    let mut memory = Memory { driven, package, _another: another, export, input };
    memory.sample(1, &mut Samples::default())?;
    Ok(Box::new(Confined { case: Box::new(memory), layers }))
}

impl Case for Memory {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Memory { driven, package, export, input, .. } = self;
        driven.runtime.block_on(async {
            for _ in 0..count {
                let before = descendants(own_pid())?;
                let plugin = package.start().await?;
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
