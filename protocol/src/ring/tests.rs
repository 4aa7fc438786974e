//! An honest pair, and a writer that lies. (A hostile worker behind a real host is in `tests/`.)

use std::os::fd::AsFd;

use super::{BULK_LEN, Corrupt, HEAD_MAX, INLINE_MAX, Receiver, Sender, Wake, attach, create};

/// The host's ends, then the worker's.
fn pair() -> ((Sender, Receiver), (Sender, Receiver)) {
    let (host, file) = create().expect("memfd");
    let worker = attach(file.as_fd()).expect("maps");
    (host, worker)
}

fn next(receiver: &mut Receiver) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let frame = receiver.peek().expect("honest")?;
    let (mut head, mut payload) = (Vec::new(), Vec::new());
    receiver.head(&frame, &mut head);
    receiver.payload(&frame, &mut payload);
    receiver.consume(&frame);
    Some((frame.generation, head, payload))
}

#[test]
fn frames_arrive_in_order_around_the_end_many_times() {
    let ((mut down, _), (_, mut worker)) = pair();
    for round in 0_usize..2000 {
        let head = vec![1; round % 97];
        let payload: Vec<u8> = (0..round % 1301).map(|n| u8::try_from(n % 251).expect("small")).collect();
        assert!(down.send(7, &head, &payload).expect("honest").is_some());
        assert_eq!(next(&mut worker), Some((7, head, payload)));
        assert_eq!(next(&mut worker), None);
    }
}

#[test]
fn a_full_ring_takes_nothing_until_its_reader_consumes() {
    let ((mut down, _), (_, mut worker)) = pair();
    let mut sent = 0;
    while down.send(1, &[0; 8], &[0; 1000]).expect("honest").is_some() {
        sent += 1;
    }
    assert!(sent > 10, "control: some fit");
    down.want_room(Wake::Second);
    assert_eq!(worker.rouse(), Wake::Second);
    assert_eq!(worker.rouse(), Wake::Not, "told once");
    next(&mut worker).expect("a frame");
    assert!(down.send(1, &[0; 8], &[0; 1000]).expect("honest").is_some());
}

#[test]
#[expect(clippy::indexing_slicing, reason = "in range by construction")]
fn bulk_bytes_stream_through_a_smaller_ring_and_lie_in_place() {
    let ((mut down, _), (_, mut worker)) = pair();
    let bytes: Vec<u8> = (0..3 * BULK_LEN + 5).map(|n| u8::try_from(n % 253).expect("small")).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < bytes.len() {
        sent += down.bulk(&bytes[sent..]).expect("honest");
        worker.bulk(300_000, &mut got).expect("honest");
    }
    assert!(got == bytes, "the same bytes");
    // The position is in the middle of the ring now, so that this one wraps around.
    assert_eq!(down.bulk(&bytes[..BULK_LEN]).expect("honest"), BULK_LEN);
    assert_eq!(down.bulk(&[1]).expect("honest"), 0, "full");
    let input = worker.in_place(BULK_LEN).expect("mapped twice");
    assert!(*input == bytes[..BULK_LEN], "contiguous in place");
    worker.release(BULK_LEN);
    assert_eq!(down.bulk(&[1]).expect("honest"), 1);
}

#[test]
fn a_frame_is_either_taken_or_taken_back() {
    let ((mut down, _), (_, mut worker)) = pair();
    let first = down.send(1, b"a", b"").expect("honest").expect("fits");
    let second = down.send(1, b"b", b"").expect("honest").expect("fits");
    let frame = worker.peek().expect("honest").expect("a frame");
    assert!(worker.take(&frame));
    assert!(!down.cancel(first), "it has begun");
    assert!(down.cancel(second));
    worker.consume(&frame);
    let frame = worker.peek().expect("honest").expect("a frame");
    assert!(!worker.take(&frame), "it was taken back");
    worker.consume(&frame);
    assert!(!down.cancel(first), "its place may hold another frame by now");
}

#[test]
fn nothing_larger_than_the_limits_is_written() {
    let ((mut down, _), _) = pair();
    assert!(down.send(1, &vec![0; HEAD_MAX], &vec![0; INLINE_MAX]).expect("control: just inside").is_some());
    assert!(down.send(1, &vec![0; HEAD_MAX + 1], &[]).is_err());
    assert!(down.send(1, &[], &vec![0; INLINE_MAX + 1]).is_err());
}

/// A worker that writes words where they do not belong.
struct Liar {
    host: (Sender, Receiver),
    file: std::fs::File,
}

impl Liar {
    fn new() -> Liar {
        let (mut host, file) = create().expect("memfd");
        host.0.send(1, b"call", b"").expect("honest").expect("fits");
        host.0.bulk(&[0; 10]).expect("honest");
        Liar { host, file: file.into() }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset as u64).expect("writes");
    }
}

#[test]
fn pages_that_are_found_ahead_hold_what_was_written_around_the_rings_end_too() {
    let (mut host, file) = create().expect("memfd");
    let (_, mut worker) = attach(file.as_fd()).expect("maps");
    let mut read = Vec::new();
    for _ in 0..3 {
        host.0.bulk(&[7; BULK_LEN - 10]).expect("honest");
        // From within the last page on: the rest lies at the start, where unread bytes are.
        host.0.ahead().populate(BULK_LEN);
        host.1.ahead().populate(usize::MAX);
        read.clear();
        assert_eq!(worker.bulk(BULK_LEN, &mut read).expect("honest"), BULK_LEN - 10);
        assert!(read.iter().all(|byte| *byte == 7), "no byte is changed");
    }
}

#[test]
fn cursors_that_cannot_be_are_corrupt() {
    use super::layout::{DOWN, UP};
    let corrupt = |offset: usize, value: u64, check: fn(&mut (Sender, Receiver)) -> bool| {
        let mut liar = Liar::new();
        assert!(!check(&mut liar.host), "control: honest before");
        liar.write(offset, &value.to_ne_bytes());
        assert!(check(&mut liar.host), "offset {offset}, value {value}");
    };
    // The last is a little less than zero, by more than a ring: a tail that is less by little is only a claim of less room.
    let len = BULK_LEN as u64;
    for value in [len + 64, 1 << 63, u64::MAX - 2 * len] {
        corrupt(UP.head(), value, |host| host.1.peek().is_err());
        corrupt(UP.bulk_head(), value, |host| host.1.bulk_there().is_err());
        corrupt(DOWN.tail(), value, |host| host.0.send(1, b"x", b"").is_err());
        corrupt(DOWN.bulk_tail(), value, |host| host.0.bulk(&[0]).is_err());
    }
    corrupt(UP.head(), u64::MAX, |host| host.1.peek().is_err());
    corrupt(UP.bulk_head(), u64::MAX, |host| host.1.bulk_there().is_err());
}

#[test]
fn lengths_that_cannot_be_are_corrupt() {
    use super::layout::UP;
    let peek = |published: u64, head: u32, payload: u32| {
        let liar = Liar::new();
        let words = [0, 1, head, payload].map(u32::to_ne_bytes).concat();
        liar.write(UP.messages.start, &words);
        liar.write(UP.head(), &published.to_ne_bytes());
        liar.host.1.peek()
    };
    assert!(peek(32, 4, 4).expect("control: it fits").is_some());
    assert_eq!(peek(16, 4, 4), Err(Corrupt("a frame that is longer than what was published")));
    assert_eq!(peek(8, 0, 0), Err(Corrupt("a frame that is longer than what was published")));
    for (head, payload) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX), (1 << 31, 1 << 31)] {
        assert_eq!(peek(1 << 14, head, payload), Err(Corrupt("a frame over the limit")));
    }
}

#[test]
fn the_file_can_neither_shrink_nor_grow() {
    let (_, file) = create().expect("memfd");
    for len in [0, 1 << 30] {
        assert_eq!(rustix::fs::ftruncate(&file, len), Err(rustix::io::Errno::PERM));
    }
    let unsealed = rustix::fs::memfd_create(c"control", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    rustix::fs::ftruncate(&unsealed, 1 << 20).expect("control: another memfd can");
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Most often small, or near the border of something.
    fn word(&mut self) -> u64 {
        let borders = [0, 1, 8, 16, 4096, 8192, 1 << 15, BULK_LEN as u64, 1 << 32, 1 << 63, u64::MAX];
        let border = borders.get(usize::try_from(self.next() % 11).expect("small")).copied().unwrap_or(0);
        match self.next() % 3 {
            0 => self.next(),
            1 => border.wrapping_add(self.next() % 5).wrapping_sub(2),
            _ => self.next() % 70_000,
        }
    }
}

/// One thing that a host does with its ends; what it makes of it is its own memory, bounded by the ring.
fn act((sender, receiver): &mut (Sender, Receiver), numbers: &mut Numbers) {
    let mut bytes = Vec::new();
    match numbers.next() % 6 {
        0 => {
            if let Ok(Some(frame)) = receiver.peek() {
                receiver.head(&frame, &mut bytes);
                receiver.payload(&frame, &mut bytes);
                assert_eq!(bytes.len(), frame.head_len + frame.payload_len);
                receiver.consume(&frame);
            }
        }
        1 => {
            let count = receiver.bulk(usize::try_from(numbers.word()).unwrap_or(usize::MAX), &mut bytes);
            assert!(count.is_err() || count == Ok(bytes.len()));
        }
        2 => {
            if let Ok(Some(position)) = sender.send(1, b"message", b"payload") {
                sender.cancel(position);
            }
        }
        3 => drop(sender.bulk(&[1; 5000])),
        4 => drop((sender.rouse(), receiver.rouse(), receiver.stirs())),
        _ => receiver.want(Wake::First),
    }
    assert!(bytes.len() <= BULK_LEN);
}

#[test]
fn whatever_a_worker_writes_and_whenever_the_host_reads_no_more_than_the_ring() {
    for seed in 1..400 {
        let mut numbers = Numbers(seed * 0x9e37_79b9_7f4a_7c15);
        let mut liar = Liar::new();
        for _ in 0..200 {
            let word = numbers.word().to_ne_bytes();
            // The control words, or wherever frames lie.
            let place = if numbers.next().is_multiple_of(2) {
                numbers.next() % 2048
            } else {
                numbers.next() % (80 << 10)
            };
            liar.write(usize::try_from(place & !7).expect("small"), &word);
            act(&mut liar.host, &mut numbers);
        }
    }
}
