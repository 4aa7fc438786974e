//! memcpy within one process.

use std::hint::black_box;

use super::{check_echo, message};
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};

struct Copy {
    from: Vec<u8>,
    to: Vec<u8>,
}

pub(super) fn open(size: usize) -> Opened {
    let mut copy = Copy { from: message(size), to: vec![0; size] };
    copy.sample(1, &mut Samples::default())?;
    check_echo(&copy.from, &copy.to)?;
    Ok(Box::new(copy))
}

impl Case for Copy {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            samples.time(|| {
                self.to.copy_from_slice(black_box(&self.from));
                black_box(&mut self.to);
                Ok(())
            })?;
        }
        Ok(())
    }
}
