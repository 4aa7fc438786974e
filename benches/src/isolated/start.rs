//! A host of its own: its folders, its launcher, warmed. An application pays for it once.

use std::rc::Rc;
use std::time::Instant;

use super::hosts::Hosts;
use super::memory::private_bytes_since;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};
use crate::placement::{descendants, own_pid};

/// What of a host is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    /// The time until it is built.
    Time,
    /// The private memory of its launcher.
    Memory,
}

struct Start {
    hosts: Rc<Hosts>,
    aspect: Aspect,
}

pub(super) fn open(hosts: &Rc<Hosts>, aspect: Aspect) -> Opened {
    let mut start = Start { hosts: Rc::clone(hosts), aspect };
    start.sample(1, &mut Samples::default())?;
    Ok(Box::new(start))
}

impl Case for Start {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let (builder, runtime) = self.hosts.one_more()?;
            runtime.block_on(async {
                let before = descendants(own_pid())?;
                let start = Instant::now();
                let host = builder.build().await?;
                let elapsed = start.elapsed();
                match self.aspect {
                    Aspect::Time => samples.add(elapsed),
                    Aspect::Memory => samples.add_number(private_bytes_since(&before)?),
                }
                host.shutdown().await;
                Ok::<(), Failure>(())
            })?;
        }
        Ok(())
    }
}
