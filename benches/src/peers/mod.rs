//! What a user would pick instead of hotcell, measured in the same rounds by a program of its own.

mod program;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use crate::failure::Failure;
use crate::floor::floor_of;
use crate::group::{Group, OUTSTANDING};
use crate::measure::{Case, Entry, Kind, Open, Samples, sparse};
use crate::placement::{Placement, Processors};
use program::{About, Ask, Program};

/// The row that the headline ratio is to.
pub(crate) const EXTISM: &str = "Extism, in process";
/// The row of the usual way to call another process.
pub(crate) const GRPC: &str = "gRPC, unix socket";

/// Calls of one sample of the pipelined group.
pub(crate) const PIPELINED: usize = 5000;

/// The running program and what it offers.
pub(crate) struct Peers {
    program: Rc<RefCell<Program>>,
    offered: Vec<About>,
}

impl Peers {
    /// Starts the program; what it does counts as the caller's part where caller and other end are told apart.
    pub(crate) fn start(path: &Path, processors: &Processors) -> Result<Peers, Failure> {
        let mut program = Program::start(path)?;
        let offered = program.list()?;
        processors.add_caller(program.process());
        Ok(Peers { program: Rc::new(RefCell::new(program)), offered })
    }

    /// A row for each peer, group and placement that makes sense.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for peer in &self.offered {
            for group in Group::ALL.into_iter().filter(|group| serves(peer, *group)) {
                let makes_sense =
                    |placement: &&Placement| peer.isolated || **placement != Placement::TwoCores;
                let placements = group.placements().iter().filter(makes_sense);
                entries.extend(placements.map(|placement| self.entry(peer, group, *placement)));
            }
        }
        entries
    }

    /// What each row is, in the program's words.
    pub(crate) fn legend(&self) -> Vec<(String, String)> {
        self.offered.iter().map(|peer| (row_name(&peer.name), peer.about.clone())).collect()
    }

    fn entry(&self, peer: &About, group: Group, placement: Placement) -> Entry {
        let (program, peer) = (Rc::clone(&self.program), peer.clone());
        let name = row_name(&peer.name);
        let open: Open = Box::new(move || {
            program.borrow_mut().open(&peer.name)?;
            let mut case = Peer { program, peer, group };
            case.sample(1, &mut Samples::default())?;
            Ok(Box::new(case))
        });
        let open = if group == Group::Sparse { sparse(open) } else { open };
        Entry { name, kind: Kind::Peer, group, placement, floor: floor_of(group), count: group.count(), open }
    }
}

/// Whether a peer has a row in a group.
fn serves(peer: &About, group: Group) -> bool {
    match group {
        Group::Pipelined => peer.name == "grpc",
        // 16 MiB of JSON take half a second; 1 MiB says the same.
        Group::SixteenMebibytes => peer.name != "jsonrpc",
        _ => Group::ECHOES.contains(&group),
    }
}

/// The name of a peer's rows.
fn row_name(peer: &str) -> String {
    match peer {
        "extism" => EXTISM,
        "wasmtime" => "wasmtime, in process",
        "dlopen" => "dlopen, in process",
        "grpc" => GRPC,
        "ipc-channel" => "ipc-channel",
        "jsonrpc" => "JSON-RPC over stdio",
        other => other,
    }
    .to_owned()
}

struct Peer {
    program: Rc<RefCell<Program>>,
    peer: About,
    group: Group,
}

impl Case for Peer {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let (peer, size) = (self.peer.name.as_str(), self.group.payload());
        if count == 0 {
            return Ok(());
        }
        let (asks, ask, times) = if self.group == Group::Pipelined {
            (count, Ask::Pipeline { peer, size, count: PIPELINED, outstanding: OUTSTANDING }, 1)
        } else {
            (1, Ask::Call { peer, size, count }, count)
        };
        for _ in 0..asks {
            let nanos = self.program.borrow_mut().times(&ask, times)?;
            nanos.into_iter().for_each(|time| samples.add_number(time));
        }
        Ok(())
    }

    fn layers(&self) -> Option<String> {
        let layers = if self.peer.isolated { "a process, no sandbox" } else { "in process" };
        Some(layers.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake() -> Peers {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-peers");
        Peers::start(&path, &Processors::allowed().expect("affinity is readable")).expect("starts")
    }

    #[test]
    fn in_process_there_is_no_second_core_and_only_grpc_is_pipelined() {
        let ids: Vec<String> = fake().entries().iter().map(Entry::id).collect();
        let has = |id: &str| ids.iter().any(|known| known == id);
        assert!(has("call-64/gRPC, unix socket/two cores"));
        assert!(has("pipelined-64/gRPC, unix socket/one core"));
        assert!(has("echo-16m/Extism, in process/unpinned"));
        assert!(!has("call-64/Extism, in process/two cores"));
        assert!(!has("pipelined-64/Extism, in process/one core"));
        assert!(!ids.iter().any(|id| id.starts_with("launch")));
    }

    #[test]
    fn the_times_of_the_program_are_the_samples() {
        for entry in fake().entries() {
            let (id, group) = (entry.id(), entry.group);
            let opened = (entry.open)();
            if id.contains("broken") {
                assert!(opened.is_err(), "{id}");
                continue;
            }
            let mut samples = Samples::default();
            opened.and_then(|mut case| case.sample(1, &mut samples)).expect("measures");
            let wanted = if group == Group::Pipelined { 1500 } else { 7000 };
            assert_eq!(samples.largest(), Some(wanted), "{id}");
        }
    }
}
