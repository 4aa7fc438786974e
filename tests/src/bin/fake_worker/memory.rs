//! The channel's memory, written by hand: what a plugin can do that has found it.

#![allow(unsafe_code, reason = "maps and writes shared memory")]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use hotcell_protocol::{
    CallId, Envelope, FromWorker, PACKET_MAX, ReplyStatus, ToWorker, codec,
    ring::{BULK_LEN, FILE_LEN, INLINE_MAX},
};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

// protocol/src/ring/layout.rs, as a plugin's author would copy it. Were it wrong, the controls would fail.
pub(crate) const DOWN: usize = 0;
pub(crate) const UP: usize = 1024;
const HEAD: usize = 0;
const BULK_HEAD: usize = 8;
const TAIL: usize = 64;
const BULK_TAIL: usize = 72;
const MESSAGES_LEN: usize = 32 << 10;
const DOWN_MESSAGES: usize = 4096;
const UP_MESSAGES: usize = DOWN_MESSAGES + MESSAGES_LEN;
const DOWN_BULK: usize = UP_MESSAGES + MESSAGES_LEN;
const UP_BULK: usize = DOWN_BULK + BULK_LEN;
const HEADER_LEN: usize = 16;
/// State words of a frame.
const READY: u32 = 0;
const CANCELLED: u32 = 2;

/// The two bells, by number.
const BELLS: [i32; 2] = [3, 4];

/// The memory of this worker's channel.
pub(crate) struct Memory {
    base: *mut u8,
    pub(crate) generation: u32,
    /// The running call.
    pub(crate) call: u64,
    /// Where its frame lies.
    position: u64,
    /// Frames from the host before this one were seen.
    seen: u64,
}

// SAFETY: a worker has one thread.
unsafe impl Send for Memory {}

/// A call as it was read by hand.
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) export: String,
    len: usize,
    pub(crate) input: Vec<u8>,
}

impl Memory {
    /// Looks into the setup channel without taking anything out of it. Returns the descriptor, too.
    pub(crate) fn peek(setup: BorrowedFd<'_>) -> (Memory, OwnedFd) {
        let mut bytes = vec![0; PACKET_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
        let received =
            recvmsg(setup, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).expect("orders");
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let file = descriptors.flatten().next().expect("the channel's memory");
        let orders: Envelope<ToWorker> =
            codec::decode(bytes.get(..received.bytes).expect("fits")).expect("orders");
        // SAFETY: a fresh mapping at a place that the kernel chooses.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                FILE_LEN,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        let base = base.expect("maps").cast();
        (Memory { base, generation: orders.generation.0, call: 0, position: 0, seen: 0 }, file)
    }

    /// Punches a hole through the mapping (madvise(2), `MADV_REMOVE`).
    pub(crate) fn remove_pages(&self) -> Result<(), rustix::io::Errno> {
        // SAFETY: the mapping stays; its contents belong to nobody's invariant.
        unsafe { rustix::mm::madvise(self.base.cast(), FILE_LEN, rustix::mm::Advice::LinuxRemove) }
    }

    /// An 8-byte word.
    fn wide(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets of this file are aligned and inside the mapping, which is never unmapped.
        unsafe { AtomicU64::from_ptr(self.base.wrapping_add(offset).cast()) }
    }

    /// A 4-byte word.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as for `wide`.
        unsafe { AtomicU32::from_ptr(self.base.wrapping_add(offset).cast()) }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: as for `wide`.
        unsafe { AtomicU8::from_ptr(self.base.wrapping_add(offset)) }
    }

    pub(crate) fn head(&self, way: usize) -> &AtomicU64 {
        self.wide(way + HEAD)
    }

    pub(crate) fn tail(&self, way: usize) -> &AtomicU64 {
        self.wide(way + TAIL)
    }

    pub(crate) fn bulk_head(&self, way: usize) -> &AtomicU64 {
        self.wide(way + BULK_HEAD)
    }

    pub(crate) fn bulk_tail(&self, way: usize) -> &AtomicU64 {
        self.wide(way + BULK_TAIL)
    }

    /// Where a position of the messages to the host lies.
    pub(crate) fn up(&self, position: u64) -> usize {
        UP_MESSAGES + within(position, MESSAGES_LEN)
    }

    /// Publishes bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let head = self.head(UP).load(Ordering::Relaxed);
        for (position, byte) in (head..).zip(bytes) {
            self.byte(self.up(position)).store(*byte, Ordering::Relaxed);
        }
        self.head(UP).store(head + bytes.len() as u64, Ordering::Release);
        self.ring();
    }

    /// A frame of any generation, as the real worker would write it.
    pub(crate) fn frame(&self, generation: u32, head: &[u8], payload: &[u8]) {
        self.raw(&frame(generation, head, payload));
    }

    /// An honest reply to the running call, and one to any call, published together.
    pub(crate) fn reply_and_more(&self, payload: &[u8], (call, len): (u64, u64)) {
        let reply = |call, len| {
            let message = FromWorker::Reply { call: CallId(call), status: ReplyStatus::Ok, len };
            codec::encode(&message).expect("encodes")
        };
        let first = frame(self.generation, &reply(self.call, payload.len() as u64), payload);
        self.raw(&[first, frame(self.generation, &reply(call, len), &[])].concat());
    }

    /// A message with bytes behind it, whether or not it announces them.
    pub(crate) fn say(&self, message: &FromWorker, payload: &[u8]) {
        self.frame(self.generation, &codec::encode(message).expect("encodes"), payload);
    }

    /// A reply to any call that announces any length.
    pub(crate) fn reply(&self, call: u64, len: u64, payload: &[u8]) {
        self.say(&FromWorker::Reply { call: CallId(call), status: ReplyStatus::Ok, len }, payload);
    }

    /// An honest reply to the running call.
    pub(crate) fn reply_well(&self, payload: &[u8]) {
        let inline = if payload.len() <= INLINE_MAX { payload } else { &[] };
        self.reply(self.call, payload.len() as u64, inline);
        let mut rest = payload.get(inline.len()..).unwrap_or_default();
        while !rest.is_empty() {
            let used =
                self.bulk_head(UP).load(Ordering::Relaxed) - self.bulk_tail(UP).load(Ordering::Acquire);
            let room = BULK_LEN - usize::try_from(used).expect("shorter than the ring");
            let (now, later) = rest.split_at(rest.len().min(room));
            self.bulk(now);
            rest = later;
        }
    }

    /// A host call in the name of any call.
    pub(crate) fn host_call(&self, call: u64, name: &str, input: &[u8]) {
        let len = input.len() as u64;
        self.say(&FromWorker::HostCall { call: CallId(call), name: name.to_owned(), len }, input);
    }

    /// Publishes bulk bytes; no more than the ring has.
    pub(crate) fn bulk(&self, bytes: &[u8]) {
        let head = self.bulk_head(UP).load(Ordering::Relaxed);
        for (position, byte) in (head..).zip(bytes) {
            self.byte(UP_BULK + within(position, BULK_LEN)).store(*byte, Ordering::Relaxed);
        }
        self.bulk_head(UP).store(head + bytes.len() as u64, Ordering::Release);
        self.ring();
    }

    /// Rings both bells, whoever listens.
    pub(crate) fn ring(&self) {
        self.add(1);
    }

    /// Adds to the count of both bells.
    pub(crate) fn add(&self, count: u64) {
        for bell in BELLS {
            // SAFETY: the two numbers stay open for the life of the process.
            let bell = unsafe { BorrowedFd::borrow_raw(bell) };
            // Refused where the count is full.
            let _ = rustix::io::write(bell, &count.to_ne_bytes());
        }
    }

    /// Finds the id of the call that the real link has just taken.
    pub(crate) fn find_running_call(&mut self) {
        let taken = self.tail(DOWN).load(Ordering::Acquire);
        while self.seen < taken {
            self.take_frame();
        }
    }

    /// The next call, read by hand. Polls: nobody is to blame but this process.
    pub(crate) fn next_call(&mut self) -> Call {
        loop {
            while self.seen >= self.head(DOWN).load(Ordering::Acquire) {
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            let call = self.take_frame();
            self.tail(DOWN).store(self.seen, Ordering::Release);
            if let Some(mut call) = call {
                if call.len > INLINE_MAX {
                    self.read_bulk(&mut call);
                }
                return call;
            }
        }
    }

    fn read_bulk(&self, call: &mut Call) {
        while call.input.len() < call.len {
            let tail = self.bulk_tail(DOWN).load(Ordering::Relaxed);
            let end = self.bulk_head(DOWN).load(Ordering::Acquire);
            let byte = |position| self.byte(DOWN_BULK + within(position, BULK_LEN)).load(Ordering::Relaxed);
            call.input.extend((tail..end).take(call.len - call.input.len()).map(byte));
            self.bulk_tail(DOWN).store(end, Ordering::Release);
        }
    }

    fn take_frame(&mut self) -> Option<Call> {
        let header = DOWN_MESSAGES + within(self.seen, MESSAGES_LEN);
        let word = |at: usize| self.word(header + 4 * at).load(Ordering::Relaxed);
        let (state, head, payload) = (word(0), word(2) as usize, word(3) as usize);
        let behind = self.seen + HEADER_LEN as u64;
        let message = self.down(behind, head);
        let input = self.down(behind + head.next_multiple_of(8) as u64, payload);
        let position = self.seen;
        self.seen += (HEADER_LEN + head.next_multiple_of(8) + payload).next_multiple_of(HEADER_LEN) as u64;
        match codec::decode(&message).expect("the host is honest") {
            ToWorker::Call { len, .. } if state == CANCELLED => {
                let len = usize::try_from(len).expect("short");
                self.bulk_tail(DOWN)
                    .fetch_add(if len > INLINE_MAX { len as u64 } else { 0 }, Ordering::Release);
                None
            }
            ToWorker::Call { call: CallId(id), export, len } => {
                (self.call, self.position) = (id, position);
                Some(Call { id, export, len: usize::try_from(len).expect("short"), input })
            }
            _ => None,
        }
    }

    fn down(&self, position: u64, len: usize) -> Vec<u8> {
        let byte =
            |position| self.byte(DOWN_MESSAGES + within(position, MESSAGES_LEN)).load(Ordering::Relaxed);
        (position..).take(len).map(byte).collect()
    }

    /// Pretends that the running call was never taken.
    pub(crate) fn untake(&self) {
        self.word(DOWN_MESSAGES + within(self.position, MESSAGES_LEN)).store(READY, Ordering::Relaxed);
        self.tail(DOWN).store(self.position, Ordering::Release);
    }
}

/// The bytes of a frame.
fn frame(generation: u32, head: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = [0, generation, length(head), length(payload)];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend_from_slice(head);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(HEADER_LEN), 0);
    bytes
}

/// An offset inside a ring.
fn within(position: u64, len: usize) -> usize {
    usize::try_from(position % len as u64).expect("shorter than the ring")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short")
}
