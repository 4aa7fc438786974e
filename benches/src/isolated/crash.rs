//! From the call that kills a worker to the next reply: what a crash costs an application.

use std::time::Instant;

use hotcell::{CallError, LoadOptions, Package, Plugin};

use super::hosts::{Driven, Hosts};
use super::launch::spares_wait;
use super::layers::Confined;
use super::packages::Subject;
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::group::Group;
use crate::measure::{Case, Opened, Samples};

struct Crash {
    driven: Driven,
    package: Package,
    /// Workers that wait when the clock starts.
    spares: usize,
    plugin: Plugin,
    input: Vec<u8>,
}

/// The next reply is that of a worker which is made then.
pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject, 0)
}

/// The next reply is that of a worker which waits.
pub(super) fn open_spare(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    opened(hosts, subject, 1)
}

fn opened(hosts: &Hosts, subject: &Subject<'_>, spares: usize) -> Opened {
    let driven = hosts.one_thread()?;
    let options = LoadOptions { spares, ..LoadOptions::default() };
    let (package, plugin) = driven.runtime.block_on(async {
        let package = driven.host.prepare_with(subject.path, options).await?;
        let plugin = package.start().await?;
        Ok::<_, Failure>((package, plugin))
    })?;
    let layers = hosts.note_layers(&plugin);
    let crash = Crash { driven, package, spares, plugin, input: message(Group::Call.payload()) };
    Ok(Box::new(Confined { case: Box::new(crash), layers }))
}

impl Case for Crash {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Crash { driven, package, spares, plugin, input } = self;
        driven.runtime.block_on(async {
            for _ in 0..count {
                spares_wait(package, *spares).await;
                let start = Instant::now();
                match plugin.call_raw("abort", Vec::new()).await {
                    Err(CallError::Crashed(_)) => {}
                    Err(other) => return Err(other.into()),
                    Ok(_) => return Err(Failure::other("the export that aborts returned")),
                }
                let reply = plugin.call_raw("ok", input.clone()).await?;
                samples.add(start.elapsed());
                check_echo(input, &reply)?;
            }
            Ok(())
        })
    }
}
