//! The mapping: every access to memory that a hostile process may change at the same time.
//!
//! Words are accessed as atomics. Bytes are copied by relaxed atomic words or, where there are many, by one machine
//! instruction that the compiler cannot look into: neither can tear an invariant of this program, since nothing refers to
//! the memory afterwards. The seals keep the file as long as the mapping, so that no access faults.

#![allow(unsafe_code, reason = "maps memory that another process writes")]

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::thread::futex;

use super::layout::{Area, DOWN, FILE_LEN, NOTES};

/// Bytes from which one string instruction is faster than a loop of words.
const STRING_MIN: usize = 256;

/// The memory of one channel, mapped once; in a worker, its inputs a second time, twice in a row.
#[derive(Debug)]
pub(super) struct Map {
    base: NonNull<u8>,
    /// Two neighbouring views of the bulk bytes from the host, so that none ever wraps around.
    inputs: Option<NonNull<u8>>,
}

// SAFETY: the pointers stay valid until drop, and every access through them is atomic or a copy that tolerates writers.
unsafe impl Send for Map {}
// SAFETY: as for `Send`.
unsafe impl Sync for Map {}

impl Map {
    /// The host's mapping.
    pub(super) fn shared(file: impl AsFd) -> Result<Map, Errno> {
        let base = map_file(std::ptr::null_mut(), FILE_LEN, file.as_fd(), 0, MapFlags::SHARED)?;
        Ok(Map { base, inputs: None })
    }

    /// The worker's mapping.
    pub(super) fn with_inputs(file: BorrowedFd<'_>) -> Result<Map, Errno> {
        let mut map = Map::shared(file)?;
        let Area { start, len } = DOWN.bulk;
        // SAFETY: asks for fresh address space, and puts nothing in the place of anything.
        let room =
            unsafe { mmap_anonymous(std::ptr::null_mut(), 2 * len, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        map.inputs = NonNull::new(room.cast());
        for place in [room.cast::<u8>(), room.cast::<u8>().wrapping_add(len)] {
            map_file(place.cast(), len, file, start as u64, MapFlags::SHARED | MapFlags::FIXED)?;
        }
        Ok(map)
    }

    /// The first word of the notes, which are aligned to a page.
    pub(super) fn notes(&self) -> *mut u64 {
        self.at(NOTES.start).cast()
    }

    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < FILE_LEN, "offsets are made of the layout's constants and masked positions");
        self.base.as_ptr().wrapping_add(offset)
    }

    /// The 8-byte word at an offset of the layout.
    fn wide(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8), "words are aligned");
        // SAFETY: inside the mapping, which lives as long as `self`, and aligned; all accesses of this program are atomic.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }

    /// The 4-byte word at an offset of the layout.
    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4), "words are aligned");
        // SAFETY: as for `wide`.
        unsafe { AtomicU32::from_ptr(self.at(offset).cast()) }
    }

    /// Reads a cursor that the peer published, with all that it wrote before.
    pub(super) fn published(&self, offset: usize) -> u64 {
        self.wide(offset).load(Ordering::Acquire)
    }

    /// Publishes a cursor, with all that was written before.
    pub(super) fn publish(&self, offset: usize, cursor: u64) {
        self.wide(offset).store(cursor, Ordering::Release);
    }

    /// Says in which way this side wants to be woken, before it looks for work once more and sleeps.
    pub(super) fn sleep(&self, offset: usize, wake: u32) {
        self.word(offset).store(wake, Ordering::Relaxed);
        // Either this side sees the peer's cursor, or the peer sees this word: both fences lie between store and load.
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Takes the peer's wish to be woken, after this side published a cursor.
    pub(super) fn rouse(&self, offset: usize) -> u32 {
        std::sync::atomic::fence(Ordering::SeqCst);
        match self.word(offset).load(Ordering::Relaxed) {
            0 => 0,
            _ => self.word(offset).swap(0, Ordering::Relaxed),
        }
    }

    /// Changes a word if it is as expected.
    pub(super) fn exchange(&self, offset: usize, from: u32, to: u32) -> bool {
        self.word(offset).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(super) fn load_word(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Relaxed)
    }

    pub(super) fn store_word(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// Sleeps while a word has this value (futex(2)). Only a worker may: the peer could never wake a host.
    pub(super) fn futex_wait(&self, offset: usize, value: u32) {
        // Woken, interrupted or changed: the caller looks again in any case.
        let _ = futex::wait(self.word(offset), futex::Flags::empty(), value, None);
    }

    /// Wakes whoever sleeps on a word. Never blocks.
    pub(super) fn futex_wake(&self, offset: usize) {
        let _ = futex::wake(self.word(offset), futex::Flags::empty(), 1);
    }

    /// Copies bytes into a ring, from a position on, around its end. No more than the ring has.
    pub(super) fn write(&self, area: Area, position: u64, bytes: &[u8]) {
        let (bytes, _) = bytes.split_at(bytes.len().min(area.len));
        let (offset, until_end) = place(area, position);
        let (first, second) = bytes.split_at(bytes.len().min(until_end));
        // SAFETY: the ranges lie in the area, which lies in the mapping; the slices are this program's own memory.
        unsafe { copy(first.as_ptr(), self.at(offset), first.len(), Side::Target) };
        // SAFETY: as above.
        unsafe { copy(second.as_ptr(), self.at(area.start), second.len(), Side::Target) };
    }

    /// Appends bytes of a ring to a buffer, from a position on, around its end. No more than the ring has.
    pub(super) fn read(&self, area: Area, position: u64, len: usize, into: &mut Vec<u8>) {
        let len = len.min(area.len);
        into.reserve(len);
        let (offset, until_end) = place(area, position);
        let first = len.min(until_end);
        let target = into.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `reserve` made room for `len` bytes at `target`; the sources lie in the area.
        unsafe { copy(self.at(offset), target, first, Side::Source) };
        // SAFETY: as above: the rest starts behind the `first` bytes.
        unsafe { copy(self.at(area.start), target.wrapping_add(first), len - first, Side::Source) };
        // SAFETY: `len` bytes behind the old length are initialised.
        unsafe { into.set_len(into.len() + len) };
    }

    /// The inputs at a position, in place; `None` where they are not mapped twice.
    pub(super) fn input(self: &Arc<Self>, position: u64, len: usize) -> Option<Input> {
        let (offset, _) = place(Area { start: 0, len: DOWN.bulk.len }, position);
        let start = self.inputs?.as_ptr().wrapping_add(offset);
        Some(Input(Bytes::InPlace {
            start: NonNull::new(start)?,
            len: len.min(DOWN.bulk.len),
            _map: Arc::clone(self),
        }))
    }
}

/// A piece of a ring that will be written to.
#[derive(Debug)]
pub struct Ahead {
    map: Arc<Map>,
    area: Area,
    position: u64,
}

impl Ahead {
    pub(super) fn new(map: &Arc<Map>, area: Area, position: u64) -> Ahead {
        Ahead { map: Arc::clone(map), area, position }
    }

    /// Has the kernel find the pages of so many bytes, as far as the ring has them, so that writing costs no faults (madvise(2),
    /// MADV_POPULATE_WRITE). Nothing depends on success: it takes Linux 5.14. Changes no byte. Blocks.
    pub fn populate(&self, len: usize) {
        let len = len.min(self.area.len);
        let (offset, until_end) = place(self.area, self.position);
        let first = len.min(until_end);
        for (offset, len) in [(offset, first), (self.area.start, len - first)] {
            let start = offset - offset % PAGE;
            let address = self.map.at(start).cast();
            // SAFETY: the range lies in the mapping, since areas end where pages do; the advice changes nothing that can be read.
            let _ = unsafe { madvise(address, offset + len - start, Advice::LinuxPopulateWrite) };
        }
    }
}

/// Where larger pages are, the advice is refused.
const PAGE: usize = 4096;

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `shared` with this length; nothing refers to it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), FILE_LEN) };
        if let Some(inputs) = self.inputs {
            // SAFETY: mapped by `with_inputs` with this length; an `Input` keeps the map alive.
            let _ = unsafe { munmap(inputs.as_ptr().cast(), 2 * DOWN.bulk.len) };
        }
    }
}

fn map_file(
    place: *mut core::ffi::c_void,
    len: usize,
    file: BorrowedFd<'_>,
    offset: u64,
    flags: MapFlags,
) -> Result<NonNull<u8>, Errno> {
    // SAFETY: a fixed place is the caller's own reserved address space; otherwise the kernel chooses.
    let base = unsafe { mmap(place, len, ProtFlags::READ | ProtFlags::WRITE, flags, file, offset) }?;
    NonNull::new(base.cast()).ok_or(Errno::NOMEM)
}

/// Offset of a position, and how many bytes follow it before the area's end.
#[expect(clippy::cast_possible_truncation, reason = "masked to less than the area's length")]
fn place(area: Area, position: u64) -> (usize, usize) {
    let within = (position & (area.len as u64 - 1)) as usize;
    (area.start + within, area.len - within)
}

/// Which end of a copy is shared with the peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

/// Copies bytes of which one end may change meanwhile.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap; the shared end is aligned to 8 bytes unless `len` is at least
/// [`STRING_MIN`]. (A shorter unaligned one is copied byte by byte.)
unsafe fn copy(from: *const u8, to: *mut u8, len: usize, shared: Side) {
    if len >= STRING_MIN && cfg!(all(target_arch = "x86_64", not(miri))) {
        // SAFETY: as the caller promises.
        unsafe { copy_string(from, to, len) };
        return;
    }
    let aligned = match shared {
        Side::Source => from.addr().is_multiple_of(8),
        Side::Target => to.addr().is_multiple_of(8),
    };
    let words = if aligned { len / 8 * 8 } else { 0 };
    for at in (0..words).step_by(8) {
        let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: 8 bytes inside both ranges; the shared end is aligned.
        unsafe { copy_word(from, to, shared) };
    }
    for at in words..len {
        let (from, to) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: one byte inside both ranges.
        unsafe { copy_byte(from, to, shared) };
    }
}

/// # Safety
/// As for [`copy`], of 8 bytes.
unsafe fn copy_word(from: *const u8, to: *mut u8, shared: Side) {
    if shared == Side::Source {
        // SAFETY: aligned and valid, as the caller promises.
        let word = unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) }.load(Ordering::Relaxed);
        // SAFETY: 8 bytes of this program's own memory.
        unsafe { to.cast::<u64>().write_unaligned(word) };
    } else {
        // SAFETY: 8 bytes of this program's own memory.
        let word = unsafe { from.cast::<u64>().read_unaligned() };
        // SAFETY: aligned and valid, as the caller promises.
        unsafe { AtomicU64::from_ptr(to.cast()) }.store(word, Ordering::Relaxed);
    }
}

/// # Safety
/// As for [`copy`], of one byte.
unsafe fn copy_byte(from: *const u8, to: *mut u8, shared: Side) {
    if shared == Side::Source {
        // SAFETY: valid, as the caller promises.
        let byte = unsafe { AtomicU8::from_ptr(from.cast_mut()) }.load(Ordering::Relaxed);
        // SAFETY: this program's own memory.
        unsafe { to.write(byte) };
    } else {
        // SAFETY: this program's own memory.
        let byte = unsafe { from.read() };
        // SAFETY: valid, as the caller promises.
        unsafe { AtomicU8::from_ptr(to) }.store(byte, Ordering::Relaxed);
    }
}

/// One `rep movsb`, which the compiler takes for an access to any memory.
///
/// # Safety
/// Both ranges are valid for `len` bytes and do not overlap.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_string(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: as the caller promises; the direction flag is clear by the ABI.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Never called: elsewhere the loop of words copies everything.
///
/// # Safety
/// None.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_string(_: *const u8, _: *mut u8, _: usize) {}

/// The input of a call, as a worker sees it: its own bytes, or the host's in place.
#[derive(Debug)]
pub struct Input(Bytes);

#[derive(Debug)]
enum Bytes {
    Owned(Vec<u8>),
    InPlace { start: NonNull<u8>, len: usize, _map: Arc<Map> },
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Input {
        Input(Bytes::Owned(bytes))
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            // SAFETY: inside the double mapping that `_map` keeps; the host, which is trusted here, writes there only after
            // the worker has released the bytes, which its `Link` does when the call that they belong to has ended.
            Bytes::InPlace { start, len, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), *len) },
        }
    }
}
