//! What a peer is, and how its calls are timed and checked.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Something that sends bytes back and can be timed.
pub(crate) trait Peer {
    /// Makes calls one after the other and returns the nanoseconds of each.
    fn call(&mut self, input: &mut Input, count: usize) -> Result<Vec<u64>, Failure>;

    /// Makes many calls at a time and returns the nanoseconds of all of them divided by their number.
    fn pipeline(&mut self, _: &mut Input, _: Load) -> Result<u64, Failure> {
        Err(Failure::DoesNotPipeline)
    }
}

/// How many calls a pipeline makes, and how many of them at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) outstanding: usize,
}

/// A peer whose call blocks. The reply belongs to the caller, as it does with hotcell.
pub(crate) trait Echo {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure>;
}

impl<E: Echo> Peer for E {
    fn call(&mut self, input: &mut Input, count: usize) -> Result<Vec<u64>, Failure> {
        let mut nanos = Vec::with_capacity(count);
        for _ in 0..count {
            let input = input.next();
            let start = Instant::now();
            let reply = black_box(self.echo(black_box(input)))?;
            nanos.push(to_nanos(start.elapsed()));
            check(input, &reply)?;
        }
        Ok(nanos)
    }
}

/// The payload of the calls. No two of them are equal, so that a stale reply is noticed.
pub(crate) struct Input {
    bytes: Vec<u8>,
    number: u64,
}

impl Input {
    /// A payload without a pattern that could be compressed.
    pub(crate) fn new(size: usize) -> Input {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Input { bytes: bytes.flatten().take(size).collect(), number: 0 }
    }

    /// The payload of the next call. Its first bytes are the number of the call.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.number += 1;
        for (byte, digit) in self.bytes.iter_mut().zip(self.number.to_le_bytes()) {
            *byte = digit;
        }
        &self.bytes
    }
}

/// Fails unless the reply is the input.
pub(crate) fn check(input: &[u8], reply: &[u8]) -> Result<(), Failure> {
    if input == reply { Ok(()) } else { Err(Failure::WrongReply) }
}

/// A time as the answers have it. A time that does not fit would be centuries.
pub(crate) fn to_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stale(Vec<u8>);

    impl Echo for Stale {
        fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
            Ok(std::mem::replace(&mut self.0, input.to_vec()))
        }
    }

    #[test]
    fn a_stale_reply_is_noticed() {
        let mut input = Input::new(64);
        let first = input.next().to_vec();
        assert!(matches!(Stale(first).call(&mut input, 1), Err(Failure::WrongReply)));
    }

    #[test]
    fn an_input_has_its_size() {
        for size in [0, 1, 7, 8, 9, 64, 1000] {
            assert_eq!(Input::new(size).next().len(), size);
        }
    }
}
