//! The misdeeds.

#![allow(unsafe_code, reason = "ends the process without destructors")]

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::Duration;

use hotcell_protocol::{Failure, FromWorker, ReplyStatus, Statement, Step, codec, ring::BULK_LEN};

use crate::memory::{DOWN, Memory, UP};

/// A payload that takes the bulk ring.
const LARGE: usize = 1 << 20;

/// Commits a misdeed during a call; never returns.
pub(crate) fn act(memory: &mut Memory, misdeed: &str, parameter: &str) -> ! {
    match misdeed {
        "answer" => answer(memory, parameter),
        "announce" | "half" | "bulk_head" | "cursor" => payload(memory, misdeed, parameter),
        "frame" | "message" | "generation" | "say" => frame(memory, misdeed, parameter),
        "bells" => bells(memory, parameter),
        "change" => change(memory, parameter),
        "ask_wrongly" => ask(memory, parameter),
        "exit" => exit(),
        "lie" => lie(memory),
        other => memory.say(&failed(&format!("no misdeed `{other}`")), &[]),
    }
    silence()
}

/// Commits a misdeed while the plugin is loaded, or meets its host; never returns: the real link would write over it.
pub(crate) fn start(misdeed: &str, memory: &Memory) -> ! {
    match misdeed {
        "silence" => {}
        "exit" => exit(),
        "reply" => memory.reply(1, 0, &[]),
        "ask" => memory.host_call(0, "log", b"too early"),
        "ask for a call" => memory.host_call(1, "log", b"there is none"),
        "ask twice" => {
            memory.host_call(0, "test.slow", b"");
            memory.host_call(0, "test.slow", b"");
        }
        "garbage" => memory.frame(memory.generation, &[0xff; 64], &[]),
        "another generation" => {
            memory.frame(memory.generation + 1, &codec::encode(&FromWorker::Loaded).unwrap_or_default(), &[]);
        }
        "payload" => memory.say(&FromWorker::Loaded, b"with bytes behind it"),
        "cursor" => {
            memory.head(UP).store(1 << 46, Release);
            memory.ring();
        }
        "long failure" => memory.say(&failed(&"\u{1b}[2J".repeat(1500)), &[]),
        name => memory.say(&named(name), &[]),
    }
    silence()
}

/// Does nothing more.
fn silence() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn exit() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

fn numbers(text: &str) -> (u64, u64) {
    let (first, second) = text.split_once(' ').unwrap_or((text, "0"));
    (number(first), number(second))
}

/// Replies by hand from now on, after another way of cheating.
fn answer(memory: &mut Memory, how: &str) {
    match how {
        "and move a tail" => memory.tail(DOWN).store(1 << 46, Release),
        "and move a bulk tail" => memory.bulk_tail(DOWN).store(1 << 46, Release),
        "and send bulk bytes" => memory.bulk(&[7; 100]),
        _ => {}
    }
    match how {
        "and once more" => memory.reply_and_more(b"first", (memory.call, 0)),
        "and ahead" => memory.reply_and_more(b"first", (memory.call + 1, 0)),
        "and announce" => memory.reply_and_more(b"first", (memory.call + 1, LARGE as u64)),
        _ => memory.reply_well(how.as_bytes()),
    }
    match how {
        "and be deaf" => silence(),
        "and exit" => exit(),
        // Takes no call for a moment.
        "and nap" => std::thread::sleep(Duration::from_millis(300)),
        _ => {}
    }
    loop {
        let call = memory.next_call();
        match call.export.as_str() {
            "exit" => exit(),
            "stale" => memory.reply(call.id - 1, 0, &[]),
            _ => memory.reply_well(&call.input),
        }
    }
}

/// Lies about payloads.
fn payload(memory: &mut Memory, how: &str, parameter: &str) {
    let (first, second) = numbers(parameter);
    match how {
        "announce" => memory.reply(memory.call, first, &vec![1; usize::try_from(second).unwrap_or(0)]),
        "half" => {
            memory.reply(memory.call, LARGE as u64, &[]);
            memory.bulk(&vec![1; LARGE / 2]);
            if parameter == "exit" {
                exit();
            }
        }
        "bulk_head" => {
            memory.reply(memory.call, LARGE as u64, &[]);
            memory.bulk_head(UP).store(first, Release);
            memory.ring();
        }
        _ => {
            let head = memory.head(UP).load(Relaxed);
            let to = if parameter == "back" { head - 16 } else { head.wrapping_add(first) };
            memory.head(UP).store(to, Release);
            memory.ring();
        }
    }
}

/// Sends frames that are none, and messages that have no place.
fn frame(memory: &mut Memory, how: &str, parameter: &str) {
    let (first, second) = numbers(parameter);
    match how {
        "frame" => {
            let mut bytes = vec![0; 4096];
            let words = [0, u64::from(memory.generation), first, second];
            for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&u32::try_from(word).unwrap_or(u32::MAX).to_ne_bytes());
            }
            memory.raw(&bytes);
        }
        "message" => memory.frame(memory.generation, &malformed(memory.call, parameter), &[]),
        "generation" => {
            let generation = u32::try_from(u64::from(memory.generation) + first).unwrap_or(u32::MAX);
            let reply = FromWorker::Reply {
                call: hotcell_protocol::CallId(memory.call),
                status: ReplyStatus::Ok,
                len: 0,
            };
            memory.frame(generation, &codec::encode(&reply).unwrap_or_default(), &[]);
        }
        _ => memory.say(&named(parameter), &[]),
    }
}

/// Bytes that are no message, or none that is right.
fn malformed(call: u64, how: &str) -> Vec<u8> {
    let reply = FromWorker::Reply { call: hotcell_protocol::CallId(call), status: ReplyStatus::Ok, len: 0 };
    let right = codec::encode(&reply).unwrap_or_default();
    match how {
        "empty" => Vec::new(),
        "cut" => right.get(..right.len() - 1).unwrap_or_default().to_vec(),
        "trailing" => [right, vec![0]].concat(),
        "discriminant" => vec![200],
        "wide discriminant" => [vec![253], vec![0xff; 8]].concat(),
        "overlong" => [vec![5, 254], vec![0xff; 16]].concat(),
        // A host call: its number, the call, a text's length and the text.
        "text" => vec![6, 1, 2, 0xff, 0xfe, 0],
        "declared text" => [vec![6, 1, 253], (1_u64 << 46).to_le_bytes().to_vec()].concat(),
        "nested" => vec![1; 8 << 10],
        // Evidence and failures hold sequences: one that claims 2^33 elements.
        "sequence" => [vec![1, 253], (1_u64 << 33).to_le_bytes().to_vec()].concat(),
        _ => vec![0xff; 8 << 10],
    }
}

/// A message by name.
fn named(name: &str) -> FromWorker {
    match name {
        "listener" => FromWorker::Listener,
        "loaded" => FromWorker::Loaded,
        "ready" => FromWorker::Ready,
        "evidence" => FromWorker::Confined(evidence()),
        other => failed(other),
    }
}

fn failed(detail: &str) -> FromWorker {
    FromWorker::Failed(Failure { step: Step::Load, errno: 0, detail: detail.to_owned() })
}

/// What an unconfined process would say of itself.
fn evidence() -> Statement {
    let zeroes = [0; 64];
    (0..zeroes.len())
        .find_map(|len| codec::decode(zeroes.get(..len)?).ok())
        .expect("all zeroes are some evidence")
}

/// Rings without end, or until a count is full.
fn bells(memory: &Memory, how: &str) {
    if how == "full" {
        memory.add(u64::MAX - 1);
        // Long enough, most often, that the host has looked and sleeps again.
        std::thread::sleep(Duration::from_millis(50));
        memory.reply_well(b"nobody hears of this");
        return;
    }
    loop {
        memory.ring();
    }
}

/// Changes what it has published while the host may be reading it.
fn change(memory: &mut Memory, what: &str) {
    let position = memory.head(UP).load(Relaxed);
    let header = memory.up(position);
    let text = [b'x'; 2048];
    memory.reply_well(&text);
    let lengths = (memory.word(header + 8).load(Relaxed), memory.word(header + 12).load(Relaxed));
    for round in 0_u32..200_000 {
        let lie = round.wrapping_mul(2_654_435_761);
        match what {
            "lengths" => {
                memory.word(header + 8).store(lie, Relaxed);
                memory.word(header + 12).store(lie.rotate_left(7), Relaxed);
                memory.word(header + 8).store(lengths.0, Relaxed);
                memory.word(header + 12).store(lengths.1, Relaxed);
            }
            "message" => memory.word(header + 16).store(lie, Relaxed),
            _ => memory.word(header + 24 + (lie as usize % 500) * 4).store(lie, Relaxed),
        }
    }
}

/// Host calls that may not be.
fn ask(memory: &Memory, how: &str) {
    match how {
        "for another call" => memory.host_call(memory.call + 1, "log", b""),
        "for an earlier call" => memory.host_call(memory.call - 1, "log", b""),
        "as at the start" => memory.host_call(0, "log", b""),
        "by a long name" => memory.host_call(memory.call, &"n".repeat(129), b""),
        "by a huge name" => memory.host_call(memory.call, &"n".repeat(8000), b""),
        // One frame is read at a time, but nothing may follow before the answer.
        "twice" => {
            memory.host_call(memory.call, "test.slow", b"");
            memory.host_call(memory.call, "test.slow", b"");
        }
        "and reply meanwhile" => {
            memory.host_call(memory.call, "test.slow", b"");
            memory.reply_well(b"meanwhile");
        }
        "with half an input" => {
            let call = hotcell_protocol::CallId(memory.call);
            memory.say(&FromWorker::HostCall { call, name: "log".to_owned(), len: LARGE as u64 }, &[]);
            memory.bulk(&vec![1; LARGE / 2]);
        }
        "and move a tail" => {
            memory.tail(DOWN).store(1 << 46, Release);
            memory.host_call(memory.call, "log", b"");
        }
        // The answer is larger than the ring of messages, and nobody takes it out.
        "and be deaf" => memory.host_call(memory.call, "test.large", b""),
        _ => memory.host_call(memory.call, "log", &vec![1; BULK_LEN]),
    }
}

/// Says that it never took the call that it runs, and ends.
fn lie(memory: &Memory) {
    memory.untake();
    exit()
}
