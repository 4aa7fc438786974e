//! A worker that writes while the host reads and writes: another thread repeats the same scribbles the whole time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use hotcell_protocol::ring::{BULK_LEN, HEAD_MAX, INLINE_MAX, Position, Receiver, Sender, Wake, create};

use super::memory::{DOWN, FILE, MESSAGES_LEN, UP};
use crate::input::Input;

/// What a worker writes: where, and which bytes.
type Scribble = (u64, [u8; 8]);

/// Scribbles of one run.
const SCRIBBLES_MAX: usize = 32;

/// What the host does while they are written.
const STEPS_MAX: usize = 64;

/// Whatever changes while the host looks, it gets no more bytes than a frame or ring may have.
///
/// What it gets depends on the moment, so this checks less than `ring` does.
pub fn ring_race(data: &[u8]) {
    let mut input = Input(data);
    let count = usize::from(input.byte()) % SCRIBBLES_MAX;
    let scribbles: Vec<Scribble> = (0..count).map(|_| scribble(&mut input)).collect();
    let (mut host, file) = create().expect("memory for a channel");
    let (file, done) = (File::from(file), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                scribbles.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).expect("in the file"));
                std::thread::yield_now();
            }
        });
        let end = End(&done);
        let mut last = None;
        for _ in 0..STEPS_MAX {
            let Some(step) = input.next() else { break };
            act(step, &mut host, &mut last, &mut input);
        }
        drop(end);
        // The scope alone would not wait until the thread's own memory is freed, which looks like a leak.
        writer.join().expect("it only writes");
    });
}

/// Ends the other thread, after a check that failed, too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Eight bytes: most often a word of the control page, or the header of a frame that the host reads.
fn scribble(input: &mut Input<'_>) -> Scribble {
    let words =
        [UP.head, UP.bulk_head, DOWN.tail, DOWN.bulk_tail, UP.asleep, UP.stuck, DOWN.asleep, DOWN.stuck];
    let at = match input.byte() {
        word @ 0..=127 => words.get(usize::from(word) % words.len()).copied().unwrap_or_default(),
        frame @ 128..=223 => UP.messages + 8 * u64::from(frame % 64),
        _ => input.word().into(),
    };
    let bytes = match input.byte() % 3 {
        0 => u64::from(input.short()),
        1 => u64::from(input.short()) | u64::from(input.short()) << 32,
        _ => input.wide(),
    };
    (at.min(FILE - 8), bytes.to_ne_bytes())
}

fn act(
    step: u8,
    (sender, receiver): &mut (Sender, Receiver),
    last: &mut Option<Position>,
    input: &mut Input<'_>,
) {
    match step % 6 {
        0 | 1 => read_frame(receiver),
        2 => {
            let (most, mut bytes) = (input.word() as usize, Vec::new());
            if let Ok(count) = receiver.bulk(most, &mut bytes) {
                assert!(count == bytes.len() && count <= most.min(BULK_LEN));
            }
            assert!(bytes.len() <= BULK_LEN);
        }
        3 => {
            let (head, payload) = (vec![1; input.below(HEAD_MAX + 1)], vec![2; input.below(INLINE_MAX + 1)]);
            if let Ok(Some(position)) = sender.send(1, &head, &payload) {
                assert!(last.replace(position) < Some(position), "positions only grow");
                sender.cancel(position);
            }
        }
        4 => {
            let bytes = vec![3; input.scaled()];
            if let Ok(count) = sender.bulk(&bytes) {
                assert!(count <= bytes.len().min(BULK_LEN));
            }
        }
        _ => {
            receiver.want(Wake::First);
            let _ = (sender.rouse(), receiver.rouse(), receiver.stirs());
        }
    }
}

/// The frame is what the first look said, although its header changes.
fn read_frame(receiver: &mut Receiver) {
    let Ok(Some(frame)) = receiver.peek() else { return };
    assert!(frame.head_len <= HEAD_MAX && frame.payload_len <= INLINE_MAX);
    let (mut head, mut payload) = (Vec::new(), Vec::new());
    receiver.take(&frame);
    receiver.head(&frame, &mut head);
    receiver.payload(&frame, &mut payload);
    assert_eq!((head.len(), payload.len()), (frame.head_len, frame.payload_len));
    assert!(((head.len() + payload.len()) as u64) < MESSAGES_LEN);
    receiver.consume(&frame);
}
