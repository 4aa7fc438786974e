//! What the machine itself takes: the least that a call, a copy or a process can cost here.

mod copy;
mod json;
mod packet;
mod pipe;
mod process;
mod shared;
mod stream;

use std::rc::Rc;

use crate::failure::Failure;
use crate::group::Group;
use crate::measure::{Entry, Opened};
use crate::peer::Role;
use crate::placement::Placement;
use crate::runtimes::Runtimes;

/// The floor of messages.
pub(crate) const SHARED: &str = "shared memory, futex";
/// The floor of payloads.
pub(crate) const COPY: &str = "memcpy";
/// The floor of workers that are forked.
pub(crate) const FORK: &str = "fork, exit, wait";
/// The floor of workers that are executed.
pub(crate) const EXEC: &str = "fork, exec, exit, wait";
/// The floor of memory.
pub(crate) const IDLE: &str = "echo process without a sandbox";

/// Samples of one round, by what they take.
const CALLS: usize = 500;
const MEBIBYTES: usize = 20;
const SIXTEEN_MEBIBYTES: usize = 2;
const PROCESSES: usize = 20;

/// Runs the other end of a floor.
pub(crate) fn serve(role: Role, size: usize) -> Result<(), Failure> {
    match role {
        Role::Pipe => pipe::serve(size),
        Role::Packet => packet::serve(size),
        Role::Shared => shared::serve(size),
        Role::Stream => stream::serve(size),
        Role::Json => json::serve(),
        Role::Forker => process::serve(),
    }
}

/// Every floor.
pub(crate) fn entries(runtimes: &Rc<Runtimes>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for placement in Placement::ALL {
        for group in [Group::Call, Group::Mebibyte, Group::SixteenMebibytes] {
            entries.extend(messages(group, placement, runtimes));
        }
        let process = |name, kind| entry(name, Group::Launch, placement, name, move || process::open(kind));
        entries.push(process(FORK, process::Kind::Fork));
        entries.push(process(EXEC, process::Kind::Exec));
    }
    entries.push(entry(IDLE, Group::Memory, Placement::Unpinned, IDLE, process::open_memory));
    entries
}

fn messages(group: Group, placement: Placement, runtimes: &Rc<Runtimes>) -> Vec<Entry> {
    let size = group.payload();
    let runtimes = Rc::clone(runtimes);
    let floor = if group == Group::Call { SHARED } else { COPY };
    let mut entries = vec![
        entry(SHARED, group, placement, floor, move || shared::open(size)),
        entry("pipe", group, placement, floor, move || pipe::open(size)),
        entry("seqpacket socket pair", group, placement, floor, move || packet::open(size)),
        entry("unix stream, tokio", group, placement, floor, move || stream::open(size, &runtimes)),
    ];
    // 16 MiB of JSON take half a second; 1 MiB says the same.
    if group != Group::SixteenMebibytes {
        entries.push(entry("JSON lines over stdio", group, placement, floor, move || json::open(size)));
    }
    if group != Group::Call {
        entries.insert(0, entry(COPY, group, placement, floor, move || copy::open(size)));
    }
    entries
}

/// Samples that a case of a group takes in one round.
pub(crate) fn count(group: Group) -> usize {
    match group {
        Group::Call => CALLS,
        Group::Mebibyte => MEBIBYTES,
        Group::SixteenMebibytes => SIXTEEN_MEBIBYTES,
        Group::Launch => PROCESSES,
        Group::Memory => 1,
    }
}

fn entry(
    name: &'static str,
    group: Group,
    placement: Placement,
    floor: &'static str,
    open: impl FnOnce() -> Opened + 'static,
) -> Entry {
    Entry { name, group, placement, floor, count: count(group), open: Box::new(open) }
}

/// A message that is not all zero, so that no page of it is the kernel's zero page.
pub(crate) fn message(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// A floor that loses bytes is not one.
pub(crate) fn check_echo(sent: &[u8], received: &[u8]) -> Result<(), Failure> {
    if sent == received { Ok(()) } else { Err(Failure::other("the echo differs from what was sent")) }
}

/// What a channel to a peer that has gone is.
fn hung_up(source: std::io::Error) -> Failure {
    Failure::io("exchange a message with the other end", source)
}
