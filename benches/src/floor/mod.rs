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
use crate::measure::{Entry, Kind, Opened, sparse};
use crate::other_end::Role;
use crate::placement::Placement;
use crate::runtimes::Runtimes;
use shared::Waiting;

/// The floor of messages.
const SHARED: &str = "shared memory, futex";
/// The same without sleeping, on two cores.
const SPINNING: &str = "shared memory, both ends spinning";
/// The floor of many messages.
const BURST: &str = "pipe, in bursts of 256";
/// The floor of payloads.
const COPY: &str = "memcpy";
/// The floor of workers that are forked.
pub(crate) const FORK: &str = "fork, exit, wait";
/// The floor of workers that are executed.
pub(crate) const EXEC: &str = "fork, exec, exit, wait";
/// The floor of memory.
const IDLE: &str = "echo process without a sandbox";

/// Bursts of one round in the pipelined group: each is short.
const BURSTS: usize = 20;

/// Runs the other end of a floor.
pub(crate) fn serve(role: Role, size: usize) -> Result<(), Failure> {
    match role {
        Role::Pipe => pipe::serve(size),
        Role::Packet => packet::serve(size),
        Role::Shared => shared::serve(size, Waiting::Futex),
        Role::Spinning => shared::serve(size, Waiting::Spinning),
        Role::Stream => stream::serve(size),
        Role::Json => json::serve(),
        Role::Forker => process::serve(),
    }
}

/// Every floor.
pub(crate) fn entries(runtimes: &Rc<Runtimes>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for group in Group::ALL {
        for placement in group.placements() {
            entries.extend(of(group, *placement, runtimes));
        }
    }
    entries
}

fn of(group: Group, placement: Placement, runtimes: &Rc<Runtimes>) -> Vec<Entry> {
    let place = Place { group, placement };
    match group {
        Group::Call | Group::Sparse | Group::Mebibyte | Group::SixteenMebibytes => messages(place, runtimes),
        Group::HostCall => shared_memory(place, SHARED),
        Group::Pipelined => {
            let burst = place.entry(BURST, BURST, move || pipe::open_bursts(group.payload()));
            vec![Entry { count: BURSTS, ..burst }]
        }
        Group::Launch => [(FORK, process::Kind::Fork), (EXEC, process::Kind::Exec)]
            .into_iter()
            .map(|(name, kind)| place.entry(name, name, move || process::open(kind)))
            .collect(),
        Group::Memory => vec![place.entry(IDLE, IDLE, process::open_memory)],
    }
}

/// What messages of a group are compared with.
pub(crate) fn floor_of(group: Group) -> &'static str {
    match group {
        Group::Call | Group::Sparse | Group::HostCall => SHARED,
        Group::Pipelined => BURST,
        Group::Mebibyte | Group::SixteenMebibytes => COPY,
        Group::Launch => EXEC,
        Group::Memory => IDLE,
    }
}

fn messages(place: Place, runtimes: &Rc<Runtimes>) -> Vec<Entry> {
    let (group, size) = (place.group, place.group.payload());
    let (runtimes, floor) = (Rc::clone(runtimes), floor_of(group));
    let mut entries = Vec::new();
    if floor == COPY {
        entries.push(place.entry(COPY, floor, move || copy::open(size)));
    }
    entries.extend(shared_memory(place, floor));
    entries.push(place.entry("pipe", floor, move || pipe::open(size)));
    entries.push(place.entry("seqpacket socket pair", floor, move || packet::open(size)));
    entries.push(place.entry("unix stream, tokio", floor, move || stream::open(size, &runtimes)));
    // 16 MiB of JSON take half a second; 1 MiB says the same.
    if group != Group::SixteenMebibytes {
        entries.push(place.entry("JSON lines over stdio", floor, move || json::open(size)));
    }
    entries
}

fn shared_memory(place: Place, floor: &'static str) -> Vec<Entry> {
    let size = place.group.payload();
    let mut entries = vec![place.entry(SHARED, floor, move || shared::open(size, Waiting::Futex))];
    // On one core a spinning end would wait for its own time slice to end.
    if place.placement == Placement::TwoCores {
        entries.push(place.entry(SPINNING, floor, move || shared::open(size, Waiting::Spinning)));
    }
    entries
}

/// Where in the report an entry stands.
#[derive(Clone, Copy)]
struct Place {
    group: Group,
    placement: Placement,
}

impl Place {
    fn entry(
        self,
        name: &'static str,
        floor: &'static str,
        open: impl FnOnce() -> Opened + 'static,
    ) -> Entry {
        let Place { group, placement } = self;
        let open: Box<dyn FnOnce() -> Opened> = Box::new(open);
        let open = if group == Group::Sparse { sparse(open) } else { open };
        Entry {
            name: name.to_owned(),
            kind: Kind::Floor,
            group,
            placement,
            floor,
            count: group.count(),
            open,
        }
    }
}

/// A message that is not all zero, so that no page of it is the kernel's zero page.
pub(crate) fn message(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

/// A floor that loses bytes is not one.
pub(crate) fn check_echo(sent: &[u8], received: &[u8]) -> Result<(), Failure> {
    if sent == received { Ok(()) } else { Err(Failure::other("the echo differs from what was sent")) }
}

/// What a channel to an other end that has gone is.
fn hung_up(source: std::io::Error) -> Failure {
    Failure::io("exchange a message with the other end", source)
}
