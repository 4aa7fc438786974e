//! From the call that kills a worker to the next reply: what a crash costs an application.

use std::time::Instant;

use hotcell::{CallError, Plugin};

use super::hosts::{Driven, Hosts};
use super::layers::Confined;
use super::packages::Subject;
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::group::Group;
use crate::measure::{Case, Opened, Samples};

struct Crash {
    driven: Driven,
    plugin: Plugin,
    input: Vec<u8>,
}

pub(super) fn open(hosts: &Hosts, subject: &Subject<'_>) -> Opened {
    let driven = hosts.one_thread()?;
    let plugin = driven.runtime.block_on(driven.host.load(subject.path))?;
    let layers = hosts.note_layers(&plugin);
    let crash = Crash { driven, plugin, input: message(Group::Call.payload()) };
    Ok(Box::new(Confined { case: Box::new(crash), layers }))
}

impl Case for Crash {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Crash { driven, plugin, input } = self;
        driven.runtime.block_on(async {
            for _ in 0..count {
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
