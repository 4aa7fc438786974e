//! An honest pair in every order in which its threads can run, as far as loom's bound on preemptions reaches.
//!
//! The loops are those of the worker's `Link` and of the host: look, say how to be woken, look again, sleep. A wake-up that
//! is lost is a deadlock, which loom reports; bytes that are read before they are published, or written before they are
//! given back, are a race, which it reports, too.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::layout::{DOWN, INLINE_MAX, UP, Way};
use super::map::Map;
use super::{Receiver, Sender, Wake};

/// The eventfd on which a host sleeps: it never looks at a word of the memory.
#[derive(Debug, Default)]
struct Bell {
    count: Mutex<u32>,
    rung: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.count.lock().expect("nobody panics") += 1;
        self.rung.notify_one();
    }

    /// Waits until it has rung more often than `seen`.
    fn wait(&self, seen: &mut u32) {
        let mut count = self.count.lock().expect("nobody panics");
        while *count == *seen {
            count = self.rung.wait(count).expect("nobody panics");
        }
        *seen = *count;
    }
}

/// Frames of one test: the ring has room for two.
const FRAMES: u8 = 3;

fn ends(way: Way) -> (Sender, Receiver, Arc<Bell>) {
    let map = Arc::new(Map::new());
    (Sender::new(Arc::clone(&map), way), Receiver::new(map, way), Arc::new(Bell::default()))
}

fn check(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // Each bug that was put in by hand shows with two.
    model.preemption_bound = Some(4);
    model.check(test);
}

/// The bytes of a frame.
fn parts(number: u8) -> ([u8; 3], [u8; INLINE_MAX]) {
    ([number; 3], [number + 100; INLINE_MAX])
}

fn take(receiver: &mut Receiver, number: u8) -> bool {
    let Some(frame) = receiver.peek().expect("honest") else { return false };
    assert!(receiver.take(&frame), "nobody takes it back");
    let (head, payload) = parts(number);
    let (mut got, mut rest) = (Vec::new(), Vec::new());
    receiver.head(&frame, &mut got);
    receiver.payload(&frame, &mut rest);
    assert_eq!((got.as_slice(), rest.as_slice()), (head.as_slice(), payload.as_slice()));
    receiver.consume(&frame);
    true
}

fn send(sender: &mut Sender, number: u8) -> bool {
    let (head, payload) = parts(number);
    sender.send(7, &head, &payload).expect("honest").is_some()
}

/// What a side may do wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// The reader sleeps without a second look.
    ReaderLooksOnce,
    /// The writer does not try again before it sleeps.
    WriterTriesOnce,
    /// The writer asks who sleeps before it writes.
    AsksTooEarly,
}

/// A worker sends to its host: it sleeps on its futex for room, the host on its bell for frames.
fn worker_to_host(wrong: Wrong) {
    let (mut sender, mut receiver, bell) = ends(UP);
    let rung = Arc::clone(&bell);
    let worker = thread::spawn(move || {
        for number in 0..FRAMES {
            let early = (wrong == Wrong::AsksTooEarly).then(|| sender.rouse());
            while !send(&mut sender, number) {
                sender.want_room(Wake::First);
                if wrong != Wrong::WriterTriesOnce && send(&mut sender, number) {
                    break;
                }
                sender.sleep();
            }
            if early.unwrap_or_else(|| sender.rouse()) != Wake::Not {
                rung.ring();
            }
        }
    });
    let mut seen = 0;
    for number in 0..FRAMES {
        while !take(&mut receiver, number) {
            receiver.want(Wake::First);
            if wrong != Wrong::ReaderLooksOnce && take(&mut receiver, number) {
                break;
            }
            bell.wait(&mut seen);
        }
        if receiver.rouse() != Wake::Not {
            receiver.wake_worker();
        }
    }
    worker.join().expect("ends");
}

/// A host sends to its worker: it sleeps on its bell for room, the worker on its futex for frames.
fn host_to_worker(wrong: Wrong) {
    let (mut sender, mut receiver, bell) = ends(DOWN);
    let rung = Arc::clone(&bell);
    let worker = thread::spawn(move || {
        for number in 0..FRAMES {
            while !take(&mut receiver, number) {
                receiver.want(Wake::First);
                if wrong != Wrong::ReaderLooksOnce && take(&mut receiver, number) {
                    receiver.awake();
                    break;
                }
                receiver.sleep();
            }
            if receiver.rouse() != Wake::Not {
                rung.ring();
            }
        }
    });
    let waker = sender.waker();
    let mut seen = 0;
    for number in 0..FRAMES {
        let early = (wrong == Wrong::AsksTooEarly).then(|| sender.rouse());
        while !send(&mut sender, number) {
            sender.want_room(Wake::First);
            if wrong != Wrong::WriterTriesOnce && send(&mut sender, number) {
                break;
            }
            bell.wait(&mut seen);
        }
        if early.unwrap_or_else(|| sender.rouse()) != Wake::Not {
            waker.wake();
        }
    }
    worker.join().expect("ends");
}

#[test]
fn every_frame_reaches_the_host_and_no_wake_up_is_lost() {
    check(|| worker_to_host(Wrong::Nothing));
}

#[test]
fn every_frame_reaches_the_worker_and_no_wake_up_is_lost() {
    check(|| host_to_worker(Wrong::Nothing));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_host_that_looks_once_sleeps_for_ever() {
    check(|| worker_to_host(Wrong::ReaderLooksOnce));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_looks_once_sleeps_for_ever() {
    check(|| host_to_worker(Wrong::ReaderLooksOnce));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_tries_once_waits_for_room_for_ever() {
    check(|| worker_to_host(Wrong::WriterTriesOnce));
}

#[test]
#[should_panic(expected = "deadlock")]
fn who_asks_before_it_writes_wakes_nobody() {
    check(|| host_to_worker(Wrong::AsksTooEarly));
}

#[test]
fn a_frame_is_taken_or_taken_back_and_never_both() {
    check(|| {
        let (mut sender, mut receiver, _) = ends(DOWN);
        let (head, payload) = parts(1);
        let position = sender.send(7, &head, &payload).expect("honest").expect("room");
        let worker = thread::spawn(move || {
            let frame = receiver.peek().expect("honest").expect("there");
            let taken = receiver.take(&frame);
            receiver.consume(&frame);
            assert_eq!(receiver.peek().expect("honest"), None, "its room is passed over either way");
            taken
        });
        let cancelled = sender.cancel(position);
        let taken = worker.join().expect("ends");
        assert_ne!(taken, cancelled, "exactly one of both");
    });
}

#[test]
fn bulk_bytes_are_seen_when_they_are_committed() {
    check(|| {
        let (mut sender, mut receiver, _) = ends(UP);
        let worker = thread::spawn(move || {
            sender.stage(b"not this");
            sender.stage(b"but that");
            sender.commit(8);
            // Around the end of the ring, as far as there is room.
            sender.bulk(b"and more of it").expect("honest")
        });
        let mut bytes = Vec::new();
        receiver.bulk(usize::MAX, &mut bytes).expect("honest");
        let sent = 8 + worker.join().expect("ends");
        receiver.bulk(usize::MAX, &mut bytes).expect("honest");
        assert_eq!(bytes.as_slice(), b"but thatand more of it".get(..sent).expect("sent"));
    });
}
