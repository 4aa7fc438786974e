//! Bytes of a fuzzer, read as numbers.

/// Largest number of [`Input::scaled`]: more than a ring of bulk bytes.
pub(crate) const SCALED_MAX: usize = (u16::MAX as usize) << 5;

/// What is left of the bytes. Where none is left, numbers are 0.
#[derive(Debug)]
pub(crate) struct Input<'d>(pub(crate) &'d [u8]);

impl<'d> Input<'d> {
    /// The next byte, if one is left: every loop over an input ends with it.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn wide(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound`, from two bytes.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.short()) % bound
    }

    /// A number up to [`SCALED_MAX`], most often a small one.
    pub(crate) fn scaled(&mut self) -> usize {
        let shift = (self.byte() % 32).saturating_sub(26);
        usize::from(self.short()) << shift
    }

    /// At most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'d [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes(N);
        array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        array
    }
}
